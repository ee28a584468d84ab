"""What the logs say of the ancestor's files: which of them are known, in which version, and by which event.

An event that takes something in from such a file says so in its body: `adopted` with the `key`, the `etag` (empty: the
file was gone) and, of a file that was read, its `sha256`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from modelstore.registry import events as kinds
from modelstore.registry.events import Event, parse_event
from modelstore.registry.queries import first_value
from modelstore.registry.schema import STORE

_KINDS = frozenset({kinds.ADOPTED, kinds.STATE_CREATED, kinds.STATE_SET, kinds.STATE_REMOVED, kinds.DELETED})


@dataclass(frozen=True)
class Seen:
    """A file of the ancestor's, as it was when something was taken in from it."""

    etag: str
    """Empty: it was gone."""
    sha256: str
    model: int | None
    """The number of the model that it was about."""
    number: int
    """Of the event."""


def remember(db: sqlite3.Connection, scope: str, event: Event, model: int | None) -> None:
    """Note from which file an event was taken in, if it was."""
    source = event.body.get("adopted")
    if event.kind not in _KINDS or not isinstance(source, Mapping):
        return
    key, etag, sha256 = source["key"], source["etag"], source.get("sha256", "")
    if not all(isinstance(text, str) for text in (key, etag, sha256)):
        raise TypeError("what it was adopted from is no text")
    db.execute(
        "INSERT INTO adopted (domain, key, etag, sha256, model, number) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (domain, key) DO UPDATE SET etag = excluded.etag, sha256 = excluded.sha256,"
        " model = COALESCE(excluded.model, model), number = excluded.number",
        (scope, key, etag, sha256, model, event.number),
    )


def known(db: sqlite3.Connection, domain: str | None) -> dict[str, Seen]:
    """All that one log says of the ancestor's files, by key."""
    rows = db.execute("SELECT key, etag, sha256, model, number FROM adopted WHERE domain = ?", (domain or STORE,))
    return {row[0]: Seen(*row[1:]) for row in rows}


def seen(db: sqlite3.Connection, domain: str | None, key: str) -> Seen | None:
    """What one log says of one of the ancestor's files."""
    query = "SELECT etag, sha256, model, number FROM adopted WHERE domain = ? AND key = ?"
    row = db.execute(query, (domain or STORE, key)).fetchone()
    return None if row is None else Seen(*row)


def is_newer(db: sqlite3.Connection, domain: str | None, number: int | None, time: str) -> bool:
    """Whether an event is one of ours, not taken in from the ancestor, and no earlier than a time."""
    if not number:
        return False
    row = db.execute(
        "SELECT time, raw FROM events WHERE domain = ? AND number = ?", (domain or STORE, number)
    ).fetchone()
    if row is None or row[0] < time:
        return False
    return "adopted" not in parse_event(bytes(row[1]), domain, number, None).body


def last_words(db: sqlite3.Connection, domain: str, model: int, then: int) -> Event:
    """The event with the last record of an adopted model at a moment: the ancestor's metadata may change."""
    number = first_value(
        db, "SELECT MAX(number) FROM events WHERE domain = ? AND model = ? AND kind = ? AND number <= ?",
        domain, model, kinds.ADOPTED, then,
    )  # fmt: skip
    row = db.execute("SELECT raw FROM events WHERE domain = ? AND number = ?", (domain, number)).fetchone()
    return parse_event(bytes(row[0]), domain, number or 0, None)
