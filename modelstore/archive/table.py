"""The table at the end of an archive as bytes (docs/format.md), and what must hold before it is believed.

Rows have fixed sizes, so that the table's length is known before the data is. Offsets of chunks are not
stored but summed up, so that they cannot lie. Integers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from modelstore.archive.compression import largest_frame
from modelstore.archive.digests import EMPTY, tree_digest
from modelstore.archive.info import NONE
from modelstore.archive.limits import Limits
from modelstore.exceptions import IntegrityError, InvalidNameError, NewerFormatError, UnsafeArchiveError
from modelstore.folder import check_names, fold_name

TABLE_NAME = ".modelstore-table"
VERSION = 1
BLOCK = 512
LARGEST_TABLE = 256 << 20
"""Bytes; a table of 65,536 chunks and a million files takes 150 MB. More is taken for an attack on memory."""

_MAGIC = b"mstore\r\n"
_HEAD = struct.Struct("<8sHHIIIQ")  # magic, version, 0, chunk size, chunks, entries, bytes of names
_CHUNK = struct.Struct("<II32s")  # stored length, raw length, digest of the stored bytes
_ENTRY = struct.Struct("<HHIQQ32s")  # flags, bytes of its name, 0, size, start, digest
_IN_MODEL, _FOLDER = 1, 2


class Chunk(NamedTuple):
    """A chunk: its stored length, its length in the tar stream, and the SHA-256 of its stored bytes."""

    stored: int
    raw: int
    digest: bytes


class TableEntry(NamedTuple):
    """A file, or an empty folder (of size 0): where its bytes start in the tar stream, and their digest."""

    name: str
    size: int
    start: int
    digest: bytes
    in_model: bool
    folder: bool


class Part(NamedTuple):
    """What a chunk holds of a file: a whole one, or the piece `number` of one larger than a chunk."""

    entry: int
    offset: int
    """In the chunk's raw bytes."""
    size: int
    number: int | None


@dataclass(frozen=True)
class Table:
    """All chunks and all entries, both in the order of the tar stream."""

    chunks: tuple[Chunk, ...]
    entries: tuple[TableEntry, ...]

    def encode(self, limits: Limits) -> bytes:
        """As bytes, filled with zeros to whole blocks. `decode(table.encode(limits), …) == table`."""
        names = [entry.name.encode() for entry in self.entries]
        head = (_MAGIC, VERSION, 0, limits.chunk, len(self.chunks), len(names), sum(map(len, names)))
        parts = [_HEAD.pack(*head), *(_CHUNK.pack(*chunk) for chunk in self.chunks)]
        for entry, name in zip(self.entries, names, strict=True):
            flags = _IN_MODEL * entry.in_model | _FOLDER * entry.folder
            parts.append(_ENTRY.pack(flags, len(name), 0, entry.size, entry.start, entry.digest))
        data = b"".join([*parts, *names])
        return data + bytes(-len(data) % BLOCK)

    def parts(self) -> list[list[Part]]:
        """For every chunk what it holds of files with content. Needs a table that `check` let pass."""
        found: list[list[Part]] = [[] for _ in self.chunks]
        index = begin = 0
        for number, entry in enumerate(self.entries):
            if not entry.size:
                continue
            while entry.start >= begin + self.chunks[index].raw:
                begin += self.chunks[index].raw
                index += 1
            end = begin + self.chunks[index].raw
            if entry.start + entry.size <= end:
                found[index].append(Part(number, entry.start - begin, entry.size, None))
                continue
            left, piece, at = entry.size, 0, index
            while left:
                size = self.chunks[at].raw
                found[at].append(Part(number, 0, size, piece))
                left, piece, at = left - size, piece + 1, at + 1
        return found


def table_length(chunks: int, names: Sequence[str]) -> int:
    """What `Table.encode` will give, in bytes."""
    length = _HEAD.size + chunks * _CHUNK.size + len(names) * _ENTRY.size + sum(len(name.encode()) for name in names)
    return length + -length % BLOCK


