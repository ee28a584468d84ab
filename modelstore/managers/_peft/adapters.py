"""The adapters of a model: PEFT's own files, and what they leave out.

`adapter` is what `PeftModel.save_pretrained` writes: a configuration and a safetensors file for each adapter, the one
called `default` at the top. `adapter.json` says which of the model's tensors each entry of these files is;
`adapter.safetensors` holds those that PEFT does not write (projections that it draws anew, encoders of prompts).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._torch.exact import modes_of, place, read_tensors, set_modes
from modelstore.managers._transformers.files import add_tensors, align_files
from modelstore.managers._transformers.layout import named_tensors
from modelstore.managers.base import class_name
from modelstore.managers.classes import framework_class, name_of
from modelstore.managers.exact_json import decode, encode

ADAPTER = "adapter"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

_KEPT = ("inference_mode", "base_model_name_or_path", "auto_mapping")
"""Fields of a configuration that PEFT changes when it writes it."""


def save_adapters(model: Any, base: Any, folder: ModelFolder) -> None:
    """Write all adapters.

    Args:
        base: the clean base model, whose tensors are none of the adapters'.

    Raises:
        UnsupportedObjectError: PEFT cannot write them.
    """
    path = folder.path(ADAPTER)
    held: dict[Any, tuple[str, str]] = {}
    before = {name: _fields(config) for name, config in model.peft_config.items()}
    try:
        for name, config in model.peft_config.items():
            where = path / _below(name)
            where.mkdir(parents=True, exist_ok=True)
            if not _is_mixed(model):
                held |= _write(model, name, where)
            config.save_pretrained(str(where))
    except OSError:
        raise
    except Exception as error:  # each kind of adapter has its own
        raise UnsupportedObjectError(
            f"PEFT cannot write the adapters of this {type(model).__name__}: {error!r}", class_name(model)
        ) from error
    finally:
        for name, fields in before.items():
            _set_fields(model.peft_config[name], fields)
    for part in {file.parent.relative_to(path).as_posix() for file in path.rglob("*.safetensors")}:
        align_files(folder, ADAPTER if part == "." else f"{ADAPTER}/{part}")
    _write_rest(model, base, held, before, folder)


def _write(model: Any, name: str, where: Path) -> dict[Any, tuple[str, str]]:
    """One adapter's weights, as PEFT has them; gives which tensor lies under which key."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    # With its embeddings it would look up the base model at the hub, to see whether they have changed.
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    held: dict[Any, tuple[str, str]] = {}
    whole: dict[str, Any] = {}
    for key, tensor in state.items():
        held.setdefault(_place_of(tensor), (name, key))
        # Written once each, as safetensors allows no two views of one memory.
        whole[key] = tensor.detach().clone().contiguous()
    save_file(whole, where / WEIGHTS, metadata={"format": "pt"})
    return held


def _write_rest(
    model: Any, base: Any, held: Mapping[Any, tuple[str, str]], configs: Mapping[str, Any], folder: ModelFolder
) -> None:
    of_base = {id(tensor) for _, tensor in named_tensors(base)}
    files: dict[str, list[str]] = {}
    others: dict[str, Any] = {}
    first: dict[int, str] = {}
    same: dict[str, str] = {}
    for path, tensor in named_tensors(model):
        if id(tensor) in of_base:
            continue
        if _place_of(tensor) in held and tensor.is_contiguous():
            files[path] = list(held[_place_of(tensor)])
        else:
            same[path] = first.setdefault(id(tensor), path)
            others[first[id(tensor)]] = tensor
    folder.add_json(
        f"{ADAPTER}.json",
        {
            "adapters": list(configs),
            "fields": {name: encode(fields) for name, fields in configs.items()},
            "enums": {name: _enums(config) for name, config in model.peft_config.items()},
            "files": files,
            "others": same,
            "active": _active(model),
            "disabled": _is_disabled(model),
            "device": str(next((tensor.device for _, tensor in named_tensors(model)), "cpu")),
            **modes_of(model),
        },
    )
    if others:
        add_tensors(folder, f"{ADAPTER}.safetensors", others)


