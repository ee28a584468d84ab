"""Questions to the tables of `schema`, about now or about a moment of the past."""

from __future__ import annotations

import sqlite3
from typing import Any

from modelstore.exceptions import ModelDeletedException, ModelNotFoundException
from modelstore.registry.keys import archives_prefix, clean_id
from modelstore.registry.schema import STORE


def live_number(db: sqlite3.Connection, domain: str, model_id: str) -> int | None:
    """The upload event of the model that bears this id now."""
    return first_value(
        # Without statistics, the planner would take the index by number and scan the whole domain.
        db, "SELECT number FROM models INDEXED BY live_by_id WHERE domain = ? AND model_id = ? AND deleted = 0",
        domain, model_id,
    )  # fmt: skip


def row_of(db: sqlite3.Connection, domain: str, number: int) -> int | None:
    """The row of a model in the table, by which facts refer to it."""
    return first_value(db, "SELECT id FROM models WHERE domain = ? AND number = ?", domain, number)


def state_number(db: sqlite3.Connection, name: str) -> int | None:
    """The event that defined the state which bears this name now."""
    return first_value(db, "SELECT number FROM states WHERE name = ? AND deleted = 0", name)


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


def id_of(db: sqlite3.Connection, domain: str, number: int) -> str | None:
    """The id that a model bears or bore."""
    row = db.execute("SELECT model_id FROM models WHERE domain = ? AND number = ?", (domain, number)).fetchone()
    return None if row is None else str(row[0])


def is_pinned(db: sqlite3.Connection, domain: str, number: int) -> bool:
    """Whether nothing may delete this model."""
    return first_value(db, "SELECT pinned FROM models WHERE domain = ? AND number = ?", domain, number) == 1


LATEST = (
    "SELECT number FROM models INDEXED BY live_by_number WHERE domain = ? AND deleted = 0 ORDER BY number DESC LIMIT 1"
)
"""Selects the latest upload of a domain."""

LAST_HOLDER = "SELECT model FROM holds WHERE domain = ? AND state = ? AND until IS NULL ORDER BY since DESC LIMIT 1"
"""Selects the model of a domain that was put into a state last, and is in it."""

NOW = 1 << 62
"""Stands for the moment after every event."""

ALIVE = "(born <= :moment AND (died IS NULL OR died > :moment))"
HELD = "(since <= :moment AND (until IS NULL OR until > :moment))"
"""Conditions on `lives` and `holds` at a moment, which is the number of the last event of a domain by then."""


def moment(db: sqlite3.Connection, domain: str, at: str | None) -> int:
    """The number of the last event of a log at a time, as `format_time` writes it; None is now."""
    if at is None:
        return NOW
    return first_value(
        db, "SELECT number FROM events WHERE domain = ? AND time <= ? ORDER BY time DESC, number DESC LIMIT 1",
        domain, at,
    ) or 0  # fmt: skip


def state_at(db: sqlite3.Connection, name: str, at: str | None) -> int | None:
    """The event that defined the state which bore this name at a time."""
    if at is None:
        return state_number(db, name)
    then = moment(db, STORE, at)
    query = "SELECT number FROM states WHERE name = ? AND number <= ? AND (deleted = 0 OR deleted > ?)"
    return first_value(db, f"{query} ORDER BY number DESC LIMIT 1", name, then, then)


def living(db: sqlite3.Connection, domain: str, then: int, state: int | None = None) -> list[tuple[int, str]]:
    """The number and id of the models that there were at a moment, newest first; with a state, of those in it."""
    arguments: dict[str, Any] = {"domain": domain, "moment": then, "state": state}
    if then == NOW:
        query = "SELECT number, model_id FROM models WHERE domain = :domain AND deleted = 0"
    else:
        query = (
            "SELECT number, model_id FROM models WHERE domain = :domain AND number IN"
            f" (SELECT model FROM lives WHERE domain = :domain AND {ALIVE})"
        )
    if state is not None:
        query += f" AND number IN (SELECT model FROM holds WHERE domain = :domain AND state = :state AND {HELD})"
    return [(row[0], row[1]) for row in db.execute(f"{query} ORDER BY number DESC", arguments)]


def holder(db: sqlite3.Connection, domain: str, then: int, state: int) -> int | None:
    """The model that was put into a state last, as it was at a moment."""
    query = f"SELECT model FROM holds WHERE domain = :domain AND state = :state AND {HELD} ORDER BY since DESC LIMIT 1"
    row = db.execute(query, {"domain": domain, "state": state, "moment": then}).fetchone()
    return None if row is None else int(row[0])


def latest(db: sqlite3.Connection, domain: str, then: int) -> int | None:
    """The latest upload of those that there were at a moment."""
    if then == NOW:
        return first_value(db, LATEST, domain)
    query = f"SELECT model FROM lives WHERE domain = :domain AND {ALIVE} ORDER BY model DESC LIMIT 1"
    row = db.execute(query, {"domain": domain, "moment": then}).fetchone()
    return None if row is None else int(row[0])


def bearer(db: sqlite3.Connection, domain: str, then: int, model_id: str) -> int | None:
    """The model that bore an id at a moment."""
    query = (
        f"SELECT model FROM lives JOIN models ON models.domain = lives.domain AND number = model"
        f" WHERE lives.domain = :domain AND model_id = :model_id AND {ALIVE}"
    )
    row = db.execute(query, {"domain": domain, "model_id": model_id, "moment": then}).fetchone()
    return None if row is None else int(row[0])


def first_value(db: sqlite3.Connection, query: str, *arguments: Any) -> int | None:
    """The one number that a query selects; None if it selects nothing."""
    row = db.execute(query, arguments).fetchone()
    return None if row is None else int(row[0])
