"""What cannot be stored, found before or after the attempt, and what to do instead. Imports no part of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import UnsupportedObjectError
from modelstore.managers import pickling
from modelstore.managers.base import class_name

if TYPE_CHECKING:
    import torch

WEIGHTS_ONLY = "upload it with weights_only=True and load it with into=, a module that you build"

_SHARDED = ("DTensor", "ShardedTensor", "FullyShardedDataParallel", "FSDPModule")
_ELSEWHERE = ("_parameters", "_buffers", "_modules")
_OWN_TYPES = ("Tensor", "Parameter")


def refuse_tensor(tensor: torch.Tensor, where: str = "") -> None:
    """Refuse a tensor without data of its own.

    Raises:
        UnsupportedObjectError: a meta or fake tensor, or one shard of a distributed tensor.
    """
    name = f"the tensor {where!r}" if where else "a tensor"
    cls = type(tensor)
    if cls.__name__ not in _OWN_TYPES:
        if _has_base(cls, "torch.distributed", _SHARDED):
            raise _sharded(f"{name} is one shard of a {cls.__name__}", cls)
        if _has_base(cls, "torch._subclasses", ("FakeTensor", "FunctionalTensor")):
            raise UnsupportedObjectError(f"{name} is a {cls.__name__}, which holds no data", class_name(tensor))
    if tensor.is_meta:
        raise UnsupportedObjectError(
            f"{name} is on the meta device and holds no data; give the model its weights first, by "
            "model.to_empty(device='cpu') and model.load_state_dict(…)",
            class_name(tensor),
        )


def refuse_module(module: torch.nn.Module) -> None:
    """Refuse a module that holds no data of its own, or only part of it.

    Raises:
        UnsupportedObjectError: FSDP, shards, meta tensors; names the module or tensor.
    """
    for name, child in module.named_modules():
        if _has_base(type(child), "torch.distributed", _SHARDED):
            raise _sharded(f"{_path(name)} is sharded ({type(child).__name__}), this process holds a part", type(child))
    for name, tensor in _tensors(module):
        refuse_tensor(tensor, name)


def refuse_script(module: torch.nn.Module) -> None:
    """Refuse TorchScript, which has no pickled form.

    Raises:
        UnsupportedObjectError: naming the scripted module.
    """
    for name, child in module.named_modules():
        if _has_base(type(child), "torch.jit", ("ScriptModule",)):
            raise UnsupportedObjectError(
                f"{_path(name)} is a TorchScript module ({type(child).__name__}), which cannot be pickled; save it by "
                f"torch.jit.save(model, 'model.pt') and upload that file as model='model.pt', or {WEIGHTS_ONLY}",
                class_name(child),
            )


def explain(obj: Any, error: Exception) -> UnsupportedObjectError:
    """The error for an object that could not be pickled; names the attribute that is to blame, if it can be found."""
    import torch

    if isinstance(obj, torch.nn.Module):
        for name, child in obj.named_modules():
            if hasattr(child, "parametrizations"):
                return UnsupportedObjectError(
                    f"{_path(name)} has parametrizations ({', '.join(child.parametrizations)}), and torch refuses to "
                    f"pickle such modules; {WEIGHTS_ONLY}, or bake them in first by "
                    "torch.nn.utils.parametrize.remove_parametrizations",
                    class_name(obj),
                )
        if (found := _unpicklable(obj)) is not None:
            path, value, cause = found
            return UnsupportedObjectError(
                f"{path} (a {class_name(value)}) cannot be pickled ({cause}); remove it from the model before the "
                f"upload, or {WEIGHTS_ONLY}",
                class_name(obj),
            )
    advice = f"; {WEIGHTS_ONLY}" if isinstance(obj, torch.nn.Module) else ""
    return UnsupportedObjectError(
        f"this {class_name(obj)} cannot be pickled ({type(error).__name__}: {error}){advice}", class_name(obj)
    )


def _unpicklable(module: torch.nn.Module) -> tuple[str, Any, str] | None:
    import torch

    def leave_out(obj: Any) -> str | None:
        return "elsewhere" if isinstance(obj, (torch.Tensor, torch.nn.Module, torch.UntypedStorage)) else None

    for name, child in module.named_modules():
        values = {key: value for key, value in vars(child).items() if key not in _ELSEWHERE}
        for key, value in {**values, "__class__": type(child)}.items():
            try:
                pickling.dumps(value, leave_out)
            except Exception as error:
                return _path(f"{name}.{key}" if name else key), value, f"{type(error).__name__}: {error}"
    return None


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _has_base(cls: type, package: str, names: tuple[str, ...]) -> bool:
    # By name: importing torch.distributed.tensor takes a second, and an object of it means that it is imported.
    return any(base.__name__ in names and base.__module__.startswith(package) for base in cls.__mro__)


def _sharded(what: str, cls: type) -> UnsupportedObjectError:
    return UnsupportedObjectError(
        f"{what}; gather the whole state on one process and upload that: torch.distributed.checkpoint.state_dict."
        "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))",
        f"{cls.__module__}:{cls.__qualname__}",
    )


def _path(name: str) -> str:
    return f"model.{name}" if name else "the model"
