"""Reading a log: what has been added since the event that one knows.

Numbers are read without gaps, each event is checked against the digest of the one before. Joined files are used
where there are any; a reader works without them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from modelstore.deadline import carried
from modelstore.exceptions import IntegrityError, ObjectNotFoundError
from modelstore.registry import keys
from modelstore.registry.events import FIRST_PREVIOUS, MAX_BYTES, digest
from modelstore.storage.base import ObjectInfo, Storage

THREADS = 16
"""Objects read at the same time; latency is what it is about, not bandwidth."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Position:
    """The last event of a log that one has folded."""

    number: int = 0
    digest: str = FIRST_PREVIOUS
    etag: str = ""
    """What the storage's listing said of it; empty when it was not asked."""
    time: str = ""


class LogReplacedError(Exception):
    """The event that one remembers is not there any more: another log lies at this address."""


@dataclass(frozen=True)
class NewEvents:
    """Raw events in the order of their numbers, and the etag of the last one if a listing told it."""

    events: list[bytes]
    etag: str


def read_new(storage: Storage, domain: str | None, position: Position) -> NewEvents:
    """All events after `position`.

    Costs one listing when there are few; from the start of a long log, one listing of the joined files, one for
    each segment that they leave, and one read for each file and event, in parallel.

    Raises:
        LogReplacedError: the event at `position` is not the remembered one.
        IntegrityError: an event is missing in between.
    """
    if position.number == 0:
        joined, reached = _read_joined(storage, domain, 0)
        return _with_tail(storage, domain, joined, reached)
    listed = _list_segment(storage, domain, position.number)
    known = listed.get(position.number)
    if known is None or not _same(storage, domain, position, known):
        raise LogReplacedError
    last = max(listed)
    if last % keys.SEGMENT == 0 and last != position.number:
        # Far behind, perhaps: joined files save many reads, and cost one listing.
        joined, reached = _read_joined(storage, domain, position.number)
        if joined:
            return _with_tail(storage, domain, joined, reached)
    numbers = list(range(position.number + 1, last + 1))
    return _with_tail(storage, domain, _read_events(storage, domain, numbers), last, known=listed[last])


def _with_tail(
    storage: Storage, domain: str | None, events: list[bytes], reached: int, known: ObjectInfo | None = None
) -> NewEvents:
    """Go on after event `reached` segment by segment until one is not full."""
    etag = known.etag if known else ""
    while reached % keys.SEGMENT == 0:
        listed = _list_segment(storage, domain, reached + 1)
        if not listed:
            break
        last = max(listed)
        events += _read_events(storage, domain, range(reached + 1, last + 1))
        reached, etag = last, listed[last].etag
    return NewEvents(events, etag)


def _same(storage: Storage, domain: str | None, position: Position, listed: ObjectInfo) -> bool:
    if position.etag and listed.etag == position.etag:
        return True
    return digest(read_event(storage, domain, position.number)) == position.digest


def _list_segment(storage: Storage, domain: str | None, number: int) -> dict[int, ObjectInfo]:
    listed = {}
    for info in storage.list(keys.segment_prefix(domain, number)):
        found = keys.parse_event_key(info.key)
        if found is not None and keys.event_key(domain, found) == info.key:
            listed[found] = info
    return listed


def _read_events(storage: Storage, domain: str | None, numbers: Iterable[int]) -> list[bytes]:
    """Read by number, not by what was listed: a listing that runs beside a writer may show event 5 and not 4."""

    def read(number: int) -> bytes:
        try:
            return read_event(storage, domain, number)
        except ObjectNotFoundError as error:
            log = "the store's log" if domain is None else f"the log of {domain!r}"
            raise IntegrityError(log, f"event {number}", "it is missing, and later ones are there") from error

    return in_parallel(read, list(numbers))


def read_event(storage: Storage, domain: str | None, number: int) -> bytes:
    """One event as it is stored.

    Raises:
        ObjectNotFoundError: there is none of this number.
        IntegrityError: it is larger than events are.
    """
    raw = storage.read(keys.event_key(domain, number), 0, MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise IntegrityError(keys.event_key(domain, number), "event", f"it is larger than {MAX_BYTES:,} bytes")
    return raw


def _read_joined(storage: Storage, domain: str | None, after: int) -> tuple[list[bytes], int]:
    """The events after `after` that joined files hold without a gap, and the number of the last one."""
    available: dict[int, int] = {}
    for info in storage.list(keys.compact_prefix(domain)):
        span = keys.parse_compact_key(info.key)
        if span is not None and span[0] <= span[1]:
            available[span[0]] = max(span[1], available.get(span[0], 0))
    chosen: list[tuple[int, int]] = []
    at = keys.segment_start(after + 1)
    while at in available:
        chosen.append((at, available[at]))
        at = available[at] + 1
    if not chosen:
        return [], after

    def read(span: tuple[int, int]) -> list[bytes] | None:
        try:
            return _split(storage.read(keys.compact_key(domain, *span)), *span)
        except (ObjectNotFoundError, IntegrityError):
            return None  # joined files only save requests: the events themselves are still there

    events: list[bytes] = []
    reached = after
    for (first, last), lines in zip(chosen, in_parallel(read, chosen), strict=True):
        if lines is None:
            lines = _read_events(storage, domain, range(first, last + 1))
        events += lines[max(0, after + 1 - first) :]
        reached = last
    return events, reached


def _split(data: bytes, first: int, last: int) -> list[bytes]:
    limit = (last - first + 1) * MAX_BYTES
    lines = gunzip(data, limit).splitlines(keepends=True)
    if len(lines) != last - first + 1:
        raise IntegrityError(f"{first}-{last}", "joined events", f"it holds {len(lines)} events")
    return lines


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompress all members of a gzip file.

    Raises:
        IntegrityError: damaged, or more than `limit` bytes come out.
    """
    out = bytearray()
    try:
        while data:
            member = zlib.decompressobj(wbits=31)
            out += member.decompress(data, limit - len(out) + 1)
            if len(out) > limit or not member.eof:
                raise IntegrityError("joined events", "gzip", "it is cut short, or larger than its events can be")
            data = member.unused_data
    except zlib.error as error:
        raise IntegrityError("joined events", "gzip", str(error)) from error
    return bytes(out)


def in_parallel(function: Callable[[T], R], items: list[T]) -> list[R]:
    """`map` over threads, in order; without any for a few items."""
    if len(items) < 4:
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(THREADS, len(items)), "modelstore-read") as pool:
        return list(pool.map(carried(function), items))
