"""The base model under adapters: found clean, recognised again, stored with them or elsewhere."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._torch.objects import StoredObject, save_object
from modelstore.managers._transformers.layout import named_tensors
from modelstore.managers._transformers.models import load_model, save_model
from modelstore.managers._transformers.parts import kind_of, require_kind
from modelstore.managers.base import LoadRequest, Saved, class_name
from modelstore.managers.classes import ClassBook, ClassShelf

if TYPE_CHECKING:
    import torch

BASE = "base"
_SAMPLE = 64
"""So many numbers of each parameter go into a fingerprint."""


def clean_base(model: Any) -> Any:
    """The base model without adapters: modules of its own, which share their tensors with the caller's.

    PEFT puts its layers into the base model's place; taking them out in place would change the caller's model.

    Raises:
        UnsupportedObjectError: a part of it cannot be copied, or its adapters are merged into its weights.
    """
    _refuse_merged(model)
    shared: dict[int, Any] = {id(tensor): tensor for _, tensor in named_tensors(model)}
    try:
        copied = copy.deepcopy(model, shared)
    except Exception as error:
        raise UnsupportedObjectError(
            f"the base model of this {type(model).__name__} cannot be told from its adapters, as a part of it cannot "
            f"be copied ({error!r})",
            class_name(model),
        ) from error
    base = copied.get_base_model() if hasattr(copied, "get_base_model") else copied.base_model.model
    _take_out(base)
    vars(base).pop("peft_config", None)
    return base


def _take_out(module: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    wrappers: Any = _auxiliary() or (ModulesToSaveWrapper,)
    for name, child in list(module.named_children()):
        below: Any = child
        while True:
            if isinstance(below, wrappers):
                below = below.original_module
            elif hasattr(below, "unload_and_optionally_merge_module"):
                below = below.unload_and_optionally_merge_module(merge=False, safe_merge=False, adapter_names=None)
            elif isinstance(below, BaseTunerLayer):
                below = below.get_base_layer()
            elif type(below).__module__.startswith("peft.tuners.adaption_prompt."):
                below = below.model
            else:
                break
        if below is not child:
            module._modules[name] = below
        _take_out(below)


def _auxiliary() -> tuple[type, ...]:
    from peft.utils import other

    cls = getattr(other, "AuxiliaryTrainingWrapper", None)  # since release 0.15
    return () if cls is None else (cls,)


def _refuse_merged(model: Any) -> None:
    for name, part in model.named_modules():
        if getattr(part, "merged_adapters", None) and hasattr(part, "base_layer"):
            raise UnsupportedObjectError(
                f"the adapters of this {type(model).__name__} are merged into its weights ({name}); undo that by "
                "unmerge_adapter(), or keep the merged model: upload(…, model=model.merge_and_unload())",
                class_name(model),
            )


def fingerprint(base: torch.nn.Module) -> str:
    """A digest of names, types, shapes and some numbers of each parameter: cheap, and another after any training."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(base.named_parameters()):
        values = parameter.detach().reshape(-1)
        values = values[:: max(1, values.numel() // _SAMPLE)].to("cpu").contiguous()
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        digest.update(values.view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return digest.hexdigest()


def save_base(base: Any, folder: ModelFolder, book: ClassBook, saved: Saved) -> dict[str, Any]:
    """Store the base model in the sub-folder `base`; gives its state.

    Raises:
        UnsupportedObjectError: it cannot be stored.
    """
    if kind_of(base) == "model":
        saved.merge(Saved(save_model(base, folder, BASE)))
        return {"kind": "transformers", **book.refer(type(base)), "config": book.refer(type(base.config))}
    part, _ = save_object(base, folder.sub(BASE), weights_only=False)
    saved.merge(part, f"{BASE}/")
    return {"kind": "pytorch", "state": part.state}


def load_base(
    folder: Path, state: Mapping[str, Any], shelf: ClassShelf, request: LoadRequest, device: str | None
) -> Any:
    """The base model: the caller's, the stored one, or another model of the store.

    Raises:
        InvalidArgumentError: it was stored nowhere, and the caller gives none.
        IntegrityError: what was stored is no model that adapters could be put on.
    """
    if request.into is not None:
        return _given(request.into)
    kind = state["kind"]
    if kind == "transformers":
        cls = require_kind(shelf.get(state), "model", state["class"])
        config = require_kind(shelf.get(state["config"]), "config", state["config"]["class"])
        return load_model(cls, config, folder, BASE, device)
    if kind == "pytorch":
        return StoredObject(folder / BASE, state["state"], request.policy, device).load()
    if kind == "reference":
        return _of_upload(request.load_model(state["domain"], state["model_id"]), state)
    if kind != "none":
        raise IntegrityError("the record", "base", f"nothing is known of a base model of the kind {kind!r}")
    raise InvalidArgumentError(
        "into",
        "only the adapter was uploaded, so loading it takes its base model: load(…, into=base_model) puts it on yours; "
        "or upload it anew with base_model=(domain, model_id), which names one of the same store, or with "
        "bundle_base=True, which stores it along",
    )


def _given(into: Any) -> Any:
    import torch

    if not isinstance(into, torch.nn.Module):
        raise InvalidArgumentError(
            "into", f"into= takes the base model here, a torch.nn.Module, not a {class_name(into)}"
        )
    if any(base.__module__.startswith("peft.") for base in type(into).__mro__) or hasattr(into, "peft_config"):
        raise InvalidArgumentError(
            "into", "into= takes the base model without adapters: model.unload() gives it, or build it anew"
        )
    if any(tensor.is_meta for _, tensor in named_tensors(into)):
        raise InvalidArgumentError("into", "into= is on the meta device: give the base model its weights first")
    return into


def _of_upload(loaded: Any, state: Mapping[str, Any]) -> Any:
    """The model among what an upload gives; Transformers give it with its configuration."""
    import torch

    found = loaded[0] if isinstance(loaded, tuple) and loaded else loaded
    if isinstance(found, Mapping):
        found = found.get("model", found)
    if not isinstance(found, torch.nn.Module):
        raise IntegrityError(
            f"the model {state['model_id']!r} of {state['domain']!r}", "content",
            f"it is to be the base model of an adapter, and is a {class_name(found)}",
        )  # fmt: skip
    return found