def _place_of(tensor: Any) -> Any:
    return (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.dtype) if tensor.numel() else id(tensor)


def put_on(cls: Any, base: Any, folder: Path, redo: bool) -> tuple[Any, dict[str, Any]]:
    """Put the stored adapters on a base model; gives the whole, and what `adapter.json` says.

    Args:
        redo: let an adapter change the base model's weights as it did when it was made (PiSSA, OLoRA, …); False where
            the base model has that behind it.

    Raises:
        InvalidArgumentError: they do not fit.
        IntegrityError: their files are missing, or PEFT builds another model of them than at the upload.
    """
    import torch

    rest = _read_rest(folder)
    configs = {
        name: _read_config(folder / ADAPTER / _below(name), rest["fields"][name], rest["enums"].get(name, {}))
        for name in rest["adapters"]
    }
    first, *others = configs
    settings = {} if _is_mixed(cls) else {"autocast_adapter_dtype": False}
    with torch.random.fork_rng(devices=[]), _as_initialised(configs, redo):
        try:
            model = cls(base, configs[first], adapter_name=first, **settings)
            for name in others:
                model.add_adapter(name, configs[name], **settings)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise InvalidArgumentError("into", f"the adapters do not fit the base model: {error}") from error
    _set_active(model, rest)
    _fill(model, folder, rest)
    set_modes(model, rest)
    return model, rest


def _fill(model: Any, folder: Path, rest: Mapping[str, Any]) -> None:
    named = dict(named_tensors(model))
    stored = {
        name: read_tensors(folder / ADAPTER / _below(name) / WEIGHTS)
        for name in {each[0] for each in rest["files"].values()}
    }
    others = read_tensors(folder / f"{ADAPTER}.safetensors") if rest["others"] else {}
    _set_unnamed(model, stored, rest)
    for path, value in {
        **{path: stored[name][key] for path, (name, key) in rest["files"].items()},
        **{path: others[source] for path, source in rest["others"].items()},
    }.items():
        if path not in named:
            raise IntegrityError(
                f"the {type(model).__name__}", path, "PEFT builds no such weight of the stored configuration; it may "
                "be another version than at the upload"
            )  # fmt: skip
        if tuple(named[path].shape) != tuple(value.shape):
            raise InvalidArgumentError(
                "into", f"the adapters do not fit the base model: {path} is {tuple(value.shape)} in the files, and "
                f"{tuple(named[path].shape)} here"
            )  # fmt: skip
        named[path].data = value.to(named[path].device)
        place(named[path])


