"""A fill of the cache that failed: the next one goes on, and what nobody goes on with is swept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from modelstore import deadline
from modelstore.archive import Archive, ArchiveFile, Cache
from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.limits import Limits
from modelstore.archive.locks import lock
from modelstore.exceptions import DeadlineExceededError, IntegrityError, OfflineError, StorageError
from tests.archive.helpers import Stored, noise, on_disk, pack
from tests.archive.interrupted import Failing, chunks_in

LIMITS = Limits(chunk=4096, large=2048)
FILES = {"a": b"1", "sub/empty": b"", "sub/large": noise(3000), "w1": noise(2500), "w2": bytes(2500), "w3": noise(4000)}
DATA, INFO = pack(FILES, ["void"], limits=LIMITS)
DIGEST = INFO.archive_digest


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def dead() -> BaseException:
    return StorageError("the line is dead")


class Filler:
    """Fills from a source; `fetched` holds the chunks that it read."""

    def __init__(self, source: Stored | None = None) -> None:
        self.source = source or Stored(DATA)
        self.fetched: list[int] = []

    def __call__(self, target: Path, journal: Path | None) -> list[ArchiveFile]:
        archive = Archive.open(self.source, "it", INFO, limits=LIMITS)
        self.source.reads.clear()
        try:
            return archive.extract(target, journal=journal, threads=1)
        finally:
            self.fetched = chunks_in(archive, self.source.reads)


def fail(cache: Cache, good: int = 3, error: Callable[[], BaseException] = dead) -> list[int]:
    filler = Filler(Failing(DATA, good, error))
    with pytest.raises(type(error())), cache.open(DIGEST, filler):
        pass
    return filler.fetched


def left(cache: Cache) -> list[str]:
    """What lies in the cache beside entries."""
    return sorted(
        path.relative_to(cache.root).as_posix()
        for name in ("partial", "tmp", "locks")
        for path in (cache.root / name).glob("*")
    )


EVERY = sorted(range(INFO.chunks))


@pytest.mark.parametrize("error", [dead, lambda: DeadlineExceededError(1.0), KeyboardInterrupt])
def test_the_next_fill_goes_on(cache: Cache, error: Callable[[], BaseException]) -> None:
    """After an error that may pass, also by another object, the chunks that had come are not fetched again; the entry
    holds the files and nothing else.
    """
    first = fail(cache, 2, error)
    second = fail(Cache(cache.root), 2, error)
    assert left(cache) == [f"partial/{DIGEST}"]
    assert not cache.holds(DIGEST)
    filler = Filler()
    with cache.open(DIGEST, filler) as folder:
        assert on_disk(folder) == (FILES, {"void"})
        assert sorted(path.name for path in folder.parent.iterdir()) == ["entry.json", "files", "lock"]
    assert sorted([*first, *second, *filler.fetched]) == EVERY
    assert min(map(len, (first, second, filler.fetched))) > 0
    assert left(cache) == []
    with cache.open(DIGEST, filler) as folder:
        assert filler.fetched == sorted(set(EVERY) - {*first, *second})


def test_damage_is_not_gone_on_with(cache: Cache) -> None:
    """An IntegrityError leaves nothing, whether the chunks raise it or, later, the table."""
    damaged = bytearray(DATA)
    damaged[INFO.table.start - 600] ^= 1
    with pytest.raises(IntegrityError), cache.open(DIGEST, Filler(Stored(bytes(damaged)))):
        pass
    assert left(cache) == []
    fail(cache)
    assert left(cache) == [f"partial/{DIGEST}"]
    with pytest.raises(IntegrityError), cache.open(DIGEST, Filler(Stored(DATA[:-1]))):
        pass
    assert left(cache) == []


def test_a_fill_that_could_not_begin_changes_nothing(cache: Cache) -> None:
    """Offline for instance: nothing is left of it, and what an earlier one had done is still there."""

    def offline(target: Path, journal: Path | None) -> list[ArchiveFile]:
        raise OfflineError("no")

    for expected in ([], [f"partial/{DIGEST}"]):
        with pytest.raises(OfflineError), cache.open(DIGEST, offline):
            pass
        assert left(cache) == expected
        if not expected:
            done = fail(cache)
    filler = Filler()
    with cache.open(DIGEST, filler):
        assert filler.fetched == sorted(set(EVERY) - set(done))


@pytest.mark.parametrize("stage", ["read-only", "marker", "link", "file", "link inside"])
def test_whatever_a_kill_left_is_no_obstacle(cache: Cache, tmp_path: Path, stage: str) -> None:
    """Modes that were changed already, half a marker, or something that is no folder at all."""
    done = fail(cache)
    partial = cache.root / "partial" / DIGEST
    outside = tmp_path / "outside"
    outside.mkdir()
    if stage == "read-only":
        for path in [*partial.glob("files/**/*"), partial / "files"]:
            path.chmod(0o444 if path.is_file() else 0o555)
    elif stage == "marker":
        (partial / "entry.json.0123").write_bytes(b"{")
        (partial / "entry.json").write_bytes(b"{}")
    else:
        moved = partial / "files" if stage == "link inside" else partial
        moved.rename(tmp_path / "moved")
        moved.write_bytes(b"") if stage == "file" else moved.symlink_to(outside)
        done = []
    filler = Filler()
    with cache.open(DIGEST, filler) as folder:
        assert on_disk(folder) == (FILES, {"void"})
        assert sorted(path.name for path in folder.parent.iterdir()) == ["entry.json", "files", "lock"]
    assert filler.fetched == sorted(set(EVERY) - set(done))
    assert list(outside.iterdir()) == []
    assert left(cache) == []


@pytest.mark.parametrize("held", [False, True])
def test_what_nobody_goes_on_with_is_swept(cache: Cache, held: bool) -> None:
    """Three days after the last chunk, by a fill of another entry; not while somebody fills it."""
    fail(cache)
    partial = cache.root / "partial" / DIGEST
    other_data, other = pack({"w": noise(10)}, limits=LIMITS)

    def fill_another() -> None:
        def fill(target: Path, journal: Path | None) -> list[ArchiveFile]:
            return Archive.open(Stored(other_data), "it", limits=LIMITS).extract(target, journal=journal)

        with cache.open(other.archive_digest, fill):
            pass
        assert cache.purge(other.archive_digest)

    for age, there in ((2, True), (4, held)):
        for path in (partial / "journal", partial):
            os.utime(path, (time.time() - age * 86_400,) * 2)
        holder = lock(cache.root / "locks" / DIGEST, exclusive=True, create=True) if held else None
        if holder is not None:
            os.utime(holder.path, (1000, 1000))
        with holder or nullcontext():
            fill_another()
        assert partial.exists() == there
    assert left(cache) == ([f"locks/{DIGEST}", f"partial/{DIGEST}"] if held else [])


def test_purge_takes_what_there_is_of_an_entry(cache: Cache) -> None:
    """Not only whole entries."""
    fail(cache)
    assert cache.purge(DIGEST)
    assert left(cache) == []


def test_without_locks_nothing_is_gone_on_with(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes could work in one folder: each has its own, and a failed one goes."""
    monkeypatch.setattr("modelstore.archive.locks._flock", lambda descriptor, exclusive: False)
    fail(cache)
    assert left(cache) == []
    filler = Filler()
    with cache.open(DIGEST, filler) as folder:
        assert on_disk(folder) == (FILES, {"void"})
    assert filler.fetched == EVERY


