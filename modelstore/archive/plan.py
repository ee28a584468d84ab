"""How a folder becomes a tar stream, and where that stream is cut into chunks: all known before a byte is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from modelstore.archive.headers import header
from modelstore.archive.limits import Limits
from modelstore.archive.table import BLOCK, TABLE_NAME, Chunk, Table, TableEntry, table_length
from modelstore.exceptions import InvalidNameError
from modelstore.folder import FileSource, FolderContents, check_names, fold_name

MANIFEST = "modelstore.json"


@dataclass(frozen=True)
class Member:
    """A file of the archive, or an empty folder (without a source)."""

    name: str
    source: FileSource | None
    in_model: bool

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.source.size if self.source else 0


class Slice(NamedTuple):
    """Bytes start…stop of a member's file; `number` counts the pieces of one larger than a chunk."""

    member: int
    start: int
    stop: int
    number: int | None


@dataclass
class ChunkPlan:
    """What follows each other in one chunk: bytes of headers and padding, and slices of files."""

    parts: list[bytes | Slice] = field(default_factory=list)
    raw: int = 0


@dataclass(frozen=True)
class Plan:
    """The members in their order, where their bytes start in the tar stream, the chunks, the table's length."""

    members: tuple[Member, ...]
    starts: tuple[int, ...]
    chunks: tuple[ChunkPlan, ...]
    table_length: int

    def table(self, chunks: Sequence[Chunk], digests: Sequence[bytes]) -> Table:
        """The table, once the chunks are made and the members' digests known."""
        entries = (
            TableEntry(member.name, member.size, start, digest, member.in_model, member.source is None)
            for member, start, digest in zip(self.members, self.starts, digests, strict=True)
        )
        return Table(tuple(chunks), tuple(entries))


def make_plan(model: FolderContents, attached: FolderContents, limits: Limits) -> Plan:
    """Lay out the tar stream: the manifest, then the rest by name, then the table's header.

    Raises:
        InvalidNameError: a name cannot be unpacked everywhere, two collide, or one is kept for the table.
    """
    members = _members(model, attached)
    cutter = _Cutter(limits)
    starts = []
    for index, member in enumerate(members):
        head = header(member.name, member.size, folder=member.source is None)
        if member.size >= limits.large:
            cutter.add(head)
            cutter.cut()
            starts.append(cutter.length)
            cutter.add_large(index, member.size)
        else:
            # Header and content of a small file stay together, as far as they fit into one chunk at all.
            cutter.make_room(min(len(head) + member.size, limits.chunk))
            cutter.add(head)
            cutter.make_room(member.size)
            starts.append(cutter.length)
            if member.size:
                cutter.add_slice(Slice(index, 0, member.size, None))
        cutter.add(bytes(-member.size % BLOCK))
    # The table has a row for the chunk that its own header lies in, perhaps the first bytes of a new one.
    length = table_length(cutter.chunks_after(BLOCK), [member.name for member in members])
    cutter.add(header(TABLE_NAME, length + BLOCK, folder=False))
    return Plan(tuple(members), tuple(starts), tuple(cutter.chunks), length)


def _members(model: FolderContents, attached: FolderContents) -> list[Member]:
    members = []
    for contents, in_model in ((attached, False), (model, True)):
        members += [Member(file.name, file.source, in_model) for file in contents.files]
        members += [Member(name, None, in_model) for name in contents.empty_folders]
    check_names([member.name for member in members])
    for member in members:
        if fold_name(member.name.split("/")[0]) == TABLE_NAME:
            raise InvalidNameError("file name", member.name, "the archive keeps this name for its table")
    return sorted(members, key=lambda member: (member.in_model or member.name != MANIFEST, member.name.encode()))


class _Cutter:
    """Cuts what is added into chunks."""

    def __init__(self, limits: Limits) -> None:
        self.chunks: list[ChunkPlan] = []
        self.length = 0
        self._limit = limits.chunk
        self._open = False  # whether the last chunk takes more

    def cut(self) -> None:
        """What is added next starts a chunk."""
        self._open = False

    def make_room(self, size: int) -> None:
        """Start a new chunk unless the open one takes `size` bytes more."""
        if self._open and self.chunks[-1].raw + size > self._limit:
            self.cut()

    def add(self, data: bytes) -> None:
        """Add bytes, which may be split between chunks."""
        while data:
            room = self._limit - self._current().raw
            self._append(data[:room], len(data[:room]))
            data = data[room:]

    def add_slice(self, part: Slice) -> None:
        """Add what fits into the open chunk."""
        self._current()
        self._append(part, part.stop - part.start)

    def add_large(self, member: int, size: int) -> None:
        """Add a whole file as chunks of its own."""
        for number, start in enumerate(range(0, size, self._limit)):
            self.cut()
            stop = min(start + self._limit, size)
            self.add_slice(Slice(member, start, stop, number if size > self._limit else None))
        self.cut()

    def chunks_after(self, size: int) -> int:
        """How many chunks there will be once `size` bytes are added."""
        room = self._limit - self.chunks[-1].raw if self._open else 0
        return len(self.chunks) + -(-max(size - room, 0) // self._limit)

    def _current(self) -> ChunkPlan:
        if not self._open or self.chunks[-1].raw == self._limit:
            self.chunks.append(ChunkPlan())
            self._open = True
        return self.chunks[-1]

    def _append(self, part: bytes | Slice, size: int) -> None:
        chunk = self.chunks[-1]
        chunk.parts.append(part)
        chunk.raw += size
        self.length += size