def _set_unnamed(model: Any, stored: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
    """Let PEFT take in what it holds in other places than parameters and buffers, such as indices."""
    from peft import set_peft_model_state_dict

    known = {tuple(each) for each in rest["files"].values()}
    for name, tensors in stored.items():
        if not model.peft_config[name].is_prompt_learning and any((name, key) not in known for key in tensors):
            set_peft_model_state_dict(model, dict(tensors), adapter_name=name)


def _read_rest(folder: Path) -> dict[str, Any]:
    try:
        rest: dict[str, Any] = json.loads((folder / f"{ADAPTER}.json").read_bytes())
        fields = {name: decode(rest["fields"][name]) for name in rest["adapters"]}
        if not rest["adapters"] or any(_leads_out(name) for name in rest["adapters"]):
            raise ValueError("its adapters do not lie in the archive")
        if any(each[0] not in fields for each in rest["files"].values()):
            raise ValueError("it refers to an adapter that it does not name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise IntegrityError("the adapter", f"{ADAPTER}.json", f"it cannot be read: {error!r}") from error
    return {"enums": {}, **rest, "fields": fields}


def _read_config(where: Path, fields: Mapping[str, Any], enums: Mapping[str, str]) -> Any:
    from peft import PeftConfig

    if not (where / CONFIG).is_file():  # PEFT would look for it at the hub
        raise IntegrityError("the adapter", CONFIG, "it is not there")
    try:
        config = PeftConfig.from_pretrained(str(where))
        for name, cls in enums.items():
            setattr(config, name, framework_class(cls, "peft", ("enum:Enum",))(getattr(config, name)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError("the adapter", CONFIG, f"it cannot be read: {error!r}") from error
    _set_fields(config, fields)
    return config


@contextmanager
def _as_initialised(configs: Mapping[str, Any], redo: bool) -> Iterator[None]:
    """Within it, a configuration asks for nothing that the stored weights make needless.

    That is a text to be cut by a tokenizer of the hub's, and base weights to be changed a second time. What making the
    model would add to it is taken out again at the end.
    """
    kept: list[tuple[Any, str, Any]] = []
    for config in configs.values():
        if isinstance(getattr(config, "modules_to_save", None), list):  # classes for tasks add their heads to it again
            kept.append((config, "modules_to_save", list(config.modules_to_save)))
        if getattr(config, "prompt_tuning_init", None) is not None and str(config.prompt_tuning_init) != "RANDOM":
            kept.append((config, "prompt_tuning_init", config.prompt_tuning_init))
            config.prompt_tuning_init = "RANDOM"
        if not redo and isinstance(getattr(config, "init_lora_weights", None), str):
            kept.append((config, "init_lora_weights", config.init_lora_weights))
            config.init_lora_weights = True
    try:
        yield
    finally:
        for config, name, value in kept:
            setattr(config, name, value)


def changes_base(model: Any) -> bool:
    """Whether making an adapter has changed the base model's weights."""
    return any(isinstance(getattr(config, "init_lora_weights", None), str) for config in model.peft_config.values())


def _active(model: Any) -> Any:
    active = model.base_model.active_adapters if _has_tuner(model) else model.active_adapter
    active = active() if callable(active) else active
    return list(active) if isinstance(active, (list, tuple)) else [active]


def _set_active(model: Any, rest: Mapping[str, Any]) -> None:
    active = rest["active"]
    try:
        if _has_tuner(model) and (len(active) != 1 or _is_mixed(model)):
            model.base_model.set_adapter(active)
        else:
            model.set_adapter(active[0])
        if rest["disabled"]:
            model.base_model.disable_adapter_layers()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise IntegrityError("the adapter", f"{ADAPTER}.json", f"its active adapters cannot be set: {error}") from error


def _is_disabled(model: Any) -> bool:
    return any(
        getattr(part, "disable_adapters", False) is True for part in model.modules() if hasattr(part, "base_layer")
    )


def _has_tuner(model: Any) -> bool:
    return any(base.__name__ in ("BaseTuner", "MixedModel") for base in type(model.base_model).__mro__)


def _is_mixed(model_or_class: Any) -> bool:
    cls = model_or_class if isinstance(model_or_class, type) else type(model_or_class)
    return any(base.__name__ == "PeftMixedModel" for base in cls.__mro__)


def _fields(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name, None) for name in _KEPT}


def _enums(config: Any) -> dict[str, str]:
    """The fields that hold a member of an enumeration of PEFT's, which JSON makes a string, each with its class."""
    found = {name: type(value) for name, value in vars(config).items() if isinstance(value, Enum)}
    return {name: name_of(cls) for name, cls in found.items() if cls.__module__.partition(".")[0] == "peft"}


def _set_fields(config: Any, fields: Mapping[str, Any]) -> None:
    for name in _KEPT:
        if hasattr(config, name):
            setattr(config, name, fields.get(name))


def _below(name: str) -> str:
    """Where PEFT looks for an adapter of this name."""
    return "." if name == "default" else name


def _leads_out(name: Any) -> bool:
    return not isinstance(name, str) or not name or "/" in name or "\\" in name or name.startswith(".")
