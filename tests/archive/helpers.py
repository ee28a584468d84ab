"""Small folders, and stored objects that count how they are read."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from modelstore.archive import Archive, ArchiveInfo, Packer
from modelstore.archive.limits import Limits
from modelstore.folder import FolderContents, FolderFile, MemorySource

SMALL = Limits(chunk=4096, large=2048)
"""Chunks so small that a few kilobytes have every shape that gigabytes have."""


class Stored:
    """A stored object in memory; `reads` holds the ranges (end exclusive) that were asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def read(self, start: int, end: int | None = None) -> bytes:
        begin = max(0, len(self.data) + start) if start < 0 else start
        stop = len(self.data) if end is None else min(end, len(self.data))
        with self._lock:
            self.reads.append((begin, stop))
        return self.data[begin:stop]

    def read_into(self, start: int, buffer: memoryview) -> int:
        found = self.read(start, start + len(buffer))
        buffer[: len(found)] = found
        return len(found)


def contents(files: Mapping[str, bytes], folders: Iterable[str] = ()) -> FolderContents:
    return FolderContents(tuple(FolderFile(name, MemorySource([data])) for name, data in files.items()), tuple(folders))


def packed(packer: Packer) -> tuple[bytes, ArchiveInfo]:
    stored = bytearray()

    def sink(chunks: Iterable[Iterable[bytes]]) -> None:
        for chunk in chunks:
            for buffer in chunk:
                stored.extend(buffer)

    info = packer.write(sink)
    return bytes(stored), info


def pack(
    files: Mapping[str, bytes],
    folders: Iterable[str] = (),
    *,
    attached: Mapping[str, bytes] | None = None,
    compression: str | None = "none",
    limits: Limits = SMALL,
) -> tuple[bytes, ArchiveInfo]:
    return packed(Packer(contents(files, folders), contents(attached or {}), limits=limits, compression=compression))


def opened(data: bytes, info: ArchiveInfo | None = None, limits: Limits = SMALL) -> Archive:
    return Archive.open(Stored(data), "the archive", info, limits=limits)


def on_disk(folder: Path) -> tuple[dict[str, bytes], set[str]]:
    """The files below a folder with their bytes, and the folders that hold nothing."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    files = {name: path.read_bytes() for name, path in found.items() if path.is_file()}
    empty = {name for name, path in found.items() if path.is_dir() and not any(path.iterdir())}
    return files, empty


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress; the same for the same seed."""
    import random

    return random.Random(seed).randbytes(size)
