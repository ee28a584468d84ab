"""Puts the journal of a domain together: its history, with the records of its uploads and what changed between them."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from modelstore.records import ModelRecord, format_time
from modelstore.registry import events as kinds, history, origins, queries, search
from modelstore.registry.history import Entry
from modelstore.registry.index import Index
from modelstore.registry.registry import Registry
from modelstore.reports.changes import changes
from modelstore.reports.journal import Journal, JournalEntry


@dataclass(frozen=True)
class Wanted:
    """Which entries; see `ModelStore.journal`. Times are as `format_time` writes them."""

    kind: str | None = None
    text: str | None = None
    model_id: str | None = None
    open: bool | None = None
    after: str | None = None
    before: str | None = None

    def takes(self, entry: JournalEntry) -> bool:
        """Whether an entry is one of them, but for its words."""
        time = format_time(entry.event.time)
        return (
            (self.kind is None or self.kind in (entry.kind, entry.event.kind))
            and (self.open is None or (entry.event.kind == kinds.NOTED and entry.open == self.open))
            and (self.after is None or time > self.after)
            and (self.before is None or time < self.before)
        )


def read_journal(registry: Registry, domain: str, wanted: Wanted, offline: bool) -> Journal:
    """The entries of a domain's journal.

    Raises:
        DomainNotFoundException, ModelNotFoundException: no such thing.
        QueryError: there is no word in the text that is looked for.
    """
    events = history.read(registry, domain, wanted.model_id, None, offline)
    name, index = registry.open_domain(domain, offline)
    with index.read() as db:
        if wanted.text is not None:
            numbers = search.numbers_with(db, name, wanted.text)
            events = [event for event in events if event.number in numbers and _tells(event, wanted.text)]
        open_notes = {
            row[0] for row in db.execute("SELECT number FROM notes WHERE domain = ? AND answered IS NULL", (name,))
        }
        entries = [_entry(registry, db, index, name, event, open_notes) for event in events]
    return Journal(name, [entry for entry in entries if wanted.takes(entry)])


def _tells(event: Entry, text: str) -> bool:
    """Whether an entry that came with a model has the words itself; of others the index knows it."""
    if event.kind != history.IMPORTED:
        return True
    said = re.findall(r"\w+", origins.words_of({"details": event.details, "reason": event.reason}).casefold())
    return all(any(word.startswith(part) for word in said) for part in re.findall(r"\w+", text.casefold()))


def _entry(
    registry: Registry, db: sqlite3.Connection, index: Index, domain: str, event: Entry, open_notes: set[int]
) -> JournalEntry:
    if event.kind not in (kinds.UPLOADED, kinds.ADOPTED) or queries.id_of(db, domain, event.number) is None:
        return JournalEntry(event, open=event.number in open_notes)
    record = registry.numbered(domain, event.number, later=False).record
    before = _before(db, domain, event.number)
    if before is None:
        return JournalEntry(event, record)
    other: ModelRecord = registry.numbered(domain, before, later=False).record
    return JournalEntry(event, record, queries.id_of(db, domain, before), changes(other, record))


def _before(db: sqlite3.Connection, domain: str, number: int) -> int | None:
    """The model that an upload is compared with: the one that it was made from, else the upload before."""
    parent = queries.first_value(
        db, "SELECT parent FROM models WHERE domain = ? AND number = ? AND parent IS NOT NULL", domain, number
    )
    if parent is not None and queries.id_of(db, domain, parent) is not None:
        return parent
    return queries.first_value(
        db, "SELECT number FROM models WHERE domain = ? AND number < ? ORDER BY number DESC LIMIT 1", domain, number
    )
