"""Domains, models and their states: what the logs say, and the changes that they take."""

from __future__ import annotations

import json
import sqlite3
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
from modelstore.records import ModelRecord, check_record
from modelstore.registry import events as kinds, fold, keys
from modelstore.registry.events import Event
from modelstore.registry.index import Index
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

    def domains(self, offline: bool = False) -> list[str]:
        """The names of all domains, sorted. Costs one listing for 1,000 domains."""
        if offline:
            index = self.logs.index(offline=True)
            assert index is not None
            with index.read() as db:
                rows = db.execute("SELECT domain FROM logs WHERE domain <> ? AND number > 0", (fold.STORE,))
                return sorted(row[0] for row in rows)
        return sorted(keys.decode_names(self.storage.list_children(keys.DOMAINS)))

    def open_domain(self, domain: str, offline: bool = False) -> tuple[str, Index]:
        """The domain's normal name, and the index with its log folded up to now.

        Raises:
            DomainNotFoundException: there is no such domain.
        """
        name = keys.clean_name("domain", domain)
        index = self.logs.refresh(name, offline)
        if index is None or index.position(name).number == 0:
            raise DomainNotFoundException(name, self.domains(offline) if index is not None else ())
        return name, index

    # -- models -------------------------------------------------------------------------------------------------

    def models(self, domain: str, state_name: str | None = None, offline: bool = False) -> list[str]:
        """The ids of a domain's models, newest first; with a state, of those that hold it.

        Raises:
            DomainNotFoundException: there is no such domain.
            StateNotFoundError: there is no such state.
        """
        state = None if state_name is None else self.states.number(state_name, offline)
        name, index = self.open_domain(domain, offline)
        query = "SELECT model_id FROM models WHERE domain = ? AND deleted = 0"
        arguments: list[Any] = [name]
        if state is not None:
            query += " AND number IN (SELECT model FROM holds WHERE domain = ? AND state = ?)"
            arguments += [name, state]
        with index.read() as db:
            return [row[0] for row in db.execute(query + " ORDER BY number DESC", arguments)]

    def find(
        self, domain: str, model_id: str | None = None, state_name: str | None = None, offline: bool = False
    ) -> Model:
        """One model: by id, or the one that was set to a state last, or the latest upload.

        Raises:
            DomainNotFoundException: there is no such domain.
            ModelNotFoundException: there is no such model.
            ModelDeletedException: the last model of this id was deleted.
            StateNotFoundError: there is no such state.
        """
        state = None if state_name is None else self.states.number(state_name, offline)
        name, index = self.open_domain(domain, offline)
        number: int | None
        with index.read() as db:
            if model_id is not None:
                number = fold.require_live(db, name, model_id)
            elif state is not None:
                number = fold.first_value(db, fold.LAST_HOLDER, name, state)
            else:
                number = fold.first_value(db, fold.LATEST, name)
            if number is None:
                what = f"no model in state {state_name!r}" if state_name is not None else "no model any more"
                raise ModelNotFoundException(name, None, f"domain {name!r} holds {what}")
            if model_id is not None and state is not None and state not in self.states.held(index, name, number):
                raise ModelNotFoundException(name, model_id, f"model {model_id!r} of {name!r} is not in {state_name!r}")
            event = self.logs.event(index, name, number)
        return self.model(event)

    def exists(self, domain: str, model_id: str, offline: bool = False) -> bool:
        """Whether the domain holds a model of this id, deleted ones not counted."""
        name, model_id = keys.clean_name("domain", domain), keys.clean_id(model_id)
        index = self.logs.refresh(name, offline)
        if index is None:
            return False
        with index.read() as db:
            return fold.live_number(db, name, model_id) is not None

    def check_free(self, domain: str, model_id: str) -> None:
        """Fail early, before the work of an upload; the commit checks again.

        Raises:
            ModelExistsException: the id is taken.
        """
        if self.exists(domain, model_id):
            raise ModelExistsException(domain, model_id)

    def add(self, domain: str, model_id: str, record: dict[str, Any], archive: dict[str, Any]) -> Model:
        """Commit an upload whose archive is durable.

        Raises:
            ModelExistsException: another upload took the id.
            StorageError: gc has condemned the archive in the meantime, or the storage failed.
            CommitUnknownError: it may or may not have been committed.
        """
        body = {"model_id": model_id, "record": record, "archive": archive}

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
            if fold.live_number(db, domain, model_id) is not None:
                raise ModelExistsException(domain, model_id)
            if fold.is_condemned(db, domain, archive["key"]):
                raise StorageError("the upload took so long that gc has removed its archive; try again", archive["key"])
            return kinds.UPLOADED, body

        event = self.logs.commit(domain, intent)
        assert event is not None
        # Read back from the stored form, so that upload returns exactly what every later reader sees.
        return self.model(Event(**{**event.__dict__, "body": json.loads(event.encode())["body"]}))

    def delete(self, domain: str, model_id: str, purge: bool = False) -> str | None:
        """Commit a tombstone; returns the key of the archive if its bytes are to go now.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: as `find`.
        """
        name, _ = self.open_domain(domain)
        archive: str | None = None

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
            nonlocal archive
            number = fold.require_live(db, name, model_id)
            archive = fold.own_archive(db, name, number)
            return kinds.DELETED, {"model": number, "purge": purge}

        self.logs.commit(name, intent)
        return archive if purge else None

    def model(self, event: Event) -> Model:
        """The model of an upload event, with its record as `get_model_info` gives it.

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
        return Model(event.domain or "", event.number, ModelRecord.from_dict(assembled), archive)
