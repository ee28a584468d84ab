"""One part of a pipeline, or an object by itself: which kind it is, its files, and how it is built again.

=============  =========================================  =====================================================
kind           what                                       its files
=============  =========================================  =====================================================
`module`       a `ModelMixin`                             a folder, and `NAME.rest.json` beside it
`model`        a `PreTrainedModel` of transformers        a folder, and `NAME.restore.json` beside it
`tokenizer`…   another object of transformers             a folder
`configured`   a scheduler, an image processor            a folder with its configuration
`pipeline`     a `DiffusionPipeline`                      `model_index.json`, and a folder for each part
=============  =========================================  =====================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._torch.exact import read_rest, restore_rest, save_rest
from modelstore.managers._transformers import parts as transformers_parts
from modelstore.managers._transformers.files import align_files
from modelstore.managers._transformers.models import load_model, save_model
from modelstore.managers.base import Saved, class_name
from modelstore.managers.classes import ClassBook, ClassShelf
from modelstore.managers.exact_json import decode, encode, split

ROOTS = {
    "diffusers.pipelines.pipeline_utils:DiffusionPipeline": "pipeline",
    "diffusers.pipeline_utils:DiffusionPipeline": "pipeline",
    "diffusers.models.modeling_utils:ModelMixin": "module",
    "diffusers.modeling_utils:ModelMixin": "module",
    "diffusers.modular_pipelines.modular_pipeline:ModularPipeline": "modular pipeline",
    "diffusers.configuration_utils:ConfigMixin": "configured",
}
_ARRAY = 2000
"""An array of the configuration with more numbers comes back as a list, which JSON makes of it."""
_SMALL = ("tokenizer", "processor", "config")


def kind_of(cls: type) -> str | None:
    """What objects of this class are: one of the values of `ROOTS`, the first in its MRO, or None."""
    names = (f"{base.__module__}:{base.__qualname__}" for base in cls.__mro__)
    return next((ROOTS[name] for name in names if name in ROOTS), None)


def save_pipeline(obj: Any, folder: ModelFolder, name: str, book: ClassBook, saved: Saved) -> dict[str, Any] | None:
    """Write a pipeline to the sub-folder `name`; gives its state, or None if the object is none.

    Raises:
        UnsupportedObjectError: a component cannot be stored.
    """
    if kind_of(type(obj)) != "pipeline":
        return None
    components = dict(obj.components)
    parts: dict[str, Any] = {}
    first: dict[int, str] = {}
    for part, component in components.items():
        if component is None:
            parts[part] = None
        elif id(component) in first:
            parts[part] = {"kind": "same", "as": first[id(component)]}
        else:
            first[id(component)] = part
            parts[part] = save_part(component, folder, f"{name}/{part}", book, saved)
    others = {key: value for key, value in obj.config.items() if key not in components and not key.startswith("_")}
    try:
        settings = encode(others)
    except TypeError as error:
        raise UnsupportedObjectError(
            f"a setting of this {type(obj).__name__} is a {error}, which JSON cannot hold", class_name(obj)
        ) from error
    _save_config(obj, folder.path(name))
    return {"kind": "pipeline", **book.refer(type(obj)), "parts": parts, "settings": settings, **_private(obj)}


def pipeline_of(folder: Path, name: str, state: Mapping[str, Any], shelf: ClassShelf, device: str | None) -> Any:
    """Build a pipeline of its parts.

    Raises:
        IntegrityError: the record names something else than a pipeline, or its parts do not fit.
    """
    cls = _class(shelf, state, "pipeline")
    parts: dict[str, Any] = {}
    for part, entry in state["parts"].items():
        if entry is None:
            parts[part] = None
        elif entry["kind"] == "same":
            parts[part] = parts[entry["as"]]
        elif "/" in part or "\\" in part or part.startswith("."):
            raise IntegrityError("the record", "diffusers", f"the part {part!r} does not lie in the archive")
        else:
            parts[part] = load_part(folder, f"{name}/{part}", entry, shelf, device)
    with quiet():
        try:
            pipeline = cls(**parts, **decode(state["settings"]))
        except (TypeError, ValueError) as error:
            raise IntegrityError(
                "the pipeline", "parts", f"{cls.__name__} cannot be built of them ({error}); diffusers may be another "
                "release than at the upload"
            ) from error  # fmt: skip
    _set_private(pipeline, state)
    return pipeline


def save_part(obj: Any, folder: ModelFolder, name: str, book: ClassBook, saved: Saved) -> dict[str, Any]:
    """Write an object that is no pipeline to the sub-folder `name`; gives its state.

    Raises:
        UnsupportedObjectError: it is of no kind that is known here, or cannot be stored.
    """
    small = transformers_parts.kind_of(obj)
    kind = small or kind_of(type(obj))
    entry: dict[str, Any] = {"kind": kind, **book.refer(type(obj))}
    if kind == "model":
        saved.merge(Saved(save_model(obj, folder, name)))
        entry["config"] = book.refer(type(obj.config))
    elif small in _SMALL:
        transformers_parts.save_part(obj, folder.path(name))
        saved.merge(Saved("json"))
    elif kind == "module":
        _save_module(obj, folder, name)
        saved.merge(Saved("safetensors"))
        entry |= _private(obj)
    elif kind == "configured":
        _save_config(obj, folder.path(name))
        saved.merge(Saved("json"))
        entry |= _private(obj)
    else:
        raise UnsupportedObjectError(
            f"a {class_name(obj)} is neither a model, a scheduler, nor a tokenizer or processor, so no class could "
            "build it of files; upload it by itself",
            class_name(obj),
        )
    return entry


def load_part(folder: Path, name: str, entry: Mapping[str, Any], shelf: ClassShelf, device: str | None) -> Any:
    """Build what `save_part` wrote.

    Raises:
        IntegrityError: the record names another class, or the files do not fit it.
    """
    kind = entry["kind"]
    if kind == "model":
        cls = transformers_parts.require_kind(shelf.get(entry), "model", entry["class"])
        config = transformers_parts.require_kind(shelf.get(entry["config"]), "config", entry["config"]["class"])
        parent, _, leaf = name.rpartition("/")
        return load_model(cls, config, folder / parent, leaf, device)
    if kind in _SMALL:
        cls = transformers_parts.require_kind(shelf.get(entry), kind, entry["class"])
        return _explained(lambda: transformers_parts.load_part(cls, kind, folder / name), cls, name)
    cls = _class(shelf, entry, kind)
    if kind == "module":
        obj = _load_module(cls, folder, name, device)
    elif kind == "configured":
        _config(folder / name / str(cls.config_name))
        load = lambda: cls.from_config(cls.load_config(folder / name, local_files_only=True))  # noqa: E731
        obj = _explained(load, cls, name)
    else:
        raise IntegrityError("the record", "diffusers", f"nothing is known of a {kind!r}")
    _set_private(obj, entry)
    return obj


def _save_module(obj: Any, folder: ModelFolder, name: str) -> None:
    quantized = any(config.get("quantization_config") is not None for config in _configs(obj).values())
    if getattr(obj, "hf_quantizer", None) is not None or quantized:
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} is quantized; upload it as it was before, and quantize it after the load",
            class_name(obj),
        )
    for path, part in obj.named_modules():
        if any(base.__module__.startswith("peft.tuners.") for base in type(part).__mro__):
            raise UnsupportedObjectError(
                f"{path} of this {type(obj).__name__} is a layer with an adapter; take it into the weights by "
                "pipeline.fuse_lora() and pipeline.unload_lora_weights() first, or upload the model without it",
                class_name(obj),
            )
    save_rest(obj, folder, name)  # first, as it refuses what has no values
    path = folder.path(name)
    before = _configs(obj)
    try:
        with quiet():
            obj.save_pretrained(str(path), safe_serialization=True)
    except OSError:
        raise
    except Exception as error:
        raise UnsupportedObjectError(
            f"diffusers cannot save this {type(obj).__name__}: {error}", class_name(obj)
        ) from error
    finally:
        _set_configs(obj, before)
    align_files(folder, name)
    # A model that is made of several, as `MultiControlNetModel`, writes the second one beside the first, and so on.
    for other in _others(path):
        align_files(folder, f"{name.rpartition('/')[0]}/{other.name}".lstrip("/"))


def _load_module(cls: Any, folder: Path, name: str, device: str | None) -> Any:
    import importlib.util

    parent, _, leaf = name.rpartition("/")
    dtype = read_rest(folder / parent, leaf)["dtype"]
    configs = [_config(path / str(cls.config_name)) for path in (folder / name, *_others(folder / name))]
    if any((config or {}).get("quantization_config") for config in configs):
        raise IntegrityError("the model", name, "its configuration names a way of quantizing, which is never written")
    how = {
        "torch_dtype": dtype,
        "local_files_only": True,
        "use_safetensors": True,
        # Without the package it builds every weight at random first.
        "low_cpu_mem_usage": importlib.util.find_spec("accelerate") is not None,
    }
    obj = _explained(lambda: cls.from_pretrained(str(folder / name), **how), cls, name)
    restore_rest(obj, folder / parent, leaf, device)
    return obj


def _explained(load: Any, cls: Any, name: str) -> Any:
    import torch

    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            return load()
    except ModuleNotFoundError:
        raise
    except Exception as error:  # each loader has its own for files that are missing or do not fit
        raise IntegrityError(f"the {cls.__name__}", name, f"its class cannot read its files: {error}") from error


def _config(path: Path) -> Any:
    """A configuration, if there is one; classes that are made of several models have none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError("the model", path.name, f"it is no JSON: {error}") from error


