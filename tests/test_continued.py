"""Loads and downloads that were cut off, by an error or kill -9: the next one fetches only the rest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.archive import Archive
from modelstore.exceptions import DeadlineExceededError, IntegrityError, StorageError
from modelstore.storage.local import FileSystemStorage
from modelstore.storage.objects import ObjectSource
from tests.archive.interrupted import chunks_in

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="these tests fork")
FILES = 8
SIZE = (4 << 20) + 1
"""From which on a file is a chunk, and a read, of its own."""


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that of the reads that began all but one have ended, however many cores there are."""
    monkeypatch.setattr("modelstore.archive.archive.default_threads", lambda: 2)


@pytest.fixture
def full(store: ModelStore, tmp_path: Path) -> ModelStore:
    """A store with one model: a folder of eight files, two small ones and an empty folder."""
    folder = tmp_path / "net"
    (folder / "void").mkdir(parents=True)
    for number in range(FILES):
        (folder / f"{number}.bin").write_bytes(os.urandom(SIZE))
    (folder / "small.json").write_bytes(b"{}")
    (folder / "empty").write_bytes(b"")
    store.upload("d", model_id="m", model=str(folder))
    return store


def archive_of(store: ModelStore) -> Archive:
    key = store.get_model_info("d", "m")["storage"]["archive"]["key"]
    return Archive.open(ObjectSource(store.storage, key), "it")


@contextmanager
def reading(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None] = lambda number: None
) -> Iterator[list[Any]]:
    """The ranges of the archive that are read; `before` is called with how many were before."""
    real = FileSystemStorage.read_into
    reads: list[tuple[int, int]] = []

    def watched(self: FileSystemStorage, key: str, start: int, buffer: memoryview) -> int:
        reads.append((start, start + len(buffer)))
        before(len(reads) - 1)
        return real(self, key, start, buffer)

    with monkeypatch.context() as patched:
        patched.setattr(FileSystemStorage, "read_into", watched)
        yield reads


def failing(error: BaseException, good: int = 4) -> Callable[[int], None]:
    def fail(number: int) -> None:
        if number >= good:
            raise error

    return fail


def noted(journal: Path) -> set[int]:
    return {int(line.split()[0]) for line in journal.read_bytes().split(b"\n")[1:]}


