"""Functions to export, and how to look at what comes back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

TABLE = jnp.linspace(-1, 1, 12).reshape(3, 4)
WEIGHTS = jnp.linspace(0, 1, 8).reshape(4, 2)


def dense(inputs: Any) -> Any:
    """A function that encloses its weights."""
    return jnp.tanh(inputs @ WEIGHTS)


def tree(inputs: dict[str, Any], scale: Any) -> Any:
    """A function of a tree, that gives one."""
    return {"a": inputs["x"] * scale, "b": (inputs["y"].sum(), [jnp.sort(inputs["x"])])}


def half(inputs: Any) -> Any:
    """A function of small numbers."""
    return (inputs.astype(jnp.bfloat16) * 2, jax.lax.stop_gradient(inputs) > 0)


def drawn(key: Any) -> Any:
    """A function of a random key."""
    return jax.random.normal(key, (3,))


def of(function: Any, *arguments: Any, **settings: Any) -> Any:
    """An exported function."""
    return export.export(jax.jit(function), **settings)(*arguments)


def of_any_batch() -> Any:
    """A function of any number of rows."""
    (rows,) = export.symbolic_shape("rows")
    return of(dense, jax.ShapeDtypeStruct((rows, 4), jnp.float32))


ARGUMENTS: dict[str, Any] = {
    "dense": (TABLE,),
    "tree": ({"x": TABLE, "y": WEIGHTS}, jnp.float32(2.0)),
    "half": (TABLE,),
    "drawn": (jax.random.key(3),),
}


def observe(exported: Any) -> Any:
    """What it says of itself and what it gives."""
    arguments = ARGUMENTS[exported.fun_name]
    results = exported.call(*arguments)
    leaves, treedef = jax.tree.flatten(results)
    found = [exported.fun_name, exported.platforms, str(exported.in_avals), str(treedef)]
    return found, [(str(leaf.dtype), np.asarray(leaf)) for leaf in leaves]


def observe_slope(exported: Any) -> Any:
    """Its derivative."""
    slope = jax.grad(lambda inputs: exported.call(inputs).sum())(TABLE)
    return observe(exported), np.asarray(slope)
