"""An extraction that was cut off goes on with what it has, and never believes a wrong byte."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import namedtuple
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from modelstore import deadline
from modelstore.archive import chunks as chunks_module
from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.journal import _line
from modelstore.exceptions import DeadlineExceededError, IntegrityError, StorageError, StorageUnavailableError
from tests.archive.helpers import Stored, noise, on_disk, pack
from tests.archive.interrupted import Case, Failing

BOTH = pytest.mark.parametrize("compression", [NONE, ZSTD])
FILES = {
    "a": b"1",
    "b/one": noise(300),
    "b/two": b"",
    "huge": noise(9000) + bytes(9000),
    "large": noise(2500),
    "z/small": noise(700),
    "z/zeros": bytes(12_000),
}
ERRORS: list[Callable[[], BaseException]] = [
    lambda: StorageError("the line is dead"),
    lambda: StorageUnavailableError("try again"),
    lambda: DeadlineExceededError(1.0, "reading"),
    KeyboardInterrupt,
    MemoryError,
]


def case(folder: Path, compression: str = NONE) -> Case:
    data, info = pack(FILES, ["void", "void2/deep"], compression=compression)
    return Case(data, info, FILES, folder)


def interrupt(
    this: Case, good: int, names: list[str] | None = None, error: Callable[[], BaseException] = ERRORS[0]
) -> None:
    with pytest.raises((StorageError, KeyboardInterrupt, MemoryError)):
        this.extract(Failing(this.data, good, error), names)


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[at % len(data)] ^= 0x20
        path.write_bytes(data)


def _cut(path: Path, at: int) -> None:
    os.truncate(path, at % (path.stat().st_size + 1))


def _grow(path: Path, at: int) -> None:
    with path.open("ab") as file:
        file.write(bytes(at % 700))


def _link(path: Path, at: int) -> None:
    outside = next((folder.parent for folder in path.parents if folder.name == "files"), path.parent)
    copy = Path(tempfile.mkdtemp(dir=outside)) / "copy"
    path.rename(copy)
    (path.symlink_to if at % 2 else path.hardlink_to)(copy)


def _folder(path: Path, at: int) -> None:
    path.unlink()
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_bytes(b"")


def _stray(path: Path, at: int) -> None:
    (path.parent / f"stray{at % 3}").mkdir(exist_ok=True)
    (path.parent / f"stray{at % 3}" / "x").write_bytes(b"")
    path.with_name("sitecustomize.py").write_bytes(b"evil")


FILE_DAMAGE = [_flip, _cut, _grow, _link, _folder, _stray, lambda path, at: path.unlink(), lambda p, at: p.chmod(0o444)]
JOURNAL_DAMAGE = [_flip, _cut, _grow, _link, lambda path, at: path.unlink(), lambda path, at: path.write_bytes(b"")]
_DAMAGE = st.lists(
    st.tuples(st.booleans(), st.integers(0, 99), st.integers(0, 20_000)),
    max_size=3,
)
_NAMES = st.one_of(st.none(), st.none(), st.lists(st.sampled_from(sorted(FILES)), min_size=1, unique=True))


@given(
    compression=st.sampled_from([NONE, ZSTD]),
    attempts=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(ERRORS), _NAMES, _DAMAGE), min_size=1, max_size=3),
    names=_NAMES,
    threads=st.sampled_from([1, 3]),
)
@settings(max_examples=250, deadline=None)
def test_only_what_is_not_whole_on_disk_is_fetched_again(
    compression: str, attempts: list[Any], names: list[str] | None, threads: int
) -> None:
    """However often it is cut off, by whatever error, and whatever happens to journal and files in between: the chunks
    that are fetched are those that are not noted or not right, each once, and the files that come out are right.
    """
    with tempfile.TemporaryDirectory() as folder:
        this = case(Path(folder), compression)
        good: set[bytes] = set()
        for reads, error, some, damage in attempts:
            there = set(this.lines())
            with suppress(StorageError, KeyboardInterrupt, MemoryError):
                this.extract(Failing(this.data, reads, error), some, threads)
            good = {line for line in this.lines() if line in good or line not in there}
            for of_journal, which, at in damage:
                paths = sorted(path for path in this.target.rglob("*") if path.is_file())
                if of_journal and this.journal.is_file():
                    JOURNAL_DAMAGE[which % len(JOURNAL_DAMAGE)](this.journal, at)
                elif not of_journal and paths:
                    path = paths[at % len(paths)]
                    if path.is_file():
                        FILE_DAMAGE[which % len(FILE_DAMAGE)](path, at)
        whole = this.whole(good, names)
        assert this.extract(names=names, threads=threads) == sorted(this.wanted(names) - whole)
        found, empty = on_disk(this.target)
        assert found == {name: data for name, data in FILES.items() if names is None or name in names}
        assert empty == ({"void", "void2/deep"} if names is None else set())
        assert this.extract(names=names) == []


@BOTH
@pytest.mark.parametrize("good", range(9))
def test_every_chunk_that_came_is_kept(tmp_path: Path, compression: str, good: int) -> None:
    """After `good` reads the next attempt makes the rest of them, and no other."""
    this = case(tmp_path, compression)
    source = Stored(this.data)
    every = this.over(source)
    source.reads.clear()
    every.extract(tmp_path / "once", threads=1)
    interrupt(this, min(good, len(source.reads) - 1))
    again = Stored(this.data)
    this.extract(again)
    assert again.reads == source.reads[min(good, len(source.reads) - 1) :]
    assert on_disk(this.target) == on_disk(tmp_path / "once")


@BOTH
def test_several_threads_note_what_they_have_done(tmp_path: Path, compression: str) -> None:
    """Chunks that were under way when another thread met the error are kept too, and no chunk is fetched twice."""
    this = case(tmp_path, compression)
    source = Failing(this.data, 4, ERRORS[0])
    with pytest.raises(StorageError, match="line is dead"):
        this.extract(source, threads=4)
    again = Stored(this.data)
    this.extract(again, threads=4)
    assert len(source.reads) == 4
    assert not set(source.reads) & set(again.reads)
    assert on_disk(this.target)[0] == FILES


@BOTH
def test_made_up_notes_are_not_believed(tmp_path: Path, compression: str) -> None:
    """A journal whose checks all hold and that names every chunk as done is only a list of what to look at."""
    this = case(tmp_path, compression)
    interrupt(this, 3)
    honest = this.lines()
    done = {int(line.split()[0]) for line in honest}
    chunks = [chunk for chunk in sorted(this.wanted() - done) if this.archive._parts[chunk]]
    made_up = [_line(f"{chunk} {'0' * 64}") for chunk in chunks]
    this.journal.write_bytes(
        b"\n".join([this.journal.read_bytes(), *made_up, _line("7000 -"), _line("1" * 5000 + " -")])
    )
    # In an uncompressed archive the table has the digests: what is right on disk (zeros) is right whoever says so.
    whole = this.whole(honest + made_up if compression == NONE else honest)
    assert this.extract() == sorted(this.wanted() - whole)
    assert on_disk(this.target)[0] == FILES


def test_a_journal_that_agrees_with_wrong_files_costs_one_more_round(tmp_path: Path) -> None:
    """Pieces of a compressed archive have no digest in the table: if the whole file's does not hold, everything is
    fetched again, once.
    """
    from modelstore.archive.digests import sha256

    this = case(tmp_path, ZSTD)
    this.extract()
    piece = this.files["huge"][:4096]
    _flip(this.target / "huge", 7)
    wrong = (this.target / "huge").read_bytes()[:4096]
    lines = this.journal.read_bytes().split(b"\n")
    (index,) = [number for number, line in enumerate(lines) if sha256([piece]).hex().encode() in line]
    lines[index] = _line(f"{int(lines[index].split()[0])} {sha256([wrong]).hex()}")
    this.journal.write_bytes(b"\n".join(lines))
    assert this.extract() == sorted(this.wanted())
    assert on_disk(this.target) == (FILES, {"void", "void2/deep"})
    assert this.extract() == []


@BOTH
def test_damage_in_the_storage_leaves_nothing(tmp_path: Path, compression: str) -> None:
    """What cannot pass by trying again is forgotten: files and journal go, also those of an earlier attempt."""
    this = case(tmp_path, compression)
    interrupt(this, 3)
    damaged = bytearray(this.data)
    damaged[this.info.table.start - 600] ^= 1
    with pytest.raises(IntegrityError):
        this.extract(Stored(bytes(damaged)))
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_another_archive_is_replaced(tmp_path: Path) -> None:
    """Its notes say nothing about this one, though the files have the same names and sizes."""
    this = case(tmp_path)
    others = {**FILES, "huge": bytes(9000) + noise(9000), "a": b"2"}
    data, info = pack(others, ["void"])
    interrupt(Case(data, info, others, tmp_path), 5)
    assert this.extract() == sorted(this.wanted())
    assert on_disk(this.target) == (FILES, {"void", "void2/deep"})


def test_a_full_disk_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there is space, it goes on; only what is still to be written must fit."""
    this = case(tmp_path)
    real, left = os.pwrite, [4]

    def filling(file: int, data: Any, start: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(file, data, start)

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", filling)
        with pytest.raises(StorageError, match="No space left"):
            this.extract()
    whole = this.whole(this.lines())
    rest = sum(part.size for chunk in this.wanted() - whole for part in this.archive._parts[chunk])
    assert whole
    assert 0 < rest < sum(map(len, FILES.values()))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, rest - 1))
    with pytest.raises(StorageError, match="bytes free"):
        this.extract()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, rest))
    assert this.extract() == sorted(this.wanted() - whole)
    assert on_disk(this.target)[0] == FILES


