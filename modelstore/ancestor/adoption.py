"""Taking in what the ancestor wrote: each of its files that is new, or that changed, becomes an event of our logs.

Nothing of the ancestor's is written or deleted. A second run finds all files known by key and etag and does nothing;
after the old library went on writing, it takes in what that did, unless our own log says something newer of the same
thing.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass, field
from typing import Any

from modelstore.ancestor import layout as keys_of, membership
from modelstore.ancestor.layout import DomainFiles, Layout, read_layout
from modelstore.ancestor.metadata import Metadata, latest_id, read_metadata
from modelstore.exceptions import ModelStoreError, ObjectNotFoundError, StorageError, StoreNotFoundError
from modelstore.records import format_time
from modelstore.registry import adoptions, events as kinds, keys, queries
from modelstore.registry.adoptions import Seen
from modelstore.registry.log import in_parallel
from modelstore.registry.logs import Intent
from modelstore.registry.registry import Registry
from modelstore.storage.base import ObjectInfo


@dataclass(frozen=True)
class Problem:
    """A file of the ancestor's that was not taken in."""

    key: str
    reason: str


@dataclass(frozen=True)
class AdoptionReport:
    """What was taken in by one run; all zero where nothing was new."""

    models: int = 0
    """That came in, deleted ones among them."""
    changed: int = 0
    """Models whose metadata had changed."""
    deleted: int = 0
    """Models that had been deleted since the last run."""
    states: int = 0
    """States that came in."""
    moves: int = 0
    """Models that were put into a state, or taken out of one."""
    problems: tuple[Problem, ...] = ()
    domains: tuple[str, ...] = ()
    """All domains that lie there."""

    def __str__(self) -> str:
        counts = (
            (self.models, "model", "models"), (self.changed, "change of metadata", "changes of metadata"),
            (self.deleted, "deletion", "deletions"), (self.states, "state", "states"),
            (self.moves, "change of states", "changes of states"), (len(self.problems), "problem", "problems"),
        )  # fmt: skip
        told = ", ".join(f"{count:,} {one if count == 1 else many}" for count, one, many in counts if count)
        return f"{len(self.domains):,} domains; adopted: {told or 'nothing that is new'}"


def adopt(registry: Registry) -> AdoptionReport:
    """Take in what is new in the ancestor's store at this address.

    Costs one listing of it, one read for each file of metadata that is new or changed, and one commit for each event.

    Raises:
        StoreNotFoundError: there is none.
    """
    registry.logs.names_elder = False
    found = read_layout(registry.storage)
    if not found.domains and not found.states:
        raise StoreNotFoundError(
            f"no store of operatorai/modelstore lies at {registry.storage.address}: there is nothing below "
            f"{keys.ANCESTOR}; open the folder, or the root_prefix of the bucket, in which that lies"
        )
    return Adoption(registry, found).run()


