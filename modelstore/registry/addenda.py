"""What was said of a model after its upload: it stands beside its record, which never changes."""

from __future__ import annotations

import sqlite3
from typing import Any

from modelstore.registry import events as kinds
from modelstore.registry.events import parse_event


def added(db: sqlite3.Connection, domain: str, model: int, then: int) -> dict[str, Any]:
    """`metrics`, `tags` and `notes` that were added up to a moment; without what nothing was said of.

    Args:
        then: the number of the last event that counts.
    """
    rows = db.execute(
        "SELECT number, raw FROM events WHERE domain = ? AND model = ? AND kind IN (?, ?) AND number <= ?"
        " ORDER BY number",
        (domain, model, kinds.DESCRIBED, kinds.NOTED, then),
    ).fetchall()
    metrics: dict[str, Any] = {}
    tags: dict[str, Any] = {}
    notes: list[dict[str, Any]] = []
    for number, raw in rows:
        event = parse_event(bytes(raw), domain, number, None)
        if event.kind == kinds.NOTED:
            notes.append({"id": number, "kind": event.body["kind"], "text": event.body["text"]})
        else:
            metrics.update(event.body.get("metrics") or {})
            tags.update(event.body.get("tags") or {})
    found = {"metrics": metrics, "tags": tags, "notes": notes}
    return {name: value for name, value in found.items() if value}