def test_a_journal_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    """It would only have saved time later."""
    this = case(tmp_path)
    this.journal = tmp_path / "no" / "journal"
    assert this.extract() == sorted(this.wanted())
    assert on_disk(this.target)[0] == FILES


def test_a_deadline_holds_while_what_is_there_is_checked(tmp_path: Path) -> None:
    """Reading back gigabytes takes time as fetching does; what is there stays."""
    this = case(tmp_path)
    interrupt(this, 4)
    before = this.lines()
    archive = this.over(Stored(this.data))
    with pytest.raises(DeadlineExceededError), deadline.within(1e-9):
        archive.extract(this.target, journal=this.journal)
    assert this.lines() == before
    whole = this.whole(before)
    assert this.extract() == sorted(this.wanted() - whole)


@BOTH
def test_no_byte_is_hashed_for_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    """With a journal as many bytes are hashed, and nothing is synced, as without."""
    hashed: list[int] = []
    real = chunks_module.sha256
    monkeypatch.setattr(chunks_module, "sha256", lambda buffers: (hashed.append(len(buffers[0])), real(buffers))[1])
    monkeypatch.setattr(os, "fsync", lambda file: pytest.fail("synced"))
    this = case(tmp_path, compression)
    this.archive.extract(tmp_path / "without", threads=1)
    without = hashed.copy()
    hashed.clear()
    this.extract()
    assert hashed == without
