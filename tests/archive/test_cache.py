"""The cache: filled once, checked at every use, and never in the way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore.archive import ArchiveFile, Cache
from modelstore.archive.limits import CHUNK, Limits
from modelstore.exceptions import IntegrityError, StorageError
from tests.archive.cached import DIGEST, FILES, Filler, marker
from tests.archive.helpers import noise, on_disk, pack


@pytest.fixture
def fill() -> Filler:
    return Filler()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def rewrite(path: Path, data: bytes) -> None:
    """Change a file's bytes and nothing else that can be set back: neither its size nor its times nor its mode."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(0o444)


def test_an_entry_is_filled_once(cache: Cache, fill: Filler) -> None:
    """The second opening, by this or another object, finds what the first unpacked; nothing else is left behind."""
    assert not cache.holds(DIGEST)
    for opening in (cache, cache, Cache(cache.root)):
        with opening.open(DIGEST, fill) as folder:
            assert on_disk(folder) == (FILES, {"void"})
    assert fill.calls == 1
    assert cache.holds(DIGEST)
    assert list((cache.root / "tmp").iterdir()) == []
    assert list((cache.root / "locks").iterdir()) == []


def test_an_entry_is_read_only(cache: Cache, fill: Filler) -> None:
    """Files are 0444 and folders 0555, so that training a loaded model does not reach them by accident."""
    with cache.open(DIGEST, fill) as folder:
        modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
        assert modes == {0o444}
        assert {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir()} == {0o555}


def _change_bytes(folder: Path) -> None:
    rewrite(folder / "model/weights", b"tampered")


def _change_last_byte(folder: Path) -> None:
    rewrite(folder / "model/weights", FILES["model/weights"][:-1] + b"\0")


def _truncate(folder: Path) -> None:
    (folder / "config").chmod(0o644)
    (folder / "config").write_bytes(b"")


def _remove(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "config").unlink()


def _add(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "sitecustomize.py").write_bytes(b"evil")


def _add_folder(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "more").mkdir()


def _replace_by_link(folder: Path) -> None:
    folder.chmod(0o755)
    copy = folder.parent / "copy"
    copy.write_bytes(FILES["config"])
    (folder / "config").unlink()
    (folder / "config").symlink_to(copy)


@pytest.mark.parametrize(
    "tamper", [_change_bytes, _change_last_byte, _truncate, _remove, _add, _add_folder, _replace_by_link]
)
def test_an_entry_that_was_changed_is_filled_anew(cache: Cache, fill: Filler, tamper: Callable[[Path], None]) -> None:
    """Whatever was done to it, with sizes and times restored or not, the next opening gives the right files."""
    with cache.open(DIGEST, fill) as folder:
        pass
    time.sleep(0.02)  # file systems tell times apart by ticks of a few milliseconds
    tamper(folder)
    with cache.open(DIGEST, fill) as folder:
        assert on_disk(folder) == (FILES, {"void"})
    assert fill.calls == 2


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are hashed from here on."""
    from modelstore.archive import marker

    names: list[str] = []
    real = marker.path_digests

    def watched(paths: list[Path], threads: int) -> list[bytes]:
        names.extend(path.name for path in paths)
        return real(paths, threads)

    monkeypatch.setattr(marker, "path_digests", watched)
    return names


def test_only_files_that_look_changed_are_hashed(cache: Cache, fill: Filler, monkeypatch: pytest.MonkeyPatch) -> None:
    """A touched file is hashed once and then known again; with verify_full all are, each time."""
    with cache.open(DIGEST, fill) as folder:
        pass
    names = hashed(monkeypatch)
    with cache.open(DIGEST, fill):
        assert names == []
    os.utime(folder / "config")
    with cache.open(DIGEST, fill), cache.open(DIGEST, fill):
        assert names == ["config"]
    for _ in range(2):
        names.clear()
        with cache.open(DIGEST, fill, verify_full=True):
            assert sorted(names) == ["config", "empty", "weights"]
    assert fill.calls == 1


def test_after_a_start_of_the_machine_all_files_are_hashed_once(
    cache: Cache, fill: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut can leave files of the right size and times with other bytes."""
    from modelstore.archive import cache as cache_module, marker

    boot = ["first"]
    for module in (cache_module, marker):
        monkeypatch.setattr(module, "boot_id", lambda: boot[0])
    with cache.open(DIGEST, fill):
        pass
    names = hashed(monkeypatch)
    boot[0] = "second"
    with cache.open(DIGEST, fill):
        assert sorted(names) == ["config", "empty", "weights"]
    for boot[0] in ("second", "first"):  # two machines on one network file system
        with cache.open(DIGEST, fill):
            assert len(names) == 3
    assert fill.calls == 1


