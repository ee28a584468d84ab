"""Keras models and layers as `.keras` files, with the code that such a file only names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._tensorflow.custom import custom_objects, is_of_keras, load_custom, read_names
from modelstore.managers.base import LoadRequest, Saved, class_name
from modelstore.managers.classes import ClassBook, ClassShelf
from modelstore.notices import warn

KERAS_FILE = "model.keras"

BACKEND_MODULES = {"jax": "jax", "torch": "torch"}
"""What Keras needs to run, when it is not TensorFlow."""


def save_keras(obj: Any, folder: ModelFolder, is_model: bool) -> Saved:
    """Write a model or a layer, with its optimizer's state where it has one.

    Raises:
        UnsupportedObjectError: it has not been built, Keras cannot save it, or could not load what it saved.
    """
    import keras

    if is_model and not obj.built:
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} has not been built, so it has no weights yet; call it on some data, or "
            "build(input_shape), before the upload",
            class_name(obj),
        )
    path = folder.path(KERAS_FILE)
    _write(obj, path)
    named = read_names(path)
    if "TFSMLayer" in named.names:
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} has a TFSMLayer, which refers to a SavedModel on the disk of this machine: "
            "upload what tf.saved_model.load gives, by itself",
            class_name(obj),
        )
    custom = custom_objects(obj, named.names, keras.saving.get_registered_name)
    book = ClassBook()
    references = {name: book.refer(code) for name, code in sorted(custom.items())}
    if custom or named.has_lambda or "MultiOptimizer" in named.names:
        _check_loads(obj, path, custom)
    else:
        _check_layers(obj)
    saved = book.save(folder)
    saved.format = " + ".join(part for part in ("keras", saved.format) if part)
    runs_code = any("pickled" not in references[name] and not _is_class(code) for name, code in custom.items())
    if named.has_lambda or runs_code:
        saved.pickled.append(KERAS_FILE)
    saved.by_value = saved.by_value or named.has_lambda
    backend = keras.config.backend()
    saved.modules |= {BACKEND_MODULES[backend]} if backend in BACKEND_MODULES else set()
    saved.state = {
        "kind": "keras", "backend": backend, "lambda": named.has_lambda, "custom": references, "size": _size(obj),
        "seeds": [_values(seed) for seed in _seeds(obj)],
    }  # fmt: skip
    return saved


def load_keras(folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
    """The model or layer; a compiled model with its optimizer, losses and metrics.

    Raises:
        PickleNotAllowedError: it holds code, and the policy refuses.
        InvalidArgumentError: `into` does not fit.
    """
    import keras

    if request.into is not None:
        return _fill(request.into, folder / KERAS_FILE, state)
    if keras.config.backend() != state["backend"]:
        warn(
            f"the model was saved with Keras on {state['backend']} and is loaded on {keras.config.backend()}: its "
            "predictions may differ in their last digits"
        )
    if state["lambda"]:
        request.policy.require(f"the lambda in {KERAS_FILE}")
    custom = load_custom(state["custom"], ClassShelf(folder, request.policy), request)
    loaded = keras.saving.load_model(folder / KERAS_FILE, custom_objects=custom, safe_mode=not state["lambda"])
    seeds = _seeds(loaded)
    if len(seeds) == len(state["seeds"]):
        for seed, values in zip(seeds, state["seeds"], strict=True):
            seed.assign(values)
    return loaded


def describe_keras(obj: Any) -> dict[str, Any]:
    """Optimizer, configuration and size; what an object has not, or cannot tell, is left out."""
    found: dict[str, Any] = {"weights": _size(obj)}
    for key, source in (("optimizer", getattr(obj, "optimizer", None)), ("config", obj)):
        if source is not None and hasattr(source, "get_config"):
            try:
                found[key] = _plain(source.get_config())
            except Exception:
                continue  # a class of one's own need not have a configuration until it is saved
    return found


def _write(obj: Any, path: Path) -> None:
    import keras

    try:
        with warnings.catch_warnings():
            # Lambdas are dealt with here; a layer that has not been built loads as such.
            warnings.filterwarnings("ignore", message=".*includes a `lambda`.*")
            warnings.filterwarnings("ignore", message=".*has not yet been built.*")
            keras.saving.save_model(obj, path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnsupportedObjectError(
            f"Keras cannot save this {type(obj).__name__}: {error}", class_name(obj)
        ) from error


def _check_loads(obj: Any, path: Path, custom: Mapping[str, Any]) -> None:
    """Load what was written: a class of one's own may save what it cannot load."""
    import keras

    try:
        loaded = keras.saving.load_model(path, custom_objects=dict(custom), safe_mode=False)
    except Exception as error:
        raise UnsupportedObjectError(
            f"Keras saved this {type(obj).__name__}, but cannot load it again: {error}", class_name(obj)
        ) from error
    if _size(loaded) != _size(obj):
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} has {_size(obj)['arrays']} weights, and comes back from its file with "
            f"{_size(loaded)['arrays']}: get_config(), from_config() or build() of its classes do not make all layers",
            class_name(obj),
        )
    ours, theirs = (_optimizer_shapes(model) for model in (obj, loaded))
    if ours is not None and theirs is not None and ours != theirs:
        raise UnsupportedObjectError(
            f"the {type(obj.optimizer).__name__} of this {type(obj).__name__} would lose its state, as it has other "
            "variables after loading. A MultiOptimizer chooses by the paths of variables, and Keras names them anew: "
            "write patterns that hold with any name of the model in front, such as '.*dense/.*'",
            class_name(obj),
        )


