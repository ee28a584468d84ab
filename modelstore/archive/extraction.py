"""One extraction: chunks are fetched, checked and written, and what an earlier attempt has written is used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from modelstore.archive.chunks import ChunkReader, FileDigests
from modelstore.archive.headers import HeaderCheck
from modelstore.archive.info import ArchiveInfo
from modelstore.archive.journal import Journal
from modelstore.archive.limits import Limits
from modelstore.archive.resume import NOTHING, Found, Wanted, take_up
from modelstore.archive.trees import remove
from modelstore.archive.unpack import Target, explained
from modelstore.exceptions import IntegrityError, InvalidArgumentError

Note = Callable[[int, bytes | None], None]


class Extraction:
    """What `Archive.extract` does; its docstring says what holds."""

    def __init__(
        self, reader: ChunkReader, subject: str, info: ArchiveInfo, limits: Limits, wanted: Wanted, threads: int
    ) -> None:
        self._reader = reader
        self._subject = subject
        self._info = info
        self._limits = limits
        self._wanted = wanted
        self._threads = threads
        self._headers = HeaderCheck(wanted.table, limits, subject)

    def run(self, root: Path) -> None:
        """Fetch everything; an error leaves nothing."""
        with Target(root) as target:
            self._fetch(target, NOTHING, lambda chunk, digest: None).finish(self._wanted.entries)

    def resume(self, root: Path, path: Path) -> None:
        """Fetch what an earlier attempt has not; the journal at `path` says what to check of it."""
        with closing(Journal(path, self._info)) as journal:
            try:
                found = self._take_up(root, journal)
                digests = self._fetch(Target(root, keep=True), found, journal.note)
                try:
                    digests.finish(self._wanted.entries)
                except IntegrityError:
                    if not found.chunks:
                        raise
                    # Journal and files may agree with each other, and not with the archive.
                    journal.remove()
                    remove(root)
                    self._fetch(Target(root, keep=True), NOTHING, journal.note).finish(self._wanted.entries)
            except (IntegrityError, InvalidArgumentError):
                journal.remove()
                remove(root)
                raise

    def _take_up(self, root: Path, journal: Journal) -> Found:
        with explained(root):
            return take_up(root, journal.read(), self._wanted, self._info.compression, self._limits, self._threads)

    def _fetch(self, target: Target, found: Found, note: Note) -> FileDigests:
        """Everything but what was found, then the digests of all pieces; those of whole files have been checked."""
        wanted, table = self._wanted, self._wanted.table
        chunks = [chunk for chunk in wanted.chunks if chunk not in found.chunks]
        target.prepare(wanted.folders, sum(part.size for chunk in chunks for part in wanted.parts[chunk]))
        for index in wanted.entries:
            entry = table.entries[index]
            if not entry.size or (entry.size > self._limits.chunk and entry.name not in found.files):
                target.create(entry.name, entry.size)
        digests = FileDigests(table, self._info.compression, self._subject)
        for chunk, digest in found.chunks.items():
            if digest is not None:
                digests.put(wanted.parts[chunk][0], digest)

        def take(chunk: int, raw: memoryview) -> None:
            piece = None
            self._headers.check(chunk, raw)
            for part in wanted.parts[chunk]:
                data = raw[part.offset : part.offset + part.size]
                digest = digests.add(chunk, part, data)
                name = table.entries[part.entry].name
                if part.number is None:
                    target.write(name, data)
                else:
                    target.fill(name, part.number * self._limits.chunk, data)
                    piece = digest
            note(chunk, piece)

        self._reader.read(chunks, take, self._threads)
        return digests
