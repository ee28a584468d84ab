"""Orbax, up and back: `python examples/frameworks/with_orbax.py [FOLDER]`.

Training has written a checkpoint; its path is what is uploaded, and the arrays in it are what is loaded.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from modelstore import ModelStore


def predict(params: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return inputs @ params["weights"] + params["bias"]


def main(folder: str = "models") -> None:
    inputs = jax.random.normal(jax.random.key(0), (100, 3))
    targets = inputs @ jnp.array([1.0, -2.0, 0.5]) + 3

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        return jnp.mean((predict(params, inputs) - targets) ** 2)

    params = {"weights": jnp.zeros(3), "bias": jnp.zeros(())}
    step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params)))
    for _ in range(100):
        params = step(params)

    store = ModelStore.from_file_system(folder, create_directory=True)
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = Path(temporary) / "checkpoint"
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(checkpoint, params)
            checkpointer.wait_until_finished()
        info = store.upload("lines", model=checkpoint, metrics={"squared error": float(loss(params))})

    loaded = store.load("lines", info.model_id)
    if not np.array_equal(predict(loaded, inputs), predict(params, inputs)):
        raise SystemExit("the loaded parameters predict something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
