"""The local storage keeps the contract, and lives with what else happens in its folder."""

from __future__ import annotations

import errno
import os
import pickle
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from modelstore.exceptions import InvalidArgumentError, StorageError, StoreNotFoundError
from modelstore.storage.local import FileSystemStorage
from modelstore.testing import StorageContract
from tests.storage.helpers import exit_code, failing, in_child, put_and_die

LATER = timedelta(days=1)


class TestFileSystemStorage(StorageContract):
    """The contract."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> FileSystemStorage:
        """An empty storage in a folder of its own."""
        return FileSystemStorage(tmp_path / "store", create=True)


class TestWithoutHardLinks(StorageContract):
    """The contract where the file system has no hard links, as FAT and some network folders."""

    @pytest.fixture
    def storage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSystemStorage:
        """A storage whose file system refuses links."""
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
        return FileSystemStorage(tmp_path / "store", create=True)


class TestWithShortWrites(StorageContract):
    """The contract where the system takes only part of what it is given, as network folders and signals make it do."""

    @pytest.fixture
    def storage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSystemStorage:
        """A storage whose system writes at most 100,000 bytes of a buffer at a time."""
        whole = os.pwritev
        monkeypatch.setattr(os, "pwritev", lambda fd, buffers, at: whole(fd, [buffers[0][:100_000]], at))
        return FileSystemStorage(tmp_path / "store", create=True)


def test_the_root_must_be_there(tmp_path: Path) -> None:
    """A store is opened only where a folder is, unless it is to be made; a relative path is refused."""
    with pytest.raises(StoreNotFoundError, match="create_directory=True"):
        FileSystemStorage(tmp_path / "a" / "b")
    with pytest.raises(InvalidArgumentError):
        FileSystemStorage(Path("relative"))
    assert FileSystemStorage(tmp_path / "a" / "b", create=True).address == (tmp_path / "a" / "b").as_uri()
    assert (tmp_path / "a" / "b").is_dir()


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    """Where a file stands, no folder can be made, and the error says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file stands where"):
        FileSystemStorage(tmp_path / "file" / "store", create=True)


def test_a_root_that_is_gone_is_an_error_and_never_an_empty_store(storage: FileSystemStorage, root: Path) -> None:
    """With the folder gone (a network folder that is not mounted) no verb answers as if the store were empty, none
    makes the folder again, and a pickled storage can still be unpickled."""
    root.rmdir()
    pickled: FileSystemStorage = pickle.loads(pickle.dumps(storage))
    verbs: list[Callable[[], object]] = [
        lambda: storage.create("a/b", b""),
        lambda: storage.write("a/b", [[b""]]),
        lambda: storage.read("a/b"),
        lambda: list(storage.list("a/")),
        lambda: list(storage.list_children("")),
        lambda: storage.delete(["a/b"]),
        lambda: storage.sweep("", datetime.now(timezone.utc)),
        lambda: pickled.read("a/b"),
    ]
    for verb in verbs:
        with pytest.raises(StoreNotFoundError):
            verb()
    assert not root.exists()


def test_location_is_the_ancestors(storage: FileSystemStorage, root: Path) -> None:
    """`storage` in a record has the keys of the ancestor's `asdict`, for a file system."""
    assert storage.location("a/b") == {
        "type": "file_system",
        "root": str(root),
        "path": "a/b",
        "bucket": None,
        "prefix": None,
        "container": None,
    }


def test_what_is_no_object_is_not_listed(storage: FileSystemStorage, root: Path) -> None:
    """Files whose names no key has are not listed, and neither are empty folders."""
    storage.create("a/1", b"")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("")
    (root / "a" / ".DS_Store").write_text("")
    (root / "a" / "back\\slash").write_text("")
    (root / "empty" / "below").mkdir(parents=True)
    with open(os.fsencode(root) + b"/a/\xff", "wb"):
        pass
    os.mkfifo(root / "a" / "pipe")
    (root / "a" / "broken").symlink_to("nowhere")
    assert [info.key for info in storage.list("")] == ["a/1"]
    assert list(storage.list_children("")) == ["a"]


def test_links_are_followed_but_not_in_circles(storage: FileSystemStorage, root: Path, tmp_path: Path) -> None:
    """A folder that was moved to another disk and linked is listed; a link to a folder above is not followed."""
    storage.create("a/1", b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2").write_text("two")
    (root / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "circle").symlink_to(root)
    assert [info.key for info in storage.list("")] == ["a/1", "a/linked/2"]
    assert storage.read("a/linked/2") == b"two"


def test_what_vanishes_during_a_listing_is_passed_over(storage: FileSystemStorage, root: Path) -> None:
    """Files and folders that go while a listing is on its way are left out, and the rest is listed."""
    for key in ("a/1", "a/2", "b/1", "c/1"):
        storage.create(key, b"")
    listing = storage.list("")
    assert next(listing).key == "a/1"
    storage.delete(["a/2", "b/1"])
    assert [info.key for info in listing] == ["c/1"]


def test_deleting_removes_empty_folders_up_to_the_root(storage: FileSystemStorage, root: Path) -> None:
    """With the last object of a folder the folder goes, but not the root, and not one that holds anything else."""
    storage.create("a/b/c/1", b"")
    storage.create("a/2", b"")
    storage.delete(["a/b/c/1"])
    assert [path.name for path in (root / "a").iterdir()] == ["2"]
    (root / "a" / "notes.txt").write_text("by hand")
    storage.delete(["a/2", "a/notes.txt"])
    assert list(root.iterdir()) == []
    assert root.is_dir()


def test_sweep_goes_by_age_and_by_name(storage: FileSystemStorage, root: Path) -> None:
    """Only temporary files of ours that are older than asked for go, and the empty folders that they leave."""
    child = in_child(lambda: put_and_die(storage, "create", b"x", 6, True))
    assert exit_code(child) == -9
    (left,) = (path for path in root.rglob("*") if path.is_file())
    (root / ".other.tmp").write_text("not ours")
    stamp = datetime.fromtimestamp(left.stat().st_mtime, timezone.utc)
    assert storage.sweep("", stamp - timedelta(seconds=1)) == 0
    assert storage.sweep("elsewhere/", stamp + LATER) == 0
    assert storage.sweep("a/", stamp + timedelta(seconds=1)) == 1
    assert [path.name for path in root.rglob("*")] == [".other.tmp"]


def test_the_clock_is_the_file_systems(storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network folder whose server is an hour ahead, the clock is its clock once something was created; on a local
    one the two are the same, and a pickled storage starts anew on its machine."""
    storage.create("a", b"")
    assert abs(storage.clock() - datetime.now(timezone.utc)) < timedelta(seconds=1)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    storage.create("b", b"")
    ahead = storage.clock() - datetime.now(timezone.utc)
    assert timedelta(minutes=59) < ahead < timedelta(minutes=61)
    copy: FileSystemStorage = pickle.loads(pickle.dumps(storage))
    assert abs(copy.clock() - datetime.now(timezone.utc)) < timedelta(seconds=1)
    monkeypatch.undo()
    storage.create("c", b"")
    assert abs(storage.clock() - datetime.now(timezone.utc)) < timedelta(seconds=1)
