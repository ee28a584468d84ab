"""Every public layer of Keras, in functional, sequential and subclassed models; and models of some architectures.

Layers of one kind of input share a model, as building and loading one costs more than what is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

ROWS = 2
INPUTS: dict[str, np.ndarray] = {
    "table": np.linspace(-1, 1, ROWS * 4, dtype="float32").reshape(ROWS, 4),
    "series": np.linspace(-1, 1, ROWS * 6 * 4, dtype="float32").reshape(ROWS, 6, 4),
    "images": np.linspace(0, 1, ROWS * 6 * 6 * 4, dtype="float32").reshape(ROWS, 6, 6, 4),
    "volumes": np.linspace(0, 1, ROWS * 5 * 5 * 5 * 2, dtype="float32").reshape(ROWS, 5, 5, 5, 2),
    "images as films": np.linspace(0, 1, ROWS * 6 * 6 * 4, dtype="float32").reshape(ROWS, 6, 6, 4),
    "long films": np.linspace(0, 1, ROWS * 2 * 4 * 4 * 4, dtype="float32").reshape(ROWS, 2, 4, 4, 4, 1),
    "words": np.arange(ROWS * 5, dtype="int32").reshape(ROWS, 5) % 4,
    "sound": np.sin(np.arange(ROWS * 256, dtype="float32")).reshape(ROWS, 256),
}

Make = Callable[[], Any]

ONE: dict[str, dict[str, Make]] = {
    "table": {
        "Activation": lambda: layers.Activation("gelu"),
        "ActivityRegularization": lambda: layers.ActivityRegularization(l2=0.1),
        "AlphaDropout": lambda: layers.AlphaDropout(0.5, seed=1),
        "BatchNormalization": lambda: layers.BatchNormalization(),
        "Dense": lambda: layers.Dense(3, activation="tanh", kernel_regularizer="l2", bias_constraint="max_norm"),
        "Discretization": lambda: layers.Discretization(bin_boundaries=[-0.5, 0.5]),
        "Dropout": lambda: layers.Dropout(0.5, seed=2),
        "ELU": lambda: layers.ELU(0.5),
        "Flatten": lambda: layers.Flatten(),
        "GaussianDropout": lambda: layers.GaussianDropout(0.5, seed=3),
        "GaussianNoise": lambda: layers.GaussianNoise(0.5, seed=4),
        "GroupNormalization": lambda: layers.GroupNormalization(2),
        "Identity": lambda: layers.Identity(),
        "LayerNormalization": lambda: layers.LayerNormalization(),
        "LeakyReLU": lambda: layers.LeakyReLU(0.2),
        "Masking": lambda: layers.Masking(0.5),
        "Normalization": lambda: layers.Normalization(mean=0.5, variance=2.0),
        "PReLU": lambda: layers.PReLU(),
        "RMSNormalization": lambda: layers.RMSNormalization(),
        "ReLU": lambda: layers.ReLU(max_value=0.8),
        "RepeatVector": lambda: layers.RepeatVector(2),
        "Rescaling": lambda: layers.Rescaling(2.0, 1.0),
        "Reshape": lambda: layers.Reshape((2, 2)),
        "Softmax": lambda: layers.Softmax(),
        "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Dense(3)),
        "UnitNormalization": lambda: layers.UnitNormalization(),
        "Pipeline": lambda: layers.Pipeline([layers.Rescaling(2.0)]),
    },
    "series": {
        "AdaptiveAveragePooling1D": lambda: layers.AdaptiveAveragePooling1D(2),
        "AdaptiveMaxPooling1D": lambda: layers.AdaptiveMaxPooling1D(2),
        "AveragePooling1D": lambda: layers.AveragePooling1D(2),
        "Bidirectional": lambda: layers.Bidirectional(layers.GRU(2)),
        "Conv1D": lambda: layers.Conv1D(2, 3, padding="causal", dilation_rate=2),
        "Conv1DTranspose": lambda: layers.Conv1DTranspose(2, 3, strides=2),
        "Cropping1D": lambda: layers.Cropping1D(1),
        "DepthwiseConv1D": lambda: layers.DepthwiseConv1D(3),
        "EinsumDense": lambda: layers.EinsumDense("abc,cd->abd", (6, 3), bias_axes="d"),
        "GRU": lambda: layers.GRU(2, return_sequences=True),
        "GRUCell": lambda: layers.RNN(layers.GRUCell(2)),
        "GlobalAveragePooling1D": lambda: layers.GlobalAveragePooling1D(),
        "GlobalMaxPooling1D": lambda: layers.GlobalMaxPooling1D(),
        "LSTM": lambda: layers.LSTM(2, go_backwards=True),
        "LSTMCell": lambda: layers.RNN([layers.LSTMCell(2), layers.LSTMCell(3)]),
        "MaxPooling1D": lambda: layers.MaxPooling1D(2),
        "Permute": lambda: layers.Permute((2, 1)),
        "RNN": lambda: layers.RNN(layers.SimpleRNNCell(2), return_sequences=True),
        "SeparableConv1D": lambda: layers.SeparableConv1D(2, 3),
        "SimpleRNN": lambda: layers.SimpleRNN(2),
        "SimpleRNNCell": lambda: layers.RNN(layers.SimpleRNNCell(2)),
        "SpatialDropout1D": lambda: layers.SpatialDropout1D(0.5, seed=5),
        "StackedRNNCells": lambda: layers.RNN(layers.StackedRNNCells([layers.GRUCell(2), layers.GRUCell(2)])),
        "STFTSpectrogram": lambda: layers.STFTSpectrogram(frame_length=4, frame_step=2, fft_length=4),
        "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(2)),
        "UpSampling1D": lambda: layers.UpSampling1D(2),
        "ZeroPadding1D": lambda: layers.ZeroPadding1D((1, 2)),
    },
    "images": {
        "AdaptiveAveragePooling2D": lambda: layers.AdaptiveAveragePooling2D(2),
        "AdaptiveMaxPooling2D": lambda: layers.AdaptiveMaxPooling2D(2),
        "AveragePooling2D": lambda: layers.AveragePooling2D(2),
        "CenterCrop": lambda: layers.CenterCrop(4, 4),
        "Conv2D": lambda: layers.Conv2D(2, 3, groups=2, padding="same"),
        "Conv2DTranspose": lambda: layers.Conv2DTranspose(2, 3),
        "Cropping2D": lambda: layers.Cropping2D(1),
        "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        "GlobalAveragePooling2D": lambda: layers.GlobalAveragePooling2D(keepdims=True),
        "GlobalMaxPooling2D": lambda: layers.GlobalMaxPooling2D(),
        "MaxPooling2D": lambda: layers.MaxPooling2D(2),
        "Resizing": lambda: layers.Resizing(4, 4),
        "SeparableConv2D": lambda: layers.SeparableConv2D(2, 3),
        "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.5, seed=6),
        "UpSampling2D": lambda: layers.UpSampling2D(2),
        "ZeroPadding2D": lambda: layers.ZeroPadding2D(1),
    },
    "volumes": {
        "AdaptiveAveragePooling3D": lambda: layers.AdaptiveAveragePooling3D(2),
        "AdaptiveMaxPooling3D": lambda: layers.AdaptiveMaxPooling3D(2),
        "AveragePooling3D": lambda: layers.AveragePooling3D(2),
        "Conv3D": lambda: layers.Conv3D(2, 3),
        "Conv3DTranspose": lambda: layers.Conv3DTranspose(2, 3),
        "Cropping3D": lambda: layers.Cropping3D(1),
        "GlobalAveragePooling3D": lambda: layers.GlobalAveragePooling3D(),
        "GlobalMaxPooling3D": lambda: layers.GlobalMaxPooling3D(),
        "MaxPooling3D": lambda: layers.MaxPooling3D(2),
        "SpatialDropout3D": lambda: layers.SpatialDropout3D(0.5, seed=7),
        "UpSampling3D": lambda: layers.UpSampling3D(2),
        "ZeroPadding3D": lambda: layers.ZeroPadding3D(1),
        "ConvLSTM2D": lambda: layers.ConvLSTM2D(2, 3),
    },
    "images as films": {"ConvLSTM1D": lambda: layers.ConvLSTM1D(2, 3)},
    "long films": {"ConvLSTM3D": lambda: layers.ConvLSTM3D(2, 3)},
    "words": {
        "CategoryEncoding": lambda: layers.CategoryEncoding(4, output_mode="multi_hot"),
        "Embedding": lambda: layers.Embedding(4, 3),
        "Hashing": lambda: layers.Hashing(3),
        "IntegerLookup": lambda: layers.IntegerLookup(vocabulary=[1, 2, 3]),
        "ReversibleEmbedding": lambda: layers.ReversibleEmbedding(4, 3),
    },
    "sound": {
        "MelSpectrogram": lambda: layers.MelSpectrogram(num_mel_bins=4, fft_length=64, sequence_stride=32),
    },
}
"""Layers of one input, by the kind of input."""

SEVERAL: dict[str, Callable[[Any], Any]] = {
    "Add": lambda x: layers.Add()([x, x]),
    "AdditiveAttention": lambda x: layers.AdditiveAttention()([x, x]),
    "Attention": lambda x: layers.Attention(use_scale=True)([x, x]),
    "Average": lambda x: layers.Average()([x, x]),
    "Concatenate": lambda x: layers.Concatenate(axis=1)([x, x]),
    "Dot": lambda x: layers.Dot(axes=2)([x, x]),
    "GroupQueryAttention": lambda x: layers.GroupQueryAttention(2, 4, 2)(x, x),
    "Maximum": lambda x: layers.Maximum()([x, x]),
    "Minimum": lambda x: layers.Minimum()([x, x]),
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 2, dropout=0.5)(x, x),
    "Multiply": lambda x: layers.Multiply()([x, x]),
    "Subtract": lambda x: layers.Subtract()([x, x]),
}
"""Layers of several inputs, applied to a series."""


class Many(keras.Model):
    """A subclassed model that applies each of its layers to its input."""

    def __init__(self, parts: list[Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.parts = parts

    def call(self, inputs: Any, training: bool = False) -> Any:
        return [part(inputs) for part in self.parts]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "parts": [keras.saving.serialize_keras_object(part) for part in self.parts]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        parts = [keras.saving.deserialize_keras_object(part) for part in config.pop("parts")]
        return cls(parts, **config)

    def build(self, input_shape: Any) -> None:
        for part in self.parts:
            if not part.built:
                part.build(input_shape)


def functional(kind: str) -> Any:
    """Each layer applied to the input, beside others of several inputs."""
    keras.utils.set_random_seed(1)
    start = _start(kind)
    found = [make()(start) for make in ONE[kind].values()]
    if kind == "series":
        found += [apply(start) for apply in SEVERAL.values()]
    return keras.Model(start, found)


def subclassed(kind: str) -> Any:
    """Each layer in a sequential model of its own, all of them in a subclassed one."""
    keras.utils.set_random_seed(2)
    model = Many([keras.Sequential([_start(kind), make()]) for make in ONE[kind].values()])
    model(INPUTS[kind])
    return model


def _start(kind: str) -> Any:
    return keras.Input(INPUTS[kind].shape[1:], dtype=INPUTS[kind].dtype.name)


def random_images() -> Any:
    """Layers that change images at random, while training."""
    start = keras.Input((6, 6, 3))
    made = [
        layers.RandomBrightness(0.2, seed=1), layers.RandomContrast(0.2, seed=2), layers.RandomCrop(4, 4, seed=3),
        layers.RandomFlip(seed=4), layers.RandomRotation(0.1, seed=5), layers.RandomTranslation(0.1, 0.1, seed=6),
        layers.RandomZoom(0.1, seed=7), layers.RandomHue(0.1, seed=8), layers.RandomSaturation(0.1, seed=9),
        layers.RandomGrayscale(seed=10), layers.RandomInvert(seed=11), layers.RandomPosterization(4, seed=12),
        layers.RandomSharpness(0.1, seed=13), layers.RandomShear((0.0, 0.1), seed=14),
        layers.RandomErasing(seed=15),
        layers.RandomColorDegeneration(0.1, seed=16), layers.RandomColorJitter(0.1, seed=17),
        layers.RandomGaussianBlur(seed=18), layers.RandomPerspective(seed=19), layers.RandomElasticTransform(seed=20),
        layers.AutoContrast(), layers.Solarization(seed=21), layers.AugMix(seed=22),
        layers.RandAugment(seed=23), layers.ContrastLimitedAdaptiveHistogramEqualization(),
    ]  # fmt: skip
    return keras.Model(start, [layer(start) for layer in made])


ALONE: dict[str, Make] = {
    "CutMix": lambda: layers.CutMix(seed=1),
    "Equalization": lambda: layers.Equalization(),
    "HashedCrossing": lambda: layers.HashedCrossing(5, output_mode="one_hot"),
    "MaxNumBoundingBoxes": lambda: layers.MaxNumBoundingBoxes(3),
    "MixUp": lambda: layers.MixUp(seed=1),
}
"""Layers whose inputs are no arrays of one kind, or that no functional model takes, stored by themselves."""

LEFT = {
    "FlaxLayer", "InputLayer", "JaxLayer", "Lambda", "Layer", "StringLookup", "TFSMLayer", "TextVectorization",
    "TorchModuleWrapper", "Wrapper",
}  # fmt: skip
"""Layers of other frameworks and of texts, which have tests of their own, and layers that only others derive from."""


def covered() -> set[type]:
    """The classes of all layers in the models of this module."""
    named = {name for made in ONE.values() for name in made} | set(SEVERAL) | set(ALONE) | LEFT
    return {getattr(layers, name) for name in named} | {type(layer) for layer in random_images().layers}


OPTIMIZERS = sorted(
    name
    for name in dir(keras.optimizers)
    if isinstance(getattr(keras.optimizers, name), type) and name not in ("Optimizer", "OptimizerMap")
)
"""All optimizers of Keras."""


def optimized(name: str, pattern: str = ".*dense/.*") -> Any:
    """A model after two steps with an optimizer; `pattern` is for the variables of a MultiOptimizer's Adam."""
    keras.utils.set_random_seed(10)
    optimizers = keras.optimizers
    made = {
        "LossScaleOptimizer": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=2.0),
        "MultiOptimizer": lambda: optimizers.MultiOptimizer(
            optimizers.OptimizerMap(optimizers.SGD(0.1), {pattern: optimizers.Adam(0.1)})
        ),
        "Muon": lambda: optimizers.Muon(0.1, exclude_layers=["last"]),
    }
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense"), layers.Dense(1, name="last")])
    model.compile(optimizer=made.get(name, getattr(optimizers, name))(), loss="mse", run_eagerly=True)
    for _ in range(2):
        model.train_on_batch(INPUTS["table"], np.ones((ROWS, 1), "float32"))
    return model


