"""Paddle: layers and their optimizers, high-level models, programs, state dicts and tensors.

Weights lie in safetensors. What else makes a layer (its class, its settings, its hooks) is a pickle without tensors;
`weights_only=True` leaves that out, and `into=` does not need it. A program (what `paddle.jit.load` gives, or a layer
that is uploaded with `input_spec=`) is stored as `paddle.jit.save` writes it and takes no pickle.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._paddle import tensors as files
from modelstore.managers.base import SUBJECTS, LoadRequest, Manager, Saved, class_name

SKELETON = "skeleton.pkl"

_OPTIMIZER = "optimizer"
_OPTIMIZER_FILES = ("optimizer.safetensors", "optimizer.json")
_OPTIMIZER_SKELETON = "optimizer.pkl"
_MODEL_FILES = (files.WEIGHTS, files.TENSORS)


class PaddleManager(Manager):
    """Stores `paddle.nn.Layer` and all that derives from it, `paddle.Model`, tensors and dicts of tensors."""

    name: ClassVar[str] = "paddle"
    title: ClassVar[str] = "PaddlePaddle"
    claims: ClassVar[tuple[str, ...]] = (
        "paddle.nn.layer.layers:Layer",
        "paddle.hapi.model:Model",
        "paddle.optimizer.optimizer:Optimizer",
        "paddle:Tensor",
    )
    wrappers: ClassVar[Mapping[str, str]] = {"paddle.distributed.parallel:DataParallel": "_layers"}
    keywords: ClassVar[tuple[str, ...]] = (*SUBJECTS, _OPTIMIZER)
    options: ClassVar[tuple[str, ...]] = ("weights_only", "input_spec")
    load_options: ClassVar[tuple[str, ...]] = ("into", "with_optimizer", "device")
    distributions: ClassVar[tuple[str, ...]] = (
        "paddlepaddle",
        "paddlepaddle-gpu",
        "setuptools",
        "numpy",
        "cloudpickle",
    )
    extra: ClassVar[str | None] = "paddle"
    restores_as: ClassVar[str] = "the same class; a layer uploaded with `input_spec=` as `paddle.jit.TranslatedLayer`"
    limits: ClassVar[tuple[str, ...]] = (
        "Gradients and hooks of single tensors are not kept, and a view becomes a tensor of its own: Paddle gives no "
        "way to read them.",
        "Sparse and distributed tensors are refused, and so are layers that have no values yet (`LazyGuard`).",
        "A program is stored for its `forward` alone.",
        "Parameters keep their names, by which optimizers find their state; load a model before you build further "
        "layers that the same optimizer is to train.",
        "Paddle must not be imported after TensorFlow in one process: it crashes.",
    )

    def recognises(self, obj: Any) -> bool:
        """A flat dict of tensors: a state dict."""
        return isinstance(obj, dict) and bool(obj) and all(_is_tensor(value) for value in obj.values())

    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """One object lies at the top of the folder, several in a folder each; an optimizer beside its model."""
        subjects = [keyword for keyword in sorted(objects) if keyword != _OPTIMIZER]
        whole = Saved("")
        above = None
        for keyword in subjects:
            inside = folder.sub(keyword) if len(subjects) > 1 else folder
            part, writer = _save_subject(objects[keyword], inside, options)
            whole.merge(part, f"{keyword}/" if len(subjects) > 1 else "")
            whole.state[keyword] = part.state
            above = writer if keyword == _trained(subjects) else above
        if _OPTIMIZER in objects:
            whole.merge(_save_optimizer(objects[_OPTIMIZER], folder, above))
        return whole

    def load(self, request: LoadRequest) -> Any:
        """The object, or a mapping by keyword; a model's optimizer is left out unless it is asked for.

        Raises:
            InvalidArgumentError: an optimizer is asked for, or `into` is given, where there is nothing to load so.
        """
        subjects = [keyword for keyword in request.keywords if keyword != _OPTIMIZER]
        if request.with_optimizer and _OPTIMIZER not in request.keywords:
            raise InvalidArgumentError(
                "with_optimizer", "this model was uploaded without an optimizer: load it without with_optimizer=True"
            )
        targets = _targets(request.into, subjects)
        loaded: dict[str, Any] = {}
        above = None
        for keyword in subjects:
            folder = request.folder / keyword if len(subjects) > 1 else request.folder
            loaded[keyword], reader = _load_subject(
                folder, request.state.get(keyword), replace(request, into=targets.get(keyword))
            )
            above = reader if keyword == _trained(subjects) else above
        if _OPTIMIZER in request.keywords and (request.with_optimizer or not subjects):
            from modelstore.managers._paddle.skeleton import read_skeleton

            reader = files.TensorReader(request.folder, *_OPTIMIZER_FILES, request.device, above)
            loaded[_OPTIMIZER] = read_skeleton(request.folder / _OPTIMIZER_SKELETON, request.policy, reader)
        if len(subjects) > 1:
            return loaded
        return tuple(loaded.values()) if len(loaded) == 2 else next(iter(loaded.values()))

    def parameters(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        """Numbers of parameters by type, and the settings of the optimizer."""
        described: dict[str, Any] = {}
        for keyword, obj in sorted(objects.items()):
            if keyword == "model":
                described.update(_describe(obj))
            else:
                described[keyword] = _describe(obj)
        return described


def _targets(into: Any, subjects: list[str]) -> Mapping[str, Any]:
    """What to fill, by keyword."""
    if into is None:
        return {}
    if len(subjects) == 1:
        return {subjects[0]: into}
    if not subjects or not isinstance(into, Mapping) or not into or not set(into) <= set(subjects):
        words = ", ".join(subjects) or "a layer"
        raise InvalidArgumentError("into", f"into= is to be a mapping from {words} to the object to fill")
    return into


def _trained(subjects: list[str]) -> str | None:
    """The keyword of what the optimizer trains."""
    return subjects[0] if len(subjects) == 1 else "model" if "model" in subjects else None


def _is_tensor(value: Any) -> bool:
    return any((base.__module__, base.__name__) == ("paddle", "Tensor") for base in type(value).__mro__)


def _save_subject(obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> tuple[Saved, files.TensorWriter | None]:
    import paddle

    from modelstore.managers._paddle.programs import is_program, save_program
    from modelstore.managers._paddle.skeleton import write_skeleton

    weights_only, input_spec = bool(options.get("weights_only")), options.get("input_spec")
    if isinstance(obj, paddle.optimizer.Optimizer):
        raise UnsupportedObjectError("an optimizer is to be given as optimizer=, beside its model", class_name(obj))
    if isinstance(obj, paddle.nn.Layer) and (is_program(obj) or input_spec is not None):
        return save_program(obj, folder, input_spec), None
    writer = files.TensorWriter()
    saved = Saved("safetensors")
    if isinstance(obj, (paddle.nn.Layer, paddle.Model)):
        network = obj.network if isinstance(obj, paddle.Model) else obj
        named = {name: value for name, value in network.state_dict().items() if _is_tensor(value)}
        _offer(network, named, writer)
        saved.state = {"kind": "layer", "skeleton": not weights_only}
        if not weights_only:
            saved.merge(write_skeleton(obj, folder, SKELETON, writer))
    else:
        alone = not isinstance(obj, dict)
        named = {"tensor": obj} if alone else obj
        if not all(isinstance(name, str) for name in named):
            raise UnsupportedObjectError("the keys of a dict of tensors are to be texts", class_name(obj))
        _offer(None, named, writer)
        saved.state = {"kind": "tensor" if alone else "ordered" if isinstance(obj, OrderedDict) else "dict"}
    writer.write(folder, named, *_MODEL_FILES)
    return saved, writer


def _offer(network: Any, named: Mapping[str, Any], writer: files.TensorWriter) -> None:
    for name, tensor in named.items():
        writer.offer(name, tensor)
    # Buffers that are not in the state dict have a name all the same.
    for name, tensor in network.named_buffers() if network is not None else ():
        writer.offer(name, tensor)


def _save_optimizer(optimizer: Any, folder: ModelFolder, above: files.TensorWriter | None) -> Saved:
    import paddle

    from modelstore.managers._paddle.skeleton import write_skeleton

    if not isinstance(optimizer, paddle.optimizer.Optimizer):
        raise UnsupportedObjectError(
            f"optimizer= is to be a paddle.optimizer.Optimizer, not a {class_name(optimizer)}", class_name(optimizer)
        )
    writer = files.TensorWriter(above)
    saved = write_skeleton(optimizer, folder, _OPTIMIZER_SKELETON, writer)
    writer.write(folder, {}, *_OPTIMIZER_FILES)
    return saved


def _load_subject(folder: Path, state: Any, request: LoadRequest) -> tuple[Any, files.TensorReader | None]:
    from modelstore.managers._paddle.programs import load_program
    from modelstore.managers._paddle.skeleton import read_skeleton

    kind = state.get("kind") if isinstance(state, Mapping) else None
    if kind not in ("program", "layer", "tensor", "dict", "ordered"):
        raise IntegrityError("the record", "paddle", f"its state cannot be read: {state!r:.200}")
    if kind == "program":
        for option in ("into", "device"):
            if getattr(request, option) is not None:
                raise InvalidArgumentError(option, f"a program was stored, which is loaded without {option}=")
        return load_program(folder, state.get("training") is True, request.policy), None
    reader = files.TensorReader(folder, *_MODEL_FILES, request.device)
    if request.into is not None:
        _fill(request.into, reader)
        return request.into, reader
    if kind != "layer":
        found = reader.state_dict()
        return found["tensor"] if kind == "tensor" else OrderedDict(found) if kind == "ordered" else found, reader
    if not state.get("skeleton"):
        raise InvalidArgumentError("into", "only the weights were stored: load them with into=, a layer that you build")
    return read_skeleton(folder / SKELETON, request.policy, reader), reader


def _fill(target: Any, reader: files.TensorReader) -> None:
    import paddle

    network = target.network if isinstance(target, paddle.Model) else target
    if not isinstance(network, paddle.nn.Layer):
        raise InvalidArgumentError("into", f"into= is to be a paddle.nn.Layer, not a {class_name(target)}")
    stored, own = reader.state_dict(), network.state_dict()
    wrong = sorted(set(stored) ^ set(own))
    for name in sorted(set(stored) & set(own)):
        if list(stored[name].shape) != list(own[name].shape) or stored[name].dtype != own[name].dtype:
            wrong.append(f"{name}: {stored[name].dtype} {list(stored[name].shape)} is stored")
    if wrong:
        raise InvalidArgumentError("into", f"into= does not fit the stored weights: {'; '.join(wrong[:5])}")
    for name, tensor in stored.items():
        own[name].set_value(tensor)


def _describe(obj: Any) -> dict[str, Any]:
    import paddle

    if isinstance(obj, paddle.optimizer.Optimizer):
        return {"type": class_name(obj), "learning_rate": float(obj.get_lr())}
    if isinstance(obj, paddle.Model):
        obj = obj.network
    if isinstance(obj, paddle.nn.Layer):
        tensors = list(obj.parameters())
        trainable = sum(int(tensor.size) for tensor in tensors if not tensor.stop_gradient)
        return {**_count(tensors), "trainable": trainable, "layers": len(obj.sublayers(include_self=True))}
    return _count(list(obj.values()) if isinstance(obj, dict) else [obj])


def _count(tensors: list[Any]) -> dict[str, Any]:
    count: Counter[str] = Counter()
    for tensor in tensors:
        count[files.dtype_name(tensor)] += int(tensor.size)
    return {"parameters": count.total(), "dtypes": dict(sorted(count.items()))}
