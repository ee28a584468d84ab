"""What fails around a commit: once the event is made nothing takes it back, and until that is known no bytes go."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from modelstore.exceptions import CommitUnknownError, DomainNotFoundException, StorageError
from modelstore.registry import compaction, keys, queries
from modelstore.registry.index import Index
from modelstore.storage.base import Created
from modelstore.storage.local import FileSystemStorage
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import CountingStorage, FaultyStorage, add, open_registry, record_of


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("database or disk is full"), sqlite3.DatabaseError("malformed")]
)
def test_an_index_that_fails_after_the_event_was_made_does_not_fail_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The event is in the store: the upload succeeds, whatever the local index has to say, and later reads see it."""
    storage = MemoryStorage()
    registry = open_registry(storage, tmp_path)
    add(registry, "d", "a")

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Index, "extend", fail)
        patch.setattr(registry.logs, "refresh", lambda domain, offline=False: registry.logs.index())
        assert add(registry, "d", "b").model_id == "b"
    assert registry.models("d") == ["b", "a"]
    assert open_registry(storage).models("d") == ["b", "a"]


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), OSError("no memory"), TypeError("none")])
def test_joining_that_fails_does_not_fail_the_commit_that_filled_the_segment(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The 64th event is committed even if its segment cannot be joined, for whatever reason."""
    registry = open_registry(MemoryStorage())

    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(compaction, "_segment", fail)
    for number in range(keys.SEGMENT):
        add(registry, "d", str(number))
    assert len(registry.models("d")) == keys.SEGMENT


class Unreadable(FaultyStorage):
    """Creates, says that it refused, and then cannot be read."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        if "domains/" in key:
            raise StorageError("no answer", key)
        return super().read(key, start, end)


def test_a_refusal_that_may_be_of_ones_own_event_is_unknown_until_it_was_read() -> None:
    """An SDK that retried hears "refused" of its own event. Where that cannot be read, nobody may remove its bytes."""
    storage = Unreadable(["doubled"])
    with pytest.raises(CommitUnknownError):
        add(open_registry(storage), "d", "a")
    storage.__class__ = MemoryStorage
    assert open_registry(storage).models("d") == ["a"]


class Failing(FaultyStorage):
    """After the first answer is lost, says that nothing was created by this request; the lost one arrives later."""

    def create(self, key: str, data: bytes) -> Created:
        if "log/" in key and self.creations >= 1:
            self.creations += 1
            raise StorageError("permission denied", key)
        return super().create(key, data)


def test_an_error_after_a_lost_answer_does_not_say_that_nothing_was_committed() -> None:
    """The first request may still arrive: a later one's certain failure does not make the whole certain."""
    storage = Failing(["lost-made"])
    with pytest.raises(CommitUnknownError, match="permission denied"):
        add(open_registry(storage), "d", "a")
    storage.__class__ = MemoryStorage
    assert open_registry(storage).models("d") == ["a"]


def _wipe(storage: MemoryStorage) -> None:
    storage.delete([info.key for info in storage.list("")])


@pytest.mark.parametrize("again", [False, True], ids=["removed", "made again"])
def test_a_store_removed_under_a_writer_is_whole_after_its_next_upload(tmp_path: Path, again: bool) -> None:
    """A writer that is already open uploads to a domain it has never seen: the store has a marker, and all see it."""
    storage = MemoryStorage()
    writer = open_registry(storage, tmp_path)
    add(writer, "old", "a")
    _wipe(storage)
    if again:
        add(open_registry(storage), "other", "x")
    add(writer, "new", "b")
    fresh = open_registry(storage)
    assert fresh.models("new") == ["b"]
    assert fresh.domains() == (["new", "other"] if again else ["new"])
    with pytest.raises(DomainNotFoundException):
        writer.models("old")


def test_a_state_made_in_a_store_that_was_removed_is_seen(tmp_path: Path) -> None:
    """Nothing but the store's own log is asked: it too notices that its store is gone."""
    storage = MemoryStorage()
    writer = open_registry(storage, tmp_path)
    writer.states.create("before")
    _wipe(storage)
    writer.states.create("after")
    assert open_registry(storage).states.names() == ["after"]


def test_an_index_that_is_locked_is_left_to_those_who_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the index for longer than one waits: it keeps its file, and the answer is right."""
    monkeypatch.setattr("modelstore.registry.indexfile.WAIT", 0.05)
    storage = MemoryStorage()
    add(open_registry(storage), "d", "a")
    reader = open_registry(storage, tmp_path)
    assert reader.domains() == ["d"]
    reader.logs.index()
    (path,) = tmp_path.glob("*.sqlite")
    inode = path.stat().st_ino
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert reader.models("d") == ["a"]
        assert open_registry(storage, tmp_path).models("d") == ["a"]
        other.execute("ROLLBACK")
    assert path.stat().st_ino == inode


def test_a_transaction_that_cannot_be_committed_is_undone(tmp_path: Path) -> None:
    """After a COMMIT that failed the index is not stuck in it: the next write is seen by other connections."""
    index = Index(tmp_path, "memory://x", "abc")

    class Full:
        def __init__(self, db: sqlite3.Connection) -> None:
            self.db = db

        def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
            if statement == "COMMIT":
                raise sqlite3.OperationalError("database or disk is full")
            return self.db.execute(statement, *rest)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.db, name)

    real = index._database._db
    index._database._db = Full(real)  # type: ignore[assignment, arg-type]
    with pytest.raises(StorageError, match="full"), index.write() as db:
        db.execute("INSERT INTO condemned VALUES ('d', 'a')")
    index._database._db = real
    with index.write() as db:
        db.execute("INSERT INTO condemned VALUES ('d', 'b')")
    with Index(tmp_path, "memory://x", "abc").read() as db:
        assert db.execute("SELECT archive FROM condemned").fetchall() == [("b",)]


def test_an_index_that_may_only_be_read_answers_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder baked into an image, on a file system mounted read-only: its index is used all the same."""
    storage = MemoryStorage()
    writer = open_registry(storage, tmp_path)
    add(writer, "d", "a")
    writer.logs.index().close()  # type: ignore[union-attr]
    connect = sqlite3.connect

    def read_only(path: str, **options: Any) -> sqlite3.Connection:
        if path == ":memory:" or "immutable" in path:
            return connect(path, **options)
        if "mode=ro" in path:
            raise sqlite3.OperationalError("unable to open database file")
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(sqlite3, "connect", read_only)
    reader = open_registry(storage, tmp_path)
    assert reader.find("d", offline=True).model_id == "a"
    add(open_registry(storage), "d", "b")
    assert reader.models("d") == ["b", "a"]


def test_a_cache_folder_that_cannot_be_looked_into_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied on the cache folder is no error of the operating system's that the caller sees."""

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    storage = MemoryStorage()
    monkeypatch.setattr(Path, "is_dir", denied)
    monkeypatch.setattr(Path, "glob", denied)
    monkeypatch.setattr(Path, "mkdir", denied)
    assert Index.last_known(tmp_path, storage.address) is None
    assert open_registry(storage, tmp_path / "x").domains() == []
    add(open_registry(storage, tmp_path / "x"), "d", "a")


def test_of_two_who_find_a_log_replaced_the_second_spares_what_the_first_has_built(tmp_path: Path) -> None:
    """Both notice that the log is another; the slower one does not throw away the tables that the faster one made."""
    storage = CountingStorage()
    add(open_registry(storage, tmp_path), "d", "old")
    fast, slow = open_registry(storage, tmp_path), open_registry(storage, tmp_path)
    marker = storage.read(keys.MARKER)
    _wipe(storage)
    storage.create(keys.MARKER, marker)
    add(open_registry(storage), "d", "new")
    assert slow.logs.index() is not None
    replaced = slow.logs._replaced

    def after_another(*arguments: Any) -> None:
        assert fast.models("d") == ["new"]
        replaced(*arguments)
        storage.requests.clear()

    slow.logs._replaced = after_another  # type: ignore[method-assign]
    assert slow.models("d") == ["new"]
    assert keys.event_key("d", 1) not in [key for verb, key in storage.requests if verb == "read"]


def test_a_model_is_found_within_one_moment_of_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process empties the tables between finding the number and reading the event: no crash."""
    storage = MemoryStorage()
    registry, other = open_registry(storage, tmp_path), open_registry(storage, tmp_path)
    add(registry, "d", "a")
    other.models("d")
    index = other.logs.index()
    assert index is not None
    first_value = queries.first_value

    def then_forgotten(*arguments: Any) -> int | None:
        found = first_value(*arguments)
        index.forget("d", index.position("d"))
        return found

    monkeypatch.setattr(queries, "first_value", then_forgotten)
    assert registry.find("d").model_id == "a"


def _ask(registry: Any, queue: Any) -> None:
    queue.put(registry.models("d"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this test forks")
def test_a_child_forked_while_another_thread_reads_does_not_hang(tmp_path: Path) -> None:
    """A lock that a thread of the parent holds during the fork would never be opened in the child."""
    registry = open_registry(MemoryStorage(), tmp_path)
    add(registry, "d", "a")
    index = registry.logs.index()
    assert index is not None
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with index.read():
            inside.set()
            leave.wait(1)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_ask, args=(registry, queue))
    child.start()
    leave.set()
    try:
        assert queue.get(timeout=20) == ["a"]
    finally:
        child.kill()
        child.join()
        thread.join()
    assert registry.models("d") == ["a"]


def test_a_store_on_disk_removed_and_made_again_under_a_writer(tmp_path: Path) -> None:
    """The same on a real folder: what an open store uploads after its folder was emptied is seen by everybody."""
    root = tmp_path / "store"
    storage = FileSystemStorage(root, create=True)
    writer = open_registry(storage, tmp_path / "index")
    add(writer, "d", "a")
    shutil.rmtree(root)
    root.mkdir()
    key = "archives/e/b/1/artifacts.tar"
    storage.write(key, [[b"archive"]])
    writer.add("e", "b", record_of("e", "b"), {"key": key})
    gc.collect()
    assert open_registry(FileSystemStorage(root)).models("e") == ["b"]
