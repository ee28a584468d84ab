"""Domains, models and their states: what the logs say, and the changes that they take."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore.exceptions import (
    DomainNotFoundException,
    IntegrityError,
    ModelExistsException,
    ModelNotFoundException,
    StorageError,
)
from modelstore.records import ModelRecord, check_record, check_time
from modelstore.registry import addenda, adoptions, events as kinds, keys, origins, queries, schema
from modelstore.registry.events import Event
from modelstore.registry.index import Index
from modelstore.registry.log import in_parallel
from modelstore.registry.logs import Logs
from modelstore.registry.states import States
from modelstore.storage.base import Storage


@dataclass(frozen=True)
class Model:
    """A model as the log has it."""

    domain: str
    number: int
    """Of its upload event: what tells it from others that bore the same id."""
    record: ModelRecord
    archive: dict[str, Any]
    """Where its archive lies (`key`), how large it is, and its digests."""

    @property
    def model_id(self) -> str:
        """The id under which it was uploaded."""
        return str(self.record["model"]["model_id"])


class Registry:
    """The registry of the store in `storage`.

    Args:
        storage: where the store lies.
        index_folder: for the local index; None keeps it in memory.

    Every question reads what is new in the logs first, unless `offline` is given: then it is answered from the local
    index alone. Domains and ids are taken in any Unicode form.
    """

    def __init__(self, storage: Storage, index_folder: Path | None) -> None:
        self.storage = storage
        self.logs = Logs(storage, index_folder)
        self.states = States(self.logs, self.open_domain)

    # -- domains ------------------------------------------------------------------------------------------------

    def domains(self, offline: bool = False, max_age: float = 0.0) -> list[str]:
        """The names of all domains, sorted; not those that were deleted.

        Costs one listing for 1,000 domains, and one of the store's log; and one for each domain that was deleted once.
        """
        if offline or self.logs.listed_within(max_age):
            index = self.logs.index(offline=True)
            assert index is not None
            with index.read() as db:
                rows = db.execute(
                    "SELECT domain FROM logs WHERE domain <> ? AND number > 0 AND (domain NOT IN (SELECT domain FROM"
                    " gone) OR domain IN (SELECT domain FROM models WHERE deleted = 0))",
                    (schema.STORE,),
                )
                return sorted(row[0] for row in rows)
        listed = sorted(keys.decode_names(self.storage.list_children(keys.DOMAINS)))
        index = self.logs.refresh(None)
        if index is None:
            return listed
        with index.read() as db:
            gone = {row[0] for row in db.execute("SELECT domain FROM gone")}
        self.logs.note_listed()
        return [domain for domain in listed if domain not in gone or self._is_back(domain)]

    def _is_back(self, domain: str) -> bool:
        """Whether a domain that was deleted has been uploaded to since."""
        index = self.logs.refresh(domain)
        if index is None:
            return False
        with index.read() as db:
            return queries.latest(db, domain, queries.NOW) is not None

    def open_domain(self, domain: str, offline: bool = False, max_age: float = 0.0) -> tuple[str, Index]:
        """The domain's normal name, and the index with its log folded up to now.

        Args:
            max_age: see `Logs.refresh`.

        Raises:
            DomainNotFoundException: there is no such domain.
        """
        name = keys.clean_name("domain", domain)
        index = self.logs.refresh(name, offline, max_age)
        if index is None or index.position(name).number == 0:
            raise DomainNotFoundException(name, self.domains(offline) if index is not None else ())
        return name, index

    def refresh(self, domains: Sequence[str], offline: bool = False, max_age: float = 0.0) -> Index | None:
        """Fold what is new in the logs of several domains, several at a time. Costs what each of them costs alone."""
        if not offline:
            in_parallel(lambda domain: self.logs.refresh(domain, False, max_age), list(domains))
        return self.logs.index(offline)

    # -- models -------------------------------------------------------------------------------------------------

    def models(
        self, domain: str, state_name: str | None = None, offline: bool = False, at: str | None = None
    ) -> list[str]:
        """The ids of a domain's models, newest first; with a state, of those that hold it.

        Args:
            at: a time, as `format_time` writes it: as it was then.

        Raises:
            DomainNotFoundException: there is no such domain.
            StateNotFoundError: there is no such state.
        """
        state = None if state_name is None else self.states.number(state_name, offline, at)
        name, index = self.open_domain(domain, offline)
        with index.read() as db:
            return [model_id for _, model_id in queries.living(db, name, queries.moment(db, name, at), state)]

    def find(
        self,
        domain: str,
        model_id: str | None = None,
        state_name: str | None = None,
        offline: bool = False,
        at: str | None = None,
    ) -> Model:
        """One model: by id, or the one that was set to a state last, or the latest upload.

        Args:
            at: a time, as `format_time` writes it: as it was then.

        Raises:
            DomainNotFoundException: there is no such domain.
            ModelNotFoundException: there is no such model.
            ModelDeletedException: the last model of this id was deleted.
            StateNotFoundError: there is no such state.
        """
        state = None if state_name is None else self.states.number(state_name, offline, at)
        name, index = self.open_domain(domain, offline)
        with index.read() as db:
            then = queries.moment(db, name, at)
            number = self._number(db, name, then, model_id, state)
            if number is None:
                raise ModelNotFoundException(name, model_id, _nobody(name, model_id, state_name, at))
            if model_id is not None and state is not None:
                held = [found for found, _ in queries.living(db, name, then, state)]
                if number not in held:
                    raise ModelNotFoundException(
                        name, model_id, f"model {model_id!r} of {name!r} is not in {state_name!r}"
                    )
            event = self.logs.event(index, name, number)
            if event.kind == kinds.ADOPTED:
                event = adoptions.last_words(db, name, number, then)
            later = addenda.added(db, name, number, then, event.body)
        return self.model(event, later)

    @staticmethod
    def _number(db: sqlite3.Connection, domain: str, then: int, model_id: str | None, state: int | None) -> int | None:
        if model_id is not None:
            if then == queries.NOW:
                return queries.require_live(db, domain, model_id)
            return queries.bearer(db, domain, then, keys.clean_id(model_id))
        if state is not None:
            return queries.holder(db, domain, then, state)
        return queries.latest(db, domain, then)

    def numbered(self, domain: str, number: int, later: bool = True) -> Model:
        """The model of an upload event that has been folded here, deleted or not.

        Args:
            later: with what was said of it after its upload.

        Raises:
            IntegrityError: it is not in the local index (any more).
        """
        index = self.logs.index(offline=self.logs.is_open)
        assert index is not None
        with index.read() as db:
            event = self.logs.event(index, domain, number)
            if event.kind == kinds.ADOPTED:
                event = adoptions.last_words(db, domain, number, queries.NOW if later else number)
            added = addenda.added(db, domain, number, queries.NOW, event.body) if later else None
        return self.model(event, added)

    def exists(self, domain: str, model_id: str, offline: bool = False) -> bool:
        """Whether the domain holds a model of this id, deleted ones not counted."""
        name, model_id = keys.clean_name("domain", domain), keys.clean_id(model_id)
        index = self.logs.refresh(name, offline)
        if index is None:
            return False
        with index.read() as db:
            return queries.live_number(db, name, model_id) is not None

    def check_free(self, domain: str, model_id: str) -> None:
        """Fail early, before the work of an upload; the commit checks again.

        Raises:
            ModelExistsException: the id is taken.
        """
        if self.exists(domain, model_id):
            raise ModelExistsException(domain, model_id)

    def add(
        self,
        domain: str,
        model_id: str,
        record: dict[str, Any],
        archive: dict[str, Any],
        parent: int | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> Model:
        """Commit an upload whose archive is durable.

        Args:
            parent: the number of the model that it was made from, in the same domain.
            origin: what the event says of where the model came from; see `origins`.

        Raises:
            ModelExistsException: another upload took the id.
            StorageError: gc has condemned the archive in the meantime, or the storage failed.
            CommitUnknownError: it may or may not have been committed.
        """
        body: dict[str, Any] = {"model_id": model_id, "record": record, "archive": archive, **(origin or {})}
        if parent is not None:
            body["parent"] = parent

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
            if queries.live_number(db, domain, model_id) is not None:
                raise ModelExistsException(domain, model_id)
            if queries.is_condemned(db, domain, archive["key"]):
                raise StorageError("the upload took so long that gc has removed its archive; try again", archive["key"])
            return kinds.UPLOADED, body

        event = self.logs.commit(domain, intent)
        assert event is not None
        # Read back from the stored form, so that upload returns exactly what every later reader sees.
        stored = Event(**{**event.__dict__, "body": json.loads(event.encode())["body"]})
        return self.model(stored, addenda.brought(stored.body))

    def model(self, event: Event, later: dict[str, Any] | None = None) -> Model:
        """The model of an upload event, with its record as `get_model_info` gives it.

        Args:
            later: what was said of it since; becomes `added` in the record.

        Raises:
            IntegrityError: the event does not hold what a record has.
        """
        subject = f"event {event.number} of {event.domain!r}"
        record, archive = check_record(event.body.get("record"), subject), event.body.get("archive")
        if not isinstance(archive, dict) or not isinstance(archive.get("key"), str):
            raise IntegrityError(subject, "record", "it does not say where its archive lies")
        if record["model"]["model_id"] != event.body.get("model_id"):
            raise IntegrityError(subject, "record", f"it is of another model, {record['model']['model_id']!r}")
        assembled = {
            "model": {**record["model"]},
            "storage": {**self.storage.location(archive["key"]), "archive": archive},
            "code": {**record["code"], "created": event.time},
            **{key: value for key, value in record.items() if key not in ("model", "storage", "code")},
        }
        assembled |= origins.marks(event.body)
        if later:
            assembled["added"] = later
        number = event.number
        if event.kind == kinds.ADOPTED:
            number = event.body.get("model", number)
            assembled["code"]["created"] = check_time(record["code"].get("created"), event.time)
            assembled["adopted"] = {**event.body.get("origin", {}), **event.body["adopted"], "at": event.time}
        return Model(event.domain or "", number, ModelRecord.from_dict(assembled), archive)


def _nobody(domain: str, model_id: str | None, state_name: str | None, at: str | None) -> str:
    when = "" if at is None else f" at {at}"
    if model_id is not None:
        return f"domain {domain!r} held no model {model_id!r}{when}"
    what = f"no model in state {state_name!r}" if state_name is not None else "no model any more"
    return f"domain {domain!r} holds {what}" if at is None else f"domain {domain!r} held {what}{when}"