def decode(data: bytes | memoryview, limits: Limits, subject: str) -> Table:
    """Read a table whose bytes are what was written; what it says is for `check` to judge.

    Raises:
        NewerFormatError: a later version wrote it.
        IntegrityError: it is no table.
    """
    if len(data) < _HEAD.size:
        raise IntegrityError(subject, "table", "it is too short")
    magic, version, zero, chunk_size, chunk_count, entry_count, names_length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise IntegrityError(subject, "table", "it does not begin as one")
    if version > VERSION:
        raise NewerFormatError(subject, "table", f"table version {version}")
    if version != VERSION or zero or chunk_size != limits.chunk:
        raise IntegrityError(subject, "table", "its head is none that this library writes")
    # Before any row is read, so that huge counts cost nothing.
    length = _HEAD.size + chunk_count * _CHUNK.size + entry_count * _ENTRY.size + names_length
    if length + -length % BLOCK != len(data) or any(data[length:]):
        raise UnsafeArchiveError(subject, "table", "its counts do not fit its length")
    at = _HEAD.size + chunk_count * _CHUNK.size
    chunks = tuple(map(Chunk._make, _CHUNK.iter_unpack(data[_HEAD.size : at])))
    return Table(chunks, tuple(_entries(data[at:length], entry_count, subject)))


def _entries(data: bytes | memoryview, count: int, subject: str) -> Iterator[TableEntry]:
    names = count * _ENTRY.size
    for flags, name_length, zero, size, start, digest in _ENTRY.iter_unpack(data[:names]):
        if flags & ~(_IN_MODEL | _FOLDER) or zero or not name_length:
            raise UnsafeArchiveError(subject, "table", "a row is none that this library writes")
        try:
            name = bytes(data[names : names + name_length]).decode()
        except UnicodeDecodeError as error:
            raise UnsafeArchiveError(subject, "table", "a name is not UTF-8") from error
        names += name_length
        yield TableEntry(name, size, start, digest, bool(flags & _IN_MODEL), bool(flags & _FOLDER))
    if names != len(data):
        raise UnsafeArchiveError(subject, "table", "its names do not fill its length")


def check(table: Table, compression: str, stored: int, limits: Limits, subject: str) -> None:
    """Refuse a table that no archive of ours has: nothing in it is believed before.

    Args:
        stored: bytes before the table in the stored object.

    Raises:
        UnsafeArchiveError: names that could leave the folder or collide, sizes that do not add up, files
            that overlap, lie outside the tar stream or across chunks.
        IntegrityError: the digest of a large file is not that of its chunks.
    """
    for chunk in table.chunks:
        most = chunk.raw if compression == NONE else largest_frame(chunk.raw)
        least = chunk.raw if compression == NONE else 1
        if not 1 <= chunk.raw <= limits.chunk or not least <= chunk.stored <= most:
            raise UnsafeArchiveError(subject, "table", f"a chunk of {chunk.stored:,} bytes for {chunk.raw:,}")
    if not table.chunks or sum(chunk.stored for chunk in table.chunks) != stored:
        raise UnsafeArchiveError(subject, "table", "its chunks are not what lies before it")
    try:
        check_names([entry.name for entry in table.entries])
    except InvalidNameError as error:
        raise UnsafeArchiveError(subject, "table", str(error)) from error
    if any(fold_name(entry.name) == TABLE_NAME for entry in table.entries):
        raise UnsafeArchiveError(subject, "table", f"a file takes the name {TABLE_NAME}")
    _check_places(table, compression, limits, subject)


def _check_places(table: Table, compression: str, limits: Limits, subject: str) -> None:
    """Files follow each other inside the tar stream. One larger than a chunk is cut into chunks that hold its
    pieces and nothing else; any other lies in one chunk: so each chunk can be checked by itself.
    """
    ends = list(accumulate(chunk.raw for chunk in table.chunks))
    index = previous = 0
    for entry in table.entries:
        end = entry.start + entry.size
        if entry.start < previous or end > ends[-1] or (entry.folder and entry.size):
            raise UnsafeArchiveError(subject, "table", f"{entry.name!r} does not lie where a file can lie")
        previous = end
        if not entry.size:
            if entry.digest != EMPTY:
                raise UnsafeArchiveError(subject, "table", f"{entry.name!r} is empty and has another digest")
            continue
        while ends[index] <= entry.start:
            index += 1
        if entry.size <= limits.chunk:
            if end > ends[index]:
                raise UnsafeArchiveError(subject, "table", f"{entry.name!r} lies across chunks")
            continue
        count = -(-entry.size // limits.chunk)
        pieces = table.chunks[index : index + count]
        if entry.start + pieces[0].raw != ends[index] or [piece.raw for piece in pieces] != [
            *[limits.chunk] * (count - 1),
            entry.size - limits.chunk * (count - 1),
        ]:
            raise UnsafeArchiveError(subject, "table", f"{entry.name!r} is not cut into its pieces")
        if compression == NONE and tree_digest(piece.digest for piece in pieces) != entry.digest:
            raise IntegrityError(subject, "table", f"the digest of {entry.name!r} is not that of its chunks")
