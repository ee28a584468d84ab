"""Passing an archive on as it is stored: checked on the way, in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Generator

from modelstore import deadline
from modelstore.archive.chunks import ChunkReader, FileDigests, Run
from modelstore.archive.compression import decompress_into
from modelstore.archive.digests import sha256
from modelstore.archive.headers import HeaderCheck
from modelstore.archive.info import NONE, ArchiveInfo
from modelstore.archive.limits import Limits
from modelstore.archive.opening import RangeSource
from modelstore.archive.table import Table
from modelstore.archive.trailer import TAILS, find_trailer
from modelstore.archive.workers import Ahead
from modelstore.exceptions import IntegrityError

THREADS = 4
"""Runs of chunks that are read at once, at most; two more wait to be taken: about 100 MiB."""


class Passing:
    """The stored bytes of an opened archive, from the first chunk to the end of the trailer.

    Args:
        look_inside: whether to decode each chunk, and to check files and headers too, as unpacking does: for an archive
            of whose writer nothing is known.
    """

    def __init__(
        self, source: RangeSource, subject: str, table: Table, info: ArchiveInfo, limits: Limits, *, look_inside: bool
    ) -> None:
        self._source = source
        self._subject = subject
        self._table = table
        self._info = info
        self._runs = ChunkReader(source, subject, info.compression, table.chunks, limits).runs(range(info.chunks))
        self._inside = _Inside(table, info.compression, subject, limits) if look_inside else None

    def chunks(self, threads: int) -> Generator[list[memoryview], None, None]:
        """Runs of chunks, each checked before it is given, then the table and the trailer.

        Raises:
            IntegrityError: bytes are not those that were written; what was given before is to be thrown away.
        """
        read = deadline.carried(self._read)
        with Ahead(read, self._runs, max(1, min(threads, THREADS))) as ahead:
            for run, data in zip(self._runs, ahead, strict=True):
                deadline.remaining("passing an archive on")
                yield [data] if self._inside is None else [self._inside.look(run, data)]
        if self._inside is not None:
            self._inside.finish()
        yield [self._end()]

    def _read(self, run: Run) -> memoryview:
        data = memoryview(bytearray(run.size))
        if self._source.read_into(run.start, data) != run.size:
            raise IntegrityError(self._subject, f"chunk {run.first}", "the object ends before it")
        at = 0
        for index in range(run.first, run.last + 1):
            chunk = self._table.chunks[index]
            if sha256([data[at : at + chunk.stored]]) != chunk.digest:
                raise IntegrityError(self._subject, f"chunk {index}", "its bytes are not those that were written")
            at += chunk.stored
        return data

    def _end(self) -> memoryview:
        """The table and what follows it, read anew: so they are checked anew."""
        info, place = self._info, self._info.table
        end = self._source.read(place.start, info.size)
        if (
            len(end) != info.size - place.start
            or len(end) != place.size + TAILS[info.compression]
            or sha256([end[: place.size]]).hex() != place.sha256
            or find_trailer(end, self._subject).digest.hex() != place.sha256
        ):
            raise IntegrityError(self._subject, "table", "its bytes changed while they were read")
        return memoryview(end)


class _Inside:
    """What unpacking checks beside the digests of chunks."""

    def __init__(self, table: Table, compression: str, subject: str, limits: Limits) -> None:
        self._table = table
        self._parts = table.parts()
        self._plain = compression == NONE
        self._subject = subject
        self._headers = HeaderCheck(table, limits, subject)
        self._digests = FileDigests(table, compression, subject)
        self._raw = memoryview(bytearray(0 if self._plain else max(chunk.raw for chunk in table.chunks)))

    def look(self, run: Run, stored: memoryview) -> memoryview:
        at = 0
        for index in range(run.first, run.last + 1):
            chunk = self._table.chunks[index]
            data, at = stored[at : at + chunk.stored], at + chunk.stored
            if not self._plain:
                decompress_into(data, self._raw[: chunk.raw], self._subject, f"chunk {index}")
                data = self._raw[: chunk.raw]
            self._headers.check(index, data)
            for part in self._parts[index]:
                self._digests.add(index, part, data[part.offset : part.offset + part.size])
        return stored

    def finish(self) -> None:
        self._digests.finish(range(len(self._table.entries)))
