"""Taking up an extraction that was cut off: which of its chunks are whole on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from modelstore import deadline
from modelstore.archive.info import NONE
from modelstore.archive.limits import Limits
from modelstore.archive.table import Part, Table
from modelstore.archive.trees import SAFE, keep_only, remove, with_parents
from modelstore.archive.workers import for_each

_READ = 1 << 20


class Found(NamedTuple):
    """What is left of an earlier attempt."""

    chunks: Mapping[int, bytes | None]
    """Chunks that need not be fetched, with the digest of the piece that each holds."""
    files: frozenset[str]
    """Files larger than a chunk that are there in full length, some pieces of them perhaps still wrong."""


NOTHING = Found({}, frozenset())


class Wanted(NamedTuple):
    """What an extraction is to bring."""

    table: Table
    parts: Sequence[Sequence[Part]]
    """Of each chunk what is wanted of it."""
    chunks: Sequence[int]
    """The chunks to be read, ascending."""
    entries: Sequence[int]
    """The files, as entries of the table."""
    folders: Collection[str]
    """That files lie in, or that are empty."""


def take_up(
    root: Path, noted: Mapping[int, bytes | None], wanted: Wanted, compression: str, limits: Limits, threads: int
) -> Found:
    """Look what of the chunks `noted` is on disk below `root`, and remove whatever else is there.

    Every byte of what counts as found has been read back: its digest is that in the table, or, of pieces of files
    in a compressed archive, that in the journal; then the digest of the whole file remains to be checked. Buffers:
    1 MiB a thread.

    Raises:
        OSError: something cannot be removed.
        DeadlineExceededError: the time is over.
    """
    if not noted or root.is_symlink() or not root.is_dir():
        remove(root)
        return NOTHING
    table, parts = wanted.table, wanted.parts
    sizes = {table.entries[entry].name: table.entries[entry].size for entry in wanted.entries}
    there = keep_only(root, sizes, with_parents(wanted.folders))
    whole: dict[int, bytes | None] = {}

    def make_worker() -> Callable[[int], None]:
        buffer = memoryview(bytearray(_READ))

        def check(chunk: int) -> None:
            deadline.remaining("checking what an earlier attempt has fetched")
            piece = None
            for part in parts[chunk]:
                entry = table.entries[part.entry]
                size = there.get(entry.name, -1)
                if part.number is None:
                    expected, start, fits = entry.digest, 0, size == entry.size
                else:
                    piece = expected = table.chunks[chunk].digest if compression == NONE else noted[chunk] or b""
                    start = part.number * limits.chunk
                    fits = size >= start + part.size
                if not fits or _digest(root / entry.name, start, part.size, buffer) != expected:
                    return
            whole[chunk] = piece

        return check

    chunks = [chunk for chunk in sorted(noted) if chunk < len(parts)]
    for_each(make_worker, chunks, min(threads, len(chunks)))
    return Found(whole, _keep_whole(root, there, whole, wanted, limits))


def _keep_whole(
    root: Path, there: Mapping[str, int], whole: Collection[int], wanted: Wanted, limits: Limits
) -> frozenset[str]:
    """Remove files that are to be written anew, and give the large ones their length."""
    entries = wanted.table.entries
    held = {part.entry for chunk in whole for part in wanted.parts[chunk]}
    sizes = {entries[entry].name: entries[entry].size for entry in held}
    for name in there:
        if name not in sizes:
            remove(root / name)
    large = {name: size for name, size in sizes.items() if size > limits.chunk}
    for name, size in large.items():
        if there[name] != size:
            os.truncate(root / name, size)
    return frozenset(large)


def _digest(path: Path, start: int, size: int, buffer: memoryview) -> bytes | None:
    """SHA-256 of a part of a file; None if it is not there or cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(os.open(path, os.O_RDONLY | SAFE), "rb", buffering=0) as file:
            file.seek(start)
            while size and (count := file.readinto(buffer[: min(size, len(buffer))])):
                digest.update(buffer[:count])
                size -= count
    except OSError:
        return None
    return None if size else digest.digest()
