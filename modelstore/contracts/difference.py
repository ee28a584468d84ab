"""Where two observations of a model differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def difference(left: Any, right: Any, tolerance: float = 0.0) -> str | None:
    """Where two observations differ in type or value, and how; None if they are equal.

    Numbers may differ by a relative tolerance, NaN equals NaN.
    """
    if type(left) is not type(right):
        return f" was {type(left).__name__} {_shown(left)} and is {type(right).__name__} {_shown(right)}"
    if isinstance(left, Mapping) and list(left) == list(right):
        return _first_difference(left.items(), right.values(), tolerance)
    if isinstance(left, (list, tuple)) and len(left) == len(right):
        return _first_difference(enumerate(left), right, tolerance)
    if hasattr(left, "dtype") and hasattr(left, "tobytes") and (left.dtype, left.shape) == (right.dtype, right.shape):
        # Lists, as the bytes of an object array are addresses.
        if tolerance or left.dtype.hasobject:
            return difference(left.tolist(), right.tolist(), tolerance)
        equal = left.tobytes() == right.tobytes()
    elif isinstance(left, float):
        equal = math.isclose(left, right, rel_tol=tolerance) or (math.isnan(left) and math.isnan(right))
    else:
        equal = not hasattr(left, "dtype") and bool(left == right)
    return None if equal else f" was {_shown(left)} and is {_shown(right)}"


def _first_difference(left: Iterable[tuple[Any, Any]], right: Iterable[Any], tolerance: float) -> str | None:
    for (key, before), after in zip(left, right, strict=True):
        found = difference(before, after, tolerance)
        if found is not None:
            return f"[{key!r}]{found}"
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}…"
