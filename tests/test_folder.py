"""The folder that managers fill."""

from __future__ import annotations

import array
import gc
import weakref
from collections.abc import Iterator

import pytest

from modelstore.folder import MemorySource, ModelFolder

np = pytest.importorskip("numpy")


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


def test_pieces_of_memory_read_as_one_file() -> None:
    """Any range comes out of any pieces, among them empty ones of whatever shape and type."""
    empty = memoryview(np.empty((3, 0), dtype="f4"))
    pieces = [b"", b"abc", empty, bytearray(b"d"), b"", memoryview(b"efghij"), empty]
    source = MemorySource(pieces)
    assert source.size == 10
    for start in range(11):
        for stop in range(start, 12):
            assert b"".join(bytes(part) for part in source.read(start, stop)) == b"abcdefghij"[start:stop]
