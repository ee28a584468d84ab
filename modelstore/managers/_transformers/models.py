"""A `PreTrainedModel` in a folder of Hugging Face's own layout, restored exactly.

`from_pretrained` alone gives a model in evaluation mode, all parameters trainable, in one dtype, with its
non-persistent buffers computed anew. What it would not restore lies beside the folder: for `model`, in
`model.restore.json` and `model.restore.safetensors`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._torch.devices import is_available
from modelstore.managers._transformers.files import add_tensors, align_files
from modelstore.managers._transformers.layout import (
    is_permuted,
    main_dtype,
    named_tensors,
    not_restored,
    refuse_what_has_no_weights,
    skeleton,
    summary,
    tensor_at,
)
from modelstore.managers.base import class_name
from modelstore.managers.safetensors_file import ALIGNMENT
from modelstore.notices import warn

RESTORE = "restore.json"
RESTORE_TENSORS = "restore.safetensors"

PORTABLE_ATTENTION = ("eager", "sdpa", "flex_attention", None)
"""Implementations that torch brings. The others depend on the reader's machine."""


def save_model(model: Any, folder: ModelFolder, name: str) -> str:
    """Write a model to the folder `name`, in the layout of `save_pretrained`; gives the format's name.

    Raises:
        UnsupportedObjectError: the model's class would not build this model from its configuration, or transformers
            refuses to save it.
    """
    refuse_what_has_no_weights(model)
    restore: dict[str, Any] = {
        "training": model.training,
        "switched": [path for path, module in model.named_modules() if module.training != model.training],
        "frozen": [path for path, parameter in model.named_parameters() if not parameter.requires_grad],
        "strides": {path: tensor.stride() for path, tensor in named_tensors(model) if is_permuted(tensor)},
        "name_or_path": model.name_or_path,
        "device": str(model.device),
        "attention": _attention(model.config),
        "noted": _noted(model.config),
    }
    tensors: dict[str, Any] = {}
    state_dict = None
    if getattr(model, "hf_quantizer", None) is not None:
        restore["quantized"] = True
    else:
        built, restore["arguments"] = skeleton(model)
        dtype = main_dtype(model)
        restore["dtype"] = str(dtype).partition(".")[2]
        restore["groups"], odd = not_restored(model, built, dtype)
        tensors = {group["names"][0]: tensor_at(model, group["names"][0]) for group in restore["groups"]}
        if odd:
            # transformers drops tied tensors by its own table, which knows nothing of these ties.
            state_dict = {key: value.clone() if key in odd else value for key, value in model.state_dict().items()}
    _save_pretrained(model, folder.path(name), state_dict)
    if not restore.get("quantized"):
        align_files(folder, name)
    folder.add_json(f"{name}.{RESTORE}", restore)
    if tensors:
        add_tensors(folder, f"{name}.{RESTORE_TENSORS}", tensors)
    return "safetensors"


def load_model(cls: Any, config_class: Any, folder: Path, name: str, device: str | None = None) -> Any:
    """Build the model that `save_model` wrote, without asking any hub.

    Args:
        device: where it goes; None is where it was, or the CPU if this machine has no such device.

    Raises:
        IntegrityError: files are missing, or the class's modules are no longer those of the upload.
    """
    restore = json.loads((folder / f"{name}.{RESTORE}").read_text(encoding="utf-8"))
    config = config_class.from_pretrained(folder / name, local_files_only=True)
    _set_noted(config, restore.get("noted") or {})  # before it is copied for parts of the model
    model, report = _from_pretrained(cls, config, folder / name, restore)
    restored = _set_tensors(model, restore.get("groups", ()), folder / f"{name}.{RESTORE_TENSORS}")
    wrong = _differences(report, restored)
    if wrong and not restore.get("quantized"):
        raise IntegrityError(f"the {cls.__name__}", name, f"its class and its weights do not fit: {wrong}")
    if not restore.get("quantized"):
        _settle(model, restore, restored)
    _set_modes(model, restore)
    _set_noted(model.config, restore.get("noted") or {})
    target = device or restore.get("device", "cpu")
    if device is not None or is_available(target):
        model.to(target)
    return model


