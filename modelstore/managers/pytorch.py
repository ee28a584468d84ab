"""PyTorch: modules with their optimizers, state dicts and checkpoints, tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import SUBJECTS, LoadRequest, Manager, Saved, class_name

_OPTIMIZER = "optimizer"
_DEPTH = 4
_VALUES = 10_000
_HELD = {("torch", "Tensor"), ("torch.nn.modules.module", "Module")}


class PyTorchManager(Manager):
    """Storages in safetensors, the rest of a module in a pickle, a state dict's rest in JSON; see `_torch`."""

    name: ClassVar[str] = "pytorch"
    title: ClassVar[str] = "PyTorch"
    claims: ClassVar[tuple[str, ...]] = (
        "torch.nn.modules.module:Module",
        "torch.optim.optimizer:Optimizer",
        "torch:Tensor",
    )
    wrappers: ClassVar[Mapping[str, str]] = {
        "torch._dynamo.eval_frame:OptimizedModule": "_orig_mod",
        "torch.nn.parallel.data_parallel:DataParallel": "module",
        "torch.nn.parallel.distributed:DistributedDataParallel": "module",
    }
    # AveragedModel is none of them: it holds the averaged weights itself.
    keywords: ClassVar[tuple[str, ...]] = (*SUBJECTS, _OPTIMIZER)
    options: ClassVar[tuple[str, ...]] = ("weights_only",)
    load_options: ClassVar[tuple[str, ...]] = ("into", "with_optimizer", "device")
    distributions: ClassVar[tuple[str, ...]] = ("torch", "numpy", "cloudpickle")
    extra: ClassVar[str | None] = "torch"
    restores_as: ClassVar[str] = (
        "the same class; with `with_optimizer=True`, `(model, optimizer)`; with `into=module`, that module"
    )
    limits: ClassVar[tuple[str, ...]] = (
        "one shard of a sharded model (FSDP, `DTensor`) is refused: gather the state dict, or save it with "
        "`torch.distributed.checkpoint` and upload that folder",
        "tensors on the meta device hold no data and are refused",
        "modules with parametrizations cannot be pickled: `weights_only=True`, and `into=` on load",
        "what `torch.compile` and data parallelism wrap is stored without the wrapper",
    )

    def recognises(self, obj: Any) -> bool:
        """A dict that holds tensors or modules, up to four levels down: a state dict, a checkpoint."""
        return isinstance(obj, dict) and _holds_tensors(obj)

    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """One object lies at the top of the folder, several in a folder each; an optimizer beside its model."""
        import torch

        from modelstore.managers._torch.objects import save_object
        from modelstore.managers._torch.optimizer import save_optimizer

        _check(objects)
        weights_only = bool(options.get("weights_only", False))
        whole = Saved(format="")
        storages: dict[str, Any] = {}
        for keyword, obj in _in_order(objects):
            prefix = _prefix(keyword, objects)
            inside = folder.sub(prefix) if prefix else folder
            if isinstance(obj, torch.optim.Optimizer):
                trained = _trained(objects) if keyword == _OPTIMIZER else None
                part = save_optimizer(obj, objects.get(trained or ""), storages.get(trained or ""), inside)
                part.state = {"kind": _OPTIMIZER}
            else:
                part, storages[keyword] = save_object(obj, inside, weights_only)
            whole.merge(part, f"{prefix}/" if prefix else "")
            whole.state[keyword] = part.state
        whole.format = "safetensors + pickle" if whole.pickled else "safetensors"
        return whole

    def load(self, request: LoadRequest) -> Any:
        """The object, or a mapping by keyword; a model's optimizer is left out unless it is asked for.

        Raises:
            InvalidArgumentError: an optimizer is asked for, or `into` is given, where there is nothing to load so; the
                device is not there, or is asked for with `into`, which is filled where it lies.
        """
        from modelstore.managers._torch.devices import asked_device

        if request.with_optimizer and _OPTIMIZER not in request.keywords:
            raise InvalidArgumentError(
                "with_optimizer", "this model was uploaded without an optimizer: load it without with_optimizer=True"
            )
        subjects = [keyword for keyword in request.keywords if keyword != _OPTIMIZER]
        targets = _targets(request.into, subjects)
        device = asked_device(request)
        loaded: dict[str, Any] = {}
        storages: dict[str, Any] = {}
        for keyword in subjects:
            loaded[keyword], storages[keyword] = self._load_one(keyword, request, targets.get(keyword), device)
        if _OPTIMIZER in request.keywords and (request.with_optimizer or not subjects):
            from modelstore.managers._torch.optimizer import load_optimizer

            trained = _trained(request.keywords) or ""
            loaded[_OPTIMIZER] = load_optimizer(
                _folder(request, _OPTIMIZER), loaded.get(trained), storages.get(trained), request.policy, device
            )
        if len(subjects) > 1:
            return loaded
        return tuple(loaded.values()) if len(loaded) == 2 else next(iter(loaded.values()))

    def _load_one(self, keyword: str, request: LoadRequest, into: Any, device: str | None) -> tuple[Any, Any]:
        from modelstore.managers._torch.objects import StoredObject
        from modelstore.managers._torch.optimizer import load_optimizer

        folder, state = _folder(request, keyword), request.state.get(keyword)
        if not isinstance(state, Mapping):
            raise IntegrityError("the record", "state", f"it says nothing of the object {keyword!r}")
        if state.get("kind") == _OPTIMIZER:
            if into is not None:
                raise InvalidArgumentError("into", "an optimizer was uploaded, which cannot be loaded with into=")
            return load_optimizer(folder, None, None, request.policy, device), None
        stored = StoredObject(folder, state, request.policy, device)
        if into is None:
            return stored.load(), stored.storages
        stored.fill(self._unwrapped(into))
        return into, stored.storages

    def _unwrapped(self, module: Any) -> Any:
        while True:
            names = [f"{base.__module__}:{base.__qualname__}" for base in type(module).__mro__]
            attribute = next((self.wrappers[name] for name in names if name in self.wrappers), None)
            if attribute is None:
                return module
            module = getattr(module, attribute)

    def parameters(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        """Numbers of parameters by type, and the settings of the optimizer."""
        import torch

        from modelstore.managers._torch.summary import describe_object, describe_optimizer

        described: dict[str, Any] = {}
        for keyword, obj in _in_order(objects):
            if isinstance(obj, torch.optim.Optimizer):
                described[keyword] = describe_optimizer(obj)
            elif keyword == "model":
                described.update(describe_object(obj))
            else:
                described[keyword] = describe_object(obj)
        return described


def _in_order(objects: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Sorted by keyword, the optimizer last: it refers to what its model has stored."""
    return sorted(objects.items(), key=lambda item: (item[0] == _OPTIMIZER, item[0]))


def _check(objects: Mapping[str, Any]) -> None:
    import torch

    for keyword, obj in objects.items():
        if isinstance(obj, torch.optim.Optimizer) != (keyword == _OPTIMIZER) and _OPTIMIZER in objects:
            wanted = "a torch.optim.Optimizer" if keyword == _OPTIMIZER else "the model that the optimizer trains"
            raise UnsupportedObjectError(f"{keyword}= is to be {wanted}, not a {class_name(obj)}", class_name(obj))


def _trained(keywords: Iterable[str]) -> str | None:
    """The keyword of the object that the optimizer trains."""
    subjects = [keyword for keyword in keywords if keyword != _OPTIMIZER]
    return subjects[0] if len(subjects) == 1 else "model" if "model" in subjects else None


def _prefix(keyword: str, keywords: Collection[str]) -> str:
    """The sub-folder of an object: none for a single one, with or without an optimizer."""
    if sum(other != _OPTIMIZER for other in keywords) < 2:
        return ""
    return _trained(keywords) or keyword if keyword == _OPTIMIZER else keyword


def _folder(request: LoadRequest, keyword: str) -> Path:
    prefix = _prefix(keyword, request.keywords)
    return request.folder / prefix if prefix else request.folder


def _targets(into: Any, subjects: list[str]) -> Mapping[str, Any]:
    """What to fill, by keyword."""
    if into is None:
        return {}
    if len(subjects) == 1:
        return {subjects[0]: into}
    if not subjects or not isinstance(into, Mapping) or not set(into) <= set(subjects):
        raise InvalidArgumentError(
            "into", f"into= is to be a mapping from {', '.join(subjects) or 'a model'} to the module to fill"
        )
    return into


def _holds_tensors(root: Any) -> bool:
    level: list[Any] = [root]
    seen = 0
    for _ in range(_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            seen += 1
            if seen > _VALUES:
                return False
            if any((base.__module__, base.__name__) in _HELD for base in type(value).__mro__):
                return True
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, (list, tuple)):
                below.extend(value)
        level = below
    return False
