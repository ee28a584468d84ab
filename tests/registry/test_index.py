"""The local index only makes things fast: it never shows what is not in the store, and may be lost at any time."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from modelstore.exceptions import DomainNotFoundException, OfflineError
from modelstore.registry import fold, keys
from modelstore.registry.events import DELETED, Event
from modelstore.registry.index import Index
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import CountingStorage, add, open_registry


def copy(source: MemoryStorage, target: MemoryStorage) -> None:
    for info in source.list(""):
        target.write(info.key, [[source.read(info.key)]])


def test_a_warm_index_needs_one_listing_to_list_models(tmp_path: Path) -> None:
    """With nothing new in the log, a second process asks the storage for the marker and one listing."""
    storage = CountingStorage()
    for number in range(10):
        add(open_registry(storage, tmp_path), "d", str(number))
    open_registry(storage, tmp_path).models("d")
    reader = open_registry(storage, tmp_path)
    storage.requests.clear()
    assert len(reader.models("d")) == 10
    assert storage.requests == [("read", "modelstore.json"), ("list", "domains/d/log/000000000001/")]
    storage.requests.clear()
    reader.models("d")
    assert storage.requests == [("list", "domains/d/log/000000000001/")]


def test_only_new_events_are_read(tmp_path: Path) -> None:
    """A reader that knows ten events reads the one that was added, and no other."""
    storage = CountingStorage()
    writer, reader = open_registry(storage), open_registry(storage, tmp_path)
    for number in range(10):
        add(writer, "d", str(number))
    reader.models("d")
    add(writer, "d", "new")
    storage.requests.clear()
    assert reader.models("d")[0] == "new"
    assert [key for verb, key in storage.requests if verb == "read"] == [keys.event_key("d", 11)]


def test_a_store_made_anew_at_the_same_address_shows_no_ghosts(tmp_path: Path) -> None:
    """Another store id at the address: the old index is not used, by new readers and by those already open."""
    storage = MemoryStorage("again")
    open_one = open_registry(storage, tmp_path)
    for name in ("a", "b", "c"):
        add(open_one, "d", name)
    storage.delete([info.key for info in storage.list("")])
    add(open_registry(storage, None), "d", "x")
    assert open_registry(storage, tmp_path).models("d") == ["x"]
    assert open_one.models("d") == ["x"]


def test_a_store_removed_is_gone_for_readers_already_open(tmp_path: Path) -> None:
    """With all objects deleted, a reader that has the models in its index says that there is no domain."""
    storage = MemoryStorage()
    reader = open_registry(storage, tmp_path)
    add(reader, "d", "a")
    storage.delete([info.key for info in storage.list("")])
    with pytest.raises(DomainNotFoundException):
        reader.models("d")
    assert open_registry(storage, tmp_path).domains() == []


def test_a_store_put_back_from_a_copy_shows_the_copys_models(tmp_path: Path) -> None:
    """The same store id with an older log at the same address: events after the copy are forgotten."""
    storage, backup = MemoryStorage(), MemoryStorage()
    reader = open_registry(storage, tmp_path)
    add(reader, "d", "a")
    copy(storage, backup)
    add(reader, "d", "b")
    assert reader.models("d") == ["b", "a"]
    storage.delete([info.key for info in storage.list("")])
    copy(backup, storage)
    assert reader.models("d") == ["a"]
    add(open_registry(storage), "d", "c")
    assert reader.models("d") == ["c", "a"]


def test_a_copied_store_diverges_from_its_original(tmp_path: Path) -> None:
    """Two stores with one id at two addresses never share an index."""
    original, other = MemoryStorage(), MemoryStorage()
    add(open_registry(original, tmp_path), "d", "a")
    copy(original, other)
    add(open_registry(original, tmp_path), "d", "b")
    add(open_registry(other, tmp_path), "d", "c")
    assert open_registry(original, tmp_path).models("d") == ["b", "a"]
    assert open_registry(other, tmp_path).models("d") == ["c", "a"]


@pytest.mark.parametrize("content", [b"", b"this is no database at all, but long enough to look at" * 50])
def test_a_damaged_index_is_built_anew(tmp_path: Path, content: bytes) -> None:
    """An index file that is empty or overwritten costs a read of the log and nothing else."""
    storage = MemoryStorage()
    registry = open_registry(storage, tmp_path)
    add(registry, "d", "a")
    registry.logs._index.close()  # type: ignore[union-attr]
    for path in tmp_path.iterdir():
        path.write_bytes(content) if path.suffix == ".sqlite" else path.unlink()
    assert open_registry(storage, tmp_path).models("d") == ["a"]


def test_an_index_of_another_version_is_built_anew(tmp_path: Path) -> None:
    """Tables of another version of modelstore are not used."""
    storage = MemoryStorage()
    registry = open_registry(storage, tmp_path)
    add(registry, "d", "a")
    registry.logs._index.close()  # type: ignore[union-attr]
    (path,) = tmp_path.glob("*.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("DELETE FROM models")
    db.close()
    assert open_registry(storage, tmp_path).models("d") == ["a"]


def test_an_index_damaged_while_it_is_open_is_built_anew(tmp_path: Path) -> None:
    """Tables that vanish under a running process are rebuilt from the log on the next question."""
    storage = MemoryStorage()
    registry = open_registry(storage, tmp_path)
    add(registry, "d", "a")
    with registry.logs._index.read() as db:  # type: ignore[union-attr]
        db.execute("DROP TABLE logs")
    assert registry.models("d") == ["a"]


def test_without_a_cache_folder_all_works(tmp_path: Path) -> None:
    """A cache folder that cannot be made (a file stands in its way) means an index in memory."""
    (tmp_path / "file").write_text("")
    storage = MemoryStorage()
    registry = open_registry(storage, tmp_path / "file" / "index")
    add(registry, "d", "a")
    assert registry.models("d") == ["a"]


def test_offline_answers_come_from_the_index_alone(tmp_path: Path) -> None:
    """Offline, nothing is asked of the storage; a store never read here is an OfflineError."""
    storage = CountingStorage()
    writer = open_registry(storage, tmp_path)
    writer.states.create("production")
    add(writer, "d", "a")
    writer.states.set("d", "a", "production")
    writer.models("d")
    reader = open_registry(storage, tmp_path)
    storage.requests.clear()
    assert reader.find("d", offline=True).model_id == "a"
    assert reader.find("d", state_name="production", offline=True).model_id == "a"
    assert reader.domains(offline=True) == ["d"]
    assert storage.requests == []
    with pytest.raises(OfflineError):
        open_registry(MemoryStorage(), tmp_path).find("d", offline=True)


def _list_in_child(storage: MemoryStorage, folder: Path, registry: object, queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    queue.put(registry.models("d"))  # type: ignore[attr-defined]


def test_a_registry_works_in_a_forked_child(tmp_path: Path) -> None:
    """A child of fork does not share its parent's connection to SQLite."""
    storage = MemoryStorage()
    registry = open_registry(storage, tmp_path)
    add(registry, "d", "a")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_list_in_child, args=(storage, tmp_path, registry, queue))
    child.start()
    assert queue.get(timeout=30) == ["a"]
    child.join()
    add(registry, "d", "b")
    assert registry.models("d") == ["b", "a"]


def test_what_a_deletion_costs_does_not_grow_with_the_models_in_a_state() -> None:
    """Building the index anew stays linear: SQLite takes about as many steps beside 2,000 holders as beside 20."""

    def steps(holders: int) -> int:
        index = Index(None, "memory://x", "abc")
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        with index.write() as db:
            db.executemany(
                "INSERT INTO models (domain, number, model_id, archive, created, user, library)"
                " VALUES ('d', ?, ?, 'a', '', '', '')",
                ((number, str(number)) for number in range(holders)),
            )
            rows = ((number, number) for number in range(holders))
            db.executemany("INSERT INTO holds (domain, state, since, model) VALUES ('d', 1, ?, ?)", rows)
            db.set_progress_handler(count, 1)
            fold.apply(db, Event("d", 9999, DELETED, "2026-01-01T00:00:00.000000Z", "u", "m", "", {"model": 7}))
            db.set_progress_handler(None, 0)
        return counted

    assert steps(2000) < 2 * steps(20)
