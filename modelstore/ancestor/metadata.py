"""The ancestor's metadata of a model, as a record of ours."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelstore.ancestor.layout import archive_key
from modelstore.exceptions import IntegrityError, RecordTooLargeError
from modelstore.records import json_safe
from modelstore.registry.events import check_size
from modelstore.registry.keys import clean_id, clean_name
from modelstore.storage.base import ObjectInfo, Storage

MAX_BYTES = 16 << 20
"""Of one file of metadata; the ancestor has no limit, and parameters may be long."""

FORMAT = "ancestor"
"""`archive.format` of what the ancestor packed."""

_TIME = "%Y/%m/%d/%H:%M:%S"
_SPARED = ("parameters", "data", "extra")
"""What is left out of a record that does not fit into an event, in this order."""


@dataclass(frozen=True)
class Metadata:
    """What one file of metadata says."""

    model_id: str
    record: dict[str, Any]
    archive: dict[str, Any]
    origin: dict[str, Any]
    """What was changed to make the record: the time and place as the ancestor tells them, and what was left out."""
    source: dict[str, str]
    """The file: its key, etag and SHA-256."""

    @property
    def created(self) -> str:
        """When it was uploaded, by the ancestor's word."""
        return str(self.record["code"]["created"])

    def body(self) -> dict[str, Any]:
        """The body of an event `adopted`."""
        return {
            "model_id": self.model_id, "record": self.record, "archive": self.archive,
            "origin": self.origin, "adopted": self.source,
        }  # fmt: skip


def read_metadata(
    storage: Storage, info: ObjectInfo, domain: str, model_id: str, archives: Mapping[str, ObjectInfo]
) -> Metadata:
    """Read and convert one file.

    Args:
        storage: where it lies.
        info: of the file.
        domain: the domain that its key names.
        model_id: the id that its key names.
        archives: what lies in the ancestor's tree, by key.

    Raises:
        IntegrityError: it is no metadata, or that of another model.
        InvalidNameError: its domain or id is no name that can be kept.
        RecordTooLargeError: what is left when all that can be spared is left out does not fit into an event.
        StorageError: it cannot be read.
    """
    raw = storage.read(info.key, 0, MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise IntegrityError(info.key, "metadata", f"it is larger than {MAX_BYTES:,} bytes")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(info.key, "metadata", f"it is no JSON: {error}") from error
    model = _mapping(data, "model")
    kind = _mapping(model, "model_type")
    names = [
        name for name in (model.get("domain"), model.get("model_id"), kind.get("library")) if isinstance(name, str)
    ]
    if len(names) != 3:
        raise IntegrityError(info.key, "metadata", "it does not say of which domain, id and library its model is")
    if (_normal(names[0]), _normal(names[1])) != (domain, _normal(model_id)):
        raise IntegrityError(info.key, "metadata", f"it is that of model {names[1]!r} of {names[0]!r}")
    clean_name("domain", domain)
    record, origin = _record(data, model, clean_id(model_id), info.modified)
    record["model"]["domain"] = domain
    sha256 = hashlib.sha256(raw).hexdigest()
    archive = _archive(_mapping(data, "storage"), domain, model_id, archives, info.key)
    return Metadata(
        record["model"]["model_id"], record, archive, origin, {"key": info.key, "etag": info.etag, "sha256": sha256}
    )


def _record(
    data: Mapping[str, Any], model: Mapping[str, Any], model_id: str, modified: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    code = _mapping(data, "code")
    created, told = _created(code.get("created"), modified)
    record = {
        "model": {"parameters": None, "data": None, "metrics": None, "tags": None, "note": None, **json_safe(model)},
        "code": {**json_safe(code), "created": created},
        "extra": json_safe(data.get("extra")),
        "modelstore": json_safe(data.get("modelstore")),
    }
    record["model"]["model_id"] = model_id
    for name in ("metrics", "tags", "note", "managers"):  # which the ancestor has not, so that their shape is ours
        record["model"].pop(name, None)
    record["model"].update(metrics=None, tags=None, note=None)
    origin: dict[str, Any] = {"created": told, "storage": json_safe(data.get("storage"))}
    for name in _SPARED:
        try:
            check_size({"record": record, "origin": origin})
            break
        except RecordTooLargeError:
            (record if name == "extra" else record["model"])[name] = None
            origin.setdefault("left_out", []).append(name)
    check_size({"record": record, "origin": origin})
    return record, origin


def _created(told: Any, modified: datetime) -> tuple[str, Any]:
    """The time of the upload: local time of a zone that nobody noted, and so written down without one.

    Where there is none that can be read, that of the file.
    """
    try:
        return datetime.strptime(told, _TIME).isoformat(), told
    except (ValueError, TypeError):
        return modified.strftime("%Y-%m-%dT%H:%M:%SZ"), json_safe(told)


def _archive(
    storage: Mapping[str, Any], domain: str, model_id: str, there: Mapping[str, ObjectInfo], metadata_key: str
) -> dict[str, Any]:
    told = storage.get("path") or storage.get("prefix")
    key = archive_key(told, domain, model_id, there)
    if key is None:
        raise IntegrityError(metadata_key, "metadata", f"it does not say where the archive lies: {told!r}")
    info = there.get(key)
    if info is None:
        return {"key": key, "format": FORMAT}
    return {"key": key, "format": FORMAT, "size": info.size, "etag": info.etag}


def latest_id(storage: Storage, info: ObjectInfo | None) -> str | None:
    """The id of the model that the ancestor takes for a domain's latest, if it says so."""
    if info is None:
        return None
    try:
        model_id = json.loads(storage.read(info.key, 0, MAX_BYTES))["model"]["model_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return model_id if isinstance(model_id, str) else None


def is_adopted(archive: Mapping[str, Any]) -> bool:
    """Whether an archive is one that the ancestor packed."""
    return archive.get("format") == FORMAT


def _mapping(data: Any, name: str) -> Mapping[str, Any]:
    value = data.get(name) if isinstance(data, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