def _save_config(obj: Any, path: Path) -> None:
    before = dict(obj.config)
    try:
        obj.save_config(str(path))
    except (TypeError, ValueError) as error:
        raise UnsupportedObjectError(
            f"a setting of this {type(obj).__name__} cannot be written as JSON: {error}", class_name(obj)
        ) from error
    finally:
        _set_config(obj, before)


def _class(shelf: ClassShelf, reference: Mapping[str, Any], kind: str) -> Any:
    cls = shelf.get(reference)
    if not isinstance(cls, type) or kind_of(cls) != kind:
        raise IntegrityError("the record", "diffusers", f"{reference['class']} is no class of a {kind}")
    return cls


def _others(path: Path) -> list[Path]:
    """The folders of the second model and those after it, of a class that is made of several."""
    found: list[Path] = []
    while (other := path.with_name(f"{path.name}_{len(found) + 1}")).is_dir():
        found.append(other)
    return found


def _holders(obj: Any) -> dict[str, Any]:
    """What of an object has a configuration, by path: `""` is itself, which has none where it is several models."""
    if not hasattr(obj, "named_modules"):
        return {"": obj}
    return {path: part for path, part in obj.named_modules() if "_internal_dict" in vars(part)}


def _configs(obj: Any) -> dict[str, dict[str, Any]]:
    return {path: dict(part.config) for path, part in _holders(obj).items()}


