"""What a search can ask about a model: the numbers and texts in its record, by path.

A path is the keys that lead to a value, such as `("metrics", "auc")`. Each element of a list is a fact of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from modelstore.records import encode_json

SECTIONS = ("note", "metrics", "tags", "params", "data", "code", "extra")
"""The first key of every path."""

MAX_FACTS = 1000
"""Of one model; what stands behind them in the order of SECTIONS is in its record, and not searched."""
MAX_TEXT = 1000
"""Characters of a value; longer ones are cut."""
MAX_DEPTH = 8
MAX_LIST = 50

_SEPARATOR = "\x1f"  # names hold dots; no JSON that people write holds this

Path = tuple[str, ...]
Value = int | float | str


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def of_record(record: Mapping[str, Any]) -> Iterator[tuple[Path, int, Value]]:
    """All facts of a record: path, place in a list (0 elsewhere), value."""
    model = _mapping(record.get("model"))
    parts = {
        "note": model.get("note"), "metrics": model.get("metrics"), "tags": model.get("tags"),
        "params": model.get("parameters"), "data": model.get("data"),
        "code": record.get("code"), "extra": record.get("extra"),
    }  # fmt: skip
    left = MAX_FACTS
    for section in SECTIONS:
        for fact in of_value((section,), parts[section]):
            if left == 0:
                return
            left -= 1
            yield fact


def of_value(path: Path, value: Any) -> Iterator[tuple[Path, int, Value]]:
    """The facts of one part of a record."""
    if isinstance(value, Mapping):
        if len(path) < MAX_DEPTH:
            for name, part in value.items():
                yield from of_value((*path, str(name)), part)
    elif isinstance(value, (list, tuple)):
        for at, part in enumerate(value[:MAX_LIST]):
            scalar = _scalar(part if not isinstance(part, (Mapping, list, tuple)) else encode_json(part).decode())
            if scalar is not None:
                yield path, at + 1, scalar
    else:
        scalar = _scalar(value)
        if scalar is not None:
            yield path, 0, scalar


def texts_of(record: Mapping[str, Any]) -> str:
    """What a full-text search finds a model by: names, class, note, tags."""
    model = _mapping(record.get("model"))
    kind = _mapping(model.get("model_type"))
    parts = [model.get("model_id"), kind.get("library"), kind.get("type"), model.get("note"), model.get("card")]
    for name, value in _mapping(model.get("tags")).items():
        parts += [name, value]
    return "\n".join(part for part in parts if isinstance(part, str)).encode("utf-8", "replace").decode()


def _scalar(value: Any) -> Value | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else float(value) if abs(value) < 1 << 1000 else None
    if isinstance(value, float):
        return value if value == value else None
    return value[:MAX_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else None


class Paths:
    """The numbers under which paths stand in the table of facts; kept for as long as one batch of events takes."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[Path, int] = {}

    def number(self, path: Path) -> int:
        """The number of a path, which gets one if it has none."""
        found = self._known.get(path)
        if found is None:
            text = _SEPARATOR.join(path)
            self._db.execute("INSERT OR IGNORE INTO paths (path) VALUES (?)", (text,))
            (found,) = self._db.execute("SELECT id FROM paths WHERE path = ?", (text,)).fetchone()
            self._known[path] = int(found)
        return int(found)


def insert(db: sqlite3.Connection, paths: Paths, model: int, facts: Iterator[tuple[Path, int, Value]]) -> None:
    """Put facts of a model into the table; `model` is its row, not its number."""
    db.executemany(
        "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)",
        [(model, paths.number(path), at, value) for path, at, value in facts],
    )


def replace(db: sqlite3.Connection, paths: Paths, model: int, path: Path, value: Any) -> None:
    """Let a part of a model's record be this; None takes it away."""
    prefix = _SEPARATOR.join(path)
    old = db.execute(
        "SELECT id FROM paths WHERE path = ? OR (path > ? AND path < ?)",
        (prefix, prefix + _SEPARATOR, prefix + "\x20"),
    )
    db.executemany("DELETE FROM facts WHERE model = ? AND path = ?", [(model, row[0]) for row in old.fetchall()])
    insert(db, paths, model, of_value(path, value))


def known_number(db: sqlite3.Connection, path: Path) -> int:
    """The number of a path, or one that no fact has."""
    row = db.execute("SELECT id FROM paths WHERE path = ?", (_SEPARATOR.join(path),)).fetchone()
    return -1 if row is None else int(row[0])


def known_paths(db: sqlite3.Connection) -> list[Path]:
    """All paths that some model has."""
    return [tuple(row[0].split(_SEPARATOR)) for row in db.execute("SELECT path FROM paths ORDER BY path")]
