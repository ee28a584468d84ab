"""Reading chunks in parallel: nothing leaves here that is not what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from modelstore.archive.compression import decompress_into
from modelstore.archive.digests import sha256, tree_digest
from modelstore.archive.info import NONE
from modelstore.archive.limits import Limits
from modelstore.archive.opening import RangeSource
from modelstore.archive.table import Chunk, Part, Table
from modelstore.archive.workers import for_each
from modelstore.exceptions import IntegrityError
from modelstore.folder import Buffer

Take = Callable[[int, memoryview], None]
_TINY = 256
"""A chunk up to this part of the limit (64 KiB) is read with its neighbour, as the headers between large files are."""


class Run(NamedTuple):
    """Chunks first…last (inclusive) and where their stored bytes lie: one read."""

    first: int
    last: int
    start: int
    size: int


class ChunkReader:
    """Reads and checks the chunks of one archive."""

    def __init__(
        self, source: RangeSource, subject: str, compression: str, chunks: Sequence[Chunk], limits: Limits
    ) -> None:
        self._source = source
        self._tiny = limits.chunk // _TINY
        self._longest_run = limits.chunk + 4 * self._tiny
        self._subject = subject
        self._compression = compression
        self._chunks = chunks
        self._starts = list(accumulate((chunk.stored for chunk in chunks), initial=0))

    def read(self, wanted: Iterable[int], take: Take, threads: int) -> None:
        """Call `take(index, raw bytes)` for each of the chunks `wanted` (ascending), from several threads.

        A chunk's digest is checked before it is decoded, and its claimed length before that. The bytes are those
        of a buffer that is used again: they are gone when `take` returns. Buffers: two chunks a thread.

        Raises:
            IntegrityError: stored bytes are not those that were written.
        """
        runs = self.runs(wanted)
        if not runs:
            return
        stored_size = max(run.size for run in runs)
        raw_size = max(self._chunks[index].raw for run in runs for index in range(run.first, run.last + 1))

        def make_worker() -> Callable[[Run], None]:
            # Made once a thread: pages that a fresh buffer would touch cost more than copying into them.
            stored = memoryview(bytearray(stored_size))
            raw = stored[:0] if self._compression == NONE else memoryview(bytearray(raw_size))
            return lambda run: self._read_run(run, stored[: run.size], raw, take)

        for_each(make_worker, runs, min(threads, len(runs)))

    def _read_run(self, run: Run, stored: memoryview, raw: memoryview, take: Take) -> None:
        if self._source.read_into(run.start, stored) != run.size:
            raise IntegrityError(self._subject, f"chunk {run.first}", "the object ends before it")
        at = 0
        for index in range(run.first, run.last + 1):
            chunk, part = self._chunks[index], f"chunk {index}"
            data = stored[at : at + chunk.stored]
            at += chunk.stored
            if hashlib.sha256(data).digest() != chunk.digest:
                raise IntegrityError(self._subject, part, "its bytes are not those that were written")
            if self._compression == NONE:
                take(index, data)
            else:
                decompress_into(data, raw[: chunk.raw], self._subject, part)
                take(index, raw[: chunk.raw])

    def runs(self, wanted: Iterable[int]) -> list[Run]:
        """Neighbours that are read at once. At most one of them is not tiny, so that there is work for all threads."""
        runs: list[Run] = []
        held = 0  # raw bytes in the last run
        for index in wanted:
            chunk = self._chunks[index]
            last = runs[-1] if runs else None
            fits = min(held, chunk.raw) <= self._tiny and held + chunk.raw <= self._longest_run
            if last and last.last + 1 == index and fits:
                runs[-1] = last._replace(last=index, size=last.size + chunk.stored)
                held += chunk.raw
            else:
                runs.append(Run(index, index, self._starts[index], chunk.stored))
                held = chunk.raw
        return runs


class FileDigests:
    """Checks the digests of files, part by part, from several threads."""

    def __init__(self, table: Table, compression: str, subject: str) -> None:
        self._table = table
        self._plain = compression == NONE
        self._subject = subject
        self._pieces: dict[tuple[int, int], bytes] = {}

    def add(self, index: int, part: Part, data: Buffer) -> bytes:
        """Take in a part of chunk `index`; returns its digest.

        Raises:
            IntegrityError: these are not the bytes of the file.
        """
        chunk = self._table.chunks[index]
        # A plain chunk that holds nothing else has been checked as this file, or piece, already.
        digest = chunk.digest if self._plain and part.size == chunk.raw else sha256([data])
        if part.number is not None:
            self._pieces[part.entry, part.number] = digest
        elif digest != self._table.entries[part.entry].digest:
            self._refuse(part.entry)
        return digest

    def put(self, part: Part, digest: bytes) -> None:
        """Take in a piece whose digest is known."""
        assert part.number is not None
        self._pieces[part.entry, part.number] = digest

    def finish(self, entries: Iterable[int]) -> None:
        """Check the files of several chunks, of which all parts have been added.

        Raises:
            IntegrityError: these are not the bytes of a file.
        """
        pieces: dict[int, list[bytes]] = {}
        for (entry, _), digest in sorted(self._pieces.items()):
            pieces.setdefault(entry, []).append(digest)
        for entry in entries:
            if entry in pieces and tree_digest(pieces[entry]) != self._table.entries[entry].digest:
                self._refuse(entry)

    def _refuse(self, entry: int) -> None:
        name = self._table.entries[entry].name
        raise IntegrityError(self._subject, f"file {name!r}", "its digest is not that of its bytes")
