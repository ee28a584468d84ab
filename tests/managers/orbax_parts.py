"""Trees to checkpoint, and how to look at what is restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp


def tree() -> Any:
    """Arrays of JAX's and numpy's, numbers and nothing, in dicts and lists."""
    return {
        "params": {"kernel": jnp.linspace(-1, 1, 6).reshape(2, 3), "half": jnp.ones(3, jnp.bfloat16)},
        "more": [jnp.arange(3), {"numpy": np.arange(4.0)}, None],
        "step": 3,
        "rate": 0.5,
        "flags": jnp.asarray([True, False]),
    }


def write(folder: Path, kind: str) -> Path:
    """A checkpoint of the tree, as one of Orbax' ways writes it; returns its path."""
    path = folder / kind
    if kind == "standard":
        save(path, tree())
    elif kind == "zarr":
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)).save(path, args=ocp.args.PyTreeSave(tree()))
    elif kind == "step":
        settings = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
        with ocp.CheckpointManager(path, options=settings) as manager:
            manager.save(0, args=ocp.args.StandardSave(tree()))
        path = path / "0"
    else:
        items = {"state": ocp.args.StandardSave(tree()), "notes": ocp.args.JsonSave({"a": [1, "text"]})}
        ocp.Checkpointer(ocp.CompositeCheckpointHandler()).save(path, args=ocp.args.Composite(**items))
    return path


def save(path: Path, tree: Any) -> None:
    """A checkpoint, written before this returns."""
    ocp.Checkpointer(ocp.StandardCheckpointHandler()).save(path, args=ocp.args.StandardSave(tree))


def observe(result: Any) -> Any:
    """Structure, types, devices and bits."""
    if isinstance(result, Path | str):
        result = {"state": tree(), "notes": {"a": [1, "text"]}} if "items" in str(result) else tree()
    leaves, treedef = jax.tree.flatten(result)
    return str(treedef), [_leaf(leaf) for leaf in leaves]


def _leaf(leaf: Any) -> Any:
    if not hasattr(leaf, "shape"):
        return type(leaf).__name__, leaf
    where = sorted(device.platform for device in leaf.devices()) if isinstance(leaf, jax.Array) else None
    return type(leaf).__name__, str(leaf.dtype), leaf.shape, where, np.asarray(leaf).tobytes()
