"""Lightning: modules, alone or with the trainer that has trained them; under both names of the package.

A module is stored as any PyTorch module: storages in safetensors, the rest in a pickle. With its trainer goes
`trainer.ckpt`, which is what `trainer.save_checkpoint` writes and `trainer.fit(module, ckpt_path=…)` resumes from.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Manager, Saved, class_name

CHECKPOINT = "trainer.ckpt"

_MODEL, _TRAINER = "model", "trainer"
_DATA = (
    "lightning.pytorch.core.datamodule:LightningDataModule",
    "pytorch_lightning.core.datamodule:LightningDataModule",
)


class PyTorchLightningManager(Manager):
    """Stores `LightningModule`, and the state of its `Trainer` beside it."""

    name = "pytorch_lightning"
    title = "Lightning"
    claims = (
        "lightning.pytorch.core.module:LightningModule",
        "pytorch_lightning.core.module:LightningModule",
        "pytorch_lightning.core.lightning:LightningModule",
        "lightning.pytorch.trainer.trainer:Trainer",
        "pytorch_lightning.trainer.trainer:Trainer",
        *_DATA,
    )
    wrappers: ClassVar[Mapping[str, str]] = {
        "lightning.fabric.wrappers:_FabricModule": "_original_module",
        "lightning_fabric.wrappers:_FabricModule": "_original_module",
        "lightning.fabric.wrappers:_FabricOptimizer": "_optimizer",
        "lightning_fabric.wrappers:_FabricOptimizer": "_optimizer",
    }
    keywords = (_MODEL, _TRAINER)
    options = ("weights_only",)
    load_options = ("into", "with_optimizer", "device")
    distributions = ("lightning", "pytorch-lightning", "torch", "numpy", "cloudpickle")
    extra = "lightning"
    restores_as = (
        "the module; with `with_optimizer=True`, `(module, path)`, the path being that of a checkpoint to resume from: "
        "`Trainer(…).fit(module, ckpt_path=path)`"
    )
    limits = (
        "a `Trainer` is not built again, as it holds loggers, devices and data: its checkpoint is kept, with epoch, "
        "steps and the states of optimizers, schedulers and callbacks",
        "the checkpoint holds the weights once more, so that Lightning alone can resume from it",
        "`optimizer=` beside a module stores an optimizer of its own; the trainer's checkpoint holds the module's",
        "a `LightningDataModule` is data and code, no model, and is refused",
    )

    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the module's files, and `trainer.ckpt`.

        Raises:
            UnsupportedObjectError: not a module and its own trainer, or nothing was trained yet.
        """
        from modelstore.managers._torch.objects import save_object

        module, trainer = _checked(objects)
        saved, _ = save_object(_without_fabric(module), folder, bool(options.get("weights_only", False)))
        if trainer is not None:
            _save_checkpoint(trainer, folder)
            saved.pickled.append(CHECKPOINT)
            saved.merge(Saved("ckpt"))
        return saved

    def load(self, request: LoadRequest) -> Any:
        """The module, on the device that is asked for; with `with_optimizer`, and the path of a private checkpoint.

        Raises:
            InvalidArgumentError: a checkpoint is asked for where no trainer was uploaded; `into` does not fit.
            PickleNotAllowedError: the policy refuses; `into` alone takes no pickle.
        """
        from modelstore.managers._torch.devices import asked_device
        from modelstore.managers._torch.objects import StoredObject

        if request.with_optimizer and _TRAINER not in request.keywords:
            raise InvalidArgumentError(
                "with_optimizer", "this module was uploaded without its trainer: load it without with_optimizer=True"
            )
        device = asked_device(request)
        stored = StoredObject(request.folder, request.state, request.policy, device)
        if request.into is not None:
            module = stored.fill(request.into)
        else:
            module = stored.load()
            _settle(module)
        return (module, _checkpoint(request)) if request.with_optimizer else module

    def parameters(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        """The hyperparameters, numbers of parameters, and how far the trainer came."""
        from modelstore.managers._torch.summary import describe_object

        module, trainer = objects[_MODEL], objects.get(_TRAINER)
        described: dict[str, Any] = {**describe_object(module), "hyperparameters": dict(module.hparams)}
        if trainer is not None:
            described[_TRAINER] = {"epoch": trainer.current_epoch, "global_step": trainer.global_step}
        return described


def _checked(objects: Mapping[str, Any]) -> tuple[Any, Any]:
    import torch

    module, trainer = objects.get(_MODEL), objects.get(_TRAINER)
    for keyword, obj in objects.items():
        names = {f"{base.__module__}:{base.__qualname__}" for base in type(obj).__mro__}
        if names & set(_DATA):
            raise UnsupportedObjectError(
                f"{keyword}= is a LightningDataModule, which is data and no model; leave it out, and note in "
                "extra_metadata= what the model was trained on",
                class_name(obj),
            )
        if isinstance(obj, torch.nn.Module) != (keyword == _MODEL):
            wanted = "a LightningModule" if keyword == _MODEL else "the Trainer that has trained it"
            raise UnsupportedObjectError(f"{keyword}= is to be {wanted}, not a {class_name(obj)}", class_name(obj))
    if module is None:
        raise UnsupportedObjectError("trainer= goes with its module: pass that as model=", class_name(trainer))
    if trainer is not None and trainer.lightning_module is not module:
        what = "nothing yet" if trainer.lightning_module is None else "another module than model="
        raise UnsupportedObjectError(f"this trainer has trained {what}: leave it out", class_name(trainer))
    return module, trainer


def _without_fabric(module: Any) -> Any:
    # A module forgets its trainer when it is pickled, and not its Fabric.
    if getattr(module, "_fabric", None) is None:
        return module
    alone = copy.copy(module)
    vars(alone).update(_fabric=None, _fabric_optimizers=[])
    return alone


def _save_checkpoint(trainer: Any, folder: ModelFolder) -> None:
    try:
        trainer.save_checkpoint(folder.path(CHECKPOINT))
    except Exception as error:  # callbacks and strategies take part, and raise whatever they like
        raise UnsupportedObjectError(
            f"trainer.save_checkpoint() fails ({type(error).__name__}: {error}); upload the module without trainer=",
            class_name(trainer),
        ) from error


def _checkpoint(request: LoadRequest) -> Path:
    from modelstore.managers.model_file import private_copy

    request.policy.require(f"the trainer's checkpoint {CHECKPOINT}")
    source = request.folder / CHECKPOINT
    if not source.exists():
        raise IntegrityError("the Lightning module", CHECKPOINT, "it is not there")
    return private_copy(source)


def _settle(module: Any) -> None:
    """Let modules that remember a device remember the one that they are on now."""
    import torch

    if not isinstance(module, torch.nn.Module):
        return
    for part in module.modules():
        if isinstance(vars(part).get("_device"), torch.device):
            here = next((tensor.device for tensor in (*part.parameters(), *part.buffers())), None)
            here = here or next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
            vars(part)["_device"] = here
