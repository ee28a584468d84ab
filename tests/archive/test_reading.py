"""Reading: few requests, only what is needed, and nothing written where it does not belong."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from modelstore.archive import Archive
from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.limits import Limits
from modelstore.archive.opening import GUESS
from modelstore.archive.workers import for_each
from modelstore.exceptions import InvalidArgumentError, StorageError
from tests.archive.helpers import SMALL, Stored, noise, on_disk, opened, pack

BOTH = pytest.mark.parametrize("compression", [NONE, ZSTD])
FILES = {"a": b"1", "big": noise(20_000), "c/d": noise(300), "z": noise(2500)}


@BOTH
def test_one_read_of_the_end_opens_an_archive(compression: str) -> None:
    """With the record exactly from the table on; without it 64 KiB."""
    data, info = pack({**FILES, "x": noise(100_000)}, compression=compression)
    source = Stored(data)
    Archive.open(source, "it", info, limits=SMALL)
    assert source.reads == [(info.table.start, info.size)]
    source.reads.clear()
    Archive.open(source, "it", limits=SMALL)
    assert source.reads == [(info.size - GUESS, info.size)]


@BOTH
def test_a_long_table_takes_one_read_more(compression: str, tmp_path: Path) -> None:
    """An archive of thousands of files opens without its record by two reads, and whole."""
    files = {f"{number:05}": noise(20, number) for number in range(3000)}
    data, info = pack(files, compression=compression, limits=Limits())
    assert info.table.size > GUESS
    source = Stored(data)
    archive = Archive.open(source, "it")
    assert source.reads == [(info.size - GUESS, info.size), (info.table.start, info.table.start + info.table.size)]
    assert archive.info == info
    archive.extract(tmp_path / "out")
    assert on_disk(tmp_path / "out")[0] == files


@BOTH
def test_a_part_is_read_from_its_chunks_alone(compression: str, tmp_path: Path) -> None:
    """Fetching some files reads each chunk that holds them once, and no other byte."""
    data, info = pack(FILES, compression=compression)
    source = Stored(data)
    archive = Archive.open(source, "it", info, limits=SMALL)
    source.reads.clear()
    assert archive.extract(tmp_path / "out", ["c/d"]) == [file for file in archive.files if file.name == "c/d"]
    assert on_disk(tmp_path / "out") == ({"c/d": FILES["c/d"]}, set())
    assert len(source.reads) == 1
    assert sum(stop - start for start, stop in source.reads) <= SMALL.chunk
    source.reads.clear()
    assert archive.read("big") == FILES["big"]
    assert len(source.reads) == 5
    assert sum(stop - start for start, stop in source.reads) <= 5 * (SMALL.chunk + 16)


@BOTH
def test_a_full_extraction_reads_each_byte_once(compression: str, tmp_path: Path) -> None:
    """The ranges that are read are the object without its table, each byte once."""
    data, info = pack(FILES, compression=compression)
    source = Stored(data)
    archive = Archive.open(source, "it", info, limits=SMALL)
    source.reads.clear()
    archive.extract(tmp_path / "out")
    ranges = sorted(source.reads)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == info.table.start
    assert all(one[1] == two[0] for one, two in itertools.pairwise(ranges))


def test_headers_between_large_files_cost_no_read_of_their_own(tmp_path: Path) -> None:
    """Many large files take one read each: the small chunks between them come along."""
    files = {f"{number}": noise(100_000, number) for number in range(8)}
    limits = Limits(chunk=1 << 20, large=70_000)
    data, info = pack(files, limits=limits)
    assert info.chunks == 17
    source = Stored(data)
    archive = Archive.open(source, "it", info, limits=limits)
    source.reads.clear()
    archive.extract(tmp_path / "out")
    assert len(source.reads) == 8
    assert on_disk(tmp_path / "out")[0] == files


def test_what_exists_is_never_replaced(tmp_path: Path) -> None:
    """A file in the way is an error that leaves it, and the rest of the target, as it was."""
    data, info = pack(FILES, ["void"])
    for taken in ("z", "a", "big"):
        target = tmp_path / taken
        target.mkdir()
        (target / taken).write_bytes(b"mine")
        (target / "other").write_bytes(b"mine too")
        with pytest.raises(InvalidArgumentError, match="exists already"):
            opened(data, info).extract(target)
        assert on_disk(target) == ({taken: b"mine", "other": b"mine too"}, set())
    target = tmp_path / "file-for-folder"
    target.mkdir()
    (target / "c").write_bytes(b"mine")
    with pytest.raises(InvalidArgumentError, match="exists already"):
        opened(data, info).extract(target)
    assert on_disk(target) == ({"c": b"mine"}, set())


def test_an_existing_folder_is_filled(tmp_path: Path) -> None:
    """Unpacking next to other files is fine where none is in the way."""
    data, info = pack(FILES, ["void"])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine").write_bytes(b"2")
    opened(data, info).extract(tmp_path)
    assert on_disk(tmp_path) == ({**FILES, "c/mine": b"2"}, {"void"})


@pytest.mark.parametrize("link", ["a", "big", "c", "void"])
def test_links_in_the_target_are_not_followed(link: str, tmp_path: Path) -> None:
    """A link that waits in the target, for a file or for a folder, leads nothing outside."""
    data, info = pack(FILES, ["void"])
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (target / link).symlink_to(outside if link in ("c", "void") else outside / "file")
    with pytest.raises(InvalidArgumentError):
        opened(data, info).extract(target)
    assert on_disk(outside) == ({}, set())
    assert [path.name for path in target.iterdir()] == [link]


def test_too_little_space_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be unpacked is compared with what is free; a part needs only its own size."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000, 9_000, 1_000))
    data, info = pack(FILES)
    with pytest.raises(StorageError, match="1,000 bytes free"):
        opened(data, info).extract(tmp_path / "out" / "deep")
    assert list(tmp_path.iterdir()) == []
    opened(data, info).extract(tmp_path / "out" / "deep", ["c/d"])


def test_a_target_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    """The system's errors are told in the library's own terms, with the path."""
    (tmp_path / "file").write_bytes(b"")
    data, info = pack(FILES)
    with pytest.raises((StorageError, InvalidArgumentError), match="file"):
        opened(data, info).extract(tmp_path / "file" / "below")
    long, long_info = pack({"x" * 300: b"1"})
    with pytest.raises(StorageError, match="could not be written"):
        opened(long, long_info).extract(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_writing_works_without_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no pwrite (Windows), files come out the same."""
    data, info = pack(FILES)
    monkeypatch.delattr(os, "pwrite")
    opened(data, info).extract(tmp_path / "out")
    assert on_disk(tmp_path / "out")[0] == FILES


