"""TensorFlow, up and back: `python examples/frameworks/with_tensorflow.py [FOLDER]`.

A `tf.Module` is stored as a SavedModel: its functions with an `input_signature`, and its variables, without its class.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

from modelstore import ModelStore


class Cooling(tf.Module):
    """How warm something is after some minutes, in a room of 20 degrees."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = tf.Variable(0.01)
        self.start = tf.Variable(50.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, minutes):
        return 20 + (self.start - 20) * tf.exp(-self.rate * minutes)


def main(folder: str = "models") -> None:
    minutes = tf.range(0, 60, dtype=tf.float32)
    measured = 20 + 70 * tf.exp(-0.04 * minutes)
    model = Cooling()
    for _ in range(500):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(minutes) - measured) ** 2)
        rate, start = tape.gradient(loss, (model.rate, model.start))
        model.rate.assign_sub(1e-7 * rate)
        model.start.assign_sub(0.5 * start)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("cooling", model=model, metrics={"squared error": float(loss)})

    loaded = store.load("cooling", info.model_id, allow_pickle=False)
    if not np.array_equal(loaded(minutes), model(minutes)):
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
