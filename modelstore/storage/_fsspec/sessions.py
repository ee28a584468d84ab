"""Connections to a file system: a few a process, each lent to one call at a time, given up when something is wrong."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from modelstore import deadline
from modelstore.exceptions import StorageUnavailableError
from modelstore.storage import patience, transfer
from modelstore.storage._fsspec.errors import explain
from modelstore.storage._fsspec.files import Files

R = TypeVar("R")

_CONNECTIONS = 6
"""At once in a process: servers of SSH take ten that have not logged in yet, from all of their users."""

_CALL_SECONDS = 2 * deadline.STALL_SECONDS
_ATTEMPTS = 5

_open: weakref.WeakSet[Files] = weakref.WeakSet()
_of_parents: list[object] = []
"""In a forked child: what must not be taken down, since the parent uses it."""


class Session:
    """A connection that is lent."""

    def __init__(self, files: Files, address: str) -> None:
        self._files = files
        self._address = address
        self.broken = False
        """Whether it is not to be used again."""

    def call(self, step: Callable[[Files], R], doing: str, key: str | None = None) -> R:
        """What a step gives, within the time that one call and the deadline have.

        Raises:
            FileNotFoundError: of the file system.
            FileExistsError: of the file system.
            StorageError: what else went wrong.
        """
        try:
            return patience.patiently(lambda: step(self._files), _CALL_SECONDS, doing, key)
        except Exception as error:
            alive = self._files.alive()
            if patience.is_over(error) or not alive:
                self.broken = True
            explained = explain(error, doing, key, self._address, alive)
            if isinstance(explained, StorageUnavailableError):
                self.broken = True
            if explained is error:
                raise
            raise explained from error
        except BaseException:
            self.broken = True  # the step may still be under way
            raise


class Sessions:
    """The connections of all processes that a storage lives in.

    Args:
        connect: makes a connection.
        address: of the store.
    """

    def __init__(self, connect: Callable[[], Files], address: str) -> None:
        self._connect = connect
        self._address = address
        self._pool_of: dict[int, _Pool] = {}

    @contextlib.contextmanager
    def one(self, doing: str, key: str | None = None) -> Iterator[Session]:
        """Borrow a connection; waits for one if as many are lent as there may be.

        Raises:
            StorageError: there is none to be had.
        """
        pool = self._pool_of.get(os.getpid()) or self._pool_of.setdefault(os.getpid(), _Pool())
        if not pool.places.acquire(timeout=deadline.at_most(10 * _CALL_SECONDS, doing, key)):
            deadline.remaining(doing, key)
            raise StorageUnavailableError(f"{doing} {key!r} found no free connection to {self._address}", key)
        try:
            session = Session(pool.take() or self._connected(doing, key), self._address)
            try:
                yield session
            finally:
                if session.broken:
                    _close(session._files)
                else:
                    pool.idle.append(session._files)
        finally:
            pool.places.release()

    def attempt(self, work: Callable[[Session], R], doing: str, key: str | None = None) -> R:
        """What `work` gives with a connection; with another one when that broke, since a server may have closed it
        while nobody used it, and one with many clients refuses some. For what may be done twice.
        """
        failures = 0
        while True:
            try:
                with self.one(doing, key) as session:
                    return work(session)
            except StorageUnavailableError as error:
                failures += 1
                if failures >= _ATTEMPTS or patience.is_over(error):
                    raise
            deadline.pause(transfer.backoff(failures))

    def call(self, step: Callable[[Files], R], doing: str, key: str | None = None) -> R:
        """`attempt` with one step."""
        return self.attempt(lambda session: session.call(step, doing, key), doing, key)

    def _connected(self, doing: str, key: str | None) -> Files:
        try:
            files = patience.patiently(self._connect, _CALL_SECONDS, doing, key)
        except Exception as error:
            explained = explain(error, doing, key, self._address, True)
            if explained is error:
                raise
            raise explained from error
        _open.add(files)
        return files


class _Pool:
    """The connections of one process."""

    def __init__(self) -> None:
        self.idle: deque[Files] = deque()
        self.places = threading.Semaphore(_CONNECTIONS)
        # With the storage its connections go: paramiko's would live on by their threads.
        weakref.finalize(self, _close_all, self.idle, os.getpid()).atexit = False

    def take(self) -> Files | None:
        """One that nobody uses."""
        while True:
            try:
                files = self.idle.pop()
            except IndexError:
                return None
            if files.alive():
                return files
            _close(files)


def _close(files: Files) -> None:
    """Close a connection, without waiting for it: what is stuck on it ends by that."""

    def run() -> None:
        with contextlib.suppress(Exception):
            files.close()

    threading.Thread(target=run, name="modelstore-closing", daemon=True).start()


def _close_all(idle: deque[Files], process: int) -> None:
    if os.getpid() == process:  # else they are the parent's
        for files in idle:
            _close(files)


def _let_go() -> None:
    for files in list(_open):
        _of_parents.append(files)
        with contextlib.suppress(Exception):
            files.forget()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
