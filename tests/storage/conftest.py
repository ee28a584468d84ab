"""A local storage in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.storage.local import FileSystemStorage


@pytest.fixture
def storage(tmp_path: Path) -> FileSystemStorage:
    """An empty storage in a folder of its own."""
    return FileSystemStorage(tmp_path / "store", create=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Its folder."""
    return tmp_path / "store"
