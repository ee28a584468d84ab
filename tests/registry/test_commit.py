"""The commit: an event is created only if absent, and lost answers are settled before anything is said."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import datetime, timedelta, timezone

import pytest

from modelstore.exceptions import (
    CommitUnknownError,
    IntegrityError,
    ModelExistsException,
    NewerFormatError,
    RecordTooLargeError,
    StorageError,
)
from modelstore.records import parse_time
from modelstore.registry import keys
from modelstore.registry.events import MAX_BYTES, Event, digest, seal
from modelstore.storage.base import Created
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import FaultyStorage, add, open_registry, record_of

FAULTS = ["ok", "lost", "lost-made", "late", "doubled"]


@pytest.mark.parametrize("script", list(itertools.product(FAULTS, repeat=3)))
def test_lost_late_and_doubled_answers_commit_exactly_once(script: tuple[str, ...]) -> None:
    """Whatever happens to the answers of three creations, two uploads end as two models, once each, without gaps."""
    storage = FaultyStorage(script)
    registry = open_registry(storage)
    add(registry, "fraud", "a")
    add(registry, "fraud", "b")
    fresh = open_registry(storage)
    assert fresh.models("fraud") == ["b", "a"]
    marks = [json.loads(storage.read(info.key))["mark"] for info in storage.list("domains/fraud/log/")]
    assert len(set(marks)) == len(marks) == 2


def test_a_writer_that_gives_up_leaves_a_void_event_so_that_its_own_can_never_appear() -> None:
    """All tries of the event get no answer; the void event is taken; the upload failed for certain."""
    storage = FaultyStorage(["lost"] * 7)
    registry = open_registry(storage)
    with pytest.raises(StorageError, match="nothing was committed"):
        add(registry, "fraud", "a")
    assert open_registry(storage).models("fraud") == []
    add(registry, "fraud", "b")
    assert open_registry(storage).models("fraud") == ["b"]


def test_a_late_event_that_beats_the_void_one_is_a_success() -> None:
    """The event appears between the last try and the void event: the writer finds its own mark there."""
    storage = FaultyStorage(["lost"] * 6 + ["late", "lost", "lost"])
    registry = open_registry(storage)
    add(registry, "fraud", "a")
    assert open_registry(storage).models("fraud") == ["a"]


def test_a_storage_that_falls_silent_is_an_unknown_outcome() -> None:
    """No answer to the event, none to the void event: the error says so and names the event."""
    registry = open_registry(FaultyStorage(["never"]))
    with pytest.raises(CommitUnknownError) as caught:
        add(registry, "fraud", "a")
    assert (caught.value.domain, caught.value.number) == ("fraud", 1)


def test_the_loser_of_a_race_checks_its_intent_again() -> None:
    """Of two writers who both found the id free, the second to commit gets ModelExistsException."""
    storage = MemoryStorage()
    first, second = open_registry(storage), open_registry(storage)
    first.check_free("fraud", "a")
    second.check_free("fraud", "a")
    add(first, "fraud", "a")
    with pytest.raises(ModelExistsException):
        add(second, "fraud", "a")
    assert second.models("fraud") == ["a"]


def test_writers_in_threads_lose_nothing() -> None:
    """Eight threads with a registry each commit 20 models: all 160 are there, numbered without gaps."""
    storage = MemoryStorage()

    def write(writer: int) -> None:
        registry = open_registry(storage)
        for number in range(20):
            registry.add("d", f"{writer}-{number}", record_of("d", f"{writer}-{number}"), {"key": f"archives/{writer}"})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(open_registry(storage).models("d"))) == 160
    numbers = [keys.parse_event_key(info.key) for info in storage.list("domains/d/log/")]
    assert numbers == list(range(1, 161))


def test_one_registry_shared_by_threads() -> None:
    """Threads that share one registry commit through one index without losing anything."""
    registry = open_registry(MemoryStorage())

    def write(writer: int) -> None:
        for number in range(10):
            registry.add("d", f"{writer}-{number}", record_of("d", f"{writer}-{number}"), {"key": f"archives/{writer}"})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(registry.models("d"))) == 80


def test_times_never_go_back() -> None:
    """An event of a writer whose clock is behind gets the time of the event before, at least."""
    storage = MemoryStorage()
    registry = open_registry(storage)
    earlier = add(registry, "d", "a").record.created
    slow = open_registry(storage)
    slow.logs.storage = storage
    storage.clock = lambda: datetime.now(timezone.utc) - timedelta(minutes=9)  # type: ignore[method-assign]
    assert add(slow, "d", "b").record.created >= earlier


def test_a_clock_far_off_the_storages_is_replaced_with_a_warning() -> None:
    """Over ten minutes off: the storage's time is recorded, and the writer is told."""
    storage = MemoryStorage()
    theirs = datetime.now(timezone.utc) + timedelta(days=3)
    storage.clock = lambda: theirs  # type: ignore[method-assign]
    registry = open_registry(storage)
    with pytest.warns(UserWarning, match="clock"):
        model = add(registry, "d", "a")
    assert model.record.created == theirs
    assert parse_time(model.record["code"]["created"]) == theirs


