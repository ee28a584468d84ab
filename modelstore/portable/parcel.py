"""What goes along when a model leaves a store, beside its archive: as JSON, and back from JSON of anybody's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from modelstore.ancestor.metadata import is_adopted
from modelstore.archive import ArchiveInfo
from modelstore.archive.info import SUFFIXES
from modelstore.exceptions import IntegrityError, InvalidNameError, NewerFormatError, UnsupportedObjectError
from modelstore.notices import warn
from modelstore.records import check_record, encode_json, format_time, parse_time
from modelstore.registry import addenda, history, origins, queries
from modelstore.registry.events import MAX_BYTES
from modelstore.registry.keys import clean_id, clean_name
from modelstore.registry.registry import Model, Registry

FORMAT = 1
"""Of the JSON in an exported file."""

MOST_HISTORY = 8 << 20
"""Bytes of history that a file holds; the newest entries count."""

MOST_LEVELS = 64
"""Of nested JSON: what this process can just read, another one may not, and a log that it cannot read is lost to it."""

_RESERVED = 4 * 1024
"""More than an event takes beside its body."""


@dataclass(frozen=True)
class Parcel:
    """A model on its way."""

    origin: dict[str, Any]
    """Where it comes from; see `modelstore.registry.origins`."""
    record: dict[str, Any]
    """As its event holds it: without what the store adds."""
    archive: ArchiveInfo
    foreign: bool
    """Whether it came out of somebody's file before."""
    added: dict[str, Any]
    """Metrics and tags that were added to it."""
    history: list[dict[str, Any]]

    @property
    def file_name(self) -> str:
        """Of its archive in an exported file."""
        return f"artifacts{SUFFIXES[self.archive.compression]}"

    def encode(self) -> bytes:
        """As one line of JSON. `decode(parcel.encode(), …)` gives an equal parcel."""
        document = {
            "format": FORMAT, **self.origin, "foreign": self.foreign, "archive": self.archive.to_dict(),
            "record": self.record, "added": self.added, "history": self.history,
        }  # fmt: skip
        return encode_json(document) + b"\n"

    def body(self, came: str, domain: str, model_id: str, **more: Any) -> dict[str, Any]:
        """What the `uploaded` event in the other store holds beside its archive.

        Args:
            came: `imported` or `copied`.
            domain: its domain there.
            model_id: its id there.
            more: further keys of its origin.
        """
        model = {**self.record["model"], "domain": domain, "model_id": model_id}
        origin = {**self.origin, **more, "added": self.added}
        body: dict[str, Any] = {"record": {**self.record, "model": model}, came: origin}
        if self.foreign or came == origins.IMPORTED:
            body[origins.FOREIGN] = True
        room = MAX_BYTES - 2 * _RESERVED - len(encode_json(body))
        origin["history"] = origins.newest(self.history, room)
        left_out = len(self.history) - len(origin["history"])
        if left_out:
            origin["left_out"] = left_out
            warn(f"the {left_out} oldest entries of the history of {model_id!r} do not fit into an event: left out")
        return body


def pack(registry: Registry, model: Model) -> Parcel:
    """What goes along with a model of this store.

    Raises:
        UnsupportedObjectError: it was adopted, so its archive is the ancestor's.
    """
    if is_adopted(model.archive):
        raise UnsupportedObjectError(
            f"model {model.model_id!r} of {model.domain!r} was adopted, and its archive is one of "
            "operatorai/modelstore, which only adopt() takes in; load() it, and upload() what that gives"
        )
    index = registry.logs.index()
    assert index is not None
    event = registry.logs.event(index, model.domain, model.number)
    info = ArchiveInfo.from_dict(model.archive)
    with index.read() as db:
        told = addenda.added(db, model.domain, model.number, queries.NOW, event.body)
    told.pop("notes", None)  # which stand in the history
    entries = history.of_model(registry, model.domain, model.number)
    origin = {
        "store": index.store_id, "domain": model.domain, "number": model.number, "model_id": model.model_id,
        "content_digest": info.content_digest, "archive_digest": info.archive_digest, "time": event.time,
        "user": event.user,
    }  # fmt: skip
    foreign = bool(model.record.get(origins.FOREIGN))
    record = dict(event.body["record"])
    return Parcel(origin, record, info, foreign, told, origins.newest(entries, MOST_HISTORY))


