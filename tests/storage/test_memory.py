"""The memory storage keeps the contract, and shares by name."""

from __future__ import annotations

import pytest

from modelstore.storage.base import Created
from modelstore.storage.memory import MemoryStorage
from modelstore.testing import StorageContract


class TestMemoryStorage(StorageContract):
    """The contract."""

    held_chunks = 2

    @pytest.fixture
    def storage(self) -> MemoryStorage:
        """A storage of a name that nobody else has."""
        return MemoryStorage()


def test_storages_of_one_name_share_their_objects() -> None:
    """Two storages of one name are one; of two names, two."""
    first, second, other = MemoryStorage("shared"), MemoryStorage("shared"), MemoryStorage("another")
    assert first.create("a", b"x") is Created.MADE
    assert second.create("a", b"y") is Created.REFUSED
    assert other.create("a", b"z") is Created.MADE
    assert first.address == second.address == "memory://shared"


def test_objects_go_with_the_last_storage() -> None:
    """A name whose storages are all gone starts empty again, so that tests do not see each other's objects."""
    storage = MemoryStorage("passing")
    storage.create("a", b"x")
    del storage
    assert list(MemoryStorage("passing").list("")) == []
