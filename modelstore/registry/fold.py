"""What a log means: a pure fold of its events into tables.

The tables live in SQLite, in a file that keeps them for the next process or in memory. Applying the same
events always gives the same tables. An event whose intent does not hold (an upload of an id that is taken, a state
of a deleted model) has no effect: writers refuse to write such events, and a reader cannot be misled by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from modelstore.exceptions import IntegrityError, ModelDeletedException, ModelNotFoundException
from modelstore.registry import events as kinds
from modelstore.registry.events import Event
from modelstore.registry.keys import archives_prefix, clean_id

STORE = ""
"""Stands for the store's own log where a domain's name stands otherwise; no domain has an empty name."""

VERSION = 1
"""Of the tables below. An index of another version is built anew."""

SCHEMA = """
CREATE TABLE logs (
    domain TEXT PRIMARY KEY, number INTEGER NOT NULL, digest TEXT NOT NULL, etag TEXT NOT NULL, time TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE events (
    domain TEXT, number INTEGER, raw BLOB NOT NULL, PRIMARY KEY (domain, number)
);
CREATE TABLE models (
    domain TEXT, number INTEGER, model_id TEXT NOT NULL, archive TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,  -- the number of the event that deleted it
    deleted_at TEXT NOT NULL DEFAULT '', purged INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (domain, number)
) WITHOUT ROWID;
CREATE INDEX models_by_id ON models (domain, model_id);
CREATE UNIQUE INDEX live_by_id ON models (domain, model_id) WHERE deleted = 0;
CREATE TABLE states (number INTEGER PRIMARY KEY, name TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE holds (
    domain TEXT, model INTEGER, state INTEGER,
    since INTEGER NOT NULL,  -- the number of the event that set it last
    PRIMARY KEY (domain, state, model)
) WITHOUT ROWID;
CREATE INDEX holds_by_model ON holds (domain, model);
CREATE TABLE condemned (domain TEXT, archive TEXT, PRIMARY KEY (domain, archive)) WITHOUT ROWID;
"""


def apply(db: sqlite3.Connection, event: Event) -> None:
    """Fold one event into the tables.

    Raises:
        IntegrityError: an event of a known kind lacks what that kind says.
    """
    handler = (_OF_THE_STORE if event.domain is None else _OF_A_DOMAIN).get(event.kind)
    if handler is None:
        return
    try:
        handler(db, event.domain or STORE, event)
    except (KeyError, TypeError, ValueError) as error:
        subject = f"event {event.number} of {'the store' if event.domain is None else repr(event.domain)}"
        raise IntegrityError(subject, event.kind, f"its body cannot be read: {error!r}") from error


def live_number(db: sqlite3.Connection, domain: str, model_id: str) -> int | None:
    """The upload event of the model that bears this id now."""
    row = db.execute(
        # Without statistics, the planner would take the index by number and scan the whole domain.
        "SELECT number FROM models INDEXED BY live_by_id WHERE domain = ? AND model_id = ? AND deleted = 0",
        (domain, model_id),
    ).fetchone()
    return None if row is None else int(row[0])


def state_number(db: sqlite3.Connection, name: str) -> int | None:
    """The event that defined the state which bears this name now."""
    row = db.execute("SELECT number FROM states WHERE name = ? AND deleted = 0", (name,)).fetchone()
    return None if row is None else int(row[0])


def is_condemned(db: sqlite3.Connection, domain: str, archive: str) -> bool:
    """Whether gc has announced that it deletes this archive."""
    found = db.execute("SELECT 1 FROM condemned WHERE domain = ? AND archive = ?", (domain, archive)).fetchone()
    return found is not None


def own_archive(db: sqlite3.Connection, domain: str, number: int) -> str | None:
    """The archive of a model, if it lies where the domain's archives do and no other living model has it."""
    (archive,) = db.execute("SELECT archive FROM models WHERE domain = ? AND number = ?", (domain, number)).fetchone()
    shared = db.execute(
        "SELECT 1 FROM models WHERE domain = ? AND archive = ? AND number <> ? AND deleted = 0",
        (domain, archive, number),
    ).fetchone()
    return str(archive) if shared is None and archive.startswith(archives_prefix(domain)) else None


def require_live(db: sqlite3.Connection, domain: str, model_id: str) -> int:
    """The upload event of the model that bears this id now.

    Raises:
        ModelDeletedException: the last one that bore it was deleted.
        ModelNotFoundException: none ever did.
    """
    model_id = clean_id(model_id)
    number = live_number(db, domain, model_id)
    if number is not None:
        return number
    gone = db.execute("SELECT 1 FROM models WHERE domain = ? AND model_id = ?", (domain, model_id)).fetchone()
    raise (ModelDeletedException if gone else ModelNotFoundException)(domain, model_id)


LATEST = "SELECT number FROM models WHERE domain = ? AND deleted = 0 ORDER BY number DESC LIMIT 1"
"""Selects the latest upload of a domain."""

LAST_HOLDER = "SELECT model FROM holds WHERE domain = ? AND state = ? ORDER BY since DESC LIMIT 1"
"""Selects the model of a domain that was put into a state last."""


def first_value(db: sqlite3.Connection, query: str, *arguments: Any) -> int | None:
    """The one number that a query selects; None if it selects nothing."""
    row = db.execute(query, arguments).fetchone()
    return None if row is None else int(row[0])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # lone surrogates are no UTF-8
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise TypeError(f"{value!r} is no number of an event")
    return value


def _uploaded(db: sqlite3.Connection, domain: str, event: Event) -> None:
    model_id, archive = _text(event.body["model_id"]), _text(event.body["archive"]["key"])
    if live_number(db, domain, model_id) is None and not is_condemned(db, domain, archive):
        db.execute(
            "INSERT INTO models (domain, number, model_id, archive) VALUES (?, ?, ?, ?)",
            (domain, event.number, model_id, archive),
        )


def _deleted(db: sqlite3.Connection, domain: str, event: Event) -> None:
    model = _number(event.body["model"])
    changed = db.execute(
        "UPDATE models SET deleted = ?, deleted_at = ?, purged = ? WHERE domain = ? AND number = ? AND deleted = 0",
        (event.number, event.time, bool(event.body.get("purge")), domain, model),
    )
    if changed.rowcount:
        db.execute("DELETE FROM holds WHERE domain = ? AND model = ?", (domain, model))


def _state_set(db: sqlite3.Connection, domain: str, event: Event) -> None:
    db.execute(
        "INSERT OR REPLACE INTO holds SELECT domain, number, ?, ? FROM models"
        " WHERE domain = ? AND number = ? AND deleted = 0",
        (_number(event.body["state"]), event.number, domain, _number(event.body["model"])),
    )


def _state_removed(db: sqlite3.Connection, domain: str, event: Event) -> None:
    db.execute(
        "DELETE FROM holds WHERE domain = ? AND model = ? AND state = ?",
        (domain, _number(event.body["model"]), _number(event.body["state"])),
    )


def _state_created(db: sqlite3.Connection, domain: str, event: Event) -> None:
    name = _text(event.body["name"])
    if state_number(db, name) is None:
        db.execute("INSERT INTO states (number, name) VALUES (?, ?)", (event.number, name))


def _state_deleted(db: sqlite3.Connection, domain: str, event: Event) -> None:
    db.execute(
        "UPDATE states SET deleted = ? WHERE number = ? AND deleted = 0", (event.number, _number(event.body["state"]))
    )


def _condemned(db: sqlite3.Connection, domain: str, event: Event) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO condemned VALUES (?, ?)", [(domain, _text(key)) for key in event.body["archives"]]
    )


_Handlers = dict[str, Callable[[sqlite3.Connection, str, Event], None]]

_OF_THE_STORE: _Handlers = {kinds.STATE_CREATED: _state_created, kinds.STATE_DELETED: _state_deleted}
_OF_A_DOMAIN: _Handlers = {
    kinds.UPLOADED: _uploaded,
    kinds.DELETED: _deleted,
    kinds.STATE_SET: _state_set,
    kinds.STATE_REMOVED: _state_removed,
    kinds.CONDEMNED: _condemned,
}
