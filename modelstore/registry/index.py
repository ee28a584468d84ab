"""The local index: the folded logs of one store, kept in SQLite so that only new events need to be read.

It is a cache and nothing more: keyed by the store's random id *and* its address, trusted for a log only while the
last event that it holds is still in the store, built anew when it is damaged. Several processes may share it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modelstore.registry import fold
from modelstore.registry.events import digest, parse_event
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
        self._path = None if folder is None else folder / f"{_address_name(address)}-{store_id[:32]}.sqlite"
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        self._open()

    @classmethod
    def last_known(cls, folder: Path | None, address: str) -> str | None:
        """The store id that was last seen at this address; None if none was."""
        if folder is None or not folder.is_dir():
            return None
        found = sorted(folder.glob(f"{_address_name(address)}-*.sqlite"), key=lambda path: path.stat().st_mtime)
        return found[-1].stem.partition("-")[2] if found else None

    @property
    def persistent(self) -> bool:
        """Whether another process will find what this one has folded."""
        return self._path is not None

    def position(self, domain: str | None) -> Position:
        """Up to where a log has been folded."""
        with self.read() as db:
            row = db.execute(
                "SELECT number, digest, etag, time FROM logs WHERE domain = ?", (domain or fold.STORE,)
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
        scope = domain or fold.STORE
        with self.write() as db:
            current = self.position(domain)
            number, previous, time = known.number, known.digest, known.time
            if current.number < number or (current.number == number and current.digest != previous):
                return current
            rows = []
            for raw in raw_events:
                number += 1
                event = parse_event(raw, domain, number, previous)
                previous, time = digest(raw), event.time
                if number > current.number:
                    rows.append((scope, number, raw))
                    fold.apply(db, event)
            if number >= current.number:
                db.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
                current = Position(number, previous, etag, time)
                db.execute(
                    "INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?, ?)", (scope, number, previous, etag, time)
                )
            return current

    def forget(self, domain: str | None) -> None:
        """Drop all that is known of one log."""
        with self.write() as db:
            for table in ("logs", "events", "models", "holds", "condemned"):
                db.execute(f"DELETE FROM {table} WHERE domain = ?", (domain or fold.STORE,))
            if domain is None:
                db.execute("DELETE FROM states")

    def event(self, domain: str | None, number: int) -> bytes:
        """A folded event as it is stored."""
        with self.read() as db:
            row = db.execute(
                "SELECT raw FROM events WHERE domain = ? AND number = ?", (domain or fold.STORE, number)
            ).fetchone()
        return bytes(row[0])

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for queries; held by one thread at a time."""
        with self._lock:
            yield self._connection()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The connection within a transaction: all of what is done in it happens, or nothing."""
        with self._lock:
            db = self._connection()
            if db.in_transaction:
                yield db
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def reset(self) -> None:
        """Throw a damaged file away and begin with empty tables."""
        with self._lock:
            self.close()
            if self._path is not None:
                _remove(self._path)
            self._open()

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        with self._lock:
            if self._db is not None and self._pid == os.getpid():
                self._db.close()
            self._db = None

    def _connection(self) -> sqlite3.Connection:
        # A connection must not be used in a forked child: SQLite's locks belong to the process.
        if self._db is None or self._pid != os.getpid():
            self._open()
        assert self._db is not None
        return self._db

    def _open(self) -> None:
        self._pid = os.getpid()
        if self._path is not None:
            for attempt in range(2):
                try:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._db = _connect(str(self._path))
                    return
                except sqlite3.OperationalError:
                    break  # cannot be written, or a network file system without locks
                except sqlite3.DatabaseError:
                    if attempt == 0:  # damaged, or of another version
                        _remove(self._path)
                except OSError:
                    break
            self._path = None
        self._db = _connect(":memory:")


def _connect(path: str) -> sqlite3.Connection:
    # autocommit: transactions are begun where they are meant. The lock of Index keeps threads apart.
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # may lose the last events after a power cut, is never torn by it
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in fold.SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {fold.VERSION}")
        elif version != fold.VERSION:
            raise sqlite3.DatabaseError(f"an index of version {version}")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _address_name(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:_NAME_LENGTH]
