"""JAX, up and back: `python examples/frameworks/with_jax.py [FOLDER]`.

A function is exported for the shapes of its arguments. What is loaded needs none of its code.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    hours = jnp.arange(48.0)
    traffic = 40 + 25 * jnp.sin(hours * 2 * jnp.pi / 24) + jax.random.normal(jax.random.key(0), hours.shape)

    def features(hours: jax.Array) -> jax.Array:
        turn = hours * 2 * jnp.pi / 24
        return jnp.stack([jnp.ones_like(turn), jnp.sin(turn), jnp.cos(turn)], axis=-1)

    weights = jnp.linalg.lstsq(features(hours), traffic)[0]

    @jax.jit
    def forecast(hours: jax.Array) -> jax.Array:
        return features(hours) @ weights

    (number,) = export.symbolic_shape("number")
    exported = export.export(forecast)(jax.ShapeDtypeStruct((number,), jnp.float32))

    store = ModelStore.from_file_system(folder, create_directory=True)
    error = float(jnp.abs(forecast(hours) - traffic).mean())
    info = store.upload("traffic", model=exported, metrics={"mean absolute error": error})

    loaded = store.load("traffic", info.model_id, allow_pickle=False)
    later = jnp.arange(48.0, 60.0)
    if not np.array_equal(loaded.call(later), exported.call(later)):
        raise SystemExit("the loaded function predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
