"""What a folder of Sentence Transformers may hold, checked before its loader sees it.

The loader imports what JSON files name: classes of modules, activation functions, tokenizers. The folder comes from a
store, so the classes come from the record, whose names are checked, and every other name has to be one that runs no
code but a class's own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.managers.classes import import_object

PACKAGE = "sentence_transformers"

_CODE = (".py", ".pyc", ".so", ".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx")
_OFF = ("auto_map", "trust_remote_code", "adapter_config", "custom_pipeline")
_ACTIVATIONS = ("activation_fn", "activation_function")
_SUBJECT = "the sentence-transformers model"


def vet(folder: Path, modules: Collection[str]) -> None:
    """Refuse a folder that would make the loader import or unpickle something else than was agreed upon.

    Args:
        folder: what `save_pretrained` wrote.
        modules: the full names of the classes of modules that the record knows.

    Raises:
        IntegrityError: naming the file and what is wrong with it.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in _CODE or path.name == "adapter_config.json":
            raise IntegrityError(_SUBJECT, name, "a file of this kind can run code, or leads to another model")
        if path.suffix == ".json" and path.is_file():
            try:
                content = json.loads(path.read_bytes())
            except (ValueError, RecursionError) as error:
                raise IntegrityError(_SUBJECT, name, f"it is no JSON: {error}") from error
            if "vocab" not in path.name and path.name != "tokenizer.json":  # those hold words, not settings
                _vet_settings(name, content)
            if path.name == "modules.json":
                _vet_modules(name, [(each["type"], each["path"]) for each in _list(name, content)], modules)
            if path.name in ("router_config.json", "config.json") and isinstance(content, dict):
                types = content.get("types")
                if isinstance(types, dict):
                    _vet_modules(name, [(kind, part) for part, kind in types.items()], modules)
    if not (folder / "modules.json").is_file():
        raise IntegrityError(_SUBJECT, "modules.json", "it is not there")


def _list(name: str, content: Any) -> list[Any]:
    if isinstance(content, list) and all(isinstance(each, dict) and {"type", "path"} <= set(each) for each in content):
        return content
    raise IntegrityError(_SUBJECT, name, "it is no list of modules")


def _vet_modules(name: str, found: list[tuple[Any, Any]], modules: Collection[str]) -> None:
    for kind, part in found:
        if kind not in modules:
            raise IntegrityError(_SUBJECT, name, f"it names the class {kind!r}, which the record does not")
        if not isinstance(part, str) or ".." in PurePosixPath(part).parts or part.startswith("/") or "\\" in part:
            raise IntegrityError(_SUBJECT, name, f"it leads to {part!r}, out of the model's folder")


def _vet_settings(name: str, content: Any) -> None:
    for key, value in _pairs(content):
        if key in _OFF and value:
            raise IntegrityError(_SUBJECT, name, f"it sets {key!r}, which can run code")
        if key == "tokenizer_class" and isinstance(value, str) and "." in value and not value.startswith(f"{PACKAGE}."):
            raise IntegrityError(_SUBJECT, name, f"its tokenizer is a {value!r}, which is not of {PACKAGE}")
        if key in _ACTIVATIONS and isinstance(value, str) and "." in value and not is_plain_activation(value):
            raise IntegrityError(_SUBJECT, name, f"its activation function is {value!r}, which is none of torch.nn")


def is_plain_activation(name: str) -> bool:
    """Whether this is the dotted name of a module class of `torch.nn`."""
    import torch

    module, _, cls = name.rpartition(".")
    if not module.startswith("torch.nn.modules."):
        return False
    try:
        found = import_object(f"{module}:{cls}")
    except (IntegrityError, ImportError):
        return False
    return isinstance(found, type) and issubclass(found, torch.nn.Module)


def _pairs(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        yield from content.items()
        for value in content.values():
            yield from _pairs(value)
    elif isinstance(content, list):
        for value in content:
            yield from _pairs(value)
