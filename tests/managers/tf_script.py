"""Saves models of classes that exist in this program only: `python -m tests.managers.tf_script FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras

from tests.managers.tf_cases import TABLE, TARGET
from tests.managers.tf_helpers import fingerprint, keep


class Doubled(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return helper(inputs)


@keras.saving.register_keras_serializable(package="script")
class Net(keras.Model):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.width = width
        self.first = keras.layers.Dense(width, activation=bent)
        self.second = Doubled()
        self.last = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.last(self.second(self.first(inputs)))

    def get_config(self) -> dict[str, Any]:
        return {"width": self.width}


class Distance(keras.losses.Loss):
    def call(self, true: Any, predicted: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(true - predicted), axis=-1)


class Largest(keras.metrics.Metric):
    def __init__(self, name: str = "largest", **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.value = self.add_weight(initializer="zeros")

    def update_state(self, true: Any, predicted: Any, sample_weight: Any = None) -> None:
        self.value.assign(keras.ops.max(keras.ops.abs(true - predicted)))

    def result(self) -> Any:
        return self.value


class Slow(keras.optimizers.SGD):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient, variable, learning_rate / 2)


def helper(values: Any) -> Any:
    return values * 2


def bent(values: Any) -> Any:
    return keras.ops.tanh(values) + values


def functional() -> Any:
    start = keras.Input((4,))
    return keras.Model(start, Doubled()(keras.layers.Dense(2, activation=bent)(start)))


def trained() -> Any:
    model = Net(5)
    model.compile(optimizer=Slow(0.1), loss=Distance(), metrics=[Largest()])
    model.fit(TABLE, TARGET, epochs=2, verbose=0, shuffle=False)
    return model


def main() -> None:
    folder, found = Path(sys.argv[1]), {}
    for name, build, targets in (("functional", functional, None), ("trained", trained, TARGET)):
        keras.utils.set_random_seed(9)
        model = build()
        keep(folder / name, [TABLE], targets, model=model)
        found[name] = fingerprint(model, [TABLE], targets)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
