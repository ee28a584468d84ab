"""The tensors in a folder's safetensors files, for a comparison of two models; whatever framework wrote them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.managers.safetensors_file import Entry, read_header

SUFFIX = ".safetensors"

_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?", "C64": "<c8",
}  # fmt: skip


@dataclass(frozen=True)
class Moved:
    """A tensor that is not the same in both files; type and shape as text, None where it is not there."""

    name: str
    before: str | None
    after: str | None
    distance: float | None = None
    relative: float | None = None


def compare(before: Path, after: Path) -> list[Moved]:
    """The tensors that differ between two safetensors files, by name.

    Distances take numpy; without it, tensors of one type and shape are compared by their bytes alone.

    Raises:
        IntegrityError: one of them is no sound safetensors file.
    """
    old, new = _entries(before), _entries(after)
    found = []
    for name in sorted({*old, *new}):
        one, two = old.get(name), new.get(name)
        if one is None or two is None or (one.dtype, one.shape) != (two.dtype, two.shape):
            found.append(Moved(name, _described(one), _described(two)))
            continue
        first, second = _bytes(before, one), _bytes(after, two)
        if first != second:
            found.append(Moved(name, _described(one), _described(two), *_distance(first, second, one.dtype)))
    return found


def _entries(path: Path) -> dict[str, Entry]:
    try:
        with open(path, "rb") as file:
            return dict(read_header(file, os.fstat(file.fileno()).st_size, path.name))
    except OSError as error:
        raise IntegrityError(path.name, "file", str(error)) from error


def _described(entry: Entry | None) -> str | None:
    return None if entry is None else f"{entry.dtype} {list(entry.shape)}"


def _bytes(path: Path, entry: Entry) -> bytes:
    with open(path, "rb") as file:
        file.seek(entry.start)
        return file.read(entry.nbytes)


def _distance(first: bytes, second: bytes, dtype: str) -> tuple[float | None, float | None]:
    try:
        import numpy
    except ModuleNotFoundError:
        return None, None
    one, two = (_values(numpy, data, dtype) for data in (first, second))
    if one is None:
        return None, None
    length, distance = float(numpy.linalg.norm(one)), float(numpy.linalg.norm(two - one))
    return distance, distance / length if length else None


def _values(numpy: Any, data: bytes, dtype: str) -> Any:
    if dtype == "BF16":  # the upper half of a float32
        return (numpy.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype("f8")
    if dtype not in _NUMPY:
        return None
    values = numpy.frombuffer(data, _NUMPY[dtype])
    return values.astype("c16" if dtype == "C64" else "f8")
