"""Parts and ranges: every byte once, in order, whatever breaks, and no more in memory than is on its way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from modelstore import deadline
from modelstore.exceptions import DeadlineExceededError, ObjectNotFoundError, StorageUnavailableError
from modelstore.storage import transfer
from modelstore.storage.transfer import MIB, Part, cut, fill, part_size, send_all

# -- parts ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 5 * 1024**4), st.sampled_from([10_000, 50_000, 32]))
def test_every_size_fits(expected: int, most: int) -> None:
    """Parts are whole MiB, not smaller than asked, and with a tenth more than expected they are still not too many."""
    size = part_size(expected, most)
    assert size % MIB == 0
    assert size >= transfer.PART
    assert expected * 11 // 10 <= size * most * 101 // 100
    assert size == transfer.PART or (size - MIB) * most * 9 < expected * 10, "no larger than it must be"


def test_five_terabytes_fit() -> None:
    """The largest object of S3 takes fewer than its 10,000 parts, none above 5 GiB."""
    for expected in (5 * 10**12, 5 * 1024**4):
        size = part_size(expected, 10_000, 5 * MIB)
        assert -(-expected // size) <= 9_001
        assert size < 5 * 1024**3
    assert part_size(0, 10_000) == transfer.PART
    assert part_size(0, 10_000, 5 * MIB) == 5 * MIB


@given(st.lists(st.lists(st.binary(max_size=40), max_size=5), max_size=12), st.integers(1, 64))
def test_cutting_keeps_every_byte_in_order(chunks: list[list[bytes]], size: int) -> None:
    """Parts are numbered from 1, follow each other, have the same size but for the last, and hold what came."""
    parts = list(cut(iter(chunks), size))
    assert b"".join(bytes(piece) for part in parts for piece in part.pieces) == b"".join(map(b"".join, chunks))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.start for part in parts] == [number * size for number in range(len(parts))]
    assert all(part.size == size for part in parts[:-1])
    assert all(0 < part.size <= size and sum(map(len, part.pieces)) == part.size for part in parts)
    assert all(len(piece) for part in parts for piece in part.pieces)


def test_cutting_copies_nothing() -> None:
    """The pieces are views of the buffers that came, of single bytes whatever the buffers were of."""
    buffers: list[Any] = [bytearray(10), memoryview(bytearray(16)).cast("d"), b"abc"]
    parts = list(cut([buffers[:1], buffers[1:]], 12))
    owners = [piece.obj for part in parts for piece in part.pieces]
    assert [id(owner) for owner in owners] == [
        id(buffers[0]), id(buffers[1].obj), id(buffers[1].obj), id(buffers[1].obj), id(buffers[2]),
    ]  # fmt: skip
    assert {piece.format for part in parts for piece in part.pieces} == {"B"}


def test_a_part_comes_with_its_last_byte() -> None:
    """No further chunk is asked for before a part that is full is given."""
    asked: list[int] = []

    def chunks() -> Iterator[list[bytes]]:
        for number in range(4):
            asked.append(number)
            yield [b"x" * 10]

    parts = cut(chunks(), 20)
    assert next(parts).size == 20
    assert asked == [0, 1]
    assert next(parts).size == 20
    assert asked == [0, 1, 2, 3]


# -- sending --------------------------------------------------------------------------------------------------------


def numbered(count: int) -> list[Part]:
    return list(cut([[bytes(count)]], 1))


def no_thread_is_left() -> bool:
    return not any(thread.name.startswith("modelstore-send") for thread in threading.enumerate())


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_results_come_in_the_order_of_the_parts(waits: list[int], threads: int) -> None:
    """However long each takes, results are in order, no more than `threads` are under way, and all threads end."""
    lock, under_way, most = threading.Lock(), [0], [0]

    def send(part: Part) -> int:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(waits[part.number - 1] / 1000)
        with lock:
            under_way[0] -= 1
        return part.number

    assert send_all(numbered(len(waits)), send, threads) == list(range(1, len(waits) + 1))
    assert most[0] <= threads
    assert no_thread_is_left()


def test_parts_are_pulled_as_threads_come_free() -> None:
    """With every thread busy no further part is asked for; the one that comes free first takes the next."""
    pulled: list[int] = []
    released = [threading.Event() for _ in range(10)]

    def parts() -> Iterator[Part]:
        for part in numbered(10):
            pulled.append(part.number)
            yield part

    def send(part: Part) -> int:
        assert released[part.number - 1].wait(30)
        return part.number

    def settled(count: int) -> bool:
        until = time.monotonic() + 10
        while len(pulled) < count and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.05)
        return len(pulled) == count

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send_all, parts(), send, 3)
        assert settled(3)
        released[1].set()  # not the oldest
        assert settled(4)
        for event in released:
            event.set()
        assert sending.result(30) == list(range(1, 11))


@pytest.mark.parametrize(("size", "most"), [(16 * MIB, 8), (32 * MIB, 8), (100 * MIB, 2), (530 * MIB, 2)])
def test_few_large_parts_at_once(size: int, most: int) -> None:
    """Parts under way are 256 MiB together at most, or two: those of a model of 5 TB would not fit eight at a time."""
    lock = threading.Lock()
    under_way = highest = 0

    def send(part: Part) -> None:
        nonlocal under_way, highest
        with lock:
            under_way += 1
            highest = max(highest, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1

    send_all((Part(number, number * size, size, (memoryview(b"x"),)) for number in range(1, 25)), send)
    assert highest == most


def test_after_an_error_nothing_more_is_begun() -> None:
    """The error of any part, not only the oldest one's, ends the sending once those under way have ended."""
    begun: list[int] = []
    ended: list[int] = []
    failed = threading.Event()

    def send(part: Part) -> None:
        begun.append(part.number)
        if part.number == 3:
            failed.set()
            raise StorageUnavailableError("part 3")
        assert failed.wait(30)
        time.sleep(0.05)
        ended.append(part.number)

    with pytest.raises(StorageUnavailableError, match="part 3"):
        send_all(numbered(50), send, 3)
    assert sorted(begun) == [1, 2, 3]
    assert sorted(ended) == [1, 2]
    assert no_thread_is_left()


