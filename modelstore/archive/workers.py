"""Work done ahead in threads, in bounded memory; no thread outlives the call that it works for."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def default_threads() -> int:
    """As many threads as this process may use cores, at least 2 and at most 8: then the disk is the limit."""
    affinity = getattr(os, "sched_getaffinity", None)  # a container may have fewer than the machine
    cores = len(affinity(0)) if affinity else os.cpu_count() or 2
    return max(2, min(8, cores))


class Ahead(Generic[T, R]):
    """An iterator over `work(item)` in the order of the items, worked on ahead by threads.

    At most `ahead` results exist that have not been asked for. Use it as a context manager: leaving it stops
    the work and waits for the threads. The first error that an item raised is kept in `error`, since whoever
    iterates may raise another because of it.
    """

    def __init__(self, work: Callable[[T], R], items: Sequence[T], threads: int) -> None:
        self.ahead = threads + 2
        self.error: BaseException | None = None
        self._work = work
        self._items = iter(items)
        self._waiting: deque[Future[R]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="modelstore-pack")

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        self._submit(self.ahead)
        if not self._waiting:
            raise StopIteration
        try:
            result = self._waiting.popleft().result()
        except BaseException as error:
            self.error = self.error or error
            raise
        self._submit(self.ahead - 1)  # so that the threads work on while the caller does
        return result

    def _submit(self, most: int) -> None:
        while len(self._waiting) < most:
            try:
                item = next(self._items)
            except StopIteration:
                return
            self._waiting.append(self._pool.submit(self._work, item))

    def __enter__(self) -> Ahead[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._items = iter(())
        self._waiting.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)


def for_each(make_worker: Callable[[], Callable[[T], None]], items: Iterable[T], threads: int) -> None:
    """Call `worker(item)` for every item, in no order, from up to `threads` threads, the caller's among them.

    Each thread makes one worker, which may hold buffers. After an error no further item is begun; when all
    threads have stopped, the first error is raised.
    """
    waiting = iter(items)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            worker: Callable[[T], None] | None = None
            while not errors:
                with lock:
                    item = next(waiting, _END)
                if isinstance(item, _End):
                    return
                worker = worker or make_worker()
                worker(item)
        except BaseException as error:
            errors.append(error)

    helpers = [  # each in a copy of the caller's context, where a deadline may stand
        threading.Thread(target=copy_context().run, args=(run,), name=f"modelstore-unpack-{n}", daemon=True)
        for n in range(1, threads)
    ]
    try:
        for helper in helpers:
            helper.start()
        run()
    except BaseException as error:  # an interrupt between two items
        errors.append(error)
    finally:
        for helper in helpers:
            helper.join()
    if errors:
        raise errors[0]


class _End:
    """What comes after the last item, of a type that no item has."""


_END = _End()
