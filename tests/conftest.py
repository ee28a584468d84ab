"""What all tests share: a store that leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from modelstore import ModelStore


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A test, and the processes that it starts, have a cache folder of their own and none of the user's settings."""
    for name in ("ALLOW_PICKLE", "CACHE_SIZE", "OFFLINE"):
        monkeypatch.delenv(f"MODELSTORE_{name}", raising=False)
    for name in ("STORAGE", "ROOT_PREFIX"):
        monkeypatch.delenv(f"MODEL_STORE_{name}", raising=False)
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MODELSTORE_CACHE", str(cache))
    return cache


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty store in `tmp_path / "store"`."""
    from modelstore import ModelStore

    return ModelStore.from_file_system(tmp_path / "store", create_directory=True)