@pytest.mark.parametrize("error", [ValueError("of the chunks"), OSError(5, "of the chunks"), KeyboardInterrupt()])
def test_an_error_of_the_chunks_passes_through(error: BaseException) -> None:
    """That very error is raised, after the parts under way have ended, and no thread is left."""
    ended: list[int] = []

    def chunks() -> Iterator[list[bytes]]:
        yield [b"abc"]
        raise error

    def send(part: Part) -> None:
        time.sleep(0.02)
        ended.append(part.number)

    with pytest.raises(type(error)) as caught:
        send_all(cut(chunks(), 1), send, 8)
    assert caught.value is error
    assert len(ended) <= 3
    assert no_thread_is_left()


def test_sending_knows_the_deadline() -> None:
    """The threads that send are under the deadline of the call."""
    with deadline.within(60):
        lefts = send_all(numbered(5), lambda part: deadline.remaining(), 2)
    assert all(left is not None and 0 < left <= 60 for left in lefts)


# -- ranges ---------------------------------------------------------------------------------------------------------


class Broken:
    """An object whose answers break off after so many bytes each, and come in pieces of some size."""

    def __init__(self, content: bytes, breaks: list[int], piece: int = 7, silent_end: bool = False) -> None:
        self.content = content
        self.breaks = list(breaks)
        self.piece = piece
        self.silent_end = silent_end
        self.asked: list[tuple[int, int]] = []
        self.open = 0

    def __call__(self, start: int, end: int) -> _Answer:
        self.asked.append((start, end))
        self.open += 1
        return _Answer(self, self.content[start:end], self.breaks.pop(0) if self.breaks else None)


class _Answer:
    def __init__(self, source: Broken, rest: bytes, left: int | None) -> None:
        self.source = source
        self.total = len(source.content)
        self.rest = rest
        self.left = left

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), self.source.piece, len(self.rest))
        if self.left is not None:
            if self.left == 0 and self.rest:
                if self.source.silent_end:
                    return 0
                raise StorageUnavailableError("reset")
            size = min(size, self.left)
            self.left -= size
        buffer[:size] = self.rest[:size]
        self.rest = self.rest[size:]
        return size

    def close(self) -> None:
        self.source.open -= 1


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "backoff", lambda failures: 0.0)


