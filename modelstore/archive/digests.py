"""The digests of an archive: of files, of all files together, of the chunks.

The digest of a file is the SHA-256 of its bytes while it fits into one chunk. That of a larger file is the
SHA-256 over the SHA-256 digests of its pieces of one chunk each: those are made in parallel, and in an
uncompressed archive they are the digests of the chunks, so that no byte is hashed twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from modelstore.archive.limits import CHUNK
from modelstore.archive.workers import for_each
from modelstore.folder import Buffer

_TREE = b"modelstore tree\n"
_CONTENT = b"modelstore content\n"
_READ = 1 << 20

EMPTY = hashlib.sha256(b"").digest()
"""The digest of a file without content; stands for empty folders too."""


class Entry(Protocol):
    """What the content digest needs to know of a file or an empty folder."""

    @property
    def name(self) -> str:
        """Relative name, `/` between its parts, without control characters."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def digest(self) -> bytes:
        """The digest of the file, 32 bytes."""

    @property
    def in_model(self) -> bool:
        """Whether it belongs to the model, or was attached to it."""

    @property
    def folder(self) -> bool:
        """Whether it is an empty folder."""


def sha256(buffers: Iterable[Buffer]) -> bytes:
    """SHA-256 of buffers that follow each other, 32 bytes. Other threads run while it works."""
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    return digest.digest()


def tree_digest(pieces: Iterable[bytes]) -> bytes:
    """The digest of a file larger than one chunk, from the digests of its pieces in order."""
    return sha256([_TREE, *pieces])


def path_digests(paths: Sequence[Path], threads: int) -> list[bytes]:
    """The digests of files on disk, by the rule at the top, their pieces read by `threads` threads at once.

    Raises:
        OSError: one cannot be read.
    """
    counts = [max(1, -(-path.stat().st_size // CHUNK)) for path in paths]
    found: dict[tuple[int, int], bytes] = {}

    def make_worker() -> Callable[[tuple[int, int]], None]:
        step = memoryview(bytearray(_READ))

        def digest_piece(item: tuple[int, int]) -> None:
            index, number = item
            digest, left = hashlib.sha256(), CHUNK
            with open(paths[index], "rb", buffering=0) as file:
                file.seek(number * CHUNK)
                while left and (count := file.readinto(step[:left])):
                    digest.update(step[:count])
                    left -= count
            found[item] = digest.digest()

        return digest_piece

    items = [(index, number) for index, count in enumerate(counts) for number in range(count)]
    for_each(make_worker, items, min(threads, len(items)))
    pieces = [[found[index, number] for number in range(count)] for index, count in enumerate(counts)]
    return [one[0] if len(one) == 1 else tree_digest(one) for one in pieces]


def archive_digest(chunk_digests: Iterable[bytes]) -> str:
    """SHA-256 over the digests of the chunks in order, in hexadecimal."""
    return sha256(chunk_digests).hex()


def content_digest(entries: Iterable[Entry]) -> str:
    """SHA-256 over one line for each file and empty folder of the model, in hexadecimal.

    Equal for equal folders, whatever the compression and whatever is attached. The lines are unambiguous,
    since names hold no control characters.
    """
    lines = []
    for entry in entries:
        if entry.in_model:
            name = entry.name.encode()
            fields = b"folder" if entry.folder else f"file {entry.digest.hex()} {entry.size}".encode()
            lines.append((name, fields + b" " + name + b"\n"))
    return sha256([_CONTENT, *(line for _, line in sorted(lines))]).hex()
