"""Keras models of many kinds of layers, each with inputs and, where it is compiled, with targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.managers import tf_parts

TABLE = np.linspace(-1, 1, 24, dtype="float32").reshape(6, 4)
TARGET = np.linspace(0, 1, 6, dtype="float32").reshape(6, 1)
WORDS = np.arange(30).reshape(6, 5) % 11
IMAGES = np.linspace(-1, 1, 6 * 8 * 8 * 3, dtype="float32").reshape(6, 8, 8, 3)
SERIES = np.linspace(-1, 1, 6 * 5 * 3, dtype="float32").reshape(6, 5, 3)
TEXTS = np.array(["red fox", "green dog", "red red dog", "blue", "fox dog", "dog"]).reshape(6, 1)

Case = tuple[Callable[[], Any], list[np.ndarray], Any]


def functional(inputs: np.ndarray, *chain: Callable[[Any], Any], targets: Any = None) -> Case:
    """A model of a chain of layers that are made by the functions given."""

    def build() -> Any:
        keras.utils.set_random_seed(1)
        start = keras.Input(inputs.shape[1:], dtype=inputs.dtype.name if inputs.dtype.kind != "U" else "string")
        value = start
        for step in chain:
            value = step(value)
        return keras.Model(start, value)

    return build, [inputs], targets


def sequential() -> Any:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([layers.Dense(4, activation="gelu"), layers.Dropout(0.5), layers.Dense(1)])
    model(TABLE)
    return model


def trained(optimizer: Any, loss: Any, metrics: Any = None) -> Callable[[], Any]:
    """A compiled model after two steps of training."""

    def build() -> Any:
        model = sequential()
        model.compile(optimizer=optimizer(), loss=loss, metrics=metrics)
        model.fit(TABLE, TARGET, epochs=2, verbose=0, batch_size=3, shuffle=False)
        return model

    return build


def two_in_two_out() -> Any:
    keras.utils.set_random_seed(3)
    numbers, words = keras.Input((4,)), keras.Input((5,), dtype="int64")
    shared = layers.Dense(3, name="shared")
    left = shared(numbers)
    right = shared(layers.Flatten()(layers.Embedding(12, 4)(words))[:, :4])
    both = layers.Concatenate()([left, right])
    return keras.Model([numbers, words], [layers.Dense(1, name="a")(both), layers.Dense(2, name="b")(both)])


def tower() -> Any:
    keras.utils.set_random_seed(4)
    model = tf_parts.Tower(6)
    model.compile(optimizer="adam", loss=tf_parts.squares)
    model.fit(TABLE, TARGET, epochs=1, verbose=0)
    return model


def half_precision() -> Any:
    keras.utils.set_random_seed(5)
    start = keras.Input((4,))
    return keras.Model(start, layers.Dense(3, dtype="mixed_float16")(layers.Dense(4, dtype="bfloat16")(start)))


def frozen() -> Any:
    model = sequential()
    model.layers[0].trainable = False
    return model


def nested() -> Any:
    keras.utils.set_random_seed(6)
    start = keras.Input((4,))
    return keras.Model(start, tf_parts.Scaled(3.0)(sequential()(start)))


def layer(make: Callable[[], Any], *inputs: np.ndarray) -> Callable[[], Any]:
    """A layer by itself, built by a call."""

    def build() -> Any:
        keras.utils.set_random_seed(7)
        made = make()
        made(*inputs)
        return made

    return build


def adapted(kind: Any, data: Any, **settings: Any) -> Any:
    made = kind(**settings)
    made.adapt(data)
    return made


CASES: dict[str, Case] = {
    "dense": functional(TABLE, lambda x: layers.Dense(3, activation="tanh")(x)),
    "conv1d": functional(SERIES, lambda x: layers.Conv1D(4, 2)(x), lambda x: layers.GlobalMaxPooling1D()(x)),
    "conv2d": functional(
        IMAGES, lambda x: layers.Rescaling(0.5)(x), lambda x: layers.Conv2D(4, 3, padding="same")(x),
        lambda x: layers.BatchNormalization()(x), lambda x: layers.MaxPooling2D()(x),
        lambda x: layers.SeparableConv2D(3, 2)(x), lambda x: layers.Conv2DTranspose(2, 2)(x),
        lambda x: layers.GlobalAveragePooling2D()(x),
    ),
    "recurrent": functional(
        SERIES, lambda x: layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x),
        lambda x: layers.GRU(3, return_sequences=True)(x), lambda x: layers.SimpleRNN(2)(x),
    ),
    "attention": functional(
        WORDS, lambda x: layers.Embedding(11, 6)(x), lambda x: layers.MultiHeadAttention(2, 3)(x, x),
        lambda x: layers.LayerNormalization()(x), lambda x: layers.Attention()([x, x]),
        lambda x: layers.TimeDistributed(layers.Dense(2))(x), lambda x: layers.Flatten()(x),
    ),
    "normalized": functional(TABLE, lambda x: adapted(layers.Normalization, TABLE)(x), lambda x: layers.Dense(1)(x)),
    "binned": functional(TABLE, lambda x: adapted(layers.Discretization, TABLE, num_bins=3)(x)),
    "texts": functional(
        TEXTS, lambda x: adapted(layers.TextVectorization, TEXTS, output_sequence_length=4)(x),
        lambda x: layers.Embedding(9, 3)(x),
    ),
    "lookup": functional(
        TEXTS, lambda x: layers.StringLookup(vocabulary=["fox", "dog", "red fox"], output_mode="one_hot")(x)
    ),
    "lambda": functional(TABLE, lambda x: layers.Lambda(lambda values: values * 3 + 1)(x)),
    "regularized": functional(
        TABLE,
        lambda x: layers.Dense(3, kernel_regularizer="l2", kernel_constraint="max_norm", activation="leaky_relu")(x),
        lambda x: layers.PReLU()(x), lambda x: layers.GaussianNoise(0.1)(x), lambda x: keras.ops.exp(x),
    ),
    "sequential": (sequential, [TABLE], None),
    "two in two out": (two_in_two_out, [TABLE, WORDS], None),
    "half precision": (half_precision, [TABLE], None),
    "frozen": (frozen, [TABLE], None),
    "nested": (nested, [TABLE], None),
    "adam": (trained(lambda: keras.optimizers.Adam(0.01), "mse", ["mae"]), [TABLE], TARGET),
    "sgd": (
        trained(lambda: keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.9),
                keras.losses.Huber(), [keras.metrics.MeanSquaredError(name="squared")]),
        [TABLE], TARGET,
    ),
    "loss of one's own": (trained(lambda: keras.optimizers.RMSprop(0.01), tf_parts.squares), [TABLE], TARGET),
    "subclassed": (tower, [TABLE], TARGET),
    "a dense layer": (layer(lambda: layers.Dense(3), TABLE), [TABLE], None),
    "a layer of one's own": (layer(lambda: tf_parts.Scaled(4.0), TABLE), [TABLE], None),
    "a normalization": (lambda: adapted(layers.Normalization, TABLE), [TABLE], None),
    "a vectorization": (lambda: adapted(layers.TextVectorization, TEXTS), [TEXTS], None),
    "a lookup": (lambda: adapted(layers.StringLookup, TEXTS), [TEXTS], None),
    "an unbuilt layer": (lambda: layers.Dense(3), [], None),
    "a graph": (tf_parts.Graph, [TABLE[:, :2]], None),
}  # fmt: skip