def _check_layers(obj: Any) -> None:
    """Make each of Keras' own layers from its configuration, without weights: some write what they refuse to read."""
    import keras

    for layer in _layers(obj):
        config = keras.saving.serialize_keras_object(layer)
        config.pop("build_config", None)
        try:
            keras.saving.deserialize_keras_object(config)
        except Exception as error:
            reason = str(error).rpartition("Exception encountered: ")[2]
            raise UnsupportedObjectError(
                f"Keras cannot make the {type(layer).__name__} {layer.name!r} of its own configuration again: {reason} "
                "Other arguments may help, such as a pair of numbers in place of one",
                class_name(obj),
            ) from error


def _layers(obj: Any) -> Iterator[Any]:
    """The layers of a model and of the models in it; layers within layers have no configuration of their own there."""
    import keras

    if not isinstance(obj, keras.Model):
        yield obj
        return
    for layer in obj.layers:
        yield from _layers(layer)


def _optimizer_shapes(obj: Any) -> list[tuple[int, ...]] | None:
    """Those of the variables of an optimizer that has any."""
    optimizer = getattr(obj, "optimizer", None)
    if optimizer is None or not optimizer.built:
        return None
    return [tuple(variable.shape) for variable in optimizer.variables]


def _plain(config: Any) -> Any:
    """A configuration as it is after loading, too: lists in place of tuples, and no byte code."""
    if isinstance(config, dict):
        if config.get("class_name") == "__lambda__":
            return {"class_name": "__lambda__"}
        return {key: _plain(value) for key, value in config.items()}
    return [_plain(value) for value in config] if isinstance(config, (list, tuple)) else config


def _fill(into: Any, path: Path, state: Mapping[str, Any]) -> Any:
    import keras

    if not is_of_keras(type(into)) or not hasattr(into, "weights"):
        raise InvalidArgumentError("into", f"into= takes a Keras model or layer here, not a {class_name(into)}")
    if not into.built:
        raise InvalidArgumentError("into", "into= has not been built: call it on some data, or build(input_shape)")
    if _size(into) != state["size"]:
        raise InvalidArgumentError(
            "into", f"into= has other weights ({_size(into)}) than the stored ones ({state['size']})"
        )
    try:
        keras.saving.load_weights(into, path)
    except Exception as error:
        raise InvalidArgumentError("into", f"into= does not fit the stored weights: {error}") from error
    return into


def _size(obj: Any) -> dict[str, int]:
    def count(weights: Any) -> int:
        return sum(_product(weight.shape) for weight in weights)

    return {"arrays": len(obj.weights), "numbers": count(obj.weights), "trainable": count(obj.trainable_weights)}


def _seeds(obj: Any) -> list[Any]:
    """The states of the random numbers, which Keras does not save: with them, training goes on as it would have."""
    return [variable for variable in obj.variables if variable.name == "seed_generator_state"]


def _values(variable: Any) -> list[int]:
    import keras

    return [int(value) for value in keras.ops.convert_to_numpy(variable)]


def _product(shape: Any) -> int:
    product = 1
    for length in shape:
        product *= int(length)
    return product


def _is_class(code: Any) -> bool:
    return isinstance(code, type) and is_of_keras(code)