def fill_model(into: Any, folder: Path, name: str) -> Any:
    """Copy the stored weights into a model that the caller built; its dtypes, device and modes stay as they are.

    Raises:
        InvalidArgumentError: it is no transformers model, has no memory yet, or takes other weights.
    """
    if not hasattr(into, "save_pretrained") or not hasattr(into, "named_parameters"):
        raise InvalidArgumentError("into", f"into= takes a transformers model here, not a {class_name(into)}")
    if any(tensor.is_meta for tensor in into.state_dict().values()):
        raise InvalidArgumentError("into", "into= is on the meta device, which has no memory to fill: to_empty() first")
    import torch

    restore = json.loads((folder / f"{name}.{RESTORE}").read_text(encoding="utf-8"))
    try:
        stored, report = _from_pretrained(type(into), copy.deepcopy(into.config), folder / name, restore)
        restored = _set_tensors(stored, restore.get("groups", ()), folder / f"{name}.{RESTORE_TENSORS}")
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InvalidArgumentError("into", f"into= does not fit the stored weights: {error}") from error
    if wrong := _differences(report, restored):
        raise InvalidArgumentError("into", f"into= does not fit the stored weights: {wrong}")
    found = dict(named_tensors(stored))
    with torch.no_grad():
        for path, tensor in named_tensors(into):
            if path in found:
                tensor.copy_(found[path])
    return into


def _save_pretrained(model: Any, path: Path, state_dict: dict[str, Any] | None) -> None:
    before = dict(vars(model.config))
    try:
        with quiet():
            model.save_pretrained(path, state_dict=state_dict)
    except OSError:
        raise
    except Exception as error:
        raise UnsupportedObjectError(
            f"transformers cannot save this {type(model).__name__}: {error}", class_name(model)
        ) from error
    finally:
        # save_pretrained notes dtype and architecture in the caller's configuration.
        vars(model.config).clear()
        vars(model.config).update(before)


def _from_pretrained(cls: Any, config: Any, folder: Path, restore: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    import torch

    if (folder / "adapter_config.json").exists():
        # transformers would follow it to another model.
        raise IntegrityError("the model", folder.name, "it names an adapter, which modelstore never writes")
    _set_attention(config, restore.get("attention") or {})
    settings: dict[str, Any] = dict(restore.get("arguments") or {})
    if "dtype" in restore:
        settings[_dtype_key()] = getattr(torch, restore["dtype"])
    with quiet():
        model, report = cls.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are in the report, too
            **settings,
        )
    for holder in (model, model.config):
        holder.name_or_path = restore["name_or_path"]
    return model, report


def takes_dtype() -> bool:
    """Whether this release calls it `dtype`; before 4.56 it was `torch_dtype`."""
    import transformers

    return tuple(int(part) for part in transformers.__version__.split(".")[:2]) >= (4, 56)


def _differences(report: Mapping[str, Any], restored: set[str]) -> str:
    kinds = {"missing": "missing_keys", "not known": "unexpected_keys", "of another shape": "mismatched_keys"}
    return summary({kind: sorted(map(str, set(report.get(key) or ()) - restored)) for kind, key in kinds.items()})


def _set_tensors(model: Any, groups: Any, path: Path) -> set[str]:
    """Put the tensors of `restore.safetensors` in place, those of one group as one; gives all their names.

    Raises:
        IntegrityError: the model has no place for one of them. Buffers that another release of transformers computes
            elsewhere are left to it.
    """
    if not groups:
        return set()
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    for group in groups:
        names = group["names"]
        value: Any = tensors[names[0]]
        if group["parameter"]:
            value = torch.nn.Parameter(value, requires_grad=value.is_floating_point() or value.is_complex())
        for name in names:
            owner, leaf = _owner(model, name), name.rpartition(".")[2]
            if owner is None or (group["parameter"] and leaf not in owner._parameters):
                if group["computed"]:
                    continue
                raise IntegrityError(
                    f"the {type(model).__name__}", name, "its class has no such weight; transformers may be another "
                    "release than at the upload"
                )  # fmt: skip
            if group["parameter"]:
                owner._parameters[leaf] = value
            elif leaf in owner._buffers:
                owner._buffers[leaf] = value
            else:
                owner.register_buffer(leaf, value, persistent=False)  # one that appears with the first call
    return {name for group in groups for name in group["names"]}