def _classes(module: Any, root: type) -> list[type]:
    found = {value for name in dir(module) if isinstance(value := getattr(module, name), type)}
    return sorted((cls for cls in found if issubclass(cls, root) and cls is not root), key=lambda cls: cls.__name__)


def losses(by_alias: bool) -> Any:
    """A model with an output for each loss of Keras, as an object or by its name."""
    keras.utils.set_random_seed(11)
    objects = [cls() for cls in _classes(keras.losses, keras.losses.Loss)]
    if by_alias:
        objects = [loss.name for loss in objects if loss.name in dir(keras.losses)]
    start = keras.Input((4,))
    model = keras.Model(start, [layers.Dense(2, name=f"out{at}")(start) for at in range(len(objects))])
    model.compile(optimizer="sgd", loss=objects)
    return model


def metrics() -> Any:
    """A model with each metric of Keras."""
    keras.utils.set_random_seed(12)
    arguments: dict[str, Any] = {
        "IoU": {"num_classes": 2, "target_class_ids": [0]}, "MeanIoU": {"num_classes": 2},
        "MeanMetricWrapper": {"fn": keras.losses.mean_squared_error}, "MeanRelativeError": {"normalizer": [1.0, 2.0]},
        "OneHotIoU": {"num_classes": 2, "target_class_ids": [0]}, "OneHotMeanIoU": {"num_classes": 2},
        "PrecisionAtRecall": {"recall": 0.5}, "RecallAtPrecision": {"precision": 0.5},
        "SensitivityAtSpecificity": {"specificity": 0.5}, "SpecificityAtSensitivity": {"sensitivity": 0.5},
    }  # fmt: skip
    made = [cls(**arguments.get(cls.__name__, {})) for cls in _classes(keras.metrics, keras.metrics.Metric)]
    start = keras.Input((4,))
    model = keras.Model(start, layers.Dense(2)(start))
    model.compile(optimizer="sgd", loss="mse", metrics=made)
    return model


