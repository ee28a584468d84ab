"""Storages to test: a local one in a folder of its own, and one over each server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelstore.storage.local import FileSystemStorage
from tests.servers.backends import Running


@pytest.fixture
def storage(tmp_path: Path) -> FileSystemStorage:
    """An empty storage in a folder of its own."""
    return FileSystemStorage(tmp_path / "store", create=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Its folder."""
    return tmp_path / "store"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The test servers, each started when a test first asks for it."""
    running = Running(tmp_path_factory.mktemp("servers"))
    yield running
    running.close()
