"""A model comes into a store: out of a file, or out of another store."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from modelstore.archive import Archive
from modelstore.archive.info import SUFFIXES
from modelstore.exceptions import (
    CommitUnknownError,
    DomainNotFoundException,
    IntegrityError,
    ModelExistsException,
    ModelNotFoundException,
    ModelStoreError,
)
from modelstore.portable.parcel import Parcel
from modelstore.progress import Advance, counted
from modelstore.registry import events as kinds, links, origins
from modelstore.registry.events import check_size, parse_event
from modelstore.registry.keys import archive_key
from modelstore.registry.registry import Model, Registry


@dataclass(frozen=True)
class Arrival:
    """What is to come into a store, and as what."""

    registry: Registry
    """Of the store that it comes into."""
    parcel: Parcel
    came: str
    """`imported` or `copied`."""
    domain: str
    model_id: str
    address: str | None = None
    """Of the store that it is copied from."""

    def known(self) -> Model | None:
        """The model of this id, if it has the very bytes that are to come: then there is nothing to do.

        Raises:
            ModelExistsException: it has others.
        """
        if not self.registry.exists(self.domain, self.model_id):
            return None
        model = self.registry.find(self.domain, self.model_id)
        if model.archive.get("archive_digest") != self.parcel.archive.archive_digest:
            raise ModelExistsException(self.domain, self.model_id)
        return model

    def take(self, archive: Archive, advance: Advance, threads: int) -> Model:
        """Write the archive's bytes, then commit. Nothing is visible before all of them have been checked.

        Raises:
            ModelExistsException: another model took the id.
            IntegrityError: the bytes are not those that were written; nothing is left.
            Otherwise as an upload.
        """
        more = {} if self.address is None else {"address": self.address}
        body = self.parcel.body(self.came, self.domain, self.model_id, **more)
        record = body.pop("record")
        check_size({**record, "added": self.parcel.added})
        check_links(self.registry, record)
        info = self.parcel.archive
        key = archive_key(self.domain, self.model_id, uuid.uuid4().hex, SUFFIXES[info.compression])
        storage = self.registry.storage
        # Out of a file it may be anybody's: then it is looked at as closely as if it were unpacked.
        look_inside = self.came == origins.IMPORTED
        with closing(archive.stored(look_inside=look_inside, threads=threads)) as chunks:
            storage.write(key, counted(chunks, advance), info.size)
        try:
            return self.registry.add(self.domain, self.model_id, record, {"key": key, **info.to_dict()}, origin=body)
        except CommitUnknownError:
            raise  # the event may still appear: its bytes are left to gc
        except ModelStoreError as error:
            with suppress(ModelStoreError):
                storage.delete([key])
            if isinstance(error, ModelExistsException) and (known := self.known()) is not None:
                return known  # somebody brought the same one at the same time
            raise


def check_links(registry: Registry, record: Mapping[str, Any]) -> None:
    """See that the models which this one refers to are here too.

    Raises:
        ModelNotFoundException: one is not.
        IntegrityError: what it says of them cannot be read.
    """
    model_id = record["model"]["model_id"]
    for entry in record["model"].get("managers", ()):
        references = entry.get("references", ()) if isinstance(entry, Mapping) else ()
        for reference in references if isinstance(references, list) else ():
            texts = reference if isinstance(reference, Mapping) else {}
            if not all(isinstance(texts.get(name), str) for name in ("domain", "model_id", "content_digest")):
                raise IntegrityError(f"model {model_id!r}", "link", "it cannot be read")
            try:
                links.follow(registry, reference, f"model {model_id!r}", False)
            except (DomainNotFoundException, ModelNotFoundException, IntegrityError) as error:
                needed = (str(reference["domain"]), str(reference["model_id"]))
                raise ModelNotFoundException(
                    *needed,
                    f"model {model_id!r} needs the model {needed[1]!r} of {needed[0]!r}, which "
                    f"{registry.storage.address} does not hold: bring that one there first, under the same names",
                ) from error


def note_copy(registry: Registry, domain: str, model: int, to: Mapping[str, Any]) -> None:
    """Write into the log of a domain that a model of it was copied; nothing if that is there already."""

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        rows = db.execute(
            "SELECT number, raw FROM events WHERE domain = ? AND model = ? AND kind = ?", (domain, model, kinds.COPIED)
        )
        told = [parse_event(bytes(raw), domain, number, None).body.get("to") for number, raw in rows.fetchall()]
        if any(_same_place(place, to) for place in told):
            return None
        return kinds.COPIED, {"model": model, "to": dict(to)}

    registry.logs.commit(domain, intent)


def _same_place(place: Any, other: Mapping[str, Any]) -> bool:
    # Not by the address: one store may have several.
    names = ("store", "domain", "number")
    return isinstance(place, Mapping) and all(place.get(name) == other[name] for name in names)
