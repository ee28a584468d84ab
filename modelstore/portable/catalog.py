"""All records as one Parquet file. Two passes over the local index: which columns there are, then the rows."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelstore import deadline
from modelstore.exceptions import MissingDependencyError
from modelstore.portable.file import writable
from modelstore.records import ModelRecord, encode_json, json_safe, parse_time
from modelstore.registry.index import Index
from modelstore.registry.registry import Model, Registry
from modelstore.registry.search import Found, Question, find
from modelstore.reports.changes import current, flat

ROWS = 2000
"""In a row group: what is held in memory at once."""

_INT64 = 1 << 63
_FIXED = {
    "domain": "string", "model_id": "string", "number": "int64", "library": "string", "type": "string",
    "created": "time", "user": "string", "note": "string", "states": "strings", "size": "int64",
    "archive_digest": "string", "content_digest": "string", "foreign": "bool",
}  # fmt: skip


def write_catalog(registry: Registry, path: Path, domain: str | None, offline: bool) -> int:
    """Write the file; returns how many models are in it.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        DomainNotFoundException: there is no such domain.
        StorageError: the file cannot be written; nothing is left of it.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pyarrow", "export_catalog()", "pip install 'modelstore[catalog]'") from error
    index, found = _all(registry, domain, offline)
    columns = dict(_FIXED)
    for model in _models(registry, found):
        for name, value in _further(model.record):
            columns[name] = _wider(columns.get(name), name, value)
    columns = {**_FIXED, **{name: columns[name] for name in sorted(columns) if name not in _FIXED}}
    types = {
        **dict.fromkeys(("string", "json", "null"), pyarrow.string()),
        "int64": pyarrow.int64(), "float64": pyarrow.float64(),
        "bool": pyarrow.bool_(), "time": pyarrow.timestamp("us", tz="UTC"), "strings": pyarrow.list_(pyarrow.string()),
    }  # fmt: skip
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with writable(path):
            with pyarrow.parquet.ParquetWriter(staging, schema) as writer:
                for start in range(0, len(found), ROWS):
                    rows = list(_rows(registry, index, found[start : start + ROWS], columns))
                    held = {name: [row.get(name) for row in rows] for name in columns}
                    writer.write_table(pyarrow.Table.from_pydict(held, schema))
            os.replace(staging, path)
    finally:
        with suppress(OSError):
            staging.unlink(missing_ok=True)
    return len(found)


def _all(registry: Registry, domain: str | None, offline: bool) -> tuple[Index | None, list[Found]]:
    registry.logs.refresh(None, offline)  # the states
    if domain is None:
        index = registry.refresh(registry.domains(offline), offline)
    else:
        domain, index = registry.open_domain(domain, offline)
    if index is None:
        return None, []
    with index.read() as db:
        return index, sorted(find(db, Question(domain=domain)))


def _models(registry: Registry, found: list[Found]) -> Iterator[Model]:
    for domain, number in found:
        deadline.remaining("reading records")
        yield registry.numbered(domain, number)


def _further(record: ModelRecord) -> Iterator[tuple[str, Any]]:
    for section in ("metrics", "tags"):
        for name, value in flat(current(record, section)):
            yield f"{section}.{name}", value
    for name, value in flat(record["model"].get("parameters")):
        yield f"params.{name}", value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float64"
    return "string" if isinstance(value, str) else "json"


def _wider(known: str | None, name: str, value: Any) -> str:
    """The type that holds this value and all before it; `null` while there is nothing else."""
    if name.startswith("metrics."):
        return "float64"
    if value is None:
        return known or "null"
    kind = _kind(value)
    if known in (None, "null", kind):
        return kind
    return "float64" if {known, kind} == {"int64", "float64"} else "json"


def _fitting(kind: str, value: Any) -> Any:
    """The value as its column holds it. What was said since the columns were chosen may not fit, and is left out."""
    if value is None:
        return None
    if kind == "json":
        return encode_json(json_safe(value)).decode()
    if kind == "float64":
        return _number(value)
    if kind == "string":
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None
    return value if _kind(value) == kind else None


def _number(value: Any) -> float | None:
    """Also what JSON has no number for, which records hold as text."""
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    return float(value) if value in ("nan", "inf", "-inf") else None


def _rows(
    registry: Registry, index: Index | None, found: list[Found], columns: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    states = {} if index is None else _states(index, found)
    for (domain, number), model in zip(found, _models(registry, found), strict=True):
        record = model.record
        kind, archive = record["model"]["model_type"], model.archive
        row: dict[str, Any] = {
            "domain": domain, "model_id": model.model_id, "library": kind["library"], "type": kind.get("type"),
            "user": record["code"].get("user"), "note": record["model"].get("note"),
            "archive_digest": archive.get("archive_digest"), "content_digest": archive.get("content_digest"),
        }  # fmt: skip
        row = {name: _fitting("string", value) for name, value in row.items()}
        row |= {
            "number": number, "created": parse_time(record["code"]["created"]),
            "states": states.get((domain, number), []), "size": _fitting("int64", archive.get("size")),
            "foreign": bool(record.get("foreign")),
        }  # fmt: skip
        row |= {name: _fitting(columns[name], value) for name, value in _further(record) if name in columns}
        yield row


def _states(index: Index, found: list[Found]) -> dict[Found, list[str]]:
    held: dict[Found, list[str]] = {}
    domains = {domain for domain, _ in found}
    with index.read() as db:
        for domain in sorted(domains):
            numbers = [number for name, number in found if name == domain]
            rows = db.execute(
                "SELECT h.model, s.name FROM holds h JOIN states s ON s.number = h.state AND s.deleted = 0"
                " WHERE h.domain = ? AND h.until IS NULL AND h.model BETWEEN ? AND ? ORDER BY s.name",
                (domain, min(numbers), max(numbers)),
            )
            for model, name in rows:
                held.setdefault((domain, model), []).append(name)
    return held