def test_an_unknown_name_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    """Asking for a file that is not there names it."""
    data, info = pack(FILES, ["void"])
    for name in ("nope", "void", "c"):
        with pytest.raises(InvalidArgumentError, match=name):
            opened(data, info).extract(tmp_path / "out", ["a", name])
        with pytest.raises(InvalidArgumentError, match=name):
            opened(data, info).read(name)
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_an_error_of_the_storage_passes_through_and_stops_all_threads(compression: str, tmp_path: Path) -> None:
    """The first error ends the extraction: no thread is left, no file is left."""
    data, info = pack({**FILES, "more": noise(400_000)}, compression=compression)

    class Failing(Stored):
        def read_into(self, start: int, buffer: memoryview) -> int:
            if start > 50_000:
                raise StorageError("the line is dead")
            return super().read_into(start, buffer)

    before = set(threading.enumerate())
    source = Failing(data)
    with pytest.raises(StorageError, match="line is dead"):
        Archive.open(source, "it", info, limits=SMALL).extract(tmp_path / "out", threads=4)
    assert len(source.reads) < 50
    assert set(threading.enumerate()) <= before
    assert list(tmp_path.iterdir()) == []


def test_threads_share_the_work_and_keep_their_buffers() -> None:
    """Each thread makes one worker, every item is worked on once, and never more threads than asked for."""
    made, done = [], []
    together = threading.Barrier(3, timeout=20)

    def make_worker():  # type: ignore[no-untyped-def]
        made.append(threading.get_ident())
        together.wait()  # only passes when three threads are at work at once
        return done.append

    for_each(make_worker, range(100), threads=3)
    assert sorted(done) == list(range(100))
    assert len(set(made)) == len(made) == 3
