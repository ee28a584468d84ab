"""The safetensors format: a header written for data that lies in memory, and a header read without trusting it.

Other libraries write such a file from one block of memory. Here the header is made from names and sizes alone, so that
the data can follow it from wherever it lies. Needs no framework.

Order: by falling power of two (64 at the most) that divides an entry's length, then by falling element size, then the
larger entry first. All offsets before an entry are then multiples of that power, so every entry of a multiple of 64
bytes (nearly all weights) starts at such a multiple, and every other one at least at a multiple of its element size.
The format allows no holes, which rules out padding. Why not by element size alone:
docs/decisions/004-order-of-tensors.md.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from modelstore.exceptions import IntegrityError, UnsupportedObjectError

ALIGNMENT = 64
"""The data starts at a multiple of this many bytes."""

ITEM_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes per element, by the format's name of the type."""

METADATA = "__metadata__"
"""The one name that the format keeps for itself."""

_HEADER_LIMIT = 100_000_000  # the format's own
_DIMENSION_LIMIT = 64


@dataclass(frozen=True)
class Entry:
    """One array of a file: `start` and `stop` (exclusive) are positions in the file, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    stop: int = 0

    @property
    def nbytes(self) -> int:
        """The length that type and shape ask for."""
        return math.prod(self.shape) * ITEM_SIZES[self.dtype]


def write_header(entries: Iterable[Entry]) -> tuple[bytes, list[Entry]]:
    """Lay out a file.

    Args:
        entries: names, types and shapes; names are unique, UTF-8 and not `METADATA`.

    Returns:
        The file's first bytes, and the entries with their positions, in the order in which their data must follow.
    """
    _require_little_endian()
    ordered = sorted(entries, key=_place)
    fields: dict[str, Any] = {METADATA: {"format": "pt"}}
    at = 0
    for entry in ordered:
        end = at + entry.nbytes
        fields[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > _HEADER_LIMIT:
        raise UnsupportedObjectError(
            f"the names and shapes of {len(ordered):,} tensors take {len(text):,} bytes, and a safetensors file holds "
            f"at most {_HEADER_LIMIT:,}; shorten the names or join the tensors"
        )
    header = len(text).to_bytes(8, "little") + text
    placed = []
    at = len(header)
    for entry in ordered:
        placed.append(Entry(entry.name, entry.dtype, entry.shape, at, at + entry.nbytes))
        at += entry.nbytes
    return header, placed


def _place(entry: Entry) -> tuple[int, int, int, str]:
    return -_power_of_two(entry.nbytes), -ITEM_SIZES[entry.dtype], -entry.nbytes, entry.name


def read_header(file: BinaryIO, size: int, subject: str) -> dict[str, Entry]:
    """The entries of a file, by name.

    Args:
        size: the file's length in bytes.
        subject: what the file belongs to, for errors.

    Raises:
        IntegrityError: entries of unknown type, entries that overlap, leave holes or lie outside the file, or
            anything else that is not this format.
    """
    _require_little_endian()
    length = int.from_bytes(_read(file, 8, subject), "little")
    if length > min(_HEADER_LIMIT, size - 8):
        raise _damaged(subject, f"it claims to be {length:,} bytes long, in a file of {size:,}")
    try:
        fields = json.loads(_read(file, length, subject).decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(subject, f"it is not JSON with unique names ({error})") from error
    if not isinstance(fields, dict):
        raise _damaged(subject, "it is not a JSON object")
    fields.pop(METADATA, None)
    entries = {name: _entry(name, field, 8 + length, subject) for name, field in fields.items()}
    at = 8 + length
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.stop)):
        if entry.start != at:
            raise _damaged(subject, f"{entry.name!r} starts at {entry.start}, where {at} is the end of the one before")
        at = entry.stop
    if at != size:
        raise _damaged(subject, f"its entries end at {at}, and the file at {size}")
    return entries


def _entry(name: str, field: Any, data_start: int, subject: str) -> Entry:
    if not isinstance(field, dict) or set(field) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(subject, f"{name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        raise _damaged(subject, f"{name!r} is of the unknown type {dtype!r}")
    if not is_sizes(shape) or len(shape) > _DIMENSION_LIMIT:
        raise _damaged(subject, f"{name!r} has the shape {shape!r}")
    if not is_sizes(offsets) or len(offsets) != 2:
        raise _damaged(subject, f"{name!r} lies at {offsets!r}")
    entry = Entry(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])
    if entry.stop - entry.start != entry.nbytes:
        raise _damaged(subject, f"{name!r} has {entry.stop - entry.start} bytes, its shape asks for {entry.nbytes}")
    return entry


def is_sizes(value: Any) -> bool:
    """Whether a value from JSON is a list of integers that are not negative."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _power_of_two(length: int) -> int:
    """The largest power of two, up to the alignment, that divides a length."""
    return math.gcd(length, ALIGNMENT)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _read(file: BinaryIO, length: int, subject: str) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise _damaged(subject, "the file ends in it")
    return data


def _damaged(subject: str, detail: str) -> IntegrityError:
    return IntegrityError(subject, "safetensors header", detail)


def _require_little_endian() -> None:
    if sys.byteorder != "little":
        raise UnsupportedObjectError("safetensors files hold little-endian numbers, and this machine is big-endian")
