"""Extractions that are cut off, what is left of them, and which chunks the next one should need."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from modelstore.archive import Archive, ArchiveInfo
from modelstore.archive.journal import Journal
from modelstore.archive.limits import Limits
from tests.archive.helpers import SMALL, Stored


class Failing(Stored):
    """A stored object of which a number of reads succeed, once it has been opened."""

    def __init__(self, data: bytes, good: int, error: Callable[[], BaseException]) -> None:
        super().__init__(data)
        self._good = good
        self._error = error
        self._count = threading.Lock()

    def read_into(self, start: int, buffer: memoryview) -> int:
        with self._count:
            self._good -= 1
            if self._good < 0:
                raise self._error()
        return super().read_into(start, buffer)


class Case:
    """An archive, the folder that it is unpacked into, and the journal beside that."""

    def __init__(
        self, data: bytes, info: ArchiveInfo, files: Mapping[str, bytes], folder: Path, limits: Limits = SMALL
    ) -> None:
        self.data, self.info, self.files, self.limits = data, info, files, limits
        self.target, self.journal = folder / "files", folder / "journal"
        self.archive = self.over(Stored(data))

    def over(self, source: Stored) -> Archive:
        return Archive.open(source, "the archive", self.info, limits=self.limits)

    def extract(self, source: Stored | None = None, names: list[str] | None = None, threads: int = 1) -> list[int]:
        """Extract, or go on; the numbers of the chunks that were fetched, each as often as it was."""
        source = source or Stored(self.data)
        archive = self.over(source)
        source.reads.clear()
        archive.extract(self.target, names, threads=threads, journal=self.journal)
        return chunks_in(archive, source.reads)

    def wanted(self, names: list[str] | None = None) -> set[int]:
        """The chunks that an extraction from nothing reads."""
        entries = self.archive._table.entries
        chosen = [not names or entry.name in names for entry in entries]
        parts = self.archive._parts
        return {index for index, found in enumerate(parts) if names is None or any(chosen[p.entry] for p in found)}

    def lines(self) -> list[bytes]:
        """What the journal holds after its head; nothing if that is not this archive's."""
        if not self.journal.is_file() or self.journal.is_symlink():
            return []
        head, *lines = self.journal.read_bytes().split(b"\n")
        return lines if head == Journal(self.journal, self.info)._head else []

    def whole(self, good: Collection[bytes], names: list[str] | None = None) -> set[int]:
        """The chunks that are done, by those lines of the journal that are `good`, and by what lies in the target."""
        if not self.target.is_dir():
            return set()
        noted = {int(line.split()[0]) for line in self.lines() if line in good}
        return {chunk for chunk in noted if all(self._lies(chunk, number) for number in self._entries(chunk, names))}

    def _entries(self, chunk: int, names: list[str] | None) -> list[int]:
        found = {part.entry for part in self.archive._parts[chunk]}
        return [entry for entry in found if names is None or self.archive._table.entries[entry].name in names]

    def _lies(self, chunk: int, number: int) -> bool:
        entry = self.archive._table.entries[number]
        path = self.target / entry.name
        if path.is_symlink() or not path.is_file() or path.stat().st_nlink != 1:
            return False
        found, right = path.read_bytes(), self.files[entry.name]
        for part in self.archive._parts[chunk]:
            if part.entry == number:
                start = (part.number or 0) * self.limits.chunk
                if found[start : start + part.size] != right[start : start + part.size]:
                    return False
                if part.number is None and len(found) != len(right):
                    return False
        return True


def chunks_in(archive: Archive, reads: list[tuple[int, int]]) -> list[int]:
    """The chunks that these ranges of the stored object are made of."""
    starts = archive._reader._starts
    found: list[int] = []
    for begin, end in reads:
        first, after = starts.index(begin), starts.index(end)
        found += range(first, after)
    return sorted(found)