def test_a_record_that_does_not_fit_is_refused_and_named() -> None:
    """Over 256 KiB: the error names the largest part, and nothing is committed."""
    registry = open_registry(MemoryStorage())
    with pytest.raises(RecordTooLargeError) as caught:
        add(registry, "d", "a", tags={"big": "x" * MAX_BYTES})
    assert caught.value.largest.startswith("record.model.tags")
    assert registry.domains() == []


def test_an_unknown_critical_event_stops_a_reader_and_an_unknown_other_is_passed_over() -> None:
    """Events of a later version: critical ones ask for an upgrade, others are kept without effect."""
    storage = MemoryStorage()
    registry = open_registry(storage)
    add(registry, "d", "a")
    for number, (kind, critical) in enumerate([("praised", False), ("moved", True)], start=2):
        previous = digest(storage.read(keys.event_key("d", number - 1)))
        event = Event("d", number, kind, "2026-01-01T00:00:00.000000Z", "u", "m", previous, {}, critical)
        storage.create(keys.event_key("d", number), event.encode())
        if not critical:
            assert open_registry(storage).models("d") == ["a"]
    with pytest.raises(NewerFormatError, match="upgrade"):
        open_registry(storage).models("d")


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.replace(b'"number":2', b'"number":3'),
        lambda raw: raw.replace(b'"domain":"d"', b'"domain":"e"'),
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"[]",
        lambda raw: b'{"number": 2}',
        lambda raw: b"\xff\xfe",
        lambda raw: b"x" * (MAX_BYTES + 1),
        lambda raw: b"[" * 100_000,
        lambda raw: raw.replace(b'"body":{', b'"body":7,"was":{'),
        lambda raw: raw.replace(b'"archive":{', b'"archived":{'),
    ],
)
def test_a_damaged_event_is_found(damage: object) -> None:
    """An event that is cut, moved, oversized or no event at all is an IntegrityError, never a crash or a ghost."""
    storage = MemoryStorage()
    registry = open_registry(storage)
    for name in "abc":
        add(registry, "d", name)
    key = keys.event_key("d", 2)
    raw = storage.read(key)
    for damaged in (damage(raw), resealed(damage(raw))):  # type: ignore[operator]
        storage.write(key, [[damaged]])
        with pytest.raises(IntegrityError):
            open_registry(storage).models("d")


def resealed(raw: bytes) -> bytes:
    """The event as somebody who knows the format would write it: with a digest that fits."""
    body, found, _ = raw.rpartition(b',"sha256":')
    return seal(body + b"}") if found else seal(raw)


def test_the_last_event_of_a_log_is_checked_too() -> None:
    """Nothing follows it that could show damage by the chain: its own digest does."""
    storage = MemoryStorage()
    add(open_registry(storage), "d", "aa")
    key = keys.event_key("d", 1)
    raw = storage.read(key)
    for at in range(len(raw)):
        storage.write(key, [[raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]]])
        with pytest.raises(IntegrityError):
            open_registry(storage).models("d")


def test_a_changed_event_breaks_the_chain() -> None:
    """A model id changed by somebody who fixes the event's own digest is noticed by the event that follows."""
    storage = MemoryStorage()
    registry = open_registry(storage)
    for name in ["aa", "bb", "cc"]:
        add(registry, "d", name)
    key = keys.event_key("d", 1)
    storage.write(key, [[resealed(storage.read(key).replace(b'"aa"', b'"zz"'))]])
    with pytest.raises(IntegrityError, match="chain"):
        open_registry(storage).models("d")


def test_a_missing_event_is_found() -> None:
    """A gap in the log is an error that names the event."""
    storage = MemoryStorage()
    registry = open_registry(storage)
    for name in "abc":
        add(registry, "d", name)
    storage.delete([keys.event_key("d", 2)])
    with pytest.raises(IntegrityError, match="event 2"):
        open_registry(storage).models("d")


def test_the_marker_of_a_newer_store_is_refused() -> None:
    """A store of a later format is not opened by guessing."""
    storage = MemoryStorage()
    storage.create(keys.MARKER, b'{"format": 2, "store": "abc"}')
    with pytest.raises(NewerFormatError):
        open_registry(storage).models("d")


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b'{"format": 1, "store": "../x"}', b'{"format": "1", "store": "a"}', b"[1]"]
)
def test_a_damaged_marker_is_found(raw: bytes) -> None:
    """A marker that cannot be read is an error, and never becomes a file name."""
    storage = MemoryStorage()
    storage.create(keys.MARKER, raw)
    with pytest.raises(IntegrityError):
        open_registry(storage).models("d")


def test_the_marker_is_made_once() -> None:
    """Two first writers agree on one store id."""
    storage = MemoryStorage()
    first, second = open_registry(storage), open_registry(storage)
    assert first.logs.index() is None
    add(first, "d", "a")
    add(second, "d", "b")
    assert storage.create(keys.MARKER, b"x") is Created.REFUSED
    assert first.models("d") == ["b", "a"]
