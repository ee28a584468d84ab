"""Flax, up and back: `python examples/frameworks/with_flax.py [FOLDER]`.

A linen module does not hold its variables: both are uploaded, and both come back by their keywords.
"""

from __future__ import annotations

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from modelstore import ModelStore


class Curve(nn.Module):
    """A small network from one number to another."""

    width: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(inputs)))


def main(folder: str = "models") -> None:
    inputs = jnp.linspace(-3, 3, 60).reshape(-1, 1)
    targets = jnp.sin(inputs)
    model = Curve(16)
    variables = model.init(jax.random.key(0), inputs)

    def loss(variables: dict) -> jax.Array:
        return jnp.mean((model.apply(variables, inputs) - targets) ** 2)

    step = jax.jit(lambda variables: jax.tree.map(lambda v, g: v - 0.1 * g, variables, jax.grad(loss)(variables)))
    for _ in range(300):
        variables = step(variables)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("curves", model=model, variables=variables, metrics={"squared error": float(loss(variables))})

    loaded = store.load("curves", info.model_id)
    predicted = loaded["model"].apply(loaded["variables"], inputs)
    if not np.array_equal(predicted, model.apply(variables, inputs)):
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
