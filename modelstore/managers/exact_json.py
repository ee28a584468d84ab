"""JSON that gives builtin values and numpy's numbers back as they were: type, value and NaN included.

What a framework's model file leaves out (parameters, evaluation results, class labels) lies beside it in this form.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

_FACTORIES = {"dict": dict, "float": float, "int": int, "list": list, "ordered": OrderedDict, "set": set}
"""Default factories of dicts, by the name under which they are written."""


def encode(value: Any, special: Callable[[Any], Any] | None = None) -> Any:
    """JSON for a value; `decode(encode(value))` equals it in type and content.

    Takes None, bool, int, float, str, lists, tuples, dicts, ordered dicts and default dicts with any such keys, numpy's
    numbers, its arrays of numbers, texts or any of these as objects, and what `exact_pandas` takes.

    Args:
        value: what to encode.
        special: gives JSON for values of further types, or in another form, and None for all others.

    Raises:
        TypeError: it holds something else.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if special is not None and (found := special(value)) is not None:
        return {"special": found}
    if kind is list:
        return [encode(item, special) for item in value]
    if kind is tuple:
        return {"tuple": [encode(item, special) for item in value]}
    if kind in (dict, OrderedDict):
        form = "dict" if kind is dict else "ordered"
        return {form: [[encode(key, special), encode(item, special)] for key, item in value.items()]}
    if kind is defaultdict:
        factory = next((name for name, known in _FACTORIES.items() if value.default_factory is known), None)
        if factory is not None:
            pairs = [[encode(key, special), encode(item, special)] for key, item in value.items()]
            return {"default": factory, "items": pairs}
    if kind.__module__.partition(".")[0] == "pandas":
        from modelstore.managers import exact_pandas

        return {"pandas": exact_pandas.encode(value)}
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and value.dtype.kind == "O":
        return {"objects": [encode(item, special) for item in value.flat], "shape": list(value.shape)}
    if kind.__module__ == "numpy" and getattr(getattr(value, "dtype", None), "kind", "") in _NUMPY_KINDS:
        form = "array" if kind.__name__ == "ndarray" else "numpy"
        encoded = {form: value.dtype.str, "value": encode(value.tolist())}
        if form == "array" and not value.size:
            encoded["shape"] = list(value.shape)
        return encoded
    raise TypeError(f"{kind.__module__}.{kind.__qualname__}")


_NUMPY_KINDS = ("b", "i", "u", "f", "U")


def decode(value: Any, special: Callable[[Any], Any] | None = None) -> Any:
    """The inverse of `encode`; `special` is the inverse of its."""
    if isinstance(value, list):
        return [decode(item, special) for item in value]
    if not isinstance(value, dict):
        return value
    # Every encoded dict has one of these keys; the user's own stand inside "dict", as pairs.
    if "special" in value and special is not None:
        return special(value["special"])
    if "float" in value:
        return float(value["float"])
    if "tuple" in value:
        return tuple(decode(item, special) for item in value["tuple"])
    if "dict" in value or "ordered" in value:
        listed = value.get("dict") or value.get("ordered") or ()
        pairs = [(decode(key, special), decode(item, special)) for key, item in listed]
        return dict(pairs) if "dict" in value else OrderedDict(pairs)
    if "default" in value:
        pairs = [(decode(key, special), decode(item, special)) for key, item in value["items"]]
        return defaultdict(_FACTORIES[value["default"]], pairs)
    if "pandas" in value:
        from modelstore.managers import exact_pandas

        return exact_pandas.decode(value["pandas"])
    import numpy

    if "objects" in value:
        objects = numpy.empty(len(value["objects"]), dtype=object)
        for at, item in enumerate(value["objects"]):
            objects[at] = decode(item, special)
        return objects.reshape(value["shape"])
    array = numpy.array(decode(value["value"]), dtype=value.get("numpy") or value["array"])
    if "shape" in value:
        array = array.reshape(value["shape"])
    return array[()] if "numpy" in value else array


def split(attributes: Mapping[str, Any], leave: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """An object's attributes: those that JSON can hold, encoded, and the others as they are.

    Args:
        attributes: by name, as in `vars(obj)`.
        leave: names to leave out.
    """
    plain, custom = {}, {}
    for name, value in attributes.items():
        if name in leave:
            continue
        try:
            plain[name] = encode(value)
        except TypeError:
            custom[name] = value
    return plain, custom
