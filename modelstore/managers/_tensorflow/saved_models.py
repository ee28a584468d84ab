"""TensorFlow modules, and what was loaded from a SavedModel, as SavedModels: graphs and variables without classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelstore.exceptions import InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved, class_name
from modelstore.notices import warn

SAVED_MODEL = "saved_model"


def save_module(obj: Any, folder: ModelFolder) -> Saved:
    """Write a module's functions and variables.

    Raises:
        UnsupportedObjectError: nothing of it could be called after loading, or TensorFlow cannot save it.
    """
    import tensorflow as tf

    ready, waiting = _functions(obj)
    if not ready:
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} has no traced tf.function, so nothing of it could be called after loading; "
            "decorate its methods with @tf.function(input_signature=[…]), or call them once, before the upload",
            class_name(obj),
        )
    if waiting:
        warn(
            f"{', '.join(waiting)} of this {type(obj).__name__} will not be callable after loading: no "
            "input_signature, and never called"
        )
    try:
        tf.saved_model.save(obj, str(folder.path(SAVED_MODEL)))
    except Exception as error:
        if isinstance(error, OSError):
            raise
        raise UnsupportedObjectError(
            f"TensorFlow cannot save this {type(obj).__name__}: {error}", class_name(obj)
        ) from error
    return Saved("saved_model", state={"kind": "saved_model"})


def load_module(folder: Path, request: LoadRequest) -> Any:
    """What `tf.saved_model.load` makes of it, or `into=` with the stored variables.

    Raises:
        InvalidArgumentError: a variable of `into` is not among the stored ones.
    """
    import tensorflow as tf

    path = folder / SAVED_MODEL
    if request.into is None:
        return tf.saved_model.load(str(path))
    try:
        status = tf.train.Checkpoint(request.into).read(str(path / "variables" / "variables"))
        status.assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        raise InvalidArgumentError("into", f"into= does not fit the stored variables: {error}") from error
    return request.into


def describe_module(obj: Any) -> dict[str, Any]:
    """The numbers of variables and of their elements."""
    variables = getattr(obj, "variables", ())
    return {"variables": len(variables), "numbers": sum(int(variable.shape.num_elements()) for variable in variables)}


def _functions(obj: Any) -> tuple[list[str], list[str]]:
    """The names of the functions that have a graph, and of those that have none yet; of all modules in it."""
    import tensorflow as tf

    ready: list[str] = []
    waiting: list[str] = []
    for module in (obj, *getattr(obj, "submodules", ())):
        for name in dir(module):
            if name.startswith("_") and name != "__call__":
                continue
            try:
                value = getattr(module, name)
            except Exception:
                continue  # a property of the user's may raise anything
            if isinstance(value, tf.types.experimental.ConcreteFunction) or _has_graph(value):
                ready.append(name)
            elif isinstance(value, tf.types.experimental.PolymorphicFunction):
                waiting.append(name)
    return ready, waiting


def _has_graph(function: Any) -> bool:
    trace = getattr(function, "_list_all_concrete_functions_for_serialization", None)
    return bool(trace()) if trace is not None else False
