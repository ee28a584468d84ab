"""Creation by many at once, on file systems of all kinds: one is told MADE."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from modelstore.exceptions import StorageError, UnsafeStorageError
from modelstore.storage import norename
from modelstore.storage.base import Created
from modelstore.storage.local import FileSystemStorage
from modelstore.storage.publishing import prune
from tests.storage.helpers import exit_code, failing, files, in_child


def test_sixteen_processes_create_one_key(storage: FileSystemStorage, root: Path) -> None:
    """Of 16 processes that create one key exactly one is told MADE and its content is there; 20 times in a row."""
    read_end, write_end = os.pipe()
    children = [in_child(lambda number=number: _create_all(storage, number, write_end)) for number in range(16)]
    assert [exit_code(child) for child in children] == [0] * 16
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        results = [line.split(b" ") for line in pipe.read().splitlines()]
    made = {key.decode(): number for key, number, result in results if result == b"MADE"}
    assert sorted(result for _, _, result in results) == [b"MADE"] * 20 + [b"REFUSED"] * 300
    assert {info.key: storage.read(info.key) for info in storage.list("")} == made
    assert files(root) == sorted(made)


def _create_all(storage: FileSystemStorage, number: int, pipe: int) -> None:
    for turn in range(20):
        key = f"race/{turn}/1"
        result = storage.create(key, str(number).encode())
        os.write(pipe, f"{key} {number} {result.name}\n".encode())


@pytest.mark.parametrize("answer", [errno.EEXIST, errno.EIO, errno.ETIMEDOUT])
def test_a_link_that_happened_counts_whatever_the_answer(
    storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    """A network file system may make the link and answer that it failed, when it sent the request twice."""
    link = os.link

    def link_and_fail(source: str, target: str) -> None:
        link(source, target)
        raise OSError(answer, "answer")

    monkeypatch.setattr(os, "link", link_and_fail)
    assert storage.create("a/1", b"x") is Created.MADE
    assert files(root) == ["a/1"]


def test_no_answer_leaves_it_open(storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that neither happened nor was refused may yet happen: UNKNOWN, and sending it again settles it."""
    monkeypatch.setattr(os, "link", failing(errno.EIO))
    assert storage.create("a/1", b"x") is Created.UNKNOWN
    monkeypatch.undo()
    assert storage.create("a/1", b"x") is Created.MADE
    assert files(root) == ["a/1"]


def test_a_name_that_may_not_be_durable_is_not_made(
    storage: FileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the folder cannot be synced, the object is visible but may be lost again: UNKNOWN, never MADE."""
    fsync = os.fsync

    def fsync_files_only(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "fault")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fsync_files_only)
    assert storage.create("a/1", b"x") is Created.UNKNOWN
    monkeypatch.undo()
    assert storage.create("a/1", b"x") is Created.REFUSED


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_without_links_and_safe_renames_nothing_is_created(
    storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where nothing gives a name only if it is free, the error says what is missing and nothing is left."""
    monkeypatch.setattr(os, "link", failing(errno.ENOTSUP))
    monkeypatch.setattr(norename, "rename_new", failing(code))
    with pytest.raises(UnsafeStorageError, match="neither hard links nor a rename"):
        storage.create("a/1", b"x")
    assert list(root.iterdir()) == []


def test_rename_new_never_replaces(tmp_path: Path) -> None:
    """The rename that stands in for links moves a file to a free name, and refuses one that is taken."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("new")
    norename.rename_new(str(source), str(target))
    assert target.read_text() == "new"
    source.write_text("newer")
    with pytest.raises(FileExistsError):
        norename.rename_new(str(source), str(target))
    assert (source.read_text(), target.read_text()) == ("newer", "new")


def test_a_folder_under_the_key_is_an_error(storage: FileSystemStorage) -> None:
    """What is a folder can be no object: creating and writing it fail by name instead of being refused for ever."""
    storage.create("a/b/1", b"")
    with pytest.raises(StorageError, match="a folder stands"):
        storage.create("a/b", b"")
    with pytest.raises(StorageError, match="a folder stands"):
        storage.write("a/b", [[b""]])
    with pytest.raises(StorageError, match="a file stands"):
        storage.create("a/b/1/2", b"")


def test_folders_that_vanish_are_made_again(
    storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that somebody removes between its making and the file in it is made again, for `create` and `write`."""
    real_open, removed = os.open, []

    def open_late(path: str, *args: Any) -> int:
        if str(path).endswith(".tmp") and len(removed) < 3 and os.path.isdir(os.path.dirname(path)):
            prune(os.path.dirname(path), str(root))
            removed.append(path)
        return real_open(path, *args)

    monkeypatch.setattr(os, "open", open_late)
    assert storage.create("a/b/c/1", b"x") is Created.MADE
    assert len(removed) == 3
    removed.clear()
    storage.write("d/e/f/1", [[b"y"]])
    assert len(removed) == 3
    assert files(root) == ["a/b/c/1", "d/e/f/1"]
