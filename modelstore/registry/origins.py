"""Where a model came from that was not made here: what its `uploaded` event says of the store that it was in before.

The body of such an event has `imported` (it came out of a file) or `copied` (out of another store)::

    store, domain, number, model_id     the model there: the store's random id, the number of its upload event
    content_digest, archive_digest      of its archive
    time, user                          of its upload
    address                             of a copy, that of the store
    added                               metrics and tags that were added to it there
    history                             what happened to it there, oldest first
    left_out                            how many older entries of that did not fit into the event

and `foreign: true` if somebody's file is what it came from, then or before. None of it is ever believed further than
to be shown and searched: a text that says what happened elsewhere is no event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelstore.records import encode_json, format_time, parse_time

IMPORTED, COPIED = "imported", "copied"
FOREIGN = "foreign"
OF_THE_STORE = ("storage", "added", "adopted", IMPORTED, COPIED, FOREIGN)
"""Keys that a record gets from its store, and never brings along."""

_LONG = ("added", "history")


def of(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """How a model came here, and from where; None for one that was uploaded."""
    for came in (IMPORTED, COPIED):
        if isinstance(body.get(came), Mapping):
            return came, body[came]
    return None


def marks(body: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the record of such a model."""
    found = of(body)
    if found is None:
        return {}
    came, origin = found
    told = {came: {name: value for name, value in origin.items() if name not in _LONG}}
    return {**told, FOREIGN: True} if came == IMPORTED or body.get(FOREIGN) else told


def added(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics and tags that were added to it before it came here."""
    found = of(body)
    told = found[1].get("added") if found else None
    sections = {name: told.get(name) for name in ("metrics", "tags")} if isinstance(told, Mapping) else {}
    return {name: dict(values) for name, values in sections.items() if isinstance(values, Mapping) and values}


def entries(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What happened to it before it came here, oldest first; what is no such entry is passed over."""
    found = of(body)
    told = found[1].get("history") if found else None
    for entry in told if isinstance(told, list) else ():
        if is_entry(entry):
            yield dict(entry)


def is_entry(entry: Any) -> bool:
    """Whether it is an entry of a history: a kind, a time and a user, perhaps a state, a reason and details."""
    if not isinstance(entry, Mapping):
        return False
    if not all(isinstance(entry.get(name), str) for name in ("kind", "time", "user")):
        return False
    if not all(isinstance(entry.get(name), (str, type(None))) for name in ("state", "reason")):
        return False
    try:
        format_time(parse_time(entry["time"]))  # which also a time just outside of the calendar does not survive
    except (ValueError, OverflowError):
        return False
    return isinstance(entry.get("details", {}), Mapping)


def words_of(entry: Mapping[str, Any]) -> str:
    """What people wrote in an entry."""
    text = entry.get("details", {}).get("text")
    return "\n".join(part for part in (text, entry.get("reason")) if isinstance(part, str))


def notes(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The notes about it before it came here. Their numbers were another log's."""
    for entry in entries(body):
        details = entry.get("details", {})
        if entry["kind"] == "noted" and isinstance(details.get("text"), str):
            yield {"id": None, "kind": str(details.get("kind", "note")), "text": details["text"]}


def newest(history: list[dict[str, Any]], room: int) -> list[dict[str, Any]]:
    """The last entries that fit into so many bytes of JSON."""
    kept: list[dict[str, Any]] = []
    for entry in reversed(history):
        room -= len(encode_json(entry)) + 1
        if room < 0:
            break
        kept.append(entry)
    return kept[::-1]
