"""Keras, up and back: `python examples/frameworks/with_keras.py [FOLDER]`.

The model is stored as a `.keras` file, with its optimizer: training could go on.
"""

from __future__ import annotations

import sys

import keras
import numpy as np

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    keras.utils.set_random_seed(0)
    points = np.random.default_rng(0).uniform(-1, 1, size=(400, 2)).astype("float32")
    inside = (np.hypot(*points.T) < 0.7).astype("float32")
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(points, inside, epochs=20, batch_size=100, verbose=0)

    store = ModelStore.from_file_system(folder, create_directory=True)
    accuracy = model.evaluate(points, inside, verbose=0)[1]
    info = store.upload("circle", model=model, metrics={"accuracy": accuracy})

    loaded = store.load("circle", info.model_id, allow_pickle=False)
    if not np.array_equal(loaded(points), model(points)):
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
