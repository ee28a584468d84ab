"""Stored arrays into a tree or a module that the caller built: neither code nor pickle is needed for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelstore.exceptions import InvalidArgumentError
from modelstore.managers._flax.arrays import ArrayReader
from modelstore.managers._flax.encode import NODES
from modelstore.managers.exact_json import decode

Path = tuple[str, ...]

_ITEMS = ("dict", "ordered", "frozen", "state")


def fill(into: Any, structure: Any, arrays: ArrayReader, place: bool) -> Any:
    """Put stored arrays where `into` has arrays at the same places.

    Args:
        into: an nnx module, which is changed, or any tree, of arrays or of what only tells their shapes.
        structure: the stored JSON.
        place: whether arrays go to where `into` has them, instead of to the reader's device.

    Returns:
        `into` itself if it is an nnx module, else a new tree.

    Raises:
        InvalidArgumentError: it has other arrays than the stored ones.
    """
    import jax

    stored = dict(_leaves(structure, (), {}))
    is_node = any(f"{base.__module__}:{base.__qualname__}" in NODES for base in type(into).__mro__)
    tree = _state(into) if is_node else into
    leaves, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_variable)
    paths = [tuple(_key(key) for key in keys) for keys, _ in leaves]
    wanted = {node["name"] for node in stored.values() if isinstance(node, dict) and node.get("") == "array"}
    missing = sorted(".".join(path) for path in paths if path not in stored)
    used = {
        stored[path]["name"]
        for path in paths
        if path in stored and isinstance(stored[path], dict) and "name" in stored[path]
    }
    if missing or wanted - used:
        what = f"it has {missing[:5]}, which is not stored" if missing else f"it lacks {sorted(wanted - used)[:5]}"
        raise InvalidArgumentError("into", f"into= does not fit the stored arrays: {what}")
    values = [_value(leaf, stored[path], arrays, place, path) for path, (_, leaf) in zip(paths, leaves, strict=True)]
    filled = jax.tree_util.tree_unflatten(treedef, values)
    if not is_node:
        return filled
    from flax import nnx

    nnx.update(into, filled)
    return into


def _leaves(node: Any, path: Path, known: dict[int, Any]) -> Iterator[tuple[Path, Any]]:
    """Arrays and numbers by path; what is met twice has both paths."""
    if isinstance(node, list):
        for at, item in enumerate(node):
            yield from _leaves(item, (*path, str(at)), known)
    if not isinstance(node, dict):
        yield path, node
        return
    kind = node.get("")
    if "id" in node and kind != "same":
        known[node["id"]] = node
    if kind == "same" and node.get("id") in known:
        yield from _leaves(known[node["id"]], path, {key: at for key, at in known.items() if key != node["id"]})
    elif kind in ("array", "exact"):
        yield path, node
    elif kind == "variable":
        yield from _leaves(node["value"], path, known)
    elif kind in _ITEMS:
        for key, item in node["items"]:
            yield from _leaves(item, (*path, str(key)), known)
    elif kind in ("tuple", "namedtuple"):
        for name, item in zip(node.get("names") or map(str, range(len(node["items"]))), node["items"], strict=True):
            yield from _leaves(item, (*path, name), known)
    elif kind in ("node", "dataclass"):
        for name, item in node["attributes"]:
            yield from _leaves(item, (*path, name), known)


def _value(leaf: Any, node: Any, arrays: ArrayReader, place: bool, path: Path) -> Any:
    import jax

    if isinstance(node, dict):
        value = arrays.get(node) if node[""] == "array" else decode(node["value"])
    else:
        value = node
    target = _raw(leaf) if _is_variable(leaf) else leaf
    if isinstance(value, (bool, int, float)) and getattr(target, "shape", None) == ():
        value = jax.numpy.asarray(value, target.dtype)  # a count of steps is one or the other, by how it was made
    if hasattr(target, "shape"):
        found, wanted = (
            (getattr(value, "shape", ()), getattr(value, "dtype", type(value))),
            (target.shape, target.dtype),
        )
        if found != wanted:
            raise InvalidArgumentError(
                "into",
                f"into= has {'.'.join(path)} of shape {wanted[0]} and type {wanted[1]}, not {found[0]}, {found[1]}",
            )
    sharding = getattr(target, "sharding", None)
    if place and isinstance(sharding, jax.sharding.Sharding) and getattr(target, "committed", True):
        value = jax.device_put(value, sharding)
    return type(leaf).from_metadata(value, leaf.get_metadata()) if _is_variable(leaf) else value


def _is_variable(value: Any) -> bool:
    return any(
        f"{base.__module__}:{base.__qualname__}" == "flax.nnx.variablelib:Variable" for base in type(value).__mro__
    )


def _raw(variable: Any) -> Any:
    return variable.get_raw_value() if hasattr(variable, "get_raw_value") else variable.raw_value


def _key(key: Any) -> str:
    return str(next(getattr(key, name) for name in ("key", "idx", "name") if hasattr(key, name)))


def _state(module: Any) -> Any:
    from flax import nnx

    return nnx.state(module)