def test_without_locks_nothing_is_swept(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who has locks may be filling it, however long ago the last chunk came."""
    fail(cache)
    for path in (cache.root / "partial" / DIGEST / "journal", cache.root / "partial" / DIGEST):
        os.utime(path, (1000, 1000))
    monkeypatch.setattr("modelstore.archive.locks._flock", lambda descriptor, exclusive: False)
    with cache.open(DIGEST, Filler()):
        assert left(cache) == [f"partial/{DIGEST}"]


def test_who_waits_too_long_fills_for_itself(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process fills and does not come to an end: its folder is left alone."""
    monkeypatch.setattr("modelstore.archive.cache._FILL_WAIT", 0.01)
    fail(cache)
    before = (cache.root / "partial" / DIGEST / "journal").read_bytes()
    holder = lock(cache.root / "locks" / DIGEST, exclusive=True, create=True)
    assert holder is not None
    filler = Filler()
    with holder, cache.open(DIGEST, filler) as folder:
        assert on_disk(folder) == (FILES, {"void"})
    assert filler.fetched == EVERY
    assert (cache.root / "partial" / DIGEST / "journal").read_bytes() == before


def test_the_wait_for_another_process_ends_with_the_deadline(cache: Cache) -> None:
    """Half an hour is for those who have it."""
    (cache.root / "locks").mkdir(parents=True)
    holder = lock(cache.root / "locks" / DIGEST, exclusive=True, create=True)
    assert holder is not None

    def fill(target: Path, journal: Path | None) -> list[ArchiveFile]:
        deadline.remaining("fetching")
        raise AssertionError

    with holder, pytest.raises(DeadlineExceededError), deadline.within(0.2), cache.open(DIGEST, fill):
        pass


@pytest.mark.parametrize("compression", [NONE, ZSTD])
def test_a_start_of_the_machine_in_between_loses_nothing(tmp_path: Path, compression: str) -> None:
    """What a power cut has not brought to the disk is seen when it is read back, and fetched again."""
    files = {"w1": noise(5000), "w2": noise(7000)}
    data, info = pack(files, limits=LIMITS, compression=compression)
    cache = Cache(tmp_path / "cache")

    def fill(source: Stored) -> Callable[[Path, Path | None], list[ArchiveFile]]:
        return lambda target, journal: Archive.open(source, "it", info, limits=LIMITS).extract(
            target, journal=journal, threads=1
        )

    with pytest.raises(StorageError), cache.open(info.archive_digest, fill(Failing(data, 3, dead))):
        pass
    written = cache.root / "partial" / info.archive_digest / "files" / "w1"
    size = written.stat().st_size
    os.truncate(written, 100)
    os.truncate(written, size)  # zeros, as after a crash
    with cache.open(info.archive_digest, fill(Stored(data))) as folder:
        assert on_disk(folder)[0] == files
