"""Objects around a module, such as another library's trainer: the module's weights stay apart from all the rest.

======================  ===========================================================================================
`model.safetensors`     the module's state dict, under its own names
`tensors.json`          what `StoredObject.fill` takes to fill another module from it, without a pickle
`rest.safetensors`      the storages of all other tensors: those of optimizers, for one
`skeleton.pkl`          the holder's attributes, the module and its optimizers among them, without any storages
======================  ===========================================================================================

The holder itself and its optimizers are not pickled in their own way, which would take the weights along or lose
something: an empty object of their class stands for them wherever they are referred to, and is filled at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder
from modelstore.managers._torch.objects import (
    MODULE,
    SKELETON,
    WEIGHTS,
    StoredObject,
    read_pickle,
    save_weights,
    write_pickle,
)
from modelstore.managers._torch.optimizer import fill, parts
from modelstore.managers._torch.persistent import PersistentIds, PersistentObjects
from modelstore.managers._torch.storages import StorageReader, StorageWriter
from modelstore.managers.base import Saved
from modelstore.managers.pickling import PicklePolicy

if TYPE_CHECKING:
    import torch

REST = "rest.safetensors"

_SHELL = "shell"


def save_holder(
    holder: Any, content: dict[str, Any], module: Any, optimizers: Iterable[Any], folder: ModelFolder
) -> Saved:
    """Save an object that holds a module.

    Args:
        holder: the object.
        content: what it takes to fill an empty object of its class, such as its attributes.
        module: the module that it trains; None if it has none yet.
        optimizers: optimizers of torch's own classes, wherever they are referred to.
        folder: where the files go.

    Raises:
        UnsupportedObjectError: something in it cannot be pickled, or a tensor holds no data.
    """
    saved = Saved("safetensors", {"kind": MODULE, "weights": module is not None})
    weights = StorageWriter()
    if module is not None:
        save_weights(module, folder, weights, saved)
        weights.write(folder, WEIGHTS)
    rest = StorageWriter(weights)
    known = list(optimizers)
    shells = {id(obj): (_SHELL, at, type(obj)) for at, obj in enumerate([holder, *known])}
    skeleton = holder, content, [parts(optimizer) for optimizer in known]
    write_pickle(skeleton, folder, SKELETON, PersistentIds(rest, shells), saved)
    rest.write(folder, REST)
    saved.format = "safetensors + pickle"
    return saved


def load_holder(folder: Path, state: Mapping[str, Any], policy: PicklePolicy, device: str | None) -> tuple[Any, Any]:
    """Load what `save_holder` has saved.

    Returns:
        An object of the holder's class without attributes, and the content.

    Raises:
        PickleNotAllowedError: the policy refuses.
        IntegrityError: a file is missing or damaged.
    """
    weights = StorageReader(folder / WEIGHTS, device=device) if state.get("weights") else None
    rest = StorageReader(folder / REST, weights, device)
    shells: dict[int, Any] = {}

    def resolve(pid: Any) -> Any:
        match pid:
            case ("shell", int(at), cls):
                return shells.setdefault(at, cls.__new__(cls))
        return None

    found = read_pickle(folder / SKELETON, policy, PersistentObjects(rest, resolve))
    try:
        holder, content, optimizers = found
    except (TypeError, ValueError) as error:
        raise IntegrityError(SKELETON, "content", f"it holds no object with its content ({error})") from error
    for at, (inner, further) in enumerate(optimizers, start=1):
        if at in shells:
            fill(shells[at], inner, further, device)
    return holder, content


def fill_module(folder: Path, state: Mapping[str, Any], policy: PicklePolicy, module: torch.nn.Module) -> None:
    """Fill a module with the weights alone, as `StoredObject.fill` does; takes no pickle."""
    StoredObject(folder, state, policy).fill(module)
