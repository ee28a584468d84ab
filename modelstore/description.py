"""What an upload records: the user's own words checked, the rest learnt, and the small files that go along."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelstore._version import __version__
from modelstore.exceptions import InvalidArgumentError, NotJSONError
from modelstore.folder import FolderContents, ModelFolder, fold_name
from modelstore.insight import card, data, environment, requirements
from modelstore.managers.base import Saved
from modelstore.managers.bundle import Bundle
from modelstore.notices import warn
from modelstore.records import ModelRecord, encode_json, json_safe
from modelstore.registry.keys import clean_id

MANIFEST = "modelstore.json"
REQUIREMENTS = "requirements.txt"
CARD = "README.md"
PARAMETERS = "modelstore-parameters.json"
EXTRAS = "extras"

MAX_PARAMETER_BYTES = 64 * 1024
"""Larger parameters go into a file of the archive; the record's event is limited."""

ALWAYS_RECORDED = ("pip", "setuptools", "numpy", "scipy", "pandas")
"""Distributions whose versions are recorded for every model, when installed (the ancestor's list)."""


@dataclass(frozen=True)
class Words:
    """What the user says of a model, checked."""

    metrics: dict[str, Any] | None = None
    tags: dict[str, Any] | None = None
    note: str | None = None
    extra_metadata: Any = None
    extra_files: tuple[Path, ...] = ()
    dataset: dict[str, Any] | None = field(default=None)
    parent: str | None = None


def check_words(
    *,
    metrics: Any = None,
    tags: Any = None,
    note: Any = None,
    extra_metadata: Any = None,
    extra_files: Any = None,
    X_train: Any = None,
    y_train: Any = None,
    parent: Any = None,
) -> Words:
    """Check what `upload` was given beside the objects, before anything is written.

    Raises:
        InvalidArgumentError: a path that does not exist, a metric that is no number, …
    """
    if note is not None and not isinstance(note, str):
        raise InvalidArgumentError("note", f"note= is to be a text, not a {type(note).__name__}")
    return Words(
        metrics=_metrics(metrics),
        tags=_tags(tags),
        note=_plain_json("note", note),
        extra_metadata=_plain_json("extra_metadata", extra_metadata),
        extra_files=_paths(extra_files),
        dataset=None if X_train is None and y_train is None else data.describe(X_train, y_train),
        parent=None if parent is None else clean_id(parent),
    )


def _metrics(metrics: Any) -> dict[str, Any] | None:
    if metrics is None:
        return None
    checked: dict[str, Any] = {}
    for name, value in _named("metrics", metrics).items():
        number = json_safe(value)
        if isinstance(number, str):  # NaN, say, or a number of a library that JSON knows nothing of
            number = None if isinstance(value, str) else _as_float(value)
            if number is None:
                raise InvalidArgumentError("metrics", f"metrics[{name!r}] is {value!r}; a metric is a number")
            if not math.isfinite(number):
                warn(f"the metric {name!r} is {number}, which JSON has no word for; it is recorded as null")
                number = None
        checked[name] = number
    return dict(_plain_json("metrics", checked))


def _as_float(value: Any) -> float | None:
    try:
        return float(value)
    except Exception:  # whatever an object of some library answers
        return None


def _tags(tags: Any) -> dict[str, Any] | None:
    return None if tags is None else _plain_json("tags", dict(_named("tags", tags)))


def _named(argument: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidArgumentError(argument, f"{argument}= is to be a mapping from names (texts) to values")
    return value


def _plain_json(argument: str, value: Any) -> Any:
    try:
        return json.loads(encode_json(value))  # with the keys that JSON makes of numbers, as every reader gets them
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSONError(argument, f"{argument}= cannot be written as JSON: {error}") from error


def _paths(given: Any) -> tuple[Path, ...]:
    if given is None:
        return ()
    listed: Any = [given] if isinstance(given, (str, os.PathLike)) else given
    if not isinstance(listed, Iterable):
        raise InvalidArgumentError("extra_files", f"extra_files= is a {type(given).__name__}, not a path or several")
    paths: dict[str, Path] = {}
    for path in listed:
        if not isinstance(path, (str, os.PathLike)):
            raise InvalidArgumentError("extra_files", f"extra_files= holds a {type(path).__name__}, not a path")
        text = os.fspath(path)
        found = next((place for place in (text, os.path.expanduser(text)) if os.path.exists(place)), None)
        if found is None:
            raise InvalidArgumentError("extra_files", f"extra_files= names {text!r}, which does not exist")
        name = _own_name(Path(found))
        if not name:
            raise InvalidArgumentError("extra_files", f"extra_files= names {text!r}, which is a whole file system")
        if fold_name(name) in paths:
            raise InvalidArgumentError("extra_files", f"extra_files= holds two paths called {name!r}; rename one")
        paths[fold_name(name)] = Path(found)
    return tuple(paths.values())


def _own_name(path: Path) -> str:
    """A link's own name, not that of what it points to; `.` is called as its folder is."""
    return os.path.basename(os.path.abspath(path))


def describe(
    domain: str,
    model_id: str,
    bundle: Bundle,
    managers: Sequence[dict[str, Any]],
    saved: Sequence[Saved],
    words: Words,
) -> tuple[dict[str, Any], FolderContents]:
    """The record without storage, digests and commit time, and the files that go into the archive with the model."""
    with ModelFolder() as attached:
        distributions = [name for manager in bundle.managers for name in manager.distributions]
        modules = {module for part in saved for module in part.modules}
        pinned, homeless = requirements.requirements(distributions, modules)
        if homeless:
            warn(
                f"loading this model takes the modules {', '.join(sorted(homeless))}, which belong to no installed "
                "package: whoever loads it needs them on the import path"
            )
        parameters = json_safe(bundle.parameters())
        model = {
            "domain": domain,
            "model_id": model_id,
            "model_type": bundle.model_type(),
            "parameters": parameters,
            "data": words.dataset,
            "metrics": words.metrics,
            "tags": words.tags,
            "note": words.note,
            "managers": list(managers),
        }
        if words.parent is not None:
            model["parent"] = words.parent
        if len(encode_json(parameters)) > MAX_PARAMETER_BYTES:
            attached.add_json(PARAMETERS, parameters)
            model.update(parameters=None, parameters_file=PARAMETERS)
        record = {
            "model": model,
            "code": json_safe(_code(bundle)),
            "extra": words.extra_metadata,
            "modelstore": __version__,
        }
        attached.add_json(MANIFEST, record)
        attached.add_bytes(REQUIREMENTS, "".join(f"{line}\n" for line in pinned).encode())
        attached.add_bytes(CARD, card.model_card(ModelRecord.from_dict(record)).encode())
        for path in words.extra_files:
            attached.add_path(f"{EXTRAS}/{_own_name(path)}", path)
        return record, attached.contents()


def _code(bundle: Bundle) -> dict[str, Any]:
    recorded = [*ALWAYS_RECORDED, *(name for manager in bundle.managers for name in manager.dependencies())]
    return {
        "runtime": environment.runtime(),
        "user": environment.user(),
        "dependencies": environment.versions(sorted(set(recorded))),
        "git": environment.git_info(),
    }
