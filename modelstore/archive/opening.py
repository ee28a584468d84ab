"""Opening an archive with one read of its end."""

from __future__ import annotations

from typing import Protocol

from modelstore.archive.compression import decompress_into
from modelstore.archive.digests import archive_digest, content_digest, sha256
from modelstore.archive.info import NONE, ArchiveInfo, TablePlace
from modelstore.archive.limits import Limits
from modelstore.archive.table import LARGEST_TABLE, Table, check, decode
from modelstore.archive.trailer import LONGEST_TAIL, PLAIN_TAIL, TAILS, Trailer, find_trailer
from modelstore.exceptions import IntegrityError, UnsafeArchiveError

GUESS = 64 << 10
"""Bytes read from the end of an archive of which nothing is known: holds the table of about 600 files."""


class RangeSource(Protocol):
    """One stored object that is read in ranges, from several threads at once."""

    def read(self, start: int, end: int | None) -> bytes:
        """Bytes start…end (end exclusive, None: to the end); a negative start counts from the end and gives the
        whole object when it is shorter. A range beyond the end gives what there is.
        """

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Fill `buffer` with the bytes from `start` on; returns how many there were (fewer only at the end)."""


def read_table(
    source: RangeSource, subject: str, info: ArchiveInfo | None, limits: Limits
) -> tuple[Table, ArchiveInfo]:
    """The table, checked, and what it says about the archive as a whole.

    With `info`, what its record says, one read of exactly the end from the table on, and all of it must hold.
    Without, one read of 64 KiB, and a second one if the table is longer.

    Raises:
        NewerFormatError: a later version wrote it.
        UnsafeArchiveError: names, sizes or places that no archive of ours has.
        IntegrityError: bytes at its end are not those that were written, or not those of `info`.
    """
    if info is None:
        end = source.read(-GUESS, None)
    else:
        end = source.read(info.table.start, info.size + 1)  # one more, to notice an object that is longer
        if len(end) != info.size - info.table.start:
            raise IntegrityError(subject, "size", f"it does not have the {info.size:,} bytes that were written")
    trailer = find_trailer(end[-LONGEST_TAIL:], subject)
    if not 0 < trailer.raw <= LARGEST_TABLE or not 0 < trailer.stored <= LARGEST_TABLE:
        raise UnsafeArchiveError(subject, "trailer", f"a table of {trailer.raw:,} bytes")
    stored = _stored_table(source, end, trailer, subject, known=info is not None)
    if len(stored) != trailer.stored or sha256([stored]) != trailer.digest:
        raise IntegrityError(subject, "table", "its bytes are not those that were written")
    table = decode(_raw_table(stored, trailer, subject), limits, subject)
    check(table, trailer.compression, trailer.start, limits, subject)
    found = _describe(table, trailer)
    if info is None and len(end) < GUESS and found.size != len(end):
        raise IntegrityError(subject, "size", f"it has {len(end):,} bytes and says {found.size:,}")
    if info is not None and found != info:
        recorded, held = info.to_dict(), found.to_dict()
        wrong = ", ".join(key for key in held if held[key] != recorded[key])
        raise IntegrityError(subject, "table", f"it is not the archive of its record, which differs in {wrong}")
    return table, found


def _stored_table(source: RangeSource, end: bytes, trailer: Trailer, subject: str, *, known: bool) -> bytes:
    at = len(end) - TAILS[trailer.compression] - trailer.stored
    if known and at:  # read from where its record says that it begins
        raise IntegrityError(subject, "trailer", "the table is not where its record says")
    if at >= 0:
        return end[at : at + trailer.stored]
    return source.read(trailer.start, trailer.start + trailer.stored)


def _raw_table(stored: bytes, trailer: Trailer, subject: str) -> bytes | memoryview:
    if trailer.compression == NONE:
        if trailer.stored != trailer.raw:
            raise UnsafeArchiveError(subject, "trailer", "two lengths for one table")
        return stored
    raw = memoryview(bytearray(trailer.raw))
    decompress_into(memoryview(stored), raw, subject, "table")
    return raw


def _describe(table: Table, trailer: Trailer) -> ArchiveInfo:
    return ArchiveInfo(
        size=trailer.start + trailer.stored + TAILS[trailer.compression],
        raw_size=sum(chunk.raw for chunk in table.chunks) + trailer.raw + PLAIN_TAIL,
        compression=trailer.compression,
        chunks=len(table.chunks),
        archive_digest=archive_digest(chunk.digest for chunk in table.chunks),
        content_digest=content_digest(table.entries),
        table=TablePlace(trailer.start, trailer.stored, trailer.digest.hex()),
    )
