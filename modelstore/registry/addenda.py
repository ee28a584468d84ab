"""What was said of a model after its upload: it stands beside its record, which never changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from modelstore.registry import events as kinds, origins
from modelstore.registry.events import parse_event


def added(db: sqlite3.Connection, domain: str, model: int, then: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """`metrics`, `tags` and `notes` that were added up to a moment; without what nothing was said of.

    Args:
        then: the number of the last event that counts.
        body: of its upload event, which says what was added in the store that it came from.
    """
    rows = db.execute(
        "SELECT number, raw FROM events WHERE domain = ? AND model = ? AND kind IN (?, ?) AND number <= ?"
        " ORDER BY number",
        (domain, model, kinds.DESCRIBED, kinds.NOTED, then),
    ).fetchall()
    found = brought(body)
    metrics: dict[str, Any] = found.get("metrics", {})
    tags: dict[str, Any] = found.get("tags", {})
    notes: list[dict[str, Any]] = found.get("notes", [])
    for number, raw in rows:
        event = parse_event(bytes(raw), domain, number, None)
        if event.kind == kinds.NOTED:
            notes.append({"id": number, "kind": event.body["kind"], "text": event.body["text"]})
        else:
            metrics.update(event.body.get("metrics") or {})
            tags.update(event.body.get("tags") or {})
    found = {"metrics": metrics, "tags": tags, "notes": notes}
    return {name: value for name, value in found.items() if value}


def brought(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a model that came from elsewhere, as it was when it came: from the body of its upload event."""
    return {**origins.added(body), **({"notes": notes} if (notes := list(origins.notes(body))) else {})}
