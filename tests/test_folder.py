"""The folder that managers fill."""

from __future__ import annotations

import array
import gc
import weakref
from collections.abc import Iterator

import pytest

from modelstore.folder import ModelFolder


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Nothing is freed but what nobody refers to."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
def test_a_closed_folder_holds_no_memory() -> None:
    """A model's weights can be freed as soon as its upload has ended, without waiting for a garbage collection."""
    weights = array.array("d", range(1000))
    held = weakref.ref(weights)
    with ModelFolder() as folder:
        folder.sub("model").add_buffers("weights", [memoryview(weights)])
        assert [file.name for file in folder.contents().files] == ["model/weights"]
    del weights, folder
    assert held() is None
