"""From a folder to the chunks of an archive: read, hashed and compressed ahead in threads, never on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from modelstore.archive.compression import choose, compress
from modelstore.archive.digests import EMPTY, archive_digest, content_digest, sha256, tree_digest
from modelstore.archive.info import NONE, SUFFIXES, ArchiveInfo, TablePlace
from modelstore.archive.limits import DEFAULT, Limits
from modelstore.archive.plan import ChunkPlan, Slice, make_plan
from modelstore.archive.table import Chunk
from modelstore.archive.trailer import PLAIN_TAIL, Trailer
from modelstore.archive.workers import Ahead, default_threads
from modelstore.exceptions import FileChangedError, StorageError
from modelstore.folder import Buffer, FolderContents

Sink = Callable[[Iterator[Sequence[Buffer]]], object]
_NOTHING = FolderContents(())


class _Made(NamedTuple):
    buffers: Sequence[Buffer]
    chunk: Chunk
    digests: list[tuple[Slice, bytes]]


class Packer:
    """Turns a folder into an archive.

    Args:
        model: the manager's files; they make the content digest.
        attached: the manifest, the requirements, the model card, extra files. Names are checked over both.
        limits: other sizes of chunks, for tests.
        compression: `none` or `zstd`; None chooses by a sample of the content.

    Raises:
        InvalidNameError: a name cannot be unpacked everywhere, or two collide.
        FileChangedError: a file changed since it was taken in.
    """

    def __init__(
        self,
        model: FolderContents,
        attached: FolderContents = _NOTHING,
        *,
        limits: Limits = DEFAULT,
        compression: str | None = None,
    ) -> None:
        self._limits = limits
        self._plan = make_plan(model, attached, limits)
        sources = [member.source for member in self._plan.members if member.source is not None]
        self.compression = compression or choose(sources)
        self.suffix = SUFFIXES[self.compression]

    @property
    def expected(self) -> int:
        """How many bytes `write` will give its sink, about and at most: compression makes them fewer."""
        return sum(chunk.raw for chunk in self._plan.chunks) + self._plan.table_length + PLAIN_TAIL

    def write(self, sink: Sink) -> ArchiveInfo:
        """Give `sink` an iterator over the chunks, in order, and return what it wrote.

        `sink` is called once and must take all chunks, whose buffers it may use until it returns, for instance
        `lambda chunks: storage.write(key, chunks)`. At most a few chunks (threads + 2, of 16 MiB) are held
        ahead of it, and files in memory are not copied unless they are compressed.

        Raises:
            FileChangedError: a file changed while it was read.
            StorageError: the sink did not take all chunks.
            Whatever the sink or a source raised, the first of them.
        """
        with Ahead(self._make, self._plan.chunks, default_threads()) as made:
            stream = _Stream(self, made)
            try:
                sink(stream)
            except BaseException as error:
                # A storage may wrap what came out of the iterator; the reason is what the caller wants.
                if made.error is not None and made.error is not error:
                    raise made.error from None
                raise
            if stream.info is None:
                raise StorageError("the storage returned before it had taken all chunks of the archive")
            return stream.info

    def _make(self, plan: ChunkPlan) -> _Made:
        buffers: list[Buffer] = []
        digests: list[tuple[Slice, bytes]] = []
        alone = self.compression == NONE and len(plan.parts) == 1
        for part in plan.parts:
            if isinstance(part, bytes):
                buffers.append(part)
                continue
            found = self._read(part)
            buffers += found
            if not alone:
                digests.append((part, sha256(found)))
        stored: Sequence[Buffer] = buffers if self.compression == NONE else [compress(buffers)]
        digest = sha256(stored)
        if alone and isinstance(plan.parts[0], Slice):
            digests.append((plan.parts[0], digest))  # hashed once: the chunk is the file, or a piece of it
        return _Made(stored, Chunk(sum(map(len, stored)), plan.raw, digest), digests)

    def _read(self, part: Slice) -> list[Buffer]:
        member = self._plan.members[part.member]
        assert member.source is not None
        views = [memoryview(buffer).cast("B") for buffer in member.source.read(part.start, part.stop)]
        if sum(map(len, views)) != part.stop - part.start:
            raise FileChangedError(member.name)
        return list(views)

    def _finish(self, chunks: Sequence[Chunk], pieces: dict[int, list[bytes]]) -> tuple[list[bytes], ArchiveInfo]:
        """The table and the end of the archive, and what is to be recorded of it."""
        large = {index for index, member in enumerate(self._plan.members) if member.size > self._limits.chunk}
        digests = [
            tree_digest(pieces[index]) if index in large else pieces.get(index, [EMPTY])[0]
            for index in range(len(self._plan.members))
        ]
        table = self._plan.table(chunks, digests)
        raw = table.encode(self._limits)
        stored = raw if self.compression == NONE else compress([raw])
        start = sum(chunk.stored for chunk in chunks)
        trailer = Trailer(self.compression, start, len(stored), len(raw), sha256([stored]))
        tail = trailer.tail()
        info = ArchiveInfo(
            size=start + len(stored) + len(tail),
            raw_size=sum(chunk.raw for chunk in chunks) + len(raw) + PLAIN_TAIL,
            compression=self.compression,
            chunks=len(chunks),
            archive_digest=archive_digest(chunk.digest for chunk in chunks),
            content_digest=content_digest(table.entries),
            table=TablePlace(start, len(stored), trailer.digest.hex()),
        )
        return [stored, tail], info


class _Stream(Iterator[Sequence[Buffer]]):
    """The chunks as the sink sees them, then the table; `info` is there once all have been taken."""

    def __init__(self, packer: Packer, made: Ahead[ChunkPlan, _Made]) -> None:
        self.info: ArchiveInfo | None = None
        self._packer = packer
        self._made = made
        self._chunks: list[Chunk] = []
        self._pieces: dict[int, list[bytes]] = {}

    def __next__(self) -> Sequence[Buffer]:
        made = next(self._made, None)
        if made is not None:
            self._chunks.append(made.chunk)
            for part, digest in made.digests:
                self._pieces.setdefault(part.member, []).append(digest)
            return made.buffers
        if self.info is not None:
            raise StopIteration
        end, self.info = self._packer._finish(self._chunks, self._pieces)
        return end