def decode(raw: bytes, subject: str) -> Parcel:
    """The parcel in a file, once it is seen to have the shape that all here rely on.

    Raises:
        NewerFormatError: a later version wrote it.
        IntegrityError: it is not what `encode` gives.
    """
    try:
        data = json.loads(raw, parse_constant=_no_number)
        encode_json(data)  # half characters are no UTF-8
    except (ValueError, RecursionError) as error:
        raise IntegrityError(subject, "description", f"it cannot be read: {error}") from error
    if not _is_shallow(data):
        raise IntegrityError(subject, "description", f"it is nested more than {MOST_LEVELS} levels deep")
    if not isinstance(data, Mapping) or type(data.get("format")) is not int:
        raise IntegrityError(subject, "description", "it is none of an exported model")
    if data["format"] > FORMAT:
        raise NewerFormatError(subject, "description", f"format {data['format']}")
    info = ArchiveInfo.from_dict(data.get("archive"), subject)
    record = dict(check_record(data.get("record"), subject))
    for name in origins.OF_THE_STORE:
        if name in record:
            raise IntegrityError(subject, "record", f"it holds {name!r}, which only a store says")
    parcel = Parcel(
        _origin(data, subject), record, info, data.get("foreign") is not False, _added(data, subject),
        _history(data, subject),
    )  # fmt: skip
    _check_agreement(parcel, subject)
    return parcel


def _is_shallow(data: Any) -> bool:
    level = [data]
    for _ in range(MOST_LEVELS):
        containers = (value for value in level if isinstance(value, (dict, list)))
        level = [inner for value in containers for inner in (value.values() if isinstance(value, dict) else value)]
    return not level


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _origin(data: Mapping[str, Any], subject: str) -> dict[str, Any]:
    texts = ("store", "domain", "model_id", "content_digest", "archive_digest", "time", "user")
    number = data.get("number")
    wrong = [name for name in texts if not isinstance(data.get(name), str)]
    wrong += [] if type(number) is int and 0 < number < 1 << 62 else ["number"]
    try:
        if not wrong:
            format_time(parse_time(data["time"]))
            if clean_name("domain", data["domain"]) != data["domain"] or clean_id(data["model_id"]) != data["model_id"]:
                wrong.append("model_id")
    except (ValueError, OverflowError, InvalidNameError) as error:
        raise IntegrityError(subject, "origin", f"it cannot be read: {error}") from error
    if wrong:
        raise IntegrityError(subject, "origin", f"its {wrong[0]} cannot be read")
    names = ("store", "domain", "number", "model_id", "content_digest", "archive_digest", "time", "user")
    return {name: data[name] for name in names}


def _added(data: Mapping[str, Any], subject: str) -> dict[str, Any]:
    added = data.get("added")
    if not isinstance(added, Mapping) or not all(
        name in ("metrics", "tags") and isinstance(values, Mapping) for name, values in added.items()
    ):
        raise IntegrityError(subject, "added", "it is not metrics and tags")
    return dict(added)


def _history(data: Mapping[str, Any], subject: str) -> list[dict[str, Any]]:
    entries = data.get("history")
    if not isinstance(entries, list) or not all(map(origins.is_entry, entries)):
        raise IntegrityError(subject, "history", "an entry cannot be read")
    return [dict(entry) for entry in entries]


def _check_agreement(parcel: Parcel, subject: str) -> None:
    """What is said twice is said alike."""
    origin, model = parcel.origin, parcel.record["model"]
    said = (model["domain"], model["model_id"], parcel.archive.content_digest, parcel.archive.archive_digest)
    if said != tuple(origin[name] for name in ("domain", "model_id", "content_digest", "archive_digest")):
        raise IntegrityError(subject, "origin", "it is not that of its record and archive")
