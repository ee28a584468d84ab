"""The local index: the folded logs of one store, kept in SQLite so that only new events need to be read.

It is a cache and nothing more: keyed by the store's random id *and* its address, trusted for a log only while the
last event that it holds is still in the store, built anew when it is damaged. Several processes may share it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from modelstore.exceptions import IntegrityError
from modelstore.registry import fold, schema
from modelstore.registry.events import digest, parse_event
from modelstore.registry.facts import Paths
from modelstore.registry.indexfile import Database
from modelstore.registry.log import Position

_NAME_LENGTH = 24  # hexadecimal digits of the address' digest in a file name


class Index:
    """The tables of one store.

    Args:
        folder: where the file lies; None keeps the tables in memory.
        address: of the storage.
        store_id: from the store's marker.
    """

    def __init__(self, folder: Path | None, address: str, store_id: str) -> None:
        self.store_id = store_id
        name = f"{_address_name(address)}-{store_id[:32]}.sqlite"
        self._database = Database(None if folder is None else folder / name)

    @classmethod
    def last_known(cls, folder: Path | None, address: str) -> str | None:
        """The store id that was last seen at this address; None if none was."""
        if folder is None:
            return None
        try:
            found = sorted(folder.glob(f"{_address_name(address)}-*.sqlite"), key=lambda path: path.stat().st_mtime)
        except OSError:  # a folder that may not be read
            return None
        return found[-1].stem.partition("-")[2] if found else None

    def position(self, domain: str | None) -> Position:
        """Up to where a log has been folded."""
        with self.read() as db:
            row = db.execute(
                "SELECT number, digest, etag, time FROM logs WHERE domain = ?", (domain or schema.STORE,)
            ).fetchone()
        return Position(*row) if row else Position()

    def extend(self, domain: str | None, known: Position, raw_events: Iterable[bytes], etag: str) -> Position:
        """Check events that follow `known` and fold them in; another process may have done so already.

        Returns:
            Up to where the log is folded now: before `known` if another process forgot the log meanwhile.

        Raises:
            IntegrityError: an event is not what may follow.
            NewerFormatError: an event that this version must not pass over.
        """
        scope = domain or schema.STORE
        with self.write() as db:
            current = self.position(domain)
            number, previous, time = known.number, known.digest, known.time
            if current.number < number or (current.number == number and current.digest != previous):
                return current
            rows = []
            paths = Paths(db)
            for raw in raw_events:
                number += 1
                event = parse_event(raw, domain, number, previous)
                previous, time = digest(raw), event.time
                if number > current.number:
                    model = fold.apply(db, event, paths)
                    rows.append((scope, number, event.time, event.kind, model, raw))
            if number >= current.number:
                db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
                current = Position(number, previous, etag, time)
                db.execute("INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?, ?)", (scope, number, previous, etag, time))
            return current

    def forget(self, domain: str | None, known: Position) -> None:
        """Drop all that is known of one log, unless another process or thread has built it anew already."""
        with self.write() as db:
            if self.position(domain) != known:
                return
            scope = domain or schema.STORE
            db.execute("DELETE FROM facts WHERE model IN (SELECT id FROM models WHERE domain = ?)", (scope,))
            for table in schema.OF_A_DOMAIN:
                if table != "texts" or fold.has_texts(db):
                    db.execute(f"DELETE FROM {table} WHERE domain = ?", (scope,))
            if domain is None:
                db.execute("DELETE FROM states")
                db.execute("DELETE FROM gone")

    def event(self, domain: str | None, number: int) -> bytes:
        """A folded event as it is stored."""
        with self.read() as db:
            row = db.execute(
                "SELECT raw FROM events WHERE domain = ? AND number = ?", (domain or schema.STORE, number)
            ).fetchone()
        if row is None:
            raise IntegrityError("the local index", f"event {number}", "it is not there")
        return bytes(row[0])

    def read(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection, for queries that all see the same moment; held by one thread at a time."""
        return self._database.transaction("BEGIN")

    def write(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection within a transaction: all of what is done in it happens, or nothing."""
        return self._database.transaction("BEGIN IMMEDIATE")

    def reset(self) -> None:
        """Throw a damaged file away and begin with empty tables."""
        self._database.reset()

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self._database.close()


def _address_name(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:_NAME_LENGTH]