def _owner(model: Any, name: str) -> Any:
    """The module that holds this parameter or buffer; None if there is none of its name."""
    try:
        return model.get_submodule(name.rpartition(".")[0])
    except AttributeError:
        return None


def _settle(model: Any, restore: Mapping[str, Any], restored: set[str]) -> None:
    """Give the tensors their place in memory and their dtype.

    Some classes keep modules in float32 when they are loaded; going back is exact, as the file holds the narrower
    numbers. Kernels round differently for tensors of another order of dimensions (channels last), or unaligned ones.
    """
    import torch

    wanted = getattr(torch, restore["dtype"])
    for path, tensor in named_tensors(model):
        if tensor.is_floating_point() and tensor.dtype != wanted and path not in restored:
            tensor.data = tensor.data.to(wanted)
        if path in restore["strides"]:
            strides = tuple(restore["strides"][path])
            if tensor.stride() != strides:
                tensor.data = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor.data)
        elif tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()


def _set_modes(model: Any, restore: Mapping[str, Any]) -> None:
    model.train(restore["training"])
    modules = dict(model.named_modules())
    for path in restore["switched"]:
        if path in modules:  # another release of transformers may build other modules
            modules[path].training = not restore["training"]
    frozen = set(restore["frozen"])
    for path, parameter in model.named_parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(path not in frozen)


def _sub_configs(config: Any) -> dict[str, Any]:
    names = getattr(config, "sub_configs", None) or {}
    return {name: sub for name in names if (sub := getattr(config, name, None)) is not None}


def _noted(config: Any) -> dict[str, Any]:
    """What saving and loading would write into a configuration: a model that was just built has neither."""
    found: dict[str, Any] = {"architectures": getattr(config, "architectures", None)}
    dtype = getattr(config, _dtype_key(), None)
    if not isinstance(dtype, Mapping):
        found["dtype"] = None if dtype is None else str(dtype).rpartition(".")[2]
    if subs := {name: _noted(sub) for name, sub in _sub_configs(config).items() if hasattr(sub, "to_dict")}:
        found["sub_configs"] = subs
    return found


def _set_noted(config: Any, noted: Mapping[str, Any]) -> None:
    import torch

    if "architectures" in noted and hasattr(config, "architectures"):
        config.architectures = noted["architectures"]
    if "dtype" in noted and hasattr(config, _dtype_key()):
        setattr(config, _dtype_key(), getattr(torch, noted["dtype"]) if noted["dtype"] else None)
    for name, sub in _sub_configs(config).items():
        _set_noted(sub, (noted.get("sub_configs") or {}).get(name) or {})


def _dtype_key() -> str:
    return "dtype" if takes_dtype() else "torch_dtype"


def _attention(config: Any) -> dict[str, Any]:
    """The attention and expert implementations that the model runs with; transformers does not store them."""
    found: dict[str, Any] = {
        key: getattr(config, key) for key in ("_attn_implementation", "_experts_implementation") if hasattr(config, key)
    }
    if subs := {name: _attention(sub) for name, sub in _sub_configs(config).items() if hasattr(sub, "to_dict")}:
        found["sub_configs"] = subs
    return found


def _set_attention(config: Any, found: Mapping[str, Any]) -> None:
    for key in ("_attn_implementation", "_experts_implementation"):
        value = found.get(key)
        if key == "_attn_implementation" and value not in PORTABLE_ATTENTION:
            warn(
                f"the model was uploaded with attention implementation {value!r}, which depends on the machine; it is "
                f"loaded with the default one (model.set_attn_implementation({value!r}) switches back)"
            )
        elif value is not None and hasattr(config, key):
            setattr(config, key, value)
    for name, sub in _sub_configs(config).items():
        _set_attention(sub, (found.get("sub_configs") or {}).get(name) or {})


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, transformers draws no progress bars and logs errors only; what it would report, we check."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
