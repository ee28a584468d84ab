"""Trees of arrays: which ones are Flax variables (they bear no mark), and what there is to say of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from modelstore.managers._flax.arrays import is_jax_array, is_numpy_array, is_tracer
from modelstore.managers._flax.encode import LINEN, NODES, VARIABLES
from modelstore.managers.base import class_name

_LEAVES = 1_000_000
"""How many things are looked at to find out whether something is a tree of arrays."""


def is_tree_of_arrays(obj: Any) -> bool:
    """Whether this is a dict, list or tuple, of any depth, of arrays and numbers, one of JAX's among them."""
    if not isinstance(obj, (dict, list, tuple)):
        return False
    found = False
    for at, leaf in enumerate(_leaves(obj)):
        if is_jax_array(leaf) or is_tracer(leaf) or _is_flax(leaf) or type(leaf).__module__.startswith("optax."):
            found = True
        elif not (leaf is None or isinstance(leaf, (bool, int, float)) or is_numpy_array(leaf)) or at > _LEAVES:
            return False
    return found


def _leaves(tree: Any) -> Iterator[Any]:
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            if hasattr(type(value), "_fields") and not value:
                yield value  # such as optax.EmptyState()
            waiting.extend(value)
        else:
            yield value


def _is_flax(value: Any) -> bool:
    return hasattr(type(value), "_flax_dataclass") or any(
        base.__module__.startswith(("flax.nnx.", "flax.core.", "flax.struct")) and base.__module__ != "flax.nnx.reprlib"
        for base in type(value).__mro__
    )


def describe(obj: Any) -> dict[str, Any]:
    """What the record tells of an object: class, plain attributes, and the size of its arrays by kind."""
    bases = {f"{base.__module__}:{base.__qualname__}" for base in type(obj).__mro__}
    if LINEN in bases:
        fields = [field.name for field in dataclasses.fields(obj) if field.name not in ("parent", "name")]
        return {"class": class_name(obj), "fields": {name: _short(vars(obj).get(name)) for name in fields}}
    found: dict[str, Any] = {"class": class_name(obj), "arrays": _sizes(obj)}
    if bases & NODES:
        plain = {name: item for name, item in vars(obj).items() if _is_plain(item)}
        found["attributes"] = {name: _short(item) for name, item in plain.items()}
    return found


def _sizes(obj: Any) -> dict[str, dict[str, int]]:
    sizes: dict[str, dict[str, int]] = {}
    for kind, array in _arrays(obj):
        size = sizes.setdefault(kind, {"arrays": 0, "numbers": 0})
        size["arrays"] += 1
        size["numbers"] += math.prod(array.shape)
    return sizes


def _arrays(obj: Any) -> Iterator[tuple[str, Any]]:
    """Arrays with the kind of their variable, or the collection (the first key) in which they are found."""
    seen: dict[int, Any] = {}
    waiting: list[tuple[str, Any]] = [("", obj)]
    while waiting:
        kind, value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # kept, so that no other object gets this id
        bases = {f"{base.__module__}:{base.__qualname__}" for base in type(value).__mro__}
        if is_jax_array(value) or is_numpy_array(value):
            yield kind or "arrays", value
        elif bases & VARIABLES:
            raw = value.get_raw_value() if hasattr(value, "get_raw_value") else value.raw_value
            waiting.append((getattr(value, "_var_type", type(value)).__name__, raw))
        elif isinstance(value, Mapping):
            waiting.extend((kind or str(key), item) for key, item in value.items())
        elif isinstance(value, (list, tuple)):
            waiting.extend((kind, item) for item in value)
        elif dataclasses.is_dataclass(value) or bases & NODES:
            waiting.extend((kind or name, item) for name, item in getattr(value, "__dict__", {}).items())


def _is_plain(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, (bool, int, float, str))
        or (isinstance(value, tuple) and all(map(_is_plain, value)))
    )


def _short(value: Any) -> Any:
    if _is_plain(value):
        return value
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return name if isinstance(name, str) else repr(value)[:500]