def mobile() -> Any:
    """Depthwise separable convolutions, as in MobileNet."""
    keras.utils.set_random_seed(4)
    start = keras.Input((8, 8, 3))
    value = start
    for width in (4, 6):
        value = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(value)
        value = layers.ReLU(6.0)(layers.BatchNormalization()(value))
        value = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(value)))
    return keras.Model(start, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(value)))


def residual() -> Any:
    """Shortcuts around convolutions, as in ResNet."""
    keras.utils.set_random_seed(5)
    start = keras.Input((8, 8, 3))
    value = layers.Conv2D(4, 3, padding="same")(start)
    for _ in range(2):
        inner = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(value)))
        value = layers.ReLU()(layers.Add()([value, layers.Conv2D(4, 3, padding="same")(inner)]))
    return keras.Model(start, layers.Dense(2)(layers.GlobalAveragePooling2D()(value)))


def squeezed() -> Any:
    """Channels that are weighed by their averages, as in EfficientNet."""
    keras.utils.set_random_seed(6)
    start = keras.Input((8, 8, 3))
    value = layers.Conv2D(6, 1, activation="swish")(layers.Rescaling(1 / 255)(start))
    weights = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(value))
    weights = layers.Conv2D(6, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="swish")(weights))
    value = layers.Dropout(0.2, noise_shape=(None, 1, 1, 1))(layers.Multiply()([value, weights]))
    return keras.Model(start, layers.Dense(2)(layers.GlobalAveragePooling2D()(value)))