def test_without_the_name_of_a_start_an_entry_is_written_through(
    cache: Cache, fill: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system does not say when it was started, all files and folders are synced, and then believed."""
    from modelstore.archive import cache as cache_module, marker

    for module in (cache_module, marker):
        monkeypatch.setattr(module, "boot_id", lambda: None)
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), real(file)))
    with cache.open(DIGEST, fill):
        assert len(synced) == len(FILES) + 3  # the folders files/, model/ and void/
    names = hashed(monkeypatch)
    with cache.open(DIGEST, fill):
        assert names == []


def test_large_files_are_hashed_by_pieces(cache: Cache) -> None:
    """A file of several chunks has the same digest on disk as in the table."""
    data, info = pack({"large": noise(CHUNK + 5)}, limits=Limits())
    fill = Filler(data)
    for _ in range(2):
        with cache.open(info.archive_digest, fill, verify_full=True):
            assert fill.calls == 1


ENTRY_JSON = {
    "empty": b"",
    "no JSON": b"{",
    "null": b"null",
    "a list": b"[]",
    "another version": b'{"version": 99, "synced": true, "boots": [], "folders": [], "files": {}}',
    "no files": b'{"version": 1, "synced": true, "boots": [], "folders": []}',
    "files in a list": b'{"version": 1, "synced": true, "boots": [], "folders": [], "files": []}',
    "a path outside": json.dumps(
        {"version": 1, "synced": True, "boots": [], "folders": [], "files": {"../x": [1, 1, 1, 1, "0" * 64]}}
    ).encode(),
    "short rows": b'{"version": 1, "synced": true, "boots": [], "folders": [], "files": {"a": [1]}}',
    "nested": b"[" * 100_000,
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("content", ENTRY_JSON.values(), ids=ENTRY_JSON)
def test_an_entry_without_a_good_marker_is_filled_anew(cache: Cache, fill: Filler, content: bytes) -> None:
    """A marker that was cut off by a crash, or made up, costs a download and nothing else."""
    with cache.open(DIGEST, fill):
        pass
    marker(cache).write_bytes(content)
    assert not cache.holds(DIGEST)
    with cache.open(DIGEST, fill) as folder:
        assert on_disk(folder) == (FILES, {"void"})
    assert fill.calls == 2


def test_an_entry_without_its_lock_is_filled_anew(cache: Cache, fill: Filler) -> None:
    """What is left of an entry that was half removed is no obstacle."""
    with cache.open(DIGEST, fill):
        pass
    (marker(cache).parent / "lock").unlink()
    with cache.open(DIGEST, fill) as folder:
        assert on_disk(folder) == (FILES, {"void"})
    assert fill.calls == 2


@pytest.mark.parametrize("digest", ["", "../../etc", "0" * 63, "G" * 64, "0" * 64 + "/", None])
def test_a_digest_that_is_none_never_becomes_a_path(cache: Cache, fill: Filler, digest: Any) -> None:
    """The digest comes from a record, that is from a bucket."""
    with pytest.raises(IntegrityError), cache.open(digest, fill):
        pass
    with pytest.raises(IntegrityError):
        cache.purge(digest)
    assert not cache.root.exists()


def test_an_error_while_filling_passes_through_and_leaves_nothing(cache: Cache, fill: Filler) -> None:
    """A failed download is the caller's to see; the next attempt starts afresh."""

    def failing(target: Path, journal: Path | None) -> list[ArchiveFile]:
        target.mkdir()
        (target / "half").write_bytes(b"1")
        raise StorageError("the line is dead")

    for _ in range(2):
        with pytest.raises(StorageError, match="line is dead"), cache.open(DIGEST, failing):
            pass
    assert list((cache.root / "tmp").iterdir()) == []
    assert list((cache.root / "locks").iterdir()) == []
    with cache.open(DIGEST, fill) as folder:
        assert on_disk(folder) == (FILES, {"void"})


@pytest.mark.parametrize("kind", ["file", "none", "tmp is a file"])
def test_a_root_that_cannot_be_written_costs_only_the_cache(tmp_path: Path, fill: Filler, kind: str) -> None:
    """Files come from a temporary folder, which goes when the context is left."""
    (tmp_path / "file").write_bytes(b"")
    if kind == "tmp is a file":
        (tmp_path / "tmp").write_bytes(b"")
    root = {"file": tmp_path / "file" / "cache", "none": None, "tmp is a file": tmp_path}[kind]
    cache = Cache(root, limit=1)
    for _ in range(2):
        with cache.open(DIGEST, fill) as folder:
            assert on_disk(folder) == (FILES, {"void"})
        assert not folder.exists()
    assert fill.calls == 2
    assert not cache.holds(DIGEST)
    assert cache.purge(DIGEST)


def test_a_root_that_is_only_read_still_serves(cache: Cache, fill: Filler, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that was put into an image is used, though nothing can be noted in it."""
    with cache.open(DIGEST, fill) as folder:
        pass
    os.utime(folder / "config")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(30, "Read-only file system")

    for name in ("replace", "utime", "rename", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    for _ in range(2):
        with cache.open(DIGEST, fill) as folder:
            assert on_disk(folder) == (FILES, {"void"})
    assert fill.calls == 1


def test_an_empty_archive_has_an_entry_too(cache: Cache) -> None:
    """No files at all is a folder like any other."""
    data, info = pack({}, limits=Limits())
    fill = Filler(data)
    for _ in range(2):
        with cache.open(info.archive_digest, fill) as folder:
            assert on_disk(folder) == ({}, set())
    assert fill.calls == 1
