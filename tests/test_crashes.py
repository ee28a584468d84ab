"""kill -9 at every write of an upload: each leaves nothing visible, or everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import DomainNotFoundException

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="these tests fork")

CALLS = ("open", "write", "pwrite", "pwritev", "fsync", "fdatasync", "link", "rename", "replace", "unlink", "mkdir")
"""By which a file system is changed; the process dies right before one, and in another round right after it."""


def _die_at(limit: int, after: bool, counter: Any) -> None:
    """From now on, count calls and die with the one numbered `limit`."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with counter.get_lock():
                counter.value += 1
                number = counter.value
            if number == limit and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return original(*arguments, **options)
            finally:
                if number == limit:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        if hasattr(os, name):
            setattr(os, name, wrap(getattr(os, name)))


def _upload(root: Path, source: Path, limit: int, after: bool, counter: Any) -> None:
    store = ModelStore.from_file_system(root)
    _die_at(limit, after, counter)
    store.upload("fraud", model_id="new", model=str(source))
    os._exit(0)


def upload_and_die(root: Path, source: Path, limit: int, after: bool = False) -> tuple[int, int]:
    """Upload in a forked child that dies at a call; its exit code, and how many calls it made."""
    context = multiprocessing.get_context("fork")
    counter = context.Value("i", 0)
    child = context.Process(target=_upload, args=(root, source, limit, after, counter))
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode, counter.value


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_killed_upload_leaves_nothing_visible_or_everything(tmp_path: Path, after: bool) -> None:
    """At whatever call of the file system the process dies, other models are as they were, the new one is whole or
    not there, the next upload works, and gc finds orphans at the most."""
    source = tmp_path / "weights.bin"
    source.write_bytes(os.urandom(100_000))
    _, calls = upload_and_die(tmp_path_with_model(tmp_path / "count", source), source, limit=0)
    assert calls > 10
    outcomes = set()
    for number in range(1, calls + 1):
        root = tmp_path_with_model(tmp_path / f"{number}", source)
        code, _ = upload_and_die(root, source, number, after)
        assert code == -signal.SIGKILL
        store = ModelStore.from_file_system(root)
        assert (store.load("fraud", "old")).read_bytes() == source.read_bytes()
        visible = store.model_exists("fraud", "new")
        outcomes.add(visible)
        assert store.list_models("fraud") == (["new", "old"] if visible else ["old"])
        if visible:
            assert store.load("fraud", "new", verify="full").read_bytes() == source.read_bytes()
        else:
            store.upload("fraud", model_id="new", model=str(source))
        assert store.list_models("fraud") == ["new", "old"]
        assert {item.reason for item in store.gc(dry_run=True).garbage} <= {"orphan"}
    assert outcomes == {True, False}


def tmp_path_with_model(root: Path, source: Path) -> Path:
    """A store that holds one model."""
    root.mkdir()
    ModelStore.from_file_system(root).upload("fraud", model_id="old", model=str(source))
    return root


def test_a_killed_first_upload_leaves_no_domain_or_a_whole_one(tmp_path: Path) -> None:
    """The same for the very first upload, which makes the store's marker and the domain."""
    source = tmp_path / "weights.bin"
    source.write_bytes(b"weights")
    (tmp_path / "count").mkdir()
    _, calls = upload_and_die(tmp_path / "count", source, limit=0)
    for number in range(1, calls + 1):
        root = tmp_path / str(number)
        root.mkdir()
        upload_and_die(root, source, number)
        store = ModelStore.from_file_system(root)
        if store.list_domains() == []:
            with pytest.raises(DomainNotFoundException):
                store.load("fraud", "new")
            store.upload("fraud", model_id="new", model=str(source))
        assert store.load("fraud", "new").read_bytes() == b"weights"