def quantized() -> Any:
    """Integer weights."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(2)])
    model.quantize("int8")
    return model


def with_lora() -> Any:
    """A layer with an adaptation of low rank, a little trained."""
    keras.utils.set_random_seed(8)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign_add(np.full((2, 8), 0.5, "float32"))
    return model


def mixed() -> Any:
    """Half precision by a policy for all layers."""
    keras.utils.set_random_seed(9)
    policy = keras.mixed_precision.DTypePolicy("mixed_bfloat16")
    return keras.Sequential([keras.Input((4,)), layers.Dense(8, dtype=policy), layers.Dense(2, dtype=policy)])


PICTURES = np.linspace(0, 255, 2 * 8 * 8 * 3, dtype="float32").reshape(2, 8, 8, 3)

CASES: dict[str, tuple[Make, list[np.ndarray], Any]] = {
    **{f"layers of {kind}": (partial(functional, kind), [INPUTS[kind]], None) for kind in ONE},
    **{f"subclassed, of {kind}": (partial(subclassed, kind), [INPUTS[kind]], None) for kind in ONE},
    "random images": (random_images, [INPUTS["images"][..., :3]], None),
    **{f"{name} alone": (make, [], None) for name, make in ALONE.items()},
    **{f"optimizer {name}": (partial(optimized, name), [INPUTS["table"]], None) for name in OPTIMIZERS},
    "losses": (partial(losses, False), [INPUTS["table"]], None),
    "losses by name": (partial(losses, True), [INPUTS["table"]], None),
    "metrics": (metrics, [INPUTS["table"]], None),
    "like MobileNet": (mobile, [PICTURES], None),
    "like ResNet": (residual, [PICTURES], None),
    "like EfficientNet": (squeezed, [PICTURES], None),
    "quantized": (quantized, [INPUTS["table"]], None),
    "mixed precision": (mixed, [INPUTS["table"]], None),
}
