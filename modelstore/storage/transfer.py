"""Moving large objects: cutting chunks into parts that go up in parallel, and reading ranges that survive a break.

Shared by the storages that talk over a network. What is an error that may pass, each of them says itself, by
raising `StorageUnavailableError`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol, TypeVar

from modelstore import deadline
from modelstore.exceptions import StorageUnavailableError
from modelstore.folder import Buffer

R = TypeVar("R")

MIB = 1 << 20
PART = 16 * MIB
"""Bytes in a part where nothing asks for more: one chunk of an archive."""

THREADS = 8
"""Parts under way at once."""

UNDER_WAY = 256 * MIB
"""Bytes under way at once, at most, where parts are not larger than half of it."""

ATTEMPTS = 5
"""How often a range is asked for again when its body breaks off before a single byte has come."""


@dataclass(frozen=True)
class Part:
    """A run of bytes of the object, in pieces that lie in memory already."""

    number: int
    """From 1."""
    start: int
    """Where it begins in the object."""
    size: int
    pieces: tuple[memoryview, ...]
    """Not empty, of single bytes; together `size` long."""


def part_size(expected: int, most_parts: int, smallest: int = PART) -> int:
    """Bytes a part must have so that `expected` bytes fit into `most_parts`, a tenth of which is kept in reserve.

    A multiple of 1 MiB. All parts but the last have this size, since some storages (Cloudflare R2) ask for that.
    """
    fitting = -(-expected * 10 // (most_parts * 9))
    return max(smallest, -(-fitting // MIB) * MIB)


def cut(chunks: Iterable[Sequence[Buffer]], size: int) -> Iterator[Part]:
    """Parts of `size` bytes, the last one shorter; none for no bytes. No byte is copied.

    A part is given as soon as its last byte has come, so no more than one part and one chunk are held.
    """
    pieces: list[memoryview] = []
    held = start = 0
    number = 1
    for chunk in chunks:
        for buffer in chunk:
            view = memoryview(buffer).cast("B")
            while len(view):
                piece = view[: size - held]
                pieces.append(piece)
                held += len(piece)
                view = view[len(piece) :]
                if held == size:
                    yield Part(number, start, held, tuple(pieces))
                    number, start, held, pieces = number + 1, start + held, 0, []
    if held:
        yield Part(number, start, held, tuple(pieces))


def send_all(parts: Iterable[Part], send: Callable[[Part], R], threads: int = THREADS) -> list[R]:
    """Call `send` for each part, `threads` at a time; returns the results in the order of the parts.

    Fewer at a time where parts are so large that they would be more than 256 MiB together, but two in any case.
    `parts` is pulled in this thread, and no further than there are threads free, so memory stays bounded. After an
    error nothing more is begun; it is raised when those under way have ended, so that no thread outlives this call.
    """
    results: dict[int, R] = {}
    under_way: dict[Future[R], int] = {}

    def settle(when: str, seconds: float | None = None) -> None:
        for future in wait(under_way, seconds, when).done:
            results[under_way.pop(future)] = future.result()

    pool = ThreadPoolExecutor(threads, "modelstore-send")
    job = deadline.carried(send)
    try:
        for part in parts:
            under_way[pool.submit(job, part)] = part.number
            # Whichever ends first makes room, not the oldest: one slow part must not stop the others.
            most = min(threads, max(2, UNDER_WAY // max(part.size, 1)))
            settle(FIRST_COMPLETED, None if len(under_way) >= most else 0)
        settle(FIRST_EXCEPTION)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [results[number] for number in sorted(results)]


class Answer(Protocol):
    """A range of an object whose bytes are coming in."""

    total: int
    """Bytes in the whole object."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill as much of a buffer as comes at once; 0 at the end of the answer.

        Raises:
            StorageUnavailableError: the body broke off, or stalled.
        """

    def close(self) -> None:
        """Give the connection back or, in the middle of an answer, up."""


def fill(ask: Callable[[int, int], Answer], start: int, buffer: memoryview) -> int:
    """Fill a buffer with the bytes from `start` on, going on at the byte where an answer broke off.

    Args:
        ask: asks for the bytes from a start to an end (exclusive), both within the object or its end beyond it. It
            must answer for the same version of the object each time, and raises what it raises: a request that the
            storage refuses is not sent again here, since the SDKs have done that already.
        start: 0 or more.

    Returns:
        How many bytes there were: fewer than asked for only at the end of the object.

    Raises:
        StorageUnavailableError: `ATTEMPTS` answers in a row broke off without a byte.
        DeadlineExceededError: the time is over.
    """
    target = buffer.cast("B")
    filled = failures = 0
    wanted = len(target)
    while filled < wanted:
        deadline.remaining("reading")
        before = filled
        answer = ask(start + filled, start + wanted)
        try:
            wanted = max(filled, min(wanted, answer.total - start))
            while filled < wanted:
                count = answer.readinto(target[filled:wanted])
                if not count:
                    raise StorageUnavailableError(f"the answer ended {wanted - filled:,} bytes early")
                filled += count
                deadline.remaining("reading")
        except StorageUnavailableError:
            failures = 0 if filled > before else failures + 1
            if failures >= ATTEMPTS:
                raise
            deadline.pause(backoff(failures))
        finally:
            answer.close()
    return filled


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: at random, so that many clients do not come back at once."""
    return random.uniform(0, min(10.0, 0.1 * 2**failures))