def _set_configs(obj: Any, configs: Mapping[str, Mapping[str, Any]]) -> None:
    for path, part in _holders(obj).items():
        if path in configs:
            _set_config(part, configs[path])


def _private(obj: Any) -> dict[str, Any]:
    """What loading would replace: notes of a configuration on itself, such as where it came from, and small arrays."""
    noted = {path: _noted(config) for path, config in _configs(obj).items()}
    return {"noted": noted.pop("", {}), "noted_below": {path: each for path, each in noted.items() if each}}


def _noted(config: Mapping[str, Any]) -> dict[str, Any]:
    noted, _ = split({key: value for key, value in config.items() if key.startswith("_") or _is_array(value)})
    return noted


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and getattr(value, "size", _ARRAY + 1) <= _ARRAY


def _set_private(obj: Any, state: Mapping[str, Any]) -> None:
    notes = {"": state["noted"], **state.get("noted_below", {})}
    for path, part in _holders(obj).items():
        known = {key: value for key, value in part.config.items() if not key.startswith("_")}
        noted = {key: decode(value) for key, value in notes.get(path, {}).items() if key[:1] == "_" or key in known}
        _set_config(part, {**known, **noted})


def _set_config(obj: Any, values: Mapping[str, Any]) -> None:
    """Saving and loading write notes into it, which are none of the user's."""
    from diffusers.configuration_utils import FrozenDict

    obj._internal_dict = FrozenDict(values)


def quiet() -> Any:
    """Within it, neither diffusers nor transformers draws progress bars or logs less than errors."""
    from contextlib import contextmanager

    from diffusers.utils import logging

    from modelstore.managers._transformers.models import quiet as quiet_transformers

    @contextmanager
    def both() -> Any:
        verbosity = logging.get_verbosity()
        shown = getattr(logging, "is_progress_bar_enabled", lambda: True)()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            with quiet_transformers():
                yield
        finally:
            logging.set_verbosity(verbosity)
            if shown:
                logging.enable_progress_bar()

    return both()
