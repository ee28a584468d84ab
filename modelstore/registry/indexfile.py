"""The SQLite file of a local index: opened, replaced by tables in memory where it cannot be, carried over a fork."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelstore.exceptions import StorageError
from modelstore.registry import schema

WAIT = 60.0
"""Seconds to wait for another process that writes to the same file."""


class IndexFailedError(StorageError):
    """The local index fails; all that it holds is in the store's logs too.

    Attributes:
        damaged: its content is wrong, so that it is to be built anew; else it is locked, the disk is full, ….
    """

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(f"the local index of the store failed ({error}); set MODELSTORE_CACHE to another folder")
        self.damaged = not isinstance(error, sqlite3.OperationalError) or "no such" in str(error)


class Database:
    """A connection that threads take turns on, to a file or, without one that can be written, to tables in memory.

    Args:
        path: of the file; None keeps the tables in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        """None as soon as the file turned out to be of no use."""
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        with self._lock:
            self._open()
        with _FORKING:
            _ALL.add(self)

    @contextmanager
    def transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """The connection, within a transaction or in the one that this thread is in already: all or nothing.

        Raises:
            IndexFailedError: SQLite could not do what was asked.
        """
        with self._lock:
            try:
                db = self._connection()
                if db.in_transaction:
                    yield db
                    return
                try:
                    db.execute(begin)
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:  # some errors have ended it already
                        db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise IndexFailedError(error) from error

    def reset(self) -> None:
        """Throw a damaged file away and begin with empty tables."""
        with self._lock:
            self.close()
            if self.path is not None:
                _remove(self.path)
            self._db = None
            self._open()

    def close(self) -> None:
        """Close the file; it is opened again when needed. Tables in memory stay."""
        with self._lock:
            if self._db is not None and self.path is not None:
                self._abandon() if self._pid != os.getpid() else self._db.close()
                self._db = None

    def _connection(self) -> sqlite3.Connection:
        if self.path is not None and self._pid != os.getpid():
            self.close()
        if self._db is None:
            self._open()
        assert self._db is not None
        return self._db

    def _abandon(self) -> None:
        # A child must neither use nor close its parent's connection: SQLite's locks belong to the process.
        if self._db is not None:
            _ABANDONED.append(self._db)

    def _open(self) -> None:
        self._pid = os.getpid()
        if self.path is None:
            self._db = _connect(":memory:")
            return
        for attempt in range(2):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._db = _connect(str(self.path))
                return
            except sqlite3.OperationalError:
                break  # cannot be written, or a network file system without locks
            except sqlite3.DatabaseError:
                if attempt == 0:  # damaged, or of another version
                    _remove(self.path)
            except OSError:
                break
        self._db, self.path = _copied(self.path), None

    def hold(self) -> None:
        """Before a fork: wait until no thread is in a transaction, and close the file. `let_go` ends it."""
        self._lock.acquire()
        self.close()

    def let_go(self) -> None:
        """After a fork, in parent and child."""
        self._lock.release()


def _connect(path: str) -> sqlite3.Connection:
    # autocommit: transactions are begun where they are meant. The lock of Database keeps threads apart.
    db = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # may lose the last events after a power cut, is never torn by it
        if _version(db) == 0:
            db.execute("BEGIN IMMEDIATE")
            if _version(db) == 0:  # no other process has made them meanwhile
                for statement in schema.TABLES.split(";"):
                    db.execute(statement)
                with contextlib.suppress(sqlite3.OperationalError):  # a build without FTS5
                    db.execute(schema.TEXTS)
                db.execute(f"PRAGMA user_version = {schema.VERSION}")
            db.execute("COMMIT")
        if _version(db) != schema.VERSION:
            raise sqlite3.DatabaseError(f"an index of version {_version(db)}")
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _copied(path: Path) -> sqlite3.Connection:
    """Tables in memory with what a file holds that may be read but not written, as in an image; else empty ones."""
    # `immutable` needs no file beside it, but passes over what only the write-ahead log holds.
    for options in ("mode=ro", "mode=ro&immutable=1"):
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{options}", timeout=WAIT, uri=True)) as source:
                source.backup(db)
            if _version(db) == schema.VERSION:
                return db
        except sqlite3.Error:
            pass
        db.close()
    return _connect(":memory:")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):  # then it cannot be opened for writing either, and memory takes its place
            path.with_name(path.name + suffix).unlink(missing_ok=True)


_ALL: weakref.WeakSet[Database] = weakref.WeakSet()
_ABANDONED: list[sqlite3.Connection] = []
_FORKING = threading.Lock()
_held: list[Database] = []


def _before_fork() -> None:
    # A lock that another thread holds during the fork would never be opened in the child.
    _FORKING.acquire()
    for database in list(_ALL):
        database.hold()
        _held.append(database)


def _after_fork() -> None:
    while _held:
        _held.pop().let_go()
    if _FORKING.locked():  # not so when C code has forked without the hook before
        _FORKING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
