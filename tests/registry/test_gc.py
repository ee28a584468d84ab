"""gc frees what nobody can reach, after a grace period, and never a living model."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from modelstore.exceptions import ModelDeletedException, StorageError
from modelstore.registry import removal
from modelstore.registry.gc import GRACE, collect
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import add, open_registry, record_of


def later(storage: MemoryStorage, by: timedelta) -> None:
    storage.clock = lambda: datetime.now(timezone.utc) + by  # type: ignore[method-assign]


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


def archives(storage: MemoryStorage) -> list[str]:
    return [info.key for info in storage.list("archives/")]


def test_a_fresh_tombstone_and_a_fresh_orphan_are_kept(storage: MemoryStorage) -> None:
    """Within seven days nothing is freed."""
    registry = open_registry(storage)
    add(registry, "d", "a")
    removal.delete(registry, "d", "a")
    storage.write("archives/d/x/1/artifacts.tar", [[b"in flight"]])
    assert collect(registry).garbage == ()
    assert len(archives(storage)) == 2


def test_expired_tombstones_and_orphans_go(storage: MemoryStorage) -> None:
    """After seven days of the storage's clock, a deleted model's bytes and an orphan go; the living model stays."""
    registry = open_registry(storage)
    kept, gone = add(registry, "d", "kept"), add(registry, "d", "gone")
    removal.delete(registry, "d", "gone")
    storage.write("archives/d/x/1/artifacts.tar", [[b"orphan"]])
    later(storage, GRACE + timedelta(minutes=1))
    report = collect(registry, dry_run=True)
    assert {(item.key, item.reason) for item in report.garbage} == {
        (gone.archive["key"], "deleted"),
        ("archives/d/x/1/artifacts.tar", "orphan"),
    }
    assert report.bytes == len(b"archive") + len(b"orphan")
    assert len(archives(storage)) == 3
    with pytest.warns(UserWarning, match="clock"):
        assert len(collect(registry).garbage) == 2
    assert archives(storage) == [kept.archive["key"]]
    assert collect(registry).garbage == ()


def test_a_purged_model_needs_no_grace(storage: MemoryStorage) -> None:
    """What a purge did not get to delete goes with the next gc."""
    registry = open_registry(storage)
    model = add(registry, "d", "a")
    assert removal.delete(registry, "d", "a", purge=True) == model.archive["key"]
    assert [item.reason for item in collect(registry).garbage] == ["purged"]
    assert archives(storage) == []


def test_a_writer_that_finds_its_archive_condemned_fails(storage: MemoryStorage) -> None:
    """An upload that hung for a week cannot commit a model without bytes."""
    registry, slow = open_registry(storage), open_registry(storage)
    add(registry, "d", "a")
    key = "archives/d/slow/1/artifacts.tar"
    storage.write(key, [[b"slow"]])
    later(storage, GRACE + timedelta(minutes=1))
    with pytest.warns(UserWarning, match="clock"):
        collect(registry)
    with pytest.raises(StorageError, match="gc has removed"):
        slow.add("d", "slow", record_of("d", "slow"), {"key": key})
    assert slow.models("d") == ["a"]


def test_an_archive_that_commits_while_gc_looks_is_spared(storage: MemoryStorage) -> None:
    """Between gc's listing and its condemnation an upload commits: its archive stays."""
    registry, writer = open_registry(storage), open_registry(storage)
    add(registry, "d", "a")
    key = "archives/d/slow/1/artifacts.tar"
    storage.write(key, [[b"slow"]])
    storage.write("archives/d/old/1/artifacts.tar", [[b"orphan"]])
    later(storage, GRACE + timedelta(minutes=1))
    commit = registry.logs.commit

    def commit_after_another(domain, intent):  # type: ignore[no-untyped-def]
        registry.logs.commit = commit  # type: ignore[method-assign]
        writer.add("d", "slow", record_of("d", "slow"), {"key": key})
        return commit(domain, intent)

    registry.logs.commit = commit_after_another  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="clock"):
        collect(registry)
    assert key in archives(storage)
    assert "archives/d/old/1/artifacts.tar" not in archives(storage)
    assert registry.models("d") == ["slow", "a"]


def test_the_id_of_a_deleted_model_is_free_and_its_old_bytes_still_go(storage: MemoryStorage) -> None:
    """A new model under the old id is a model of its own: gc frees the first one's archive only."""
    registry = open_registry(storage)
    old = add(registry, "d", "a")
    removal.delete(registry, "d", "a")
    with pytest.raises(ModelDeletedException):
        registry.find("d", "a")
    new = add(registry, "d", "a")
    assert new.number != old.number
    later(storage, GRACE + timedelta(minutes=1))
    with pytest.warns(UserWarning, match="clock"):
        collect(registry)
    assert archives(storage) == [new.archive["key"]]
    assert registry.find("d", "a").number == new.number
