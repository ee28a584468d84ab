"""PEFT: adapters on a base model, with or without it.

The folder `adapter` is what `save_pretrained` of PEFT writes, so that PEFT alone puts it on a base model, too. The base
model is another model of the same store, lies in the folder `base`, or is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, ModelStoreError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.classes import ClassBook, ClassShelf
from modelstore.notices import warn

_REFUSED = {"XLORA": "names its adapters by paths of this machine", "POLY": "has an adapter for each task"}
"""Kinds of adapters that could not be built again, each with the reason."""


class PeftManager(ObjectManager):
    """Stores `PeftModel`, its classes for tasks, and `PeftMixedModel`, with all their adapters."""

    name = "peft"
    title = "PEFT"
    claims = ("peft.peft_model:PeftModel", "peft.mixed_model:PeftMixedModel")
    options = ("base_model", "bundle_base")
    load_options = ("into", "device")
    distributions = ("peft", "torch", "transformers", "accelerate", "safetensors", "numpy", "cloudpickle")
    extra = "peft"
    restores_as = (
        "the same class, with all adapters, on its base model: the one named by `base_model=` at the upload, the one "
        "stored along by `bundle_base=True`, or `into=`"
    )
    limits = (
        "Without `base_model=` or `bundle_base=True` only the adapters are stored; loading then takes `into=`, the "
        "base model, which gets wrapped.",
        "Adapters that are merged into the weights are refused: `unmerge_adapter()`, or upload the merged model.",
        "A base model that Transformers does not build from a configuration is pickled when it is stored along.",
        "Where making the adapter changed the base model (PiSSA, OLoRA, …), only a base model that is stored along "
        "gives equal predictions; PEFT computes the change anew on any other, and rounds.",
        "XLoRA and Poly are refused: their adapters are named by paths, or by tasks.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the adapters, and the base model or which one it is."""
        from modelstore.managers._peft.adapters import changes_base, save_adapters
        from modelstore.managers._peft.base import clean_base, fingerprint, save_base
        from modelstore.managers._torch.exact import refuse_what_has_no_values

        reference = _reference(options.get("base_model"))
        if reference is not None and options.get("bundle_base"):
            raise InvalidArgumentError(
                "bundle_base", "base_model= names the base model, so it is not stored along: one of them"
            )
        _refuse(obj)
        refuse_what_has_no_values(obj)
        base, book = clean_base(obj), ClassBook()
        saved = Saved("safetensors", {**book.refer(type(obj)), "base": {"kind": "none"}})
        saved.state["fingerprint"] = None if changes_base(obj) else fingerprint(base)
        save_adapters(obj, base, folder)
        if reference is not None:
            domain, model_id = reference
            saved.references.append(reference)
            saved.state["base"] = {"kind": "reference", "domain": domain, "model_id": model_id}
        elif options.get("bundle_base"):
            saved.state["base"] = save_base(base, folder, book, saved)
        else:
            warn(
                "only the adapter is stored, and loading it will take into=, its base model; base_model=(domain, "
                "model_id) names one of this store, and bundle_base=True stores it along"
            )
        saved.merge(book.save(folder))
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Put the adapters on their base model.

        Raises:
            InvalidArgumentError: only they were stored, and there is no `into`; or it does not fit.
            PickleNotAllowedError: the base model that was stored along, or a class, is pickled.
        """
        from modelstore.managers._peft.adapters import put_on
        from modelstore.managers._peft.base import fingerprint, load_base
        from modelstore.managers._torch.devices import checked_device, is_available

        if request.into is not None and request.device is not None:
            raise InvalidArgumentError("device", "into= is wrapped where it lies: move it there instead")
        device, shelf = checked_device(request.device), ClassShelf(folder, request.policy)
        try:
            cls = _class(shelf, state, self.claims)
            bundled = state["base"]["kind"] in ("transformers", "pytorch") and request.into is None
            base = load_base(folder, state["base"], shelf, request, device)
            if state["fingerprint"] not in (None, fingerprint(base)):
                warn(
                    "this base model is not the one that the adapter was on at its upload (other weights or types), so "
                    "its predictions will be others"
                )
            model, rest = put_on(cls, base, folder, redo=not bundled)
            if request.into is None:
                model.to(device or (rest["device"] if is_available(rest["device"]) else "cpu"))
        except ModelStoreError:
            raise  # a base model that is gone is a KeyError, too
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError("the record", "peft", f"its state cannot be read: {error!r}") from error
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The configuration of each adapter, which are active, and the base model's class."""
        from modelstore.managers._peft.adapters import _active

        base = obj.get_base_model() if hasattr(obj, "get_base_model") else obj.base_model.model
        return {
            "base": class_name(base),
            "active": _active(obj),
            "adapters": {name: _plain(config.to_dict()) for name, config in obj.peft_config.items()},
        }


def _reference(given: Any) -> tuple[str, str] | None:
    """Domain and id of the base model, from a pair or a record."""
    if given is None:
        return None
    if isinstance(given, Mapping):  # a record
        given = (given.get("model", {}).get("domain"), given.get("model", {}).get("model_id"))
    is_pair = isinstance(given, (tuple, list)) and len(given) == 2
    domain, model_id = given if is_pair else (getattr(given, "domain", None), getattr(given, "model_id", None))
    if not isinstance(domain, str) or not isinstance(model_id, str):
        raise InvalidArgumentError("base_model", f"base_model={given!r} names no model: give (domain, model_id)")
    return domain, model_id


def _refuse(obj: Any) -> None:
    for name, config in obj.peft_config.items():
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if kind in _REFUSED:
            raise UnsupportedObjectError(
                f"the adapter {name!r} is of the kind {kind}, which {_REFUSED[kind]}, so it would not come back; save "
                "it to a folder and upload that by its path",
                class_name(obj),
            )
        if not name or name.startswith(".") or "/" in name or "\\" in name:
            raise UnsupportedObjectError(
                f"the adapter's name {name!r} cannot be a folder's: rename it", class_name(obj)
            )


def _class(shelf: ClassShelf, reference: Mapping[str, Any], roots: tuple[str, ...]) -> Any:
    cls = shelf.get(reference)
    if not {f"{base.__module__}:{base.__qualname__}" for base in getattr(cls, "__mro__", ())} & set(roots):
        raise IntegrityError("the record", "peft", f"{reference['class']} is no class of PEFT's models")
    return cls


def _plain(value: Any) -> Any:
    """JSON; what an adapter targets is a set, which has no order."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    value = getattr(value, "value", value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
