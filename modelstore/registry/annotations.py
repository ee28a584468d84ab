"""What is said after an upload: notes, and metrics and tags that were not known then. No record ever changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from modelstore.exceptions import InvalidArgumentError
from modelstore.registry import events as kinds, queries
from modelstore.registry.registry import Registry

NOTE_KINDS = ("note", "idea", "tried", "worked", "failed", "decision", "next")


def add_note(
    registry: Registry,
    domain: str,
    text: str,
    kind: str = "note",
    model_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    answers: int | None = None,
) -> int:
    """Write a note to a domain, or to one of its models; returns its id.

    Args:
        answers: the id of another note, which is settled by this one.

    Raises:
        DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
        InvalidArgumentError: there is no such note to answer.
    """
    name, _ = registry.open_domain(domain)

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"text": text, "kind": kind}
        if model_id is not None:
            body["model"] = queries.require_live(db, name, model_id)
        if tags:
            body["tags"] = dict(tags)
        if answers is not None:
            found = db.execute("SELECT 1 FROM notes WHERE domain = ? AND number = ?", (name, answers)).fetchone()
            if found is None:
                raise InvalidArgumentError("answers", f"domain {name!r} has no note {answers!r}")
            body["answers"] = answers
        return kinds.NOTED, body

    event = registry.logs.commit(name, intent)
    assert event is not None
    return event.number


def describe(
    registry: Registry,
    domain: str,
    model_id: str,
    metrics: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Add metrics and tags to a model; a name that it has takes the new value, None takes it away.

    Raises:
        DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
    """
    name, _ = registry.open_domain(domain)

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": queries.require_live(db, name, model_id)}
        if metrics:
            body["metrics"] = dict(metrics)
        if tags:
            body["tags"] = dict(tags)
        return kinds.DESCRIBED, body

    registry.logs.commit(name, intent)
