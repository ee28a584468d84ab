"""What a log means: a pure fold of its events into the tables of `schema`.

Applying the same events always gives the same tables. An event whose intent does not hold (an upload of an id that is
taken, a state of a deleted model) has no effect: writers refuse to write such events, and a reader cannot be misled by
one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.records import encode_json, format_time, parse_time
from modelstore.registry import adoptions, events as kinds, facts, origins
from modelstore.registry.events import Event
from modelstore.registry.facts import Paths
from modelstore.registry.queries import is_condemned, live_number, row_of, state_number
from modelstore.registry.schema import STORE


def apply(db: sqlite3.Connection, event: Event, paths: Paths | None = None) -> int | None:
    """Fold one event into the tables.

    Args:
        paths: of this transaction; None looks them up anew.

    Returns:
        The number of the model that the event is about, if it is about one.

    Raises:
        IntegrityError: an event of a known kind lacks what that kind says.
    """
    handler = (_OF_THE_STORE if event.domain is None else _OF_A_DOMAIN).get(event.kind)
    if handler is None:
        return None
    try:
        model = handler(db, event.domain or STORE, event, paths or Paths(db))
        adoptions.remember(db, event.domain or STORE, event, model)
        return model
    except (KeyError, TypeError, ValueError) as error:
        subject = f"event {event.number} of {'the store' if event.domain is None else repr(event.domain)}"
        raise IntegrityError(subject, event.kind, f"its body cannot be read: {error!r}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # lone surrogates are no UTF-8
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise TypeError(f"{value!r} is no number of an event")
    return value


def _numbers(values: Any) -> list[int]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list of numbers")
    return [_number(value) for value in values]


def _optional(value: Any) -> int | None:
    return None if value is None else _number(value)


def _plain(value: Any) -> str | None:
    """A text of a record, which may be anything: what is none is left out of searches."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


# -- models -----------------------------------------------------------------------------------------------------


def _uploaded(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    model_id, archive = _text(event.body["model_id"]), _text(event.body["archive"]["key"])
    if live_number(db, domain, model_id) is not None or is_condemned(db, domain, archive):
        return None
    record = event.body.get("record")
    record = record if isinstance(record, Mapping) else {}
    model = record.get("model")
    kind = model.get("model_type") if isinstance(model, Mapping) else None
    kind = kind if isinstance(kind, Mapping) else {}
    created, user = (event.time, event.user) if event.kind == kinds.UPLOADED else _origin(event, record)
    row = db.execute(
        "INSERT INTO models (domain, number, model_id, archive, parent, created, user, library, type)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(domain, event.number, model_id, archive, _optional(event.body.get("parent")), created),
            *(_plain(user) or "", _plain(kind.get("library")) or "", _plain(kind.get("type"))),
        ),
    ).lastrowid
    assert row is not None
    db.execute("INSERT INTO lives (domain, model, born) VALUES (?, ?, ?)", (domain, event.number, event.number))
    facts.insert(db, paths, row, facts.of_record(record))
    _say(db, domain, row, event.number, facts.texts_of(record))
    _describe(db, domain, row, event.number, origins.added(event.body), paths)
    for entry in origins.entries(event.body):
        _say(db, domain, row, event.number, _plain(origins.words_of(entry)) or "")
    return event.number


def _origin(event: Event, record: Mapping[str, Any]) -> tuple[str, Any]:
    """When and by whom an adopted model was uploaded, as far as the ancestor tells."""
    code = record.get("code")
    code = code if isinstance(code, Mapping) else {}
    try:
        return format_time(parse_time(code["created"])), code.get("user", event.user)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return event.time, code.get("user", event.user)


