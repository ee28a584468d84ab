"""The local storage when processes are killed and disks fail: nothing or everything."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from modelstore.exceptions import StorageError
from modelstore.storage.base import Created
from modelstore.storage.local import FileSystemStorage
from tests.storage.helpers import MIB, exit_code, failing, files, in_child, put, put_and_die

# -- crashes and durability --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("verb", ["create", "write"])
def test_kill_at_every_call_leaves_nothing_or_everything(tmp_path: Path, verb: str, links: bool) -> None:
    """A process killed by SIGKILL before any of its system calls leaves no object or the whole one, never a part; what
    else it left is swept, and the key can be used again."""
    content = {"create": b"event", "write": bytes(range(256)) * (80 * MIB // 256)}[verb]
    outcomes = []
    for calls in range(1, 200):
        root = tmp_path / str(calls)
        storage = FileSystemStorage(root, create=True)
        storage.create("a/neighbour", b"n")
        child = in_child(lambda: put_and_die(storage, verb, content, calls, links))  # noqa: B023
        ended = exit_code(child)
        found = {info.key: storage.read(info.key) for info in storage.list("")}
        assert found.pop("a/neighbour") == b"n"
        assert found in ({}, {"a/b/object": content})
        outcomes.append(bool(found))
        assert list(storage.list_children("a/")) == (["b"] if found else [])
        assert storage.sweep("", datetime.now(timezone.utc) + timedelta(days=1)) <= 1
        assert storage.create("a/b/object", b"") is (Created.REFUSED if found else Created.MADE)
        assert files(root) == ["a/b/object", "a/neighbour"]
        if ended == 0:
            break
    assert ended == 0
    assert outcomes == sorted(outcomes)  # nothing up to some call, everything from there on
    assert outcomes[0] is False
    assert outcomes[-1] is True


@pytest.mark.parametrize("verb", ["create", "write"])
def test_synced_before_and_after_the_name(
    storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The content is on the disk before the name is given; then the folder is, and every one above that is new."""
    storage.create("old/1", b"")
    calls: list[str] = []
    names = {"fsync": os.fsync, "link": os.link, "replace": os.replace}

    def noted(name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            target = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else args[1]
            place = os.path.relpath(target, root)
            calls.append(f"{name} {'content' if place.endswith('.tmp') else place}")
            return names[name](*args)

        return call

    for name in names:
        monkeypatch.setattr(os, name, noted(name))
    put(storage, verb, "old/new/newer/1", b"x")
    published = "link old/new/newer/1" if verb == "create" else "replace old/new/newer/1"
    assert calls[:2] == ["fsync content", published]
    assert sorted(calls[2:]) == ["fsync old", "fsync old/new", "fsync old/new/newer"]
    calls.clear()
    put(storage, verb, "old/2", b"x")
    assert calls == ["fsync content", published.split(" ")[0] + " old/2", "fsync old"]


@pytest.mark.parametrize("verb", ["create", "write"])
@pytest.mark.parametrize("call", ["open", "pwritev", "fsync", "mkdir"])
@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EACCES, "permission denied")],
)
def test_what_the_system_refuses(
    storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, verb: str, call: str, code: int, says: str
) -> None:
    """A full disk, a used-up quota and a folder without permission are storage errors that say what to do, whatever
    call meets them, and nothing is left of the object."""
    monkeypatch.setattr(os, call, failing(code))
    with pytest.raises(StorageError, match=says) as caught:
        put(storage, verb, "a/b", b"content")
    assert caught.value.key == "a/b"
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    assert files(root) == []
    assert storage.create("a/b", b"") is Created.MADE


def test_a_disk_that_fills_up_during_a_write(
    storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large write that runs out of space, noticed by a thread, raises, and no thread writes after that."""
    running: list[int] = []
    pwritev = os.pwritev

    def fill_up(fd: int, buffers: list[memoryview], at: int) -> int:
        running.append(at)
        time.sleep(0.02)
        if at >= 8 * MIB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = pwritev(fd, buffers, at)
        running.remove(at)
        return written

    monkeypatch.setattr(os, "pwritev", fill_up)
    with pytest.raises(StorageError, match="the disk is full"):
        storage.write("a/b", ([bytes(2 * MIB)] for _ in range(1000)))
    assert [at for at in running if at < 8 * MIB] == []
    assert list(root.iterdir()) == []


def test_a_fault_of_the_disk_during_a_write_is_heard(
    storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells once that it lost what was written; when an early sync is told, the write fails."""
    monkeypatch.setattr(os, "fdatasync", failing(errno.EIO))
    with pytest.raises(StorageError, match="reports a fault"):
        storage.write("a/b", ([bytes(16 * MIB)] for _ in range(5)))
    assert list(root.iterdir()) == []


def test_chunks_that_fail_while_threads_write(
    storage: FileSystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the chunks raise, the threads have ended before the error comes out: their buffers are free again."""
    running = 0
    pwritev = os.pwritev

    def slow(fd: int, buffers: list[memoryview], at: int) -> int:
        nonlocal running
        running += 1
        time.sleep(0.05)
        try:
            return pwritev(fd, buffers, at)
        finally:
            running -= 1

    def chunks() -> Iterator[list[bytes]]:
        yield [bytes(2 * MIB)]
        yield [bytes(2 * MIB)]
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwritev", slow)
    with pytest.raises(KeyboardInterrupt):
        storage.write("a/b", chunks())
    assert running == 0
    assert list(root.iterdir()) == []
