"""What a library's own files do not say of a module that they hold: for loaders that are not exact.

`from_pretrained` and its like build a module from a configuration and fill it: in evaluation mode, every parameter
trainable, in one dtype, contiguous, buffers computed anew. `save_rest` writes down what it was like, in
`NAME.rest.json` and, for tensors that the library's files lack or hold in another dtype, `NAME.rest.safetensors`.
`restore_rest` gives it back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._torch.devices import is_available
from modelstore.managers._torch.storages import dtype_name, torch_dtype
from modelstore.managers._transformers.files import add_tensors
from modelstore.managers._transformers.layout import is_permuted, main_dtype, named_tensors
from modelstore.managers.base import class_name
from modelstore.managers.safetensors_file import ALIGNMENT

if TYPE_CHECKING:
    import torch

REST = "rest.json"
TENSORS = "rest.safetensors"


def save_rest(
    module: torch.nn.Module, folder: ModelFolder, name: str, held: Callable[[str], bool] = lambda path: True
) -> None:
    """Write what the library's files do not say of a module.

    Args:
        held: says of a name in the state dict whether the library's files hold that tensor.

    Raises:
        UnsupportedObjectError: a tensor has no values: it is on the meta device, on disk, or sharded.
    """
    named = dict(named_tensors(module))
    refuse_what_has_no_values(module)
    dtype = main_dtype(module)
    in_files = {path for path in module.state_dict(keep_vars=True) if held(path)}
    kept = {path: tensor for path, tensor in named.items() if path not in in_files or _is_odd(tensor, dtype)}
    first: dict[int, str] = {}
    same = {path: first.setdefault(id(tensor), path) for path, tensor in kept.items()}
    folder.add_json(
        f"{name}.{REST}",
        {
            **modes_of(module),
            "dtype": dtype_name(dtype),
            "strides": {path: tensor.stride() for path, tensor in named.items() if is_permuted(tensor)},
            "tensors": same,
            "device": str(next((tensor.device for tensor in named.values()), "cpu")),
        },
    )
    if first:
        add_tensors(folder, f"{name}.{TENSORS}", {path: kept[path] for path in first.values()})


def _is_odd(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a loader that knows one dtype would round it; most build modules in single precision at first."""
    import torch

    return bool(tensor.is_floating_point() and (tensor.dtype != dtype or dtype == torch.float64))


def refuse_what_has_no_values(module: torch.nn.Module) -> None:
    """Refuse weights that are not here.

    Raises:
        UnsupportedObjectError: naming the first of them and what to do.
    """
    for path, tensor in named_tensors(module):
        if tensor.is_meta or type(tensor).__module__.startswith("torch.distributed"):
            raise UnsupportedObjectError(
                f"{path} of this {type(module).__name__} lies on the meta device, on disk or on several processes; "
                "load or gather the whole model without offloading, then upload it",
                class_name(module),
            )


def read_rest(folder: Path, name: str) -> dict[str, Any]:
    """What `save_rest` wrote.

    Raises:
        IntegrityError: it is missing, or is not what `save_rest` writes.
    """
    try:
        rest: dict[str, Any] = json.loads((folder / f"{name}.{REST}").read_bytes())
        rest["dtype"] = torch_dtype(rest["dtype"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError("the model", f"{name}.{REST}", f"it cannot be read: {error!r}") from error
    return rest


def restore_rest(module: torch.nn.Module, folder: Path, name: str, device: str | None) -> None:
    """Make a module that the library has loaded what it was at the upload.

    Args:
        device: where it goes; None is where it was, or the CPU if this machine has no such device.

    Raises:
        IntegrityError: files are missing, or the module has no place for a tensor: the library is another version.
    """
    rest = read_rest(folder, name)
    try:
        tensors = read_tensors(folder / f"{name}.{TENSORS}") if rest["tensors"] else {}
        named = dict(named_tensors(module))
        for path, source in rest["tensors"].items():
            if path not in named:
                raise IntegrityError(
                    f"the {type(module).__name__}", path, "its class has no such weight; the library may be another "
                    "version than at the upload"
                )  # fmt: skip
            named[path].data = tensors[source]
        for path, tensor in named.items():
            if path not in rest["tensors"]:
                _settle(tensor, rest["dtype"])
            place(tensor, rest["strides"].get(path))
        set_modes(module, rest)
        target = device or (rest["device"] if is_available(rest["device"]) else "cpu")
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise IntegrityError("the model", f"{name}.{REST}", f"it does not fit: {error!r}") from error
    if any(str(tensor.device) != target for tensor in named.values()):
        module.to(target)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All of a safetensors file.

    Raises:
        IntegrityError: it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise IntegrityError("the model", path.name, f"it cannot be read: {error}") from error
    return tensors


def _settle(tensor: torch.Tensor, dtype: torch.dtype) -> None:
    """The dtype that it had; exact, as the file holds the narrower numbers."""
    if tensor.is_floating_point() and tensor.dtype != dtype:
        tensor.data = tensor.data.to(dtype)


def place(tensor: torch.Tensor, strides: list[int] | None = None) -> None:
    """Its place in memory: kernels round differently for another order of dimensions, and for unaligned tensors."""
    import torch

    if strides is not None:
        if tensor.stride() != tuple(strides):
            tensor.data = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor.data)
    elif not tensor.is_contiguous():
        tensor.data = tensor.data.contiguous()
    elif tensor.data_ptr() % ALIGNMENT:
        tensor.data = tensor.data.clone()


def modes_of(module: torch.nn.Module) -> dict[str, Any]:
    """Which parts are in training, and which parameters are not trained."""
    return {
        "training": module.training,
        "switched": [path for path, part in module.named_modules() if part.training != module.training],
        "frozen": [path for path, parameter in module.named_parameters() if not parameter.requires_grad],
    }


def set_modes(module: torch.nn.Module, rest: Mapping[str, Any]) -> None:
    """Give a module what `modes_of` told of it."""
    switched, frozen = set(rest["switched"]), set(rest["frozen"])
    for path, part in module.named_modules():
        part.training = rest["training"] != (path in switched)
    for path, parameter in module.named_parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(path not in frozen)
