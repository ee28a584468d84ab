"""Joined events save requests and never change what a log means."""

from __future__ import annotations

import gzip
import json

import pytest

from modelstore.exceptions import IntegrityError
from modelstore.registry import keys
from modelstore.registry.log import gunzip
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import CountingStorage, open_registry, record_of, write_log


def fill(storage: MemoryStorage, count: int) -> None:
    registry = open_registry(storage)
    for number in range(count):
        registry.add("d", f"m{number}", record_of("d", f"m{number}"), {"key": f"archives/{number}"})


def test_a_full_segment_is_joined_as_lines_that_common_tools_read() -> None:
    """130 events: two joined files, each 64 lines of JSON in gzip, in order; the events themselves stay."""
    storage = MemoryStorage()
    fill(storage, 130)
    joined = [info.key for info in storage.list("domains/d/compact/")]
    assert joined == [keys.compact_key("d", 1, 64), keys.compact_key("d", 65, 128)]
    lines = gzip.decompress(storage.read(joined[1])).splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(65, 129))
    assert len(list(storage.list("domains/d/log/"))) == 130


def test_a_log_made_straight_is_what_commits_leave() -> None:
    """The logs that other tests make for speed have the keys and joined files that 200 commits leave."""
    committed, straight = MemoryStorage(), MemoryStorage()
    fill(committed, 200)
    write_log(straight, "d", 200)
    assert [info.key for info in straight.list("")] == [info.key for info in committed.list("")]


def test_blocks_are_joined_by_concatenation(monkeypatch: pytest.MonkeyPatch) -> None:
    """With blocks of four segments: the block's file is the segments' files one after the other."""
    monkeypatch.setattr(keys, "BLOCK", 4 * keys.SEGMENT)
    storage = MemoryStorage()
    fill(storage, 256)
    block = storage.read(keys.compact_key("d", 1, 256))
    assert block == b"".join(storage.read(keys.compact_key("d", n, n + 63)) for n in range(1, 257, 64))
    assert len(open_registry(storage).models("d")) == 256


def test_a_fresh_reader_of_10000_events_needs_few_requests() -> None:
    """10,000 models: at most 250 object reads; blocks of 4,096 events are one object each."""
    storage = CountingStorage()
    write_log(storage, "d", 10_000)
    reader = open_registry(storage)
    storage.requests.clear()
    assert len(reader.models("d")) == 10_000
    reads = [key for verb, key in storage.requests if verb == "read"]
    assert len(reads) == 1 + 2 + (9984 - 8192) // 64 + 16  # marker, two blocks, segments, the tail
    assert len(reads) <= 250
    assert len(storage.requests) - len(reads) <= 3


def test_a_domain_of_one_model_needs_four_requests() -> None:
    """Fresh machine, one model: the marker, the joined files' listing, the segment's listing, the event."""
    storage = CountingStorage()
    fill(storage, 1)
    reader = open_registry(storage)
    storage.requests.clear()
    reader.find("d", "m0")
    assert [verb for verb, _ in storage.requests] == ["read", "list", "list", "read"]


@pytest.mark.parametrize(
    "damage",
    [b"", b"no gzip", gzip.compress(b"one line\n", mtime=0), gzip.compress(b"x\n" * 64, mtime=0)[:-9]],
    ids=["empty", "no gzip", "too few", "cut"],
)
def test_a_damaged_joined_file_is_passed_over(damage: bytes) -> None:
    """The events themselves are read instead."""
    storage = MemoryStorage()
    fill(storage, 70)
    storage.write(keys.compact_key("d", 1, 64), [[damage]])
    assert len(open_registry(storage).models("d")) == 70


def test_a_joined_file_with_false_events_is_found() -> None:
    """Lines of the right number that are not the log's events break the chain."""
    storage = MemoryStorage()
    fill(storage, 70)
    key = keys.compact_key("d", 1, 64)
    lines = gzip.decompress(storage.read(key)).replace(b'"m5"', b'"mX"')
    storage.write(key, [[gzip.compress(lines)]])
    with pytest.raises(IntegrityError, match="event 6"):
        open_registry(storage).models("d")


def test_without_joined_files_a_reader_reads_the_events() -> None:
    """Compaction is not needed for reading."""
    storage = MemoryStorage()
    fill(storage, 200)
    storage.delete([info.key for info in storage.list("domains/d/compact/")])
    assert len(open_registry(storage).models("d")) == 200


def test_segments_that_nobody_joined_are_joined_by_the_next_writer_to_fill_one() -> None:
    """A writer that died before joining leaves work that the next full segment does."""
    storage = MemoryStorage()
    fill(storage, 100)
    storage.delete([keys.compact_key("d", 1, 64)])
    registry = open_registry(storage)
    for number in range(100, 128):
        registry.add("d", f"m{number}", record_of("d", f"m{number}"), {"key": f"archives/{number}"})
    assert [info.key for info in storage.list("domains/d/compact/")] == [
        keys.compact_key("d", 1, 64),
        keys.compact_key("d", 65, 128),
    ]


def test_a_reader_far_behind_uses_joined_files() -> None:
    """Hundreds of new events are read from the joined files, not one by one."""
    storage = CountingStorage()
    fill(storage, 10)
    reader = open_registry(storage)
    reader.models("d")
    registry = open_registry(storage)
    for number in range(10, 330):
        registry.add("d", f"m{number}", record_of("d", f"m{number}"), {"key": f"archives/{number}"})
    storage.requests.clear()
    assert len(reader.models("d")) == 330
    assert len(storage.requests) < 25


def test_a_gzip_bomb_is_stopped() -> None:
    """Decompression ends at the size that so many events can have."""
    with pytest.raises(IntegrityError):
        gunzip(gzip.compress(b"0" * 10_000_000), 1_000_000)
