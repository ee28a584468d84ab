"""What a Transformers pipeline holds beside its parts: task, settings, and the parameters that it was made with."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.managers.base import class_name
from modelstore.managers.classes import import_object, name_of

PARTS = ("model", "processor", "tokenizer", "feature_extractor", "image_processor", "video_processor")

SETTINGS = (
    "_preprocess_params",
    "_forward_params",
    "_postprocess_params",
    "_generate_kwargs",
    "_generation_defaults",
    "_batch_size",
    "_num_workers",
)
"""Attributes that a pipeline's constructor makes of its arguments, under all releases' names."""


def parts_of(pipeline: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The pipeline's parts by name, and those names that mean the same object as another.

    Raises:
        UnsupportedObjectError: it holds a part that would not come back.
    """
    if getattr(pipeline, "assistant_model", None) is not None:
        raise UnsupportedObjectError(
            "this pipeline holds an assistant model, which would not come back; upload the assistant by itself and "
            "pass it as assistant_model= when you call the pipeline",
            class_name(pipeline),
        )
    parts: dict[str, Any] = {}
    same: dict[str, str] = {}
    for name in PARTS:
        part = getattr(pipeline, name, None)
        if part is None:
            continue
        first = next((known for known, other in parts.items() if other is part), None)
        processor = parts.get("processor")
        if first is not None:
            same[name] = first
        elif processor is not None and getattr(processor, name, None) is part:
            same[name] = f"processor.{name}"
        else:
            parts[name] = part
    return parts, same


def settings_of(pipeline: Any) -> dict[str, Any]:
    """All else that makes this pipeline, as JSON.

    Raises:
        UnsupportedObjectError: a parameter that JSON cannot hold.
    """
    settings: dict[str, Any] = {
        "task": pipeline.task,
        "device": "cpu" if pipeline.device.type == "cpu" else None,
        "binary_output": bool(getattr(pipeline, "binary_output", False)),
        "attributes": {},
    }
    for name in SETTINGS:
        if hasattr(pipeline, name):
            try:
                settings["attributes"][name] = _encode(getattr(pipeline, name))
            except TypeError as error:
                raise UnsupportedObjectError(
                    f"the parameter {error} of this pipeline cannot be stored; leave it out of the pipeline, and pass "
                    "it when you call the pipeline",
                    class_name(pipeline),
                ) from error
    return settings


def build_pipeline(
    cls: Any, parts: Mapping[str, Any], same: Mapping[str, str], settings: Mapping[str, Any], device: str | None = None
) -> Any:
    """The pipeline of these parts and settings.

    Args:
        device: where it goes; None is the CPU if it was there, else where transformers puts it.
    """
    known = dict(parts)
    for name, path in same.items():
        first, _, attribute = path.partition(".")
        known[name] = getattr(parts[first], attribute) if attribute else parts[first]
    place = device or settings["device"]
    pipeline = cls(task=settings["task"], device=place, binary_output=settings["binary_output"], **known)
    for name, value in settings["attributes"].items():
        if name not in SETTINGS:
            raise IntegrityError("the record", "pipeline", f"it sets {name!r}, which no pipeline of modelstore does")
        setattr(pipeline, name, _decode(value))
    return pipeline


def _encode(value: Any, where: str = "") -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, enum.Enum) and type(value).__module__.startswith("transformers."):
        return {"enum": name_of(type(value)), "name": value.name}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(where)
        return {"items": {key: _encode(item, where or str(key)) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, where) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    raise TypeError(f"{where} (a {class_name(value)})")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "items" in value:
        return {key: _decode(item) for key, item in value["items"].items()}
    if "tuple" in value:
        return tuple(_decode(item) for item in value["tuple"])
    kind = import_object(value["enum"]) if str(value["enum"]).startswith("transformers.") else None
    if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        raise IntegrityError("the record", "pipeline", f"{value['enum']} is no enumeration of transformers")
    return kind[value["name"]]
