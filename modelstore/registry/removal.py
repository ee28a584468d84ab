"""Taking models away, and putting them back while their bytes are there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from modelstore.exceptions import (
    ModelDeletedException,
    ModelExistsException,
    ModelNotFoundException,
    ModelPinnedError,
)
from modelstore.registry import events as kinds, keys, queries
from modelstore.registry.registry import Registry


def delete(
    registry: Registry, domain: str, model_id: str, purge: bool = False, reason: str | None = None
) -> str | None:
    """Commit a tombstone; returns the key of the archive if its bytes are to go now.

    Raises:
        ModelPinnedError: it is pinned.
    """
    name, _ = registry.open_domain(domain)
    archive: str | None = None

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
        nonlocal archive
        number = queries.require_live(db, name, model_id)
        if queries.is_pinned(db, name, number):
            raise ModelPinnedError(name, model_id)
        archive = queries.own_archive(db, name, number)
        return kinds.DELETED, {"model": number, "purge": purge, **_because(reason)}

    registry.logs.commit(name, intent)
    return archive if purge else None


def restore(registry: Registry, domain: str, model_id: str, reason: str | None = None) -> None:
    """Bring a deleted model back, the last one that bore this id; nothing happens if it is there.

    It comes back without the states that it was in.

    Raises:
        ModelExistsException: another model bears the id now.
        ModelDeletedException: its bytes are gone.
    """
    name, _ = registry.open_domain(domain)
    wanted = keys.clean_id(model_id)

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        rows = db.execute(
            "SELECT number, purged, archive FROM models WHERE domain = ? AND model_id = ? ORDER BY number DESC",
            (name, wanted),
        ).fetchall()
        if not rows:
            raise ModelNotFoundException(name, wanted)
        if queries.live_number(db, name, wanted) is not None:
            if len(rows) == 1:
                return None
            raise ModelExistsException(name, wanted)
        number, purged, archive = rows[0]
        if purged or queries.is_condemned(db, name, archive):
            raise ModelDeletedException(name, wanted)
        return kinds.RESTORED, {"model": number, **_because(reason)}

    registry.logs.commit(name, intent)


def pin(registry: Registry, domain: str, model_id: str, pinned: bool) -> None:
    """Let nothing delete a model, or let it be deleted again.

    Raises:
        DomainNotFoundException, ModelNotFoundException, ModelDeletedException: as `find`.
    """
    name, _ = registry.open_domain(domain)

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        number = queries.require_live(db, name, model_id)
        if queries.is_pinned(db, name, number) == pinned:
            return None
        return kinds.PINNED, {"model": number, "pinned": pinned}

    registry.logs.commit(name, intent)


def delete_domain(registry: Registry, domain: str, purge: bool = False, reason: str | None = None) -> list[str]:
    """Delete all models of a domain, in one event; it is gone from the list of domains until somebody uploads to it.

    Returns:
        The keys of the archives whose bytes are to go now.

    Raises:
        DomainNotFoundException: there is no such domain.
        ModelPinnedError: one of its models is pinned.
    """
    name, _ = registry.open_domain(domain)
    archives: list[str] = []

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        archives.clear()
        living = queries.living(db, name, queries.NOW)
        for number, model_id in living:
            if queries.is_pinned(db, name, number):
                raise ModelPinnedError(name, model_id)
        numbers = [number for number, _ in living]
        archives.extend(_own_archives(db, name, numbers))
        return (kinds.RETIRED, {"models": numbers, "purge": purge, **_because(reason)}) if numbers else None

    registry.logs.commit(name, intent)

    def hint(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        # Only where domains are listed does it matter, so that nobody who uploads has to look here.
        known = db.execute("SELECT 1 FROM gone WHERE domain = ?", (name,)).fetchone()
        return None if known else (kinds.DOMAIN_DELETED, {"domain": name})

    registry.logs.commit(None, hint)
    return list(archives) if purge else []


def retire(registry: Registry, domain: str, choose: Any, purge: bool = False, reason: str | None = None) -> list[str]:
    """Delete the models that `choose` names when it is given the tables, in one event.

    Args:
        choose: takes the tables and the domain's name, gives numbers of models; called again if somebody was faster.

    Returns:
        The keys of the archives whose bytes are to go now.

    Raises:
        DomainNotFoundException: there is no such domain.
    """
    name, _ = registry.open_domain(domain)
    archives: list[str] = []

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        numbers = choose(db, name)
        archives[:] = _own_archives(db, name, numbers)
        return (kinds.RETIRED, {"models": numbers, "purge": purge, **_because(reason)}) if numbers else None

    registry.logs.commit(name, intent)
    return list(archives) if purge else []


def _own_archives(db: sqlite3.Connection, domain: str, numbers: Iterable[int]) -> list[str]:
    found = (queries.own_archive(db, domain, number) for number in numbers)
    return [archive for archive in found if archive is not None]


def _because(reason: str | None) -> dict[str, str]:
    return {} if reason is None else {"reason": reason}