@given(
    st.binary(max_size=200),
    st.integers(0, 220),
    st.integers(0, 220),
    st.lists(st.integers(0, 30), max_size=12),
    st.integers(1, 50),
    st.booleans(),
)
def test_any_sequence_of_breaks_gives_the_same_bytes(
    content: bytes, start: int, length: int, breaks: list[int], piece: int, silent_end: bool
) -> None:
    """Each answer begins where the last one broke off; only breaks in a row without any byte are given up on."""
    source = Broken(content, breaks, piece, silent_end)
    buffer = bytearray(b"." * length)
    expected = content[start : start + length]
    try:
        count = fill(source, start, memoryview(buffer))
    except StorageUnavailableError:
        run = breaks[len(source.asked) - transfer.ATTEMPTS : len(source.asked)]
        assert run == [0] * transfer.ATTEMPTS
        return
    finally:
        assert source.open == 0, "every answer is closed"
    assert count == len(expected)
    assert bytes(buffer) == expected + b"." * (length - len(expected))
    starts = [asked for asked, _ in source.asked]
    assert starts == sorted(starts)


def test_it_gives_up_after_some_attempts() -> None:
    """Answers without a byte are asked for again a few times; a byte in between begins the count anew."""
    source = Broken(bytes(100), [0] * (transfer.ATTEMPTS - 1) + [1] + [0] * (transfer.ATTEMPTS - 1))
    assert fill(source, 0, memoryview(bytearray(100))) == 100
    assert len(source.asked) == 2 * transfer.ATTEMPTS
    source = Broken(bytes(100), [50] + [0] * 100)
    with pytest.raises(StorageUnavailableError, match="reset"):
        fill(source, 0, memoryview(bytearray(100)))
    assert len(source.asked) == 1 + transfer.ATTEMPTS


def test_what_asking_raises_passes_through() -> None:
    """A refused request is not sent again: the SDK has done that."""
    asked: list[int] = []

    def ask(start: int, end: int) -> transfer.Answer:
        asked.append(start)
        raise ObjectNotFoundError("a/b", "s3://bucket/")

    with pytest.raises(ObjectNotFoundError):
        fill(ask, 0, memoryview(bytearray(10)))
    assert asked == [0]


def test_nothing_is_asked_for_an_empty_buffer() -> None:
    """A range of no bytes costs no request."""
    source = Broken(bytes(10), [])
    assert fill(source, 3, memoryview(bytearray(0))) == 0
    assert source.asked == []


def test_buffers_of_other_items_are_filled_by_bytes() -> None:
    """A buffer of floats takes as many bytes as it has."""
    buffer = memoryview(bytearray(16)).cast("d")
    assert fill(Broken(bytes(range(16)), [3, 5]), 0, buffer) == 16
    assert buffer.tobytes() == bytes(range(16))


def test_reading_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that drips, or breaks off again and again, ends with the deadline."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Dripping(_Answer):
        def readinto(self, buffer: memoryview) -> int:
            now[0] += 1
            return super().readinto(buffer[:1])

    source = Broken(bytes(100), [])
    with deadline.within(10), pytest.raises(DeadlineExceededError):
        fill(lambda start, end: Dripping(source, source.content[start:end], None), 0, memoryview(bytearray(100)))
    assert 10 <= now[0] <= 11

    monkeypatch.setattr(transfer, "backoff", lambda failures: 3.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    now[0] = 0.0
    with deadline.within(10), pytest.raises(DeadlineExceededError):
        fill(Broken(bytes(100), [1] * 100), 0, memoryview(bytearray(100)))
    assert now[0] <= 10


def test_pauses_grow_and_stay_bounded() -> None:
    """The pause after a failure is drawn from a span that doubles, up to ten seconds."""
    for failures, most in [(0, 0.1), (1, 0.2), (4, 1.6), (7, 10.0), (60, 10.0)]:
        drawn = [BACKOFF(failures) for _ in range(200)]
        assert min(drawn) >= 0
        assert most / 2 < max(drawn) <= most


BACKOFF = transfer.backoff
