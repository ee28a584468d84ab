"""TensorFlow and Keras 3, on any backend: models and layers as `.keras` files, other modules as SavedModels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder
from modelstore.managers._tensorflow.keras_files import describe_keras, load_keras, save_keras
from modelstore.managers._tensorflow.saved_models import describe_module, load_module, save_module
from modelstore.managers.base import LoadRequest, ObjectManager, Saved
from modelstore.records import json_safe

KERAS_MODEL = "keras.src.models.model:Model"
KERAS_LAYER = "keras.src.layers.layer:Layer"
MODULES = (
    "tensorflow.python.module.module:Module",
    "tensorflow.python.trackable.autotrackable:AutoTrackable",
)


class TensorflowManager(ObjectManager):
    """TensorFlow and Keras."""

    name = "tensorflow"
    title = "TensorFlow and Keras"
    claims = (KERAS_MODEL, KERAS_LAYER, *MODULES)
    distributions = ("tensorflow", "tensorflow-cpu", "keras", "h5py", "ml-dtypes", "numpy")
    load_options = ("into",)
    extra = "tensorflow"
    restores_as = "Keras: the same class; another tf.Module: a SavedModel's object with the same functions"
    exactness = (
        "bit for bit; a Keras model that is loaded on another backend than it was saved on rounds differently in its "
        "last digits, and a warning says so"
    )
    limits = (
        "A Keras model has to be built before the upload, so that it has weights.",
        "Lambdas are byte code, and functions of your own are called by name: both take `allow_pickle` to load. "
        "Layers, models, losses, metrics and optimizers of your own that an import finds need none.",
        "Of a `tf.Module` that is not Keras' come back the functions that have a graph: decorate them with "
        "`@tf.function(input_signature=[…])`, or call them once before the upload.",
        "A `TFSMLayer` refers to a SavedModel on the disk of this machine, and is refused: upload what "
        "`tf.saved_model.load` gives.",
        "Keras' file holds the sum of a kernel and its adaptation of low rank (LoRA): outputs are equal, and the "
        "adaptation starts anew.",
        "A `MultiOptimizer` whose patterns fit other variables after loading is refused, and so is a layer that Keras "
        "cannot make of its own configuration, such as `RandomShear(0.1)`.",
        "`AugMix` and `RandAugment` choose by Python's `random`, which is no part of a model.",
        "`device=` is not heeded, since TensorFlow itself puts weights on a GPU where there is one; load within "
        '`with keras.device("cpu"):` to keep them off it.',
        "Keras numbers variables anew in each process: their paths may differ after loading, their order does not.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write a Keras object, or a module."""
        names = _class_names(obj)
        if KERAS_LAYER in names:
            return save_keras(obj, folder, is_model=KERAS_MODEL in names)
        return save_module(obj, folder)

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build what was saved, or fill `into`."""
        kind = state.get("kind")
        if kind == "keras" and not {"custom", "backend", "lambda", "size", "seeds"} - set(state):
            return load_keras(folder, state, request)
        if kind == "saved_model":
            return load_module(folder, request)
        raise IntegrityError("the record", "tensorflow", f"its state cannot be read: {dict(state)!r:.200}")

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """Configuration and optimizer of a Keras object, and how many weights there are."""
        described = describe_keras(obj) if KERAS_LAYER in _class_names(obj) else describe_module(obj)
        parameters: dict[str, Any] = json_safe(described)
        return parameters


def _class_names(obj: Any) -> set[str]:
    return {f"{base.__module__}:{base.__qualname__}" for base in type(obj).__mro__}
