"""JSON that gives values back as they were."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import given, strategies as st

from modelstore.managers.exact_json import decode, encode, split

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.integers() | st.text() | st.booleans() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.dictionaries(KEYS, inner).map(OrderedDict)
        | st.dictionaries(KEYS, inner).map(lambda items: defaultdict(list, items))
    ),
    max_leaves=20,
)


@given(VALUES)
def test_builtin_values_come_back(value: Any) -> None:
    """Type and content of any nesting of builtin values survive JSON: tuples, keys that are no texts, NaN."""
    text = json.dumps(encode(value), allow_nan=False)
    assert repr(decode(json.loads(text))) == repr(value)


def test_arrays_and_numbers_of_numpy_come_back() -> None:
    """Type, shape and bytes of numbers, arrays of numbers, texts and objects, empty ones too."""
    np = pytest.importorskip("numpy")
    arrays = [
        np.float32(0.1), np.int64(-1), np.bool_(True), np.str_("a"), np.array(3.5), np.zeros((0, 3), "int8"),
        np.arange(6, dtype="float16").reshape(2, 3), np.array(["a", "bcd"]), np.array([1.5, np.nan, np.inf]),
        np.array(["a", None, 2.5], dtype=object), np.array([True, False]), np.arange(3, dtype=">i4"),
    ]  # fmt: skip
    for array in arrays:
        found = decode(json.loads(json.dumps(encode(array), allow_nan=False)))
        assert type(found) is type(array)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tolist() == array.tolist() or np.array_equal(found, array, equal_nan=True)


class Other:
    """What JSON has no form for."""


@pytest.mark.parametrize("value", [Other(), [Other()], {"a": (Other,)}, {Other(): 1}, len, 1j, {1, 2}])
def test_anything_else_is_refused(value: Any) -> None:
    """Nothing is written that would come back as something else."""
    with pytest.raises(TypeError):
        encode(value)


def test_attributes_are_split() -> None:
    """What JSON can hold is told from what has to be pickled; what is alive is left out."""
    other = Other()
    plain, custom = split({"a": (1,), "b": other, "handle": other}, leave={"handle"})
    assert {name: decode(value) for name, value in plain.items()} == {"a": (1,)}
    assert custom == {"b": other}
