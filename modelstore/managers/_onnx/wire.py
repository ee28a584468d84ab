"""Which other files an ONNX model file keeps tensors in, read from its protobuf encoding without the package `onnx`.

A session needs onnxruntime alone. Weights are skipped by their length, so that a file of gigabytes is read in a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from modelstore.exceptions import IntegrityError

_PATHS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
"""Field numbers of ONNX's messages that lead to tensors, by what they hold."""

_DEEPEST = 100  # messages in each other, as many as protobuf itself takes
_DATA_LOCATION = 14


def external_files(data: memoryview) -> list[str]:
    """The files that tensors lie in, relative to the model's folder, sorted.

    Args:
        data: a serialised ModelProto.

    Raises:
        IntegrityError: it is no such message, or one of the names leads out of the folder.
    """
    try:
        found = set(_locations(data, "model", 0))
    except (IndexError, UnicodeDecodeError) as error:
        raise IntegrityError("the ONNX model", "file", f"it is no ONNX model: {error}") from error
    for name in found:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or any(mark in name for mark in ("\\", ":", "\0")):
            raise IntegrityError("the ONNX model", "file", f"its tensors lie in {name!r}, outside of its folder")
    return sorted(str(PurePosixPath(name)) for name in found)


def _locations(data: memoryview, message: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise IndexError("messages nest too deeply")
    inner = _PATHS[message]
    location, external = "", False
    for number, value in _fields(data):
        if message == "tensor" and number == _DATA_LOCATION:
            external = value == 1
        elif number in inner and isinstance(value, memoryview):
            if message == "tensor":
                entry = {key: bytes(text).decode() for key, text in _fields(value) if isinstance(text, memoryview)}
                location = entry.get(2, "") if entry.get(1) == "location" else location
            else:
                yield from _locations(value, inner[number], depth + 1)
    if external:
        yield location


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message: number, and an integer or the bytes.

    Raises:
        IndexError: the bytes end too early, or are no message.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = _integer(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _integer(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _integer(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise IndexError(f"a field of kind {kind}")
        if length > end - at:
            raise IndexError("a field is longer than what holds it")
        if kind == 2:
            yield tag >> 3, data[at : at + length]
        at += length


def _integer(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("a number is too long")
