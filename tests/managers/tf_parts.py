"""Keras models, layers and functions of one's own, in a module that an import finds."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def squares(true: Any, predicted: Any) -> Any:
    """A loss."""
    return keras.ops.mean(keras.ops.square(true - predicted), axis=-1) * 2


class Scaled(keras.layers.Layer):
    """A layer with an argument and a weight."""

    def __init__(self, by: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.by = by

    def build(self, input_shape: Any) -> None:
        self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor * self.by

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


class Tower(keras.Model):
    """A subclassed model."""

    def __init__(self, width: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.width = width
        self.first = keras.layers.Dense(width, activation="relu")
        self.second = Scaled(2.0)
        self.last = keras.layers.Dense(1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.second(self.first(inputs)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


class Graph(tf.Module):
    """A TensorFlow module that is not Keras'."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable([[1.5, 2.5], [3.5, 4.5]])
        self.part = Part()

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def __call__(self, inputs: Any) -> Any:
        return tf.matmul(inputs, self.weight) + self.part.add

    @tf.function
    def twice(self, inputs: Any) -> Any:
        return inputs * 2


class Part(tf.Module):
    """A part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.add = tf.Variable(0.25)


class Bare(tf.Module):
    """A module without any graph."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(1.0)


class Forgetful(keras.Model):
    """A model whose configuration lacks what it is made of."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.parts = [keras.layers.Dense(2) for _ in range(layers)]

    def call(self, inputs: Any) -> Any:
        for part in self.parts:
            inputs = part(inputs)
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {}
