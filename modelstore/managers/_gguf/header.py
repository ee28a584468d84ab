"""The head of a GGUF file: its metadata and the types of its tensors, read without the package `gguf`.

Lists of tokens are skipped, and a file that claims more than a model can have is refused before anything is reserved.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from modelstore.exceptions import IntegrityError

MAGIC = b"GGUF"

_VERSIONS = (2, 3)
_MOST_ENTRIES = 100_000
_MOST_TENSORS = 1_000_000
_MOST_DIMENSIONS = 8
_LONGEST_NAME = 65_535  # bytes
_LONGEST_TEXT = 500  # bytes of a text that is kept; a chat template has thousands
_DEEPEST = 4  # lists in lists

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9

_TENSOR_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip


def read_header(data: memoryview, subject: str) -> dict[str, Any]:
    """What a file says of itself.

    Args:
        data: the whole file.
        subject: what the file is, for errors.

    Returns:
        `version`, `metadata` (single values by name), `tensors` (their number), `elements` (the sum of their sizes)
        and `types` (the number of elements by type of tensor).

    Raises:
        IntegrityError: it is no GGUF file, of another version, or ends too early.
    """
    try:
        return _Head(data).read()
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise IntegrityError(subject, "GGUF header", str(error)) from error


class _Head:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0
        self._order = "<"

    def read(self) -> dict[str, Any]:
        if bytes(self._data[:4]) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        version = self._number("I")
        if version & 0xFFFF == 0:  # written on a big-endian machine
            self._order, self._at = ">", 4
            version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"version {version} is none of {_VERSIONS}")
        tensors, entries = self._count(_MOST_TENSORS), self._count(_MOST_ENTRIES)
        metadata = {}
        for _ in range(entries):
            name = self._text(_LONGEST_NAME)
            value = self._value(self._number("I"), 0)
            if value is not None:
                metadata[name] = value
        types: Counter[str] = Counter()
        for _ in range(tensors):
            self._text(_LONGEST_NAME)
            elements = 1
            for _ in range(self._within(self._number("I"), _MOST_DIMENSIONS)):
                elements *= self._number("Q")
            kind = self._number("I")
            types[_TENSOR_TYPES.get(kind, f"type {kind}")] += elements
            self._skip(8)  # where its data lies
        return {
            "version": version,
            "metadata": metadata,
            "tensors": tensors,
            "elements": types.total(),
            "types": dict(types.most_common()),
        }

    def _value(self, kind: int, depth: int) -> Any:
        """One value; None for what is not kept."""
        if kind in _SCALARS:
            value = self._number(_SCALARS[kind])
            return value if value == value else None  # JSON has no NaN
        if kind == _TEXT:
            return self._text(len(self._data), keep=_LONGEST_TEXT)
        if kind != _LIST or depth == _DEEPEST:
            raise ValueError(f"there is no type {kind} of metadata")
        inner, length = self._number("I"), self._count(len(self._data))
        if inner in _SCALARS:
            self._skip(length * struct.calcsize(_SCALARS[inner]))
            return None
        for _ in range(length):
            if inner == _TEXT:
                self._skip(self._count(len(self._data)))
            else:
                self._value(inner, depth + 1)
        return None

    def _text(self, longest: int, keep: int | None = None) -> Any:
        length = self._count(longest)
        start = self._at
        self._skip(length)
        return None if keep is not None and length > keep else bytes(self._data[start : self._at]).decode()

    def _count(self, most: int) -> int:
        return self._within(self._number("Q"), most)

    def _within(self, number: int, most: int) -> int:
        if number > most:
            raise ValueError(f"it claims {number:,} of something, and {most:,} are the most")
        return number

    def _number(self, kind: str) -> Any:
        (value,) = struct.unpack_from(self._order + kind, self._data, self._at)
        self._at += struct.calcsize(kind)
        return value

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > len(self._data):
            raise ValueError("it ends too early")
