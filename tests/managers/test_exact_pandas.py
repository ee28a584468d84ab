"""Tables and times of pandas in exact JSON: types, index and names come back; what would not is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("pandas")

import numpy as np
import pandas as pd
from pandas import testing

from modelstore.managers.exact_json import decode, encode


def round_trip(value: Any) -> Any:
    """Through JSON's text."""
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)))


def tables() -> dict[str, Any]:
    """What frameworks keep of pandas, by name."""
    times = pd.to_datetime(["2020-01-01", "2021-02-03 04:05:06.123456789"], format="ISO8601")
    table = pd.DataFrame(
        {
            "numbers": [1.5, np.nan], "small": np.array([1, 2], dtype="int8"), "times": times, "texts": ["x", "y"],
            "strings": pd.array(["q", "z"], dtype="string"), "flags": [True, False],
            "spans": pd.to_timedelta([1, 2], "s"), "kinds": pd.Categorical(["u", "v"], ["v", "u"], ordered=True),
        }
    )  # fmt: skip
    return {
        "table": table,
        "rows": table.iloc[[1]],
        "table by time": table.set_index("times"),
        "column": table["numbers"],
        "column of times": table["times"],
        "column without a name": pd.Series([1, 2], index=["a", "b"]),
        "names": table.columns,
        "empty": pd.DataFrame(),
        "empty column": pd.Series([], dtype="datetime64[ns]", name="ds"),
        "names of axes": pd.DataFrame([[1]], pd.Index([3], name="row"), pd.Index(["a"], name="column")),
        "twice the same name": pd.DataFrame([[1, "a"]], columns=["a", "a"]),
        "days": pd.date_range("2020", periods=3, freq="D"),
        "time": pd.Timestamp("2020-01-01 00:00:00.123456789"),
        "time in seconds": pd.Timestamp("2020-01-01").as_unit("s"),
        "span": pd.Timedelta(seconds=1.5),
    }


@pytest.mark.parametrize("name", sorted(tables()))
def test_tables_and_times_of_pandas_come_back_as_they_were(name: str) -> None:
    """Types, index, names and frequency, as pandas' own comparison has them."""
    value = tables()[name]
    found = round_trip(value)
    assert type(found) is type(value)
    if name in ("time", "time in seconds", "span"):
        assert (found, found.unit) == (value, value.unit)
    else:
        compare = {"DataFrame": testing.assert_frame_equal, "Series": testing.assert_series_equal}
        compare.get(type(value).__name__, testing.assert_index_equal)(found, value)


def test_what_pandas_would_change_is_a_type_error() -> None:
    """Zones of time, gaps in strings and levels of an index are left to a pickle."""
    levels = pd.DataFrame([[1]], index=pd.MultiIndex.from_tuples([("a", 1)]))
    for value in (pd.Timestamp("2020", tz="UTC"), pd.NaT, pd.Series(["a", None], dtype="string"), levels):
        with pytest.raises(TypeError):
            encode(value)


def test_further_types_are_the_callers() -> None:
    """Wherever they stand, and in whatever form the caller gives them, even one that looks like this module's own."""
    value = {"a": [b"x", (b"y", 1)]}
    encoded = encode(value, lambda item: {"dict": item.decode()} if isinstance(item, bytes) else None)
    assert decode(json.loads(json.dumps(encoded)), lambda item: item["dict"].encode()) == value
