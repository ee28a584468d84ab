"""An optimizer beside its model: it refers to the model's parameters by name, and holds none of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.folder import ModelFolder
from modelstore.managers._torch.objects import read_pickle, write_pickle
from modelstore.managers._torch.persistent import PersistentIds, PersistentObjects
from modelstore.managers._torch.storages import StorageReader, StorageWriter
from modelstore.managers.base import Saved
from modelstore.managers.pickling import PicklePolicy
from modelstore.notices import warn

if TYPE_CHECKING:
    import torch

WEIGHTS = "optimizer.safetensors"
SKELETON = "optimizer.pkl"

_MADE_ANEW = ("step", "_zero_grad_profile_name")
"""Attributes that `Optimizer.__setstate__` or a scheduler sets; a scheduler's `step` holds the scheduler."""


def save_optimizer(
    optimizer: torch.optim.Optimizer, model: Any, above: StorageWriter | None, folder: ModelFolder
) -> Saved:
    """Save an optimizer; its hooks are left out, as torch leaves them out.

    Args:
        optimizer: any, its parameters in any order and groups.
        model: the object that was saved beside it; a module's parameters are referred to.
        above: that object's storages.
        folder: where that object's files lie.
    """
    import torch

    storages = StorageWriter(above)
    known: dict[int, tuple[Any, ...]] = {}
    if isinstance(model, torch.nn.Module):
        known = {id(module): ("module", name) for name, module in model.named_modules()}
        known.update((id(parameter), ("parameter", name)) for name, parameter in model.named_parameters())
        if not any(id(parameter) in known for group in optimizer.param_groups for parameter in group["params"]):
            warn("none of the optimizer's parameters is the model's: it does not train it")
    saved = Saved(format="safetensors + pickle")
    write_pickle((type(optimizer), *parts(optimizer)), folder, SKELETON, PersistentIds(storages, known), saved)
    storages.write(folder, WEIGHTS)
    return saved


def load_optimizer(
    folder: Path, model: Any, above: StorageReader | None, policy: PicklePolicy, device: str | None = None
) -> torch.optim.Optimizer:
    """Load an optimizer for a model.

    Args:
        folder: where both lie.
        model: the loaded object, whose parameters the optimizer is to train.
        above: its storages.
        policy: whether the pickle may be loaded.
        device: where its state goes; None is where it was.
    """
    import torch

    storages = StorageReader(folder / WEIGHTS, above, device)
    parameters = dict(model.named_parameters()) if isinstance(model, torch.nn.Module) else {}

    def resolve(pid: Any) -> Any:
        match pid:
            case ("parameter", name) if name in parameters:
                return parameters[name]
            case ("module", name) if isinstance(model, torch.nn.Module):
                return model.get_submodule(name)
        return None

    cls, state, rest = read_pickle(folder / SKELETON, policy, PersistentObjects(storages, resolve))
    optimizer: torch.optim.Optimizer = cls.__new__(cls)
    fill(optimizer, state, rest, device)
    return optimizer


def parts(optimizer: torch.optim.Optimizer) -> tuple[Any, dict[str, Any]]:
    """An optimizer's state as torch pickles it, and what that lacks; `fill` takes both."""
    state: Any = optimizer.__getstate__()  # type: ignore[no-untyped-call, unused-ignore]
    # torch's own state lacks what a class sets in __init__ (LBFGS would not load), so the rest goes beside it.
    rest = {
        name: value
        for name, value in vars(optimizer).items()
        if name not in state and name not in _MADE_ANEW and not name.startswith("_optimizer_")
    }
    return state, rest


def fill(optimizer: torch.optim.Optimizer, state: Any, rest: dict[str, Any], device: str | None) -> None:
    """Make an optimizer of a new object of its class."""
    optimizer.__setstate__(state)
    vars(optimizer).update(rest)
    if device not in (None, "meta"):
        _place_steps(optimizer)


def _place_steps(optimizer: torch.optim.Optimizer) -> None:
    """Numbers of steps stay on the CPU, as `Optimizer.load_state_dict` has it: on a GPU, each step would wait."""
    import torch

    for group in optimizer.param_groups:
        if group.get("capturable") or group.get("fused"):
            continue
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].to("cpu")
