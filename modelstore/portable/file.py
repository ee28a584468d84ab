"""The file that a model travels in: a tar of two members, its description and its archive, laid out to the byte."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from modelstore.archive.headers import header
from modelstore.archive.table import BLOCK
from modelstore.exceptions import IntegrityError, ModelStoreError, StorageError, UnsafeArchiveError
from modelstore.folder import Buffer

DESCRIPTION = "modelstore-export.json"
MOST = 16 << 20
"""Bytes of a description."""

_END = bytes(2 * BLOCK)


@dataclass(frozen=True)
class FileSource:
    """The bytes of the archive within the file. May be used from several threads."""

    path: Path
    begin: int
    size: int
    advance: Callable[[int], None] = field(default=lambda count: None, compare=False)

    def read(self, start: int, end: int | None) -> bytes:
        """Bytes start…end, as `RangeSource.read` gives them."""
        first = max(0, self.size + start) if start < 0 else min(start, self.size)
        last = self.size if end is None else min(end, self.size)
        buffer = bytearray(max(0, last - first))
        return bytes(buffer[: self.read_into(first, memoryview(buffer))])

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Fill `buffer` from `start` on; returns how many bytes there were."""
        view, filled = buffer[: max(0, self.size - start)], 0
        with readable(self.path), open(self.path, "rb", buffering=0) as file:
            file.seek(self.begin + start)
            while filled < len(view) and (count := file.readinto(view[filled:])):
                filled += count
        self.advance(filled)
        return filled


def read_description(path: Path, subject: str) -> bytes:
    """The first member.

    Raises:
        StorageError: the file cannot be read.
        IntegrityError: it is no file of ours.
    """
    with readable(path), open(path, "rb") as file:
        head = file.read(BLOCK)
        digits = head[124:135]
        size = int(digits, 8) if len(digits) == 11 and not set(digits) - set(b"01234567") else -1
        if size < 0 or head != header(DESCRIPTION, size, folder=False):
            raise IntegrityError(subject, "head", "it does not begin as a file of export_model() does")
        if size > MOST:
            raise UnsafeArchiveError(subject, "head", f"a description of {size:,} bytes")
        raw = file.read(size)
    if len(raw) != size:
        raise IntegrityError(subject, "description", "the file ends within it")
    return raw


def open_archive_member(path: Path, subject: str, description: bytes, name: str, size: int) -> FileSource:
    """The second member, which must be there with this name and size, and the last.

    Raises:
        StorageError: the file cannot be read.
        IntegrityError: something else lies in the file.
    """
    lead = _lead(description, name, size)
    tail = bytes(-size % BLOCK) + _END
    with readable(path), open(path, "rb") as file:
        if file.read(len(lead)) != lead:
            raise UnsafeArchiveError(subject, "head", f"after its description lies something else than {name!r}")
        found = os.fstat(file.fileno()).st_size
        if found != len(lead) + size + len(tail):
            raise IntegrityError(
                subject, "size", f"it has {found:,} bytes, and is to have {len(lead) + size + len(tail):,}"
            )
        file.seek(len(lead) + size)
        if file.read() != tail:
            raise UnsafeArchiveError(subject, "end", "something follows the archive")
    return FileSource(path, len(lead), size)


def write_file(path: Path, description: bytes, name: str, size: int, chunks: Iterable[Sequence[Buffer]]) -> None:
    """Make the file; what lies there is replaced, in one step once all is written.

    Raises:
        StorageError: it cannot be written. Nothing is left then, nor after an error of `chunks`.
    """
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with writable(path):
            with open(staging, "xb") as file:
                file.write(_lead(description, name, size))
                written = _write_all(file, chunks)
                assert written == size
                file.write(bytes(-size % BLOCK) + _END)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staging, path)
    finally:
        with suppress(OSError):
            staging.unlink(missing_ok=True)


def _write_all(file: IO[bytes], chunks: Iterable[Sequence[Buffer]]) -> int:
    written = 0
    for chunk in chunks:
        for buffer in chunk:
            written += file.write(buffer)
    return written


def _lead(description: bytes, name: str, size: int) -> bytes:
    first = header(DESCRIPTION, len(description), folder=False) + description + bytes(-len(description) % BLOCK)
    return first + header(name, size, folder=False)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Errors of reading a file, in our words."""
    with _explained(f"{path} cannot be read"):
        yield


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Errors of writing a file, in our words."""
    with _explained(f"{path} cannot be written"):
        yield


@contextmanager
def _explained(problem: str) -> Iterator[None]:
    try:
        yield
    except ModelStoreError:
        raise
    except OSError as error:
        raise StorageError(f"{problem}: {error.strerror or error}") from error
