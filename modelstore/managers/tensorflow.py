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
    claims = (KERAS_MODEL, KERAS_LAYER, *MODULES)
    distributions = ("tensorflow", "tensorflow-cpu", "keras", "h5py", "ml-dtypes", "numpy")
    load_options = ("into",)
    extra = "tensorflow"
    restores_as = "Keras: the same class; another tf.Module: a SavedModel's object with the same functions"

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