@dataclass
class Adoption:
    """One run."""

    registry: Registry
    layout: Layout
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)
    """Domains are followed in several threads."""

    def run(self) -> AdoptionReport:
        """Take in what is new, domain by domain, several at a time."""
        self.registry.logs.commit(None, _announcement)
        for name, info in sorted(self.layout.states.items(), key=lambda item: (item[1].modified, item[0])):
            self.commit(None, info, "states", membership.defining(name, info))
        in_parallel(self._domain, sorted(self.layout.domains))
        return AdoptionReport(
            **self.counts,
            problems=tuple(sorted(self.problems, key=lambda problem: problem.key)),
            domains=tuple(sorted(name for name, files in self.layout.domains.items() if files.models or files.deleted)),
        )

    def _domain(self, domain: str) -> None:
        files = self.layout.domains[domain]
        known = self._known(domain)
        for info, metadata in self._new(domain, files, known):
            self.commit(domain, info, "models", _entering(domain, metadata))
        for model_id, mark in sorted(files.deleted.items()):
            if not _is_known(known, mark):
                self._deleted(domain, files, model_id, mark)
        for key, row in known.items():
            place = keys_of.parse(key, self._latest(domain))
            if place is None or not row.etag:
                continue
            if place.state is None and place.model_id not in files.models and place.model_id not in files.deleted:
                gone = {"key": key, "etag": ""}
                self.commit(domain, None, "deleted", _leaving(domain, row, gone, "", self._has_archive(domain, row)))
        membership.follow(self, domain, files, known)

    def _latest(self, domain: str) -> tuple[str, ...]:
        latest = self.layout.domains[domain].latest
        return () if latest is None else (latest.key,)

    def _known(self, domain: str) -> dict[str, Seen]:
        index = self.registry.logs.refresh(domain)
        if index is None:
            return {}
        with index.read() as db:
            return adoptions.known(db, domain)

    def _new(self, domain: str, files: DomainFiles, known: dict[str, Seen]) -> list[tuple[ObjectInfo, Metadata]]:
        """Metadata that are new or changed, in the order of the uploads."""
        new = [(info, model_id) for model_id, info in files.models.items() if not _is_known(known, info)]
        if not new:
            return []
        latest = latest_id(self.registry.storage, files.latest)
        read = in_parallel(lambda item: self._read(domain, *item), new)
        found = [(info, metadata) for (info, _), metadata in zip(new, read, strict=True) if metadata is not None]

        def order(item: tuple[ObjectInfo, Metadata]) -> tuple[Any, ...]:
            # Whole seconds of a local clock decide less than what the ancestor itself takes for the latest.
            return item[1].model_id == latest, item[1].created, item[0].modified, item[0].key

        return sorted(found, key=order)

    def _read(self, domain: str, info: ObjectInfo, model_id: str) -> Metadata | None:
        try:
            return read_metadata(self.registry.storage, info, domain, model_id, self.layout.others)
        except ObjectNotFoundError:
            return None  # the ancestor took it away since it was listed
        except StorageError:
            raise
        except ModelStoreError as error:
            self.problem(info.key, str(error))
            return None

    def _deleted(self, domain: str, files: DomainFiles, model_id: str, mark: ObjectInfo) -> None:
        row = self._known(domain).get(mark.key.replace(f"/{keys_of.DELETED}/{model_id}.json", f"/{model_id}.json"))
        if model_id in files.models and (row is None or self._has_archive(domain, row)):
            return  # else the old library was stopped while it deleted the model, whose bytes go first
        metadata = self._read(domain, mark, model_id)
        if metadata is None:
            return
        if row is None or row.model is None:
            self.commit(domain, mark, "models", _entering(domain, metadata, deleted=True))
            return
        there = metadata.archive["key"] in self.layout.others
        self.commit(domain, mark, "deleted", _leaving(domain, row, metadata.source, format_time(mark.modified), there))

    def _has_archive(self, domain: str, row: Seen) -> bool:
        index = self.registry.logs.index()
        assert index is not None
        with index.read() as db:
            found = db.execute(
                "SELECT archive FROM models WHERE domain = ? AND number = ?", (domain, row.model)
            ).fetchone()
        return found is not None and found[0] in self.layout.others

    def commit(self, domain: str | None, info: ObjectInfo | None, what: str, intent: Intent) -> None:
        """Commit an event, if it is still wanted, and count it; what the registry refuses becomes a problem."""
        try:
            event = self.registry.logs.commit(domain, intent)
        except _Taken as error:
            self.problem(info.key if info is not None else "", str(error))
            return
        if event is not None:
            if event.kind == kinds.ADOPTED and "model" in event.body:
                what = "changed"
            with self.lock:
                self.counts[what] = self.counts.get(what, 0) + 1

    def problem(self, key: str, reason: str) -> None:
        """Note what was not taken in."""
        problem = Problem(key, reason)
        with self.lock:
            if problem not in self.problems:
                self.problems.append(problem)


class _Taken(Exception):
    """A model of our own bears the id."""


def _announcement(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
    if adoptions.seen(db, None, keys.ANCESTOR) is not None:
        return None
    return kinds.ADOPTED, {"adopted": {"key": keys.ANCESTOR, "etag": ""}}


def _is_known(known: dict[str, Seen], info: ObjectInfo) -> bool:
    row = known.get(info.key)
    return row is not None and row.etag == info.etag


def _entering(domain: str, metadata: Metadata, deleted: bool = False) -> Intent:
    """A file of metadata that was new when it was listed."""
    body = {**metadata.body(), **({"deleted": True} if deleted else {})}

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        row = adoptions.seen(db, domain, metadata.source["key"])
        if row is not None and (row.etag == metadata.source["etag"] or row.sha256 == metadata.source["sha256"]):
            return None  # the same bytes: the store was copied, perhaps
        live = queries.live_number(db, domain, metadata.model_id)
        if row is not None and row.model is not None:
            (archive,) = db.execute(
                "SELECT archive FROM models WHERE domain = ? AND number = ?", (domain, row.model)
            ).fetchone()
            if archive == metadata.archive["key"]:
                return kinds.ADOPTED, {**body, "model": row.model}
            if live == row.model:
                return kinds.ADOPTED, {**body, "replaces": live}
        if live is not None and deleted:
            return None
        if live is not None:
            raise _Taken(f"the id {metadata.model_id!r} of {domain!r} is that of another model of this store")
        return kinds.ADOPTED, body

    return intent


_RESTORED = "SELECT born FROM lives WHERE domain = ? AND model = ? AND born > ? ORDER BY born DESC LIMIT 1"


def _leaving(domain: str, row: Seen, source: dict[str, str], time: str, has_archive: bool) -> Intent:
    """A model that the ancestor has no more; `time` is when it was marked so, if it was."""

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        living = db.execute(
            "SELECT 1 FROM models WHERE domain = ? AND number = ? AND deleted = 0", (domain, row.model)
        ).fetchone()
        restored = queries.first_value(db, _RESTORED, domain, row.model, row.model)
        if not living or adoptions.is_newer(db, domain, restored, time):
            return None
        return kinds.DELETED, {"model": row.model, "purge": not has_archive, "adopted": source}

    return intent