def _adopted(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    """A model of the ancestor's: one that is new here, or (`model`) other words about one that is known."""
    told, replaces = _optional(event.body.get("model")), _optional(event.body.get("replaces"))
    if told is not None:
        _retell(db, domain, told, event, paths)
        return told
    if replaces is not None:  # in the same event, so that the id is never without a model
        _end(db, domain, [replaces], event, True)
    number = _uploaded(db, domain, event, paths)
    if number is not None and event.body.get("deleted"):
        _end(db, domain, [number], event, True)
    return number


def _retell(db: sqlite3.Connection, domain: str, model: int, event: Event, paths: Paths) -> None:
    row, record = row_of(db, domain, model), event.body.get("record")
    if row is None or not isinstance(record, Mapping):
        return
    sections = [section for section in facts.SECTIONS if section not in ("note", "metrics", "tags")]  # which are ours
    for section in sections:
        facts.replace(db, paths, row, (section,), None)
    facts.insert(db, paths, row, (fact for fact in facts.of_record(record) if fact[0][0] in sections))


def _say(db: sqlite3.Connection, domain: str, row: int | None, number: int, text: str) -> None:
    if text and has_texts(db):
        db.execute("INSERT INTO texts VALUES (?, ?, ?, ?)", (text, domain, row, number))


def _say_reason(db: sqlite3.Connection, domain: str, event: Event) -> None:
    reason = _plain(event.body.get("reason"))
    if reason:
        _say(db, domain, None, event.number, reason)


def has_texts(db: sqlite3.Connection) -> bool:
    """Whether this SQLite has full-text search."""
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'texts'").fetchone() is not None


def _end(db: sqlite3.Connection, domain: str, models: Iterable[int], event: Event, purged: bool) -> None:
    for model in models:
        changed = db.execute(
            "UPDATE models SET deleted = ?, deleted_at = ?, purged = ?, pinned = 0"
            " WHERE domain = ? AND number = ? AND deleted = 0",
            (event.number, event.time, purged, domain, model),
        )
        if changed.rowcount:
            db.execute(
                "UPDATE lives SET died = ? WHERE domain = ? AND model = ? AND died IS NULL",
                (event.number, domain, model),
            )
            db.execute(
                # Without statistics, the planner would go through all that ever was in a state.
                "UPDATE holds INDEXED BY holds_of_model SET until = ? WHERE domain = ? AND model = ? AND until IS NULL",
                (event.number, domain, model),
            )


def _deleted(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    model = _number(event.body["model"])
    _say_reason(db, domain, event)
    _end(db, domain, [model], event, bool(event.body.get("purge")))
    return model


def _retired(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    _say_reason(db, domain, event)
    _end(db, domain, _numbers(event.body["models"]), event, bool(event.body.get("purge")))
    return None


def _restored(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    model = _number(event.body["model"])
    row = db.execute(
        "SELECT model_id, archive FROM models WHERE domain = ? AND number = ? AND deleted > 0 AND purged = 0",
        (domain, model),
    ).fetchone()
    if row is not None and live_number(db, domain, row[0]) is None and not is_condemned(db, domain, row[1]):
        db.execute(
            "UPDATE models SET deleted = 0, deleted_at = '' WHERE domain = ? AND number = ?",
            (domain, model),
        )
        db.execute("INSERT INTO lives (domain, model, born) VALUES (?, ?, ?)", (domain, model, event.number))
    return model


def _pinned(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    model = _number(event.body["model"])
    db.execute(
        "UPDATE models SET pinned = ? WHERE domain = ? AND number = ? AND deleted = 0",
        (bool(event.body["pinned"]), domain, model),
    )
    return model


def _condemned(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    archives = event.body["archives"]
    db.executemany("INSERT OR IGNORE INTO condemned VALUES (?, ?)", [(domain, _text(key)) for key in archives])
    return None


# -- what is said of them ---------------------------------------------------------------------------------------


def _described(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    model = _number(event.body["model"])
    row = row_of(db, domain, model)
    if row is not None:
        _describe(db, domain, row, event.number, event.body, paths)
    return model


def _describe(
    db: sqlite3.Connection, domain: str, row: int, number: int, words: Mapping[str, Any], paths: Paths
) -> None:
    for section in ("metrics", "tags"):
        values = words.get(section) or {}
        if not isinstance(values, dict):
            raise TypeError(f"{section} is no object")
        for name, value in values.items():
            facts.replace(db, paths, row, (section, _text(name)), value)
            if section == "tags":
                _say(db, domain, row, number, f"{name}\n{value if isinstance(value, str) else ''}")


def _copied(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    return _number(event.body["model"])


def _noted(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    model, answers = _optional(event.body.get("model")), _optional(event.body.get("answers"))
    text, kind = _text(event.body["text"]), _text(event.body["kind"])
    db.execute(
        "INSERT INTO notes (domain, number, model, kind, answers) VALUES (?, ?, ?, ?, ?)",
        (domain, event.number, model, kind, answers),
    )
    if answers is not None:
        db.execute(
            "UPDATE notes SET answered = ? WHERE domain = ? AND number = ? AND answered IS NULL",
            (event.number, domain, answers),
        )
    tags = event.body.get("tags") or {}
    row = None if model is None else row_of(db, domain, model)
    _say(db, domain, row, event.number, f"{text}\n{encode_json(tags).decode()}" if tags else text)
    return model


# -- states -----------------------------------------------------------------------------------------------------


def _state_set(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    body = event.body
    model, state, leaves = _number(body["model"]), _number(body["state"]), _optional(body.get("from"))
    if not db.execute(
        "SELECT 1 FROM models WHERE domain = ? AND number = ? AND deleted = 0", (domain, model)
    ).fetchone():
        return model
    _say_reason(db, domain, event)
    # Where the state is exclusive, everybody leaves it; else the model itself, to be the one that was put there last.
    query = "UPDATE holds INDEXED BY holds_of_state SET until = ? WHERE domain = ? AND state = ? AND until IS NULL"
    if body.get("exclusive"):
        db.execute(query, (event.number, domain, state))
    else:
        db.execute(f"{query} AND model IN (?, ?)", (event.number, domain, state, model, leaves))
    db.execute(
        "INSERT INTO holds (domain, state, since, model, back) VALUES (?, ?, ?, ?, ?)",
        (domain, state, event.number, model, bool(body.get("rollback"))),
    )
    return model


def _state_removed(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    model = _number(event.body["model"])
    _say_reason(db, domain, event)
    db.execute(
        "UPDATE holds INDEXED BY holds_of_state SET until = ?"
        " WHERE domain = ? AND state = ? AND model = ? AND until IS NULL",
        (event.number, domain, _number(event.body["state"]), model),
    )
    return model


def _state_created(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    name, requires = _text(event.body["name"]), _numbers(event.body.get("requires") or [])
    if state_number(db, name) is None:
        db.execute(
            "INSERT INTO states (number, name, exclusive, requires) VALUES (?, ?, ?, ?)",
            (event.number, name, bool(event.body.get("exclusive")), encode_json(requires).decode()),
        )
    return None


def _state_deleted(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    db.execute(
        "UPDATE states SET deleted = ? WHERE number = ? AND deleted = 0", (event.number, _number(event.body["state"]))
    )
    return None


def _domain_deleted(db: sqlite3.Connection, domain: str, event: Event, paths: Paths) -> int | None:
    db.execute("INSERT OR IGNORE INTO gone VALUES (?)", (_text(event.body["domain"]),))
    return None


_Handlers = dict[str, Callable[[sqlite3.Connection, str, Event, Paths], "int | None"]]

_OF_THE_STORE: _Handlers = {
    kinds.ADOPTED: lambda db, domain, event, paths: None,
    kinds.STATE_CREATED: _state_created,
    kinds.STATE_DELETED: _state_deleted,
    kinds.DOMAIN_DELETED: _domain_deleted,
}
_OF_A_DOMAIN: _Handlers = {
    kinds.UPLOADED: _uploaded,
    kinds.ADOPTED: _adopted,
    kinds.DELETED: _deleted,
    kinds.RETIRED: _retired,
    kinds.RESTORED: _restored,
    kinds.PINNED: _pinned,
    kinds.NOTED: _noted,
    kinds.DESCRIBED: _described,
    kinds.STATE_SET: _state_set,
    kinds.STATE_REMOVED: _state_removed,
    kinds.COPIED: _copied,
    kinds.CONDEMNED: _condemned,
}
