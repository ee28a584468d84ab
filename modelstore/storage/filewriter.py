"""Chunks into one file: written from a few threads, on their way to the disk before the last one is there.

The kernel copies what is written into its cache (some GB/s a thread) and would start on the disk seconds later, so
that the final sync waits for nearly all of it. Syncing along the way lets the disk work while chunks are still
made: see `docs/performance.md` for what that is worth.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from modelstore.folder import Buffer

_PARALLEL = hasattr(os, "pwrite")  # Windows writes in order only
_THREADS = 3 if _PARALLEL else 1  # two that write, one that syncs
_OUTSTANDING = 4
"""Chunks handed to the threads and not yet written, at most."""
_SYNC_EVERY = 64 << 20
_SMALL = 1 << 20  # not worth a thread
_IOV_MAX = 1024  # what Linux and macOS take in one call; POSIX grants 16
if hasattr(os, "sysconf_names") and "SC_IOV_MAX" in os.sysconf_names:
    _IOV_MAX = max(16, os.sysconf("SC_IOV_MAX"))


def write_chunks(fd: int, chunks: Iterable[Sequence[Buffer]], explain: Callable[[OSError], Exception]) -> int:
    """Write chunks one after the other, from the start of an empty file; returns its size.

    No thread uses `fd` or a buffer any more when this returns or raises.

    Args:
        explain: makes of an error of the file what is raised instead; errors of `chunks` pass through as they are.
    """
    with _Writer(fd, explain) as writer:
        for chunk in chunks:
            writer.add(chunk)
    return writer.size


def write_at(fd: int, buffers: Sequence[memoryview], offset: int) -> None:
    """Write all of some non-empty byte buffers at an offset, whatever the system takes at a time."""
    waiting = deque(buffers)
    while waiting:
        written = _write_some(fd, waiting, offset)
        offset += written
        while waiting and written >= len(waiting[0]):
            written -= len(waiting.popleft())
        if written:
            waiting[0] = waiting[0][written:]


def byte_views(buffers: Iterable[Buffer]) -> list[memoryview]:
    """The buffers as bytes, without those that hold nothing."""
    views = (memoryview(buffer) for buffer in buffers)
    return [view.cast("B") for view in views if view.nbytes]


if hasattr(os, "pwritev"):

    def _write_some(fd: int, waiting: deque[memoryview], offset: int) -> int:
        return os.pwritev(fd, [waiting[at] for at in range(min(len(waiting), _IOV_MAX))], offset)

elif hasattr(os, "pwrite"):

    def _write_some(fd: int, waiting: deque[memoryview], offset: int) -> int:
        return os.pwrite(fd, waiting[0], offset)

else:

    def _write_some(fd: int, waiting: deque[memoryview], offset: int) -> int:
        return os.write(fd, waiting[0])


class _Writer:
    def __init__(self, fd: int, explain: Callable[[OSError], Exception]) -> None:
        self._fd = fd
        self._explain = explain
        self._pool = ThreadPoolExecutor(_THREADS, "modelstore-write")
        self._writes: deque[Future[None]] = deque()
        self._sync: Future[None] | None = None
        self._unsynced = 0
        self.size = 0

    def add(self, chunk: Sequence[Buffer]) -> None:
        """Take in the next chunk; waits while too many are outstanding."""
        buffers = byte_views(chunk)
        size = sum(map(len, buffers))
        if size > _SMALL or not _PARALLEL:
            self._writes.append(self._pool.submit(write_at, self._fd, buffers, self.size))
        else:
            self._write_here(buffers)
        self.size += size
        self._unsynced += size
        while len(self._writes) >= _OUTSTANDING:
            self._finish(self._writes.popleft())
        self._start_sync()

    def _write_here(self, buffers: list[memoryview]) -> None:
        try:
            write_at(self._fd, buffers, self.size)
        except OSError as error:
            raise self._explain(error) from error

    def _start_sync(self) -> None:
        if self._unsynced < _SYNC_EVERY or not hasattr(os, "fdatasync"):
            return
        if self._sync is not None:
            if not self._sync.done():
                return
            self._finish(self._sync)  # the kernel tells of a lost write once: it must not go unheard
        self._sync = self._pool.submit(os.fdatasync, self._fd)
        self._unsynced = 0

    def _finish(self, future: Future[None]) -> None:
        try:
            future.result()
        except OSError as error:
            raise self._explain(error) from error

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for future in (*self._writes, *([self._sync] if self._sync else [])):
                    self._finish(future)
        finally:
            self._stop()

    def _stop(self) -> None:
        """Wait for the threads, also through a second Ctrl-C.

        The caller closes the file next, and a number that is closed while they still write to it could by then be
        another file's.
        """
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                self._pool.shutdown(wait=True, cancel_futures=True)
                break
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
