"""What happened in a domain, event by event."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelstore.records import parse_time
from modelstore.registry import events as kinds, origins, queries
from modelstore.registry.events import Event, parse_event
from modelstore.registry.registry import Registry
from modelstore.registry.schema import STORE

IMPORTED = origins.IMPORTED
"""The kind of an entry that is no event of this store: what happened to a model where it was before."""

UNSEEN = (kinds.VOID, kinds.CONDEMNED)
"""Kinds that are no news to anybody."""


@dataclass(frozen=True)
class Entry:
    """One event of a domain."""

    number: int
    """In the domain's log; of a note, its id."""
    time: datetime
    """In UTC."""
    user: str
    kind: str
    """`uploaded`, `deleted`, `restored`, `state-set`, `state-removed`, `noted`, `described`, `pinned`,
    `copied`, …; `imported`: see `details`
    for what happened to it in the store that it came from."""
    model_id: str | None = None
    """Of the model that it is about."""
    state: str | None = None
    """The name of the state that it is about, also of one that was deleted."""
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """What else the event says: `text` and `kind` of a note, `metrics` and `tags` that were added, `rollback`, …"""

    def __str__(self) -> str:
        parts = [f"{self.time:%Y-%m-%d %H:%M}", self.user, self.kind, self.model_id, self.state]
        line = "  ".join(part for part in parts if part)
        return f"{line}: {self.reason}" if self.reason else line


class StateNames:
    """The names of all states that there ever were, by number."""

    def __init__(self, registry: Registry, offline: bool = False) -> None:
        index = registry.logs.refresh(None, offline)
        self._names: dict[int, str] = {}
        if index is not None:
            with index.read() as db:
                self._names = dict(db.execute("SELECT number, name FROM states").fetchall())

    def get(self, number: Any) -> str | None:
        """The name; None of a number that is no state's."""
        return self._names.get(number) if isinstance(number, int) else None

    def numbers(self, name: str) -> set[int]:
        """All states that bear or bore this name."""
        return {number for number, known in self._names.items() if known == name}


def read(
    registry: Registry,
    domain: str,
    model_id: str | None = None,
    state: str | None = None,
    offline: bool = False,
) -> list[Entry]:
    """The events of a domain, oldest first; of all models that bore an id, or of all states that bore a name.

    Raises:
        DomainNotFoundException: there is no such domain.
    """
    names = StateNames(registry, offline)
    name, index = registry.open_domain(domain, offline)
    with index.read() as db:
        raw = _of_model(db, name, model_id) if model_id is not None else _all(db, name)
        entries = [
            entry
            for event in raw
            if event.kind not in UNSEEN
            for entry in (*_brought(event), entry_of(db, event, names))
        ]
    entries.sort(key=lambda entry: entry.time)  # which the events of a log are, but not what was brought along
    if state is not None:
        entries = [entry for entry in entries if entry.state == state]
    return entries


def of_model(registry: Registry, domain: str, number: int) -> list[dict[str, Any]]:
    """All that happened to one model, oldest first, as plain JSON; with what happened before it came here."""
    names = StateNames(registry)
    name, index = registry.open_domain(domain)
    told: list[dict[str, Any]] = []
    with index.read() as db:
        rows = db.execute(
            "SELECT number, raw FROM events WHERE domain = ? AND model = ? ORDER BY number", (name, number)
        )
        for at, raw in rows.fetchall():
            event = parse_event(bytes(raw), name, at, None)
            told += origins.entries(event.body)
            entry = entry_of(db, event, names)
            plain = {
                "number": at, "time": event.time, "user": entry.user, "kind": entry.kind, "state": entry.state,
                "reason": entry.reason, "details": entry.details,
            }  # fmt: skip
            told.append({key: value for key, value in plain.items() if value not in (None, {})})
    return told


def _brought(event: Event) -> list[Entry]:
    found = origins.of(event.body)
    if event.kind != kinds.UPLOADED or found is None:
        return []
    place = {name: found[1].get(name) for name in ("store", "domain")}
    return [
        Entry(
            number=event.number,
            time=parse_time(entry["time"]),
            user=entry["user"],
            kind=IMPORTED,
            model_id=event.body["model_id"],
            reason=entry.get("reason"),
            details={**entry.get("details", {}), "event": entry["kind"], "state": entry.get("state"), **place},
        )
        for entry in origins.entries(event.body)
    ]


def _all(db: sqlite3.Connection, domain: str) -> list[Event]:
    rows = db.execute("SELECT number, raw FROM events WHERE domain = ? ORDER BY number", (domain,))
    return [parse_event(bytes(raw), domain, number, None) for number, raw in rows]


def _of_model(db: sqlite3.Connection, domain: str, model_id: str) -> list[Event]:
    """Also the events that are about several models at once."""
    rows = db.execute(
        "SELECT number, raw FROM events WHERE domain = :domain AND number IN ("
        " SELECT e.number FROM models m JOIN events e ON e.domain = m.domain AND e.model = m.number"
        " WHERE m.domain = :domain AND m.model_id = :model_id"
        " UNION SELECT died FROM models m JOIN lives l ON l.domain = m.domain AND l.model = m.number"
        " WHERE m.domain = :domain AND m.model_id = :model_id AND died IS NOT NULL) ORDER BY number",
        {"domain": domain, "model_id": model_id},
    )
    return [parse_event(bytes(raw), domain, number, None) for number, raw in rows]


def entry_of(db: sqlite3.Connection, event: Event, names: StateNames) -> Entry:
    """An event as people want to read it."""
    body = dict(event.body)
    model = body.pop("model", None)
    model_id = body.pop("model_id", None)
    if isinstance(model, int):
        model_id = queries.id_of(db, event.domain or STORE, model)
    details = {name: body[name] for name in _DETAILS.get(event.kind, ()) if name in body}
    if event.kind == kinds.RETIRED:
        details["models"] = _ids(db, event.domain or STORE, body.get("models"))
    if event.kind == kinds.UPLOADED:
        details = origins.marks(event.body)
    if "from" in body:
        details["from"] = queries.id_of(db, event.domain or STORE, body["from"])
    reason = body.get("reason")
    return Entry(
        number=event.number,
        time=parse_time(event.time),
        user=str(event.user),
        kind=event.kind,
        model_id=model_id if isinstance(model_id, str) else None,
        state=names.get(body.get("state")),
        reason=reason if isinstance(reason, str) else None,
        details=details,
    )


_DETAILS = {
    kinds.NOTED: ("text", "kind", "tags", "answers"),
    kinds.DESCRIBED: ("metrics", "tags"),
    kinds.COPIED: ("to",),
    kinds.DELETED: ("purge", "adopted"),
    kinds.RETIRED: ("purge",),
    kinds.PINNED: ("pinned",),
    kinds.STATE_SET: ("rollback", "adopted"),
    kinds.STATE_REMOVED: ("adopted",),
    kinds.ADOPTED: ("adopted", "deleted"),
}


def _ids(db: sqlite3.Connection, domain: str, numbers: Any) -> Sequence[str]:
    listed = numbers if isinstance(numbers, list) else []
    found = (queries.id_of(db, domain, number) for number in listed if _is_number(number))
    return [model_id for model_id in found if model_id]


def _is_number(value: Any) -> bool:
    return type(value) is int