def hidden(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*"))


def same(store_folder: Path, loaded: Path) -> bool:
    names = {path.relative_to(store_folder) for path in store_folder.rglob("*")}
    return names == {path.relative_to(loaded) for path in loaded.rglob("*")} and all(
        (loaded / name).read_bytes() == (store_folder / name).read_bytes()
        for name in names
        if (loaded / name).is_file()
    )


def _killed(work: Callable[[], object], at: int) -> None:
    real = FileSystemStorage.read_into
    count = multiprocessing.get_context("fork").Value("i", 0)

    def deadly(self: FileSystemStorage, key: str, start: int, buffer: memoryview) -> int:
        with count.get_lock():
            count.value += 1
            if count.value > at:
                os.kill(os.getpid(), signal.SIGKILL)
        return real(self, key, start, buffer)

    FileSystemStorage.read_into = deadly  # type: ignore[method-assign]
    work()
    os._exit(0)


def kill(work: Callable[[], object], at: int = 5) -> None:
    """Do something in a process that is killed in the middle of its reads."""
    child = multiprocessing.get_context("fork").Process(target=_killed, args=(work, at))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@forks
def test_a_load_after_kill_9_fetches_only_the_rest(
    full: ModelStore, tmp_path: Path, own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the killed process had noted is checked and used; each other chunk is fetched once."""
    archive = archive_of(full)
    kill(lambda: full.load("d", "m"))
    (journal,) = own_settings.glob("models/partial/*/journal")
    done = noted(journal)
    assert 0 < len(done) < archive.info.chunks
    with reading(monkeypatch) as reads:
        folder = full.load("d", "m")
    assert chunks_in(archive, reads) == sorted(set(range(archive.info.chunks)) - done)
    assert same(tmp_path / "net", Path(folder))
    assert not list(own_settings.glob("models/partial/*"))
    with reading(monkeypatch) as reads:
        full.load("d", "m")
    assert reads == []


@forks
def test_who_waits_for_a_process_that_is_killed_goes_on_for_it(
    full: ModelStore, tmp_path: Path, own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes load at once; the one that fetches dies, the other takes over what it had."""
    context = multiprocessing.get_context("fork")
    waiting, go = context.Event(), context.Event()

    def slow() -> None:
        def stop(number: int) -> None:
            if number == 5:
                waiting.set()
                go.wait(60)
                os.kill(os.getpid(), signal.SIGKILL)

        with reading(pytest.MonkeyPatch(), stop):
            full.load("d", "m")

    child = context.Process(target=slow)
    child.start()
    assert waiting.wait(60)
    real = time.sleep

    def sleeping(seconds: float) -> None:  # which it does while it waits for the lock
        go.set()
        real(seconds)

    monkeypatch.setattr(time, "sleep", sleeping)
    (journal,) = own_settings.glob("models/partial/*/journal")
    archive = archive_of(full)
    with reading(monkeypatch) as reads:
        folder = full.load("d", "m")
    child.join(60)
    assert go.is_set()
    assert same(tmp_path / "net", Path(folder))
    fetched = chunks_in(archive, reads)
    assert len(fetched) == len(set(fetched))
    assert len(fetched) < archive.info.chunks - 2
    assert not journal.exists()


@forks
@pytest.mark.parametrize("include", [None, "*.bin", ["*/1.bin", "*/2.bin", "*/5.bin", "*/6.bin", "*/7.bin"]])
def test_a_download_after_kill_9_fetches_only_the_rest(
    full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, include: Any
) -> None:
    """The hidden folder is taken up, and nothing hidden is left."""
    archive, out = archive_of(full), tmp_path / "out"
    kill(lambda: full.download(out, "d", "m", include=include), at=3)
    (journal,) = out.glob(".modelstore-download-*/journal")
    done = noted(journal)
    assert done
    assert [path for path in out.iterdir() if path not in hidden(out)] == []
    with reading(monkeypatch) as reads:
        full.download(out, "d", "m", include=include)
    fetched = chunks_in(archive, reads)
    assert len(fetched) == len(set(fetched))
    assert not set(fetched) & done
    if include is None:
        assert set(fetched) | done == set(range(archive.info.chunks))
        assert same(tmp_path / "net", out / "net")
    assert {path.name for path in (out / "net").glob("*.bin")} == (
        {f"{number}.bin" for number in ((1, 2, 5, 6, 7) if isinstance(include, list) else range(FILES))}
    )
    assert hidden(out) == []


@pytest.mark.parametrize("error", [StorageError("the line is dead"), DeadlineExceededError(1.0), KeyboardInterrupt()])
def test_a_failed_download_is_continued(
    full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The chunks of some files that came before an error that may pass serve a download of all of them too."""
    archive, out = archive_of(full), tmp_path / "out"
    with pytest.raises(type(error)), reading(monkeypatch, failing(error)):
        full.download(out, "d", "m", include="*.bin")
    (journal,) = out.glob(".modelstore-download-*/journal")
    done = noted(journal)
    assert done
    assert hidden(out) == [journal.parent]
    with reading(monkeypatch) as reads:
        full.download(out, "d", "m")
    assert chunks_in(archive, reads) == sorted(set(range(archive.info.chunks)) - done)
    assert same(tmp_path / "net", out / "net")
    assert hidden(out) == []


def test_a_download_of_damage_leaves_nothing(full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again would not help."""
    error = IntegrityError("it", "chunk 1", "wrong")
    with pytest.raises(IntegrityError), reading(monkeypatch, failing(error)):
        full.download(tmp_path / "out", "d", "m")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_cache_serves_a_download_that_failed_before(
    full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded meanwhile: the files are copied from there, and the rest of the failed download goes."""
    out = tmp_path / "out"
    with pytest.raises(StorageError), reading(monkeypatch, failing(StorageError("dead"))):
        full.download(out, "d", "m")
    full.load("d", "m")
    with reading(monkeypatch) as reads:
        full.download(out, "d", "m")
    assert reads == []
    assert same(tmp_path / "net", out / "net")
    assert hidden(out) == []


def test_what_stands_in_the_way_is_seen_before_anything_is_fetched(
    full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes are not fetched only to find that they cannot be put there."""
    for way in ("net", "net/void", "net/1.bin"):
        out = tmp_path / f"out-{way}".replace("/", "-")
        (out / way).parent.mkdir(parents=True)
        (out / way).mkdir() if way.endswith("bin") else (out / way).write_bytes(b"mine")
        with pytest.raises(StorageError, match="remove it"), reading(monkeypatch) as reads:
            full.download(out, "d", "m")
        assert reads == []
        assert hidden(out) == []


def test_downloads_at_once_do_not_meet(full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second download of the same model into the same folder works in a folder of its own; both end whole."""
    out = tmp_path / "out"
    inner: list[Path] = []

    def begin_another(number: int) -> None:
        if number == 2:
            full.download(out, "d", "m", include="*/1.bin")
            inner.extend(hidden(out))

    with reading(monkeypatch, begin_another):
        full.download(out, "d", "m")
    assert len(inner) == 2  # the outer one's folder and its lock
    assert same(tmp_path / "net", out / "net")
    assert hidden(out) == []


def test_what_is_left_of_other_models_is_swept_when_it_is_old(full: ModelStore, tmp_path: Path) -> None:
    """Only folders of our own names, that nobody holds, in which nothing was done for three days."""
    from modelstore.archive.locks import lock

    out = tmp_path / "out"
    old = time.time() - 4 * 86_400
    names = {name: out / f".modelstore-download-{name * 64}" for name in "abc"}
    for name, folder in names.items():
        (folder / "files").mkdir(parents=True)
        (folder / "journal").write_bytes(b"")
        folder.with_name(f"{folder.name}.lock").touch()
        for path in (folder / "journal", folder, folder.with_name(f"{folder.name}.lock")):
            if name != "b":
                os.utime(path, (old, old))
    mine = out / ".modelstore-download-mine"
    mine.mkdir()
    os.utime(mine, (old, old))
    lonely = out / f".modelstore-download-{'d' * 32}.lock"
    lonely.touch()
    os.utime(lonely, (old, old))
    holder = lock(out / f"{names['c'].name}.lock", exclusive=True)
    assert holder is not None
    with holder:
        full.download(out, "d", "m", include="*/1.bin")
    assert {name: folder.exists() for name, folder in names.items()} == {"a": False, "b": True, "c": True}
    assert mine.exists()
    assert not lonely.exists()
