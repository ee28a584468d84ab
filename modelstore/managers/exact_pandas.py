"""Tables and times of pandas for `exact_json`: types, index and names included, which pandas' own JSON does not keep.

Takes what frameworks keep beside a model: columns of numbers, texts, times and categories. Anything else, such as times
in a zone or an index of several levels, is a TypeError, and so left to a pickle.
"""

from __future__ import annotations

from typing import Any

from modelstore.managers import exact_json


def encode(value: Any) -> Any:
    """JSON for a DataFrame, Series, Index, Timestamp or Timedelta; `decode` gives an equal one of the same types.

    Raises:
        TypeError: it is something else, or would not come back as it was.
    """
    import pandas

    encoded = _encode(value)
    found = decode(encoded)
    if isinstance(value, pandas.DataFrame):
        # `equals` overlooks names, and types of an index.
        same = value.equals(found) and value.columns.identical(found.columns) and value.index.identical(found.index)
    elif isinstance(value, pandas.Series):
        same = value.equals(found) and value.index.identical(found.index) and type(value.name) is type(found.name)
    elif isinstance(value, pandas.Index):
        same = value.identical(found)
    else:
        same = value == found and value.unit == found.unit
    if not same:
        raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")
    return encoded


def _encode(value: Any) -> Any:
    import pandas

    kind = type(value)
    if kind is pandas.DataFrame:
        columns = [_column(value.iloc[:, at]) for at in range(value.shape[1])]
        return {"frame": columns, "columns": _encode(value.columns), "index": _encode(value.index)}
    if kind is pandas.Series:
        return {"series": _column(value), "index": _encode(value.index), "name": exact_json.encode(value.name)}
    if kind is pandas.RangeIndex:
        return {"range": [value.start, value.stop, value.step], "name": exact_json.encode(value.name)}
    if kind in (pandas.Index, pandas.DatetimeIndex):
        labels = {"labels": _column(value), "name": exact_json.encode(value.name)}
        return {**labels, "frequency": value.freqstr} if getattr(value, "freq", None) is not None else labels
    if kind is pandas.Timestamp and value.tz is None:
        return {"time": value.asm8.view("i8").item(), "unit": value.unit}
    if kind is pandas.Timedelta:
        return {"span": value.asm8.view("i8").item(), "unit": value.unit}
    raise TypeError(f"{kind.__module__}.{kind.__qualname__}")


def _column(values: Any) -> Any:
    """Of a Series or an Index."""
    import numpy
    import pandas

    dtype = values.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        codes = exact_json.encode(numpy.asarray(values.array.codes))
        return {"codes": codes, "of": _encode(dtype.categories), "ordered": bool(dtype.ordered)}
    if isinstance(dtype, pandas.StringDtype) and not bool(values.isna().any()):
        # Without missing values, which are NaN or NA, and the text of the type does not tell which.
        return {"texts": exact_json.encode(values.to_numpy(dtype=object)), "type": str(dtype)}
    if not isinstance(dtype, numpy.dtype):
        raise TypeError(f"pandas.{type(dtype).__qualname__}")
    if dtype.kind in "mM":
        return {"times": exact_json.encode(values.to_numpy().view("i8")), "type": dtype.str}
    return {"values": exact_json.encode(values.to_numpy())}


def decode(value: Any) -> Any:
    """The inverse of `encode`.

    Raises:
        KeyError, TypeError, ValueError: it is nothing that `encode` gives.
    """
    import numpy
    import pandas

    if "frame" in value:
        columns = [_array(column) for column in value["frame"]]
        frame = pandas.DataFrame(dict(enumerate(columns)), index=decode(value["index"]))
        frame.columns = decode(value["columns"])
        return frame
    if "series" in value:
        name = exact_json.decode(value["name"])
        return pandas.Series(_array(value["series"]), index=decode(value["index"]), name=name)
    if "range" in value:
        return pandas.RangeIndex(*value["range"], name=exact_json.decode(value["name"]))
    if "labels" in value:
        array = _array(value["labels"])
        if "frequency" in value:
            return pandas.DatetimeIndex(array, name=exact_json.decode(value["name"]), freq=value["frequency"])
        return pandas.Index(array, name=exact_json.decode(value["name"]), dtype=array.dtype)
    if "time" in value:
        return pandas.Timestamp(numpy.datetime64(value["time"], value["unit"]))
    return pandas.Timedelta(numpy.timedelta64(value["span"], value["unit"]))


def _array(column: Any) -> Any:
    import pandas

    if "codes" in column:
        dtype = pandas.CategoricalDtype(decode(column["of"]), column["ordered"])
        return pandas.Categorical.from_codes(exact_json.decode(column["codes"]), dtype=dtype)
    if "texts" in column:
        return pandas.array(exact_json.decode(column["texts"]), dtype=column["type"])
    if "times" in column:
        return exact_json.decode(column["times"]).view(column["type"])
    return exact_json.decode(column["values"])
