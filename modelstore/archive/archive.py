"""An archive that has been opened: which files it holds, and reading them."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Sequence
from pathlib import Path

from modelstore.archive.chunks import ChunkReader, FileDigests
from modelstore.archive.extraction import Extraction
from modelstore.archive.info import ArchiveFile, ArchiveInfo
from modelstore.archive.limits import DEFAULT, Limits
from modelstore.archive.opening import RangeSource, read_table
from modelstore.archive.passing import THREADS, Passing
from modelstore.archive.resume import Wanted
from modelstore.archive.table import Part, Table, TableEntry
from modelstore.archive.unpack import windows_problem
from modelstore.archive.workers import default_threads
from modelstore.exceptions import InvalidArgumentError, UnsafeArchiveError


class Archive:
    """An archive whose table has been read and checked; `open` makes one.

    Attributes:
        info: sizes and digests of the whole.
        files: all files, in the order in which they lie in the tar.
        empty_folders: folders that hold nothing.
    """

    def __init__(self, source: RangeSource, subject: str, table: Table, info: ArchiveInfo, limits: Limits) -> None:
        self.info = info
        self.files = tuple(_public(entry) for entry in table.entries if not entry.folder)
        self.empty_folders = tuple(entry.name for entry in table.entries if entry.folder)
        self._source = source
        self._subject = subject
        self._table = table
        self._limits = limits
        self._parts = table.parts()
        self._reader = ChunkReader(source, subject, info.compression, table.chunks, limits)

    @classmethod
    def open(
        cls, source: RangeSource, subject: str, info: ArchiveInfo | None = None, *, limits: Limits = DEFAULT
    ) -> Archive:
        """Read the table, with one read of the object's end (without `info` and with a long table, two).

        Args:
            source: the stored object.
            subject: what error messages call it.
            info: what its record says; all of it must hold.
            limits: other sizes of chunks, for tests.

        Raises:
            NewerFormatError: a later version wrote it.
            UnsafeArchiveError: names, sizes or places that no archive of ours has.
            IntegrityError: bytes at its end are not those that were written, or not those of `info`.
        """
        table, found = read_table(source, subject, info, limits)
        return cls(source, subject, table, found, limits)

    def extract(
        self,
        target: Path,
        names: Collection[str] | None = None,
        *,
        threads: int | None = None,
        journal: Path | None = None,
    ) -> list[ArchiveFile]:
        """Unpack all files and empty folders, or the files `names`, into the folder `target`, made if need be.

        Each chunk that is needed is read once, and nothing of it is decoded or written before its digest is
        checked; each file's digest is checked too. Without `names` every chunk is read, so that one wrong byte
        anywhere in the archive is found. Memory: two chunks (32 MiB) a thread.

        After an error nothing that was written is left, unless there is a `journal`: then what was written stays
        (after an IntegrityError nothing does), and a call with the same target and journal goes on with it, also
        after a kill or a crash of the machine. Chunks that the journal names are read back from the disk, checked,
        and not fetched again; a journal that is torn or another archive's costs time and nothing else. The caller
        sees to it that one process at a time works there.

        Args:
            target: links below it are not followed, and what exists is not replaced. With a journal, a folder for
                this alone: what else lies in it is removed.
            names: names from `files`; may be others than those of the earlier attempt.
            threads: how many chunks are worked on at once (default: by cores); more hide a storage's latency.
            journal: a file outside the target, in a folder that exists, that notes each chunk as it is done (100
                bytes a chunk). It is left to the caller to remove.

        Returns:
            The files that were unpacked, in the order of `files`.

        Raises:
            IntegrityError: stored bytes are not those that were written.
            InvalidArgumentError: there is no file of that name, or one exists in the target.
            UnsafeArchiveError: a name means something else on this system (Windows: `C:x`, `NUL`), or `tar` would
                see other names or sizes than those of the table.
            StorageError: the target lacks the space or cannot be written.
        """
        chosen = sorted(self._choose(names))
        entries = [self._table.entries[index] for index in chosen]
        empty = self.empty_folders if names is None else ()
        self._check_system([*(entry.name for entry in entries), *empty])
        parts = self._parts if names is None else self._parts_of(set(chosen))
        chunks = [index for index, found in enumerate(parts) if found or names is None]
        folders = {*filter(None, (entry.name.rpartition("/")[0] for entry in entries)), *empty}
        wanted = Wanted(self._table, parts, chunks, chosen, folders)
        work = Extraction(self._reader, self._subject, self.info, self._limits, wanted, threads or default_threads())
        if journal is None:
            work.run(Path(target))
        else:
            work.resume(Path(target), journal)
        return [_public(entry) for entry in entries]

    def read(self, name: str) -> bytes:
        """The bytes of one file, checked; reads the chunks that it lies in.

        Raises:
            IntegrityError: stored bytes are not those that were written.
            InvalidArgumentError: there is no file of that name.
        """
        chosen = self._choose([name])
        parts = self._parts_of(chosen)
        digests = FileDigests(self._table, self.info.compression, self._subject)
        pieces: list[bytes] = []

        def take(chunk: int, raw: memoryview) -> None:
            for part in parts[chunk]:
                data = raw[part.offset : part.offset + part.size]
                digests.add(chunk, part, data)
                pieces.append(bytes(data))

        self._reader.read([index for index, found in enumerate(parts) if found], take, threads=1)  # in order
        digests.finish(chosen)
        return b"".join(pieces)

    def stored(self, *, look_inside: bool, threads: int = THREADS) -> Generator[list[memoryview], None, None]:
        """The archive's own bytes, to be passed on: in order, each chunk checked before it is given.

        Args:
            look_inside: check files and headers too, as `extract` does.
            threads: how many reads are under way at once, 4 at most. Memory: 16 MiB for each, and for two more.

        Raises:
            IntegrityError: bytes are not those that were written; what was given before is to be thrown away.
        """
        passing = Passing(self._source, self._subject, self._table, self.info, self._limits, look_inside=look_inside)
        return passing.chunks(threads)

    def _choose(self, names: Collection[str] | None) -> set[int]:
        """The entries of these files, or of all."""
        numbers = {entry.name: index for index, entry in enumerate(self._table.entries) if not entry.folder}
        if names is None:
            return set(numbers.values())
        unknown = [name for name in names if name not in numbers]
        if unknown:
            raise InvalidArgumentError(
                "names", f"{self._subject} holds no file {unknown[0]!r}; `files` has those it holds"
            )
        return {numbers[name] for name in names}

    def _parts_of(self, chosen: set[int]) -> list[list[Part]]:
        """For every chunk what it holds of these entries."""
        return [[part for part in parts if part.entry in chosen] for parts in self._parts]

    def _check_system(self, names: Sequence[str]) -> None:
        if os.name != "nt":
            return
        for name in names:
            if problem := windows_problem(name):
                raise UnsafeArchiveError(self._subject, f"file {name!r}", f"its name has {problem}")


def _public(entry: TableEntry) -> ArchiveFile:
    return ArchiveFile(entry.name, entry.size, entry.start, entry.digest.hex(), entry.in_model)
