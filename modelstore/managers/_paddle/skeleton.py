"""The rest of a layer or an optimizer: its pickle, with the tensors left out of it."""

from __future__ import annotations

import pickle
import types
import weakref
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, ModelStoreError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers import pickling
from modelstore.managers._paddle.tensors import TensorReader, TensorWriter, reserve_name
from modelstore.managers.base import Saved, class_name
from modelstore.managers.pickling import PicklePolicy

_ELSEWHERE = ("_parameters", "_buffers", "_sub_layers")


class _PersistentIds:
    """What stands for tensors, places and compiled functions in a pickle."""

    def __init__(self, tensors: TensorWriter) -> None:
        self._tensors = tensors

    def __call__(self, obj: Any) -> tuple[Any, ...] | None:
        import paddle

        if isinstance(obj, paddle.Tensor):
            above = self._tensors.above
            number = above.number(obj) if above is not None else None
            if number is not None:
                return "tensor above", number
            # Stands in the pickle again for every mention of the tensor; it is small.
            return "tensor", self._tensors.add(obj), dict(getattr(obj, "__dict__", {}))
        if isinstance(obj, paddle.base.core.Place):
            return "place", str(obj)[6:-1]
        if isinstance(obj, paddle.base.framework.Program):
            # An optimizer keeps its learning rate by the program that it is part of.
            return ("main program",)
        if isinstance(obj, paddle.jit.dy2static.program_translator.StaticFunction):
            instance = obj._class_instance() if obj._class_instance is not None else None
            return "static", type(obj), obj._dygraph_function, instance, obj._input_spec, _settings(obj._kwargs)
        if isinstance(obj, types.FunctionType) and _makes_dicts(obj):
            return ("dict",)
        return None


def _makes_dicts(function: types.FunctionType) -> bool:
    """Whether it is the lambda by which optimizers make dicts: as byte code it would tie them to a Python version."""
    own = function.__module__.startswith("paddle.optimizer.")
    return own and function.__qualname__.endswith("__init__.<locals>.<lambda>") and function() == {}


def _settings(keywords: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `to_static` but for those that live in the compiler."""
    return {name: value for name, value in keywords.items() if name != "build_strategy"}


class _PersistentObjects:
    """The inverse of `_PersistentIds`."""

    def __init__(self, tensors: TensorReader) -> None:
        self._tensors = tensors

    def __call__(self, pid: Any) -> Any:
        from modelstore.managers._paddle.tensors import place_of

        match pid:
            case ("tensor", number, attributes):
                return self._tensors.tensor(number, attributes)
            case ("tensor above", number) if self._tensors.above is not None:
                return self._tensors.above.tensor(number)
            case ("place", device):
                return place_of(device) or place_of("cpu")
            case ("dict",):
                return dict
            case ("main program",):
                import paddle

                return paddle.base.framework.default_main_program()
            case ("static", cls, function, instance, input_spec, settings):
                # As its own __get__ binds it. The constructor would look into the layer, which is not filled yet.
                static = cls(function, input_spec, **settings)
                static._class_instance = weakref.ref(instance) if instance is not None else None
                return static
        raise pickle.UnpicklingError(f"this pickle refers to {pid!r}, which is not there")


def write_skeleton(obj: Any, folder: ModelFolder, name: str, tensors: TensorWriter) -> Saved:
    """Pickle all of an object but its tensors, which `tensors` takes in.

    Raises:
        UnsupportedObjectError: it cannot be pickled; names the attribute that is to blame, if it can be found.
    """
    try:
        data, pickled = pickling.dumps(obj, _PersistentIds(tensors))
    except (ModelStoreError, MemoryError):
        raise
    except Exception as error:  # the objects' own methods raise whatever they like
        what = _culprit(obj) or f"{type(error).__name__}: {error}"
        raise UnsupportedObjectError(
            f"this {class_name(obj)} cannot be pickled ({what}); take that out of it before the upload, or upload it "
            "with weights_only=True and load it with into=, a layer that you build",
            class_name(obj),
        ) from error
    folder.add_bytes(name, data)
    return Saved("pickle", pickled=[name], modules=pickled.modules, by_value=pickled.by_value)


def _culprit(obj: Any) -> str | None:
    import paddle

    def leave_out(value: Any) -> str | None:
        return "elsewhere" if isinstance(value, (paddle.Tensor, paddle.nn.Layer, paddle.base.core.Place)) else None

    layers = obj.named_sublayers(include_self=True) if isinstance(obj, paddle.nn.Layer) else [("", obj)]
    for path, layer in layers:
        for name, value in vars(layer).items():
            if name not in _ELSEWHERE:
                try:
                    pickling.dumps(value, leave_out)
                except Exception as error:
                    return f"{path}.{name}: {error}".lstrip(".")
    return None


def read_skeleton(path: Path, policy: PicklePolicy, tensors: TensorReader) -> Any:
    """Load what `write_skeleton` wrote.

    Raises:
        PickleNotAllowedError: the policy refuses.
        IntegrityError: the file is missing.
    """
    import paddle

    policy.require(f"the Paddle model in {path.name}")
    if not path.is_file():
        raise IntegrityError("the Paddle model", path.name, "it is not there")
    with open(path, "rb") as file:
        obj = pickling.load(file, f"the Paddle model in {path.name}", policy, _PersistentObjects(tensors))
    for layer in obj.sublayers(include_self=True) if isinstance(obj, paddle.nn.Layer) else ():
        reserve_name(layer.full_name())
    return obj
