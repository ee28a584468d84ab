"""Locks between processes, held by an open file and so freed when its process ends, however it ends."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

if sys.platform != "win32":
    import fcntl

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


class Lock:
    """A lock on a file, until `close`. Where the system has none (Windows, some network file systems), `real`
    is False: then it keeps nobody out.
    """

    def __init__(self, path: Path, descriptor: int, real: bool) -> None:
        self.path = path
        self.real = real
        self._descriptor = descriptor

    def close(self) -> None:
        """Free the lock. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the file, then free the lock: whoever waits for it sees that the file is another, and begins anew."""
        if not self.real:
            self.close()  # Windows removes no open file
        with suppress(OSError):  # another process may have it open; it is empty
            os.unlink(self.path)
        self.close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lock(path: Path, *, exclusive: bool, create: bool = False, wait: float = 0.0) -> Lock | None:
    """Lock a file; None if others hold it for longer than `wait` seconds.

    Any number may hold a shared lock, one an exclusive one. The file at `path` is the one that is locked even if
    another process replaced it in between.

    Raises:
        OSError: it is not there, or cannot be opened.
    """
    deadline = time.monotonic() + wait
    pause = 0.002
    while True:
        mode = (os.O_RDWR if exclusive else os.O_RDONLY) | (os.O_CREAT if create else 0)
        descriptor = os.open(path, mode | _FLAGS, 0o644)
        try:
            real = _flock(descriptor, exclusive)
            if real is not None and _same(path, descriptor):
                kept, descriptor = descriptor, -1
                return Lock(path, kept, real)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if real is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(pause)
            pause = min(2 * pause, 0.1)


def _flock(descriptor: int, exclusive: bool) -> bool | None:
    """True: locked. None: others hold it. False: there are no locks here."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return None if error.errno in _BUSY else False


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False
