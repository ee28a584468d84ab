"""The safetensors package reads what is written here."""

from __future__ import annotations

import pytest
from hypothesis import given

safetensors = pytest.importorskip("safetensors")

from modelstore.managers.safetensors_file import Entry, write_header  # noqa: E402
from tests.managers.test_safetensors_file import entries  # noqa: E402


@given(entries)
def test_others_can_read_it(given_entries: dict[str, tuple[str, list[int]]]) -> None:
    """The package takes every header that is written here, and finds the same names, types and shapes."""
    header, placed = write_header(Entry(name, dtype, tuple(shape)) for name, (dtype, shape) in given_entries.items())
    arrays = dict(safetensors.deserialize(header + bytes(sum(entry.nbytes for entry in placed))))
    assert {name: (fields["dtype"], tuple(fields["shape"])) for name, fields in arrays.items()} == {
        entry.name: (entry.dtype, entry.shape) for entry in placed
    }
