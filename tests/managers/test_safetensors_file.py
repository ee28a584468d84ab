"""The safetensors file: what is written others can read, and what is read is not trusted."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from modelstore.exceptions import IntegrityError
from modelstore.managers.safetensors_file import ALIGNMENT, ITEM_SIZES, Entry, read_header, write_header


def parse(header: dict[str, Any] | bytes, data: int) -> dict[str, Entry]:
    """Read a file of this header and so many bytes of data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = len(text).to_bytes(8, "little") + text + bytes(data)
    return read_header(io.BytesIO(file), len(file), "the file")


def array(start: int, stop: int, **other: Any) -> dict[str, Any]:
    """A header's entry for bytes."""
    return {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop], **other}


entries = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(ITEM_SIZES)), st.lists(st.integers(0, 9), max_size=3)),
    max_size=12,
)


@given(entries)
def test_what_is_written_reads_back(given_entries: dict[str, tuple[str, list[int]]]) -> None:
    """Names, types and shapes survive; every entry lies at a multiple of its element size, the data of the alignment,
    and entries whose length is a multiple of the alignment lie at one."""
    wanted = [Entry(name, dtype, tuple(shape)) for name, (dtype, shape) in given_entries.items()]
    header, placed = write_header(wanted)
    file = header + bytes(sum(entry.nbytes for entry in placed))
    found = read_header(io.BytesIO(file), len(file), "the file")
    assert len(header) % ALIGNMENT == 0
    assert found == {entry.name: entry for entry in placed}
    assert {(e.name, e.dtype, e.shape) for e in placed} == {(e.name, e.dtype, e.shape) for e in wanted}
    for entry in placed:
        assert entry.start % ITEM_SIZES[entry.dtype] == 0
        assert entry.nbytes % ALIGNMENT or entry.start % ALIGNMENT == 0


@pytest.mark.parametrize(
    ("header", "data"),
    [
        pytest.param({"a": array(0, 8), "b": array(4, 12)}, 12, id="overlap"),
        pytest.param({"a": array(0, 4), "b": array(8, 12)}, 12, id="hole"),
        pytest.param({"a": array(0, 4)}, 8, id="data behind the last"),
        pytest.param({"a": array(0, 8)}, 4, id="data missing"),
        pytest.param({"a": array(0, 4, shape=[5])}, 4, id="shape too large"),
        pytest.param({"a": array(0, 4, shape=[-2, -2])}, 4, id="negative shape"),
        pytest.param({"a": array(0, 1, shape=[True])}, 1, id="shape of booleans"),
        pytest.param({"a": array(0, 4, shape=[4.0])}, 4, id="shape of floats"),
        pytest.param({"a": array(0, 4, shape=[1] * 100 + [4])}, 4, id="too many dimensions"),
        pytest.param({"a": {**array(0, 0, shape=[0]), "data_offsets": [4, 4]}}, 4, id="empty, out of place"),
        pytest.param({"a": {**array(0, 4), "data_offsets": [4, 0]}}, 4, id="backwards"),
        pytest.param({"a": {**array(0, 4), "data_offsets": [0]}}, 4, id="one offset"),
        pytest.param({"a": array(0, 4, dtype="F7")}, 4, id="unknown type"),
        pytest.param({"a": array(0, 4, dtype=["F32"])}, 4, id="type is a list"),
        pytest.param({"a": array(0, 4, more=1)}, 4, id="unknown field"),
        pytest.param({"a": [0, 4]}, 4, id="no object"),
        pytest.param([1], 0, id="a list"),
        pytest.param(b'{"a": {}, "a": {}}', 0, id="a name twice"),
        pytest.param(b"\xff{}", 0, id="no UTF-8"),
        pytest.param(b"[" * 100_000, 0, id="nested without end"),
        pytest.param(b'{"a": {"dtype": "U8", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 1]}}', 1, id="huge"),
    ],
)
def test_a_lying_header_is_refused(header: Any, data: int) -> None:
    """Whatever a header claims beside the truth is an IntegrityError, never another error or a wrong array."""
    with pytest.raises(IntegrityError, match="safetensors header"):
        parse(header, data)


@pytest.mark.parametrize("file", [b"", b"\0" * 7, b"\xff" * 8, (2**40).to_bytes(8, "little") + b"{}"])
def test_a_cut_file_is_refused(file: bytes) -> None:
    """A file that is shorter than its header claims is refused before anything of that size is read."""
    with pytest.raises(IntegrityError):
        read_header(io.BytesIO(file), len(file), "the file")
