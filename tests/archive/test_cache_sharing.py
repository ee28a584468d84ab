"""The cache among threads and processes, and at its limit."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelstore.archive import ArchiveFile, Cache
from modelstore.archive.limits import Limits
from tests.archive.cached import DIGEST, FILES, Filler, marker
from tests.archive.helpers import noise, on_disk, pack


@pytest.fixture
def fill() -> Filler:
    return Filler()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def entries(count: int) -> Iterator[tuple[str, Filler]]:
    for number in range(count):
        data, info = pack({"w": noise(1000, number)}, limits=Limits())
        yield info.archive_digest, Filler(data)


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    """Beyond the limit entries go in the order of their last use, which an opening renews."""
    cache = Cache(tmp_path / "cache", limit=3000)
    made = list(entries(4))
    for age, (digest, fill) in enumerate(made[:3]):
        with cache.open(digest, fill):
            pass
        os.utime(marker(cache, digest), (1000 + age, 1000 + age))
    with cache.open(*made[0]):  # renewed
        pass
    with cache.open(*made[3]):
        pass
    assert [cache.holds(digest) for digest, _ in made] == [True, False, True, True]
    assert list((cache.root / "tmp").iterdir()) == []


def test_an_entry_in_use_is_never_evicted(tmp_path: Path) -> None:
    """Not by the limit and not by purge; once it is free it goes with the next."""
    cache = Cache(tmp_path / "cache", limit=1000)
    (first, fill_first), (second, fill_second), (third, fill_third) = entries(3)
    with cache.open(first, fill_first) as folder:
        with cache.open(second, fill_second):
            assert cache.holds(first)
            assert cache.holds(second)
        assert not cache.purge(first)
        assert (folder / "w").read_bytes() == noise(1000, 0)
    with cache.open(third, fill_third):
        pass
    assert [cache.holds(digest) for digest in (first, second, third)] == [False, False, True]
    assert cache.purge(third)
    assert cache.purge(third)  # already gone
    assert not cache.holds(third)


def test_without_locks_only_old_entries_are_evicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no locks, what was used within the hour may be in use."""
    monkeypatch.setattr("modelstore.archive.locks._flock", lambda descriptor, exclusive: False)
    cache = Cache(tmp_path / "cache", limit=1500)
    made = list(entries(4))
    for digest, fill in made[:3]:
        with cache.open(digest, fill):
            pass
    assert all(cache.holds(digest) for digest, _ in made[:3])
    for digest, _ in made[:2]:
        os.utime(marker(cache, digest), (1000, 1000))
    with cache.open(*made[3]):
        pass
    assert [cache.holds(digest) for digest, _ in made] == [False, False, True, True]


def test_threads_fill_an_entry_once(cache: Cache) -> None:
    """Whoever comes while another fills waits for it."""
    fill, folders = Filler(), []
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        with cache.open(DIGEST, fill) as folder:
            folders.append(on_disk(folder))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [(FILES, {"void"})] * 6
    assert fill.calls == 1


def _open_in_process(root: Path, start: Any, done: Any) -> None:
    fill = Filler()

    def slowly(target: Path, journal: Path | None) -> list[ArchiveFile]:
        time.sleep(0.2)  # so that the others come while it fills
        return fill(target, journal)

    start.wait(60)
    with Cache(root).open(DIGEST, slowly) as folder:
        done.put((fill.calls, on_disk(folder) == (FILES, {"void"})))


def test_processes_fill_an_entry_once(cache: Cache) -> None:
    """Several processes that load a model for the first time download it once, and all get it."""
    context = multiprocessing.get_context("spawn")
    start, done = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_open_in_process, args=(cache.root, start, done)) for _ in range(3)]
    for worker in workers:
        worker.start()
    results = [done.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert all(right for _, right in results)
    assert sum(calls for calls, _ in results) == 1


def test_losing_the_race_is_harmless(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without locks two may fill at once: the second takes what the first has put there."""
    monkeypatch.setattr("modelstore.archive.locks._flock", lambda descriptor, exclusive: False)
    inner, outer = Filler(), Filler()

    winners = []

    def fill(target: Path, journal: Path | None) -> list[ArchiveFile]:
        with cache.open(DIGEST, inner) as folder:
            winners.append(folder.stat().st_ino)
            return outer(target, journal)

    with cache.open(DIGEST, fill) as folder:
        assert on_disk(folder) == (FILES, {"void"})
        assert [folder.stat().st_ino] == winners
    assert (inner.calls, outer.calls) == (1, 1)
    assert list((cache.root / "tmp").iterdir()) == []


def test_leftovers_of_a_crash_are_swept_after_a_day(cache: Cache, fill: Filler) -> None:
    """Half-filled folders that nobody holds go with a later fill; those of today, or in use, stay."""
    from modelstore.archive.locks import lock

    yesterday = time.time() - 90_000
    folders = {name: cache.root / "tmp" / name for name in ("old", "held", "new", "bare")}
    for name, folder in folders.items():
        (folder / "files").mkdir(parents=True)
        (folder / "files" / "half").write_bytes(b"1")
        if name != "bare":
            (folder / "lock").touch()
        (folder / "files").chmod(0o555)
        if name != "new":
            os.utime(folder, (yesterday, yesterday))
    held = lock(folders["held"] / "lock", exclusive=False)
    assert held is not None
    with held, cache.open(DIGEST, fill):
        assert {name: folder.exists() for name, folder in folders.items()} == {
            "old": False,
            "held": True,
            "new": True,
            "bare": False,
        }
