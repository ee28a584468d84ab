"""Freeing what nobody can reach any more: archives of deleted models, and of uploads that never ended.

First a `condemned` event with the keys is committed, then the bytes go. A writer that finds its archive condemned
fails instead of committing a model without bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from modelstore.exceptions import InvalidArgumentError
from modelstore.records import parse_time
from modelstore.registry import events as kinds, keys
from modelstore.registry.registry import Registry
from modelstore.storage.base import ObjectInfo

GRACE = timedelta(days=7)
"""How long the bytes of a deleted model, and those that no model refers to, are kept."""

_BATCH = 500  # keys in one event: far below its 256 KiB


@dataclass(frozen=True)
class Garbage:
    """One object that can go."""

    key: str
    size: int
    """In bytes."""
    reason: str
    """`orphan`: no model refers to it; `deleted`: its model was deleted; `purged`: deleted with purge=True."""
    domain: str


@dataclass(frozen=True)
class GcReport:
    """What gc found, and freed unless it was a dry run."""

    garbage: tuple[Garbage, ...] = ()
    dry_run: bool = False
    temporary_files: int = 0
    """How many files of interrupted writes were removed; not counted in a dry run."""
    bytes: int = field(init=False)
    """The size of all garbage."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", sum(item.size for item in self.garbage))

    def __str__(self) -> str:
        verb = "could be freed" if self.dry_run else "freed"
        return f"{len(self.garbage)} objects, {self.bytes:,} bytes {verb}"


def grace_of(older_than: timedelta | float | None) -> timedelta:
    """How long bytes are kept, as a caller says it: a length of time, or days.

    Raises:
        InvalidArgumentError: it is neither, or negative.
    """
    if older_than is None:
        return GRACE
    try:
        grace = older_than if isinstance(older_than, timedelta) else timedelta(days=older_than)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError("older_than", f"older_than={older_than!r} is no number of days") from error
    if grace < timedelta(0):
        raise InvalidArgumentError("older_than", f"older_than={older_than!r} is negative")
    return grace


def collect(
    registry: Registry, dry_run: bool = False, grace: timedelta = GRACE, orphans: timedelta | None = None
) -> GcReport:
    """Find what can go and, unless it is a dry run, free it.

    Ages are measured by the storage's clock. Costs a listing of all archives, one of each domain's log, and one
    commit a domain that has garbage.

    Args:
        grace: how long the bytes of a deleted model are kept.
        orphans: how long those that no model refers to are kept (default: as long).
    """
    storage = registry.storage
    now = storage.clock()
    before, orphaned = now - grace, now - (grace if orphans is None else orphans)
    found: list[Garbage] = []
    for domain in list(keys.decode_names(storage.list_children(keys.ARCHIVES))):
        garbage = list(_garbage(registry, domain, before, orphaned))
        if not dry_run:
            freed = _free(registry, domain, [item.key for item in garbage])
            garbage = [item for item in garbage if item.key in freed]
        found += garbage
    swept = 0 if dry_run else storage.sweep("", orphaned)
    return GcReport(tuple(found), dry_run, swept)


def _garbage(registry: Registry, domain: str, before: datetime, orphaned: datetime) -> Iterator[Garbage]:
    # Listed before the log is read: an upload that commits in between is then known, not an orphan.
    objects = list(registry.storage.list(keys.archives_prefix(domain)))
    index = registry.logs.refresh(domain)
    owners: dict[str, tuple[int, str, int]] = {}
    if index is not None:
        with index.read() as db:
            for archive, deleted, deleted_at, purged in db.execute(
                "SELECT archive, deleted, deleted_at, purged FROM models WHERE domain = ?", (domain,)
            ):
                owners[archive] = (deleted, deleted_at, purged)
    for info in objects:
        reason = _reason(info, owners.get(info.key), before, orphaned)
        if reason is not None:
            yield Garbage(info.key, info.size, reason, domain)


def _reason(info: ObjectInfo, owner: tuple[int, str, int] | None, before: datetime, orphaned: datetime) -> str | None:
    if owner is None:
        return "orphan" if info.modified < orphaned else None
    deleted, deleted_at, purged = owner
    if not deleted:
        return None
    if purged:
        return "purged"
    return "deleted" if parse_time(deleted_at) < before else None


def _free(registry: Registry, domain: str, archives: list[str]) -> set[str]:
    """Those of the archives that nobody has begun to use meanwhile are gone; returns which."""
    freed: set[str] = set()
    for start in range(0, len(archives), _BATCH):
        batch = archives[start : start + _BATCH]

        def intent(db: sqlite3.Connection, batch: list[str] = batch) -> tuple[str, dict[str, Any]] | None:
            # An upload may have committed one of them since they were listed.
            alive = {
                row[0] for row in db.execute("SELECT archive FROM models WHERE domain = ? AND deleted = 0", (domain,))
            }
            unused = [key for key in batch if key not in alive]
            return (kinds.CONDEMNED, {"archives": unused}) if unused else None

        event = registry.logs.commit(domain, intent)
        if event is not None:
            registry.storage.delete(event.body["archives"])
            freed.update(event.body["archives"])
    return freed
