"""A model as a folder of files: what managers hand to the archive.

A file is a path on disk or pieces of memory. Weights that already lie in memory reach the archive as
they are, without a temporary file. Names are relative, with `/` between their parts.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from modelstore.exceptions import FileChangedError, InvalidNameError, ModelStoreError, UnsupportedObjectError

Buffer = bytes | bytearray | memoryview


class LazyPiece(Protocol):
    """Memory that has to be fetched before it can be read, such as a GPU's."""

    @property
    def nbytes(self) -> int:
        """Length in bytes; does not change."""

    def read(self, start: int, stop: int) -> Buffer:
        """Bytes start…stop (end exclusive), in host memory. May be called from several threads."""


Piece = Buffer | LazyPiece


class FileSource(Protocol):
    """Where the bytes of one file come from."""

    @property
    def size(self) -> int:
        """Length in bytes; does not change."""

    def read(self, start: int, stop: int) -> list[Buffer]:
        """Bytes start…stop (end exclusive) as a list of buffers. May be called from several threads."""


class PathSource:
    """A regular file on disk, which must not change until it has been read."""

    def __init__(self, path: Path) -> None:
        with _explained(path):
            status = path.stat()
        self.path = path
        self.size = status.st_size
        self._signature = _signature(status)

    def read(self, start: int, stop: int) -> list[Buffer]:
        """Read a range.

        Raises:
            FileChangedError: the file is not what it was when this source was made.
            UnsupportedObjectError: it cannot be read.
        """
        with _explained(self.path), open(self.path, "rb", buffering=0) as file:
            if hasattr(os, "pread"):
                parts, at = [], start
                while at < stop and (part := os.pread(file.fileno(), stop - at, at)):
                    parts.append(part)
                    at += len(part)
            else:
                file.seek(start)
                parts = [file.read(stop - start)]
            # After the read, so that a write in between is noticed too.
            if _signature(os.fstat(file.fileno())) != self._signature or sum(map(len, parts)) != stop - start:
                raise FileChangedError(str(self.path))
        return list(parts)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except ModelStoreError:
        raise
    except FileNotFoundError as error:
        raise FileChangedError(str(path)) from error
    except OSError as error:
        raise UnsupportedObjectError(f"{path} cannot be read ({error.strerror or error})") from error


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


class MemorySource:
    """Pieces of memory, one after the other. They are not copied: leave them as they are during an upload."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces: list[tuple[int, int, Piece]] = []
        self._ends: list[int] = []
        end = 0
        for piece in pieces:
            if isinstance(piece, (bytes, bytearray, memoryview)):
                piece = memoryview(piece)
                if not piece.nbytes:  # of whatever shape, which `cast` would refuse
                    continue
                piece = piece.cast("B")
            self._pieces.append((end, end + piece.nbytes, piece))
            end += piece.nbytes
            self._ends.append(end)
        self.size = end

    def read(self, start: int, stop: int) -> list[Buffer]:
        """The parts of the pieces that lie between start and stop, without a copy where they are in host memory."""
        found: list[Buffer] = []
        for index in range(bisect_right(self._ends, start), len(self._pieces)):
            begin, end, piece = self._pieces[index]
            if begin >= stop:
                break
            low, high = max(start, begin) - begin, min(stop, end) - begin
            if low == high:
                continue
            if isinstance(piece, (bytes, bytearray, memoryview)):
                found.append(memoryview(piece)[low:high])
            else:
                found.append(piece.read(low, high))
        return found


@dataclass(frozen=True)
class FolderFile:
    """One file of a folder: its relative name and where its bytes come from."""

    name: str
    source: FileSource

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.source.size


@dataclass(frozen=True)
class FolderContents:
    """All of a folder: files sorted by name, and the folders that hold nothing."""

    files: tuple[FolderFile, ...]
    empty_folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names([*(file.name for file in self.files), *self.empty_folders])


class ModelFolder:
    """What a manager fills in `save`. Use it as a context manager: leaving it removes what was staged on disk.

    Args:
        staging_parent: where temporary files go (default: the system's temporary folder).
    """

    def __init__(self, staging_parent: str | os.PathLike[str] | None = None) -> None:
        self._prefix = ""
        self._root = self
        self._staging_parent = staging_parent
        self._staging: Path | None = None
        self._added: dict[str, FileSource | Path] = {}

    def sub(self, name: str) -> ModelFolder:
        """The same folder seen from the sub-folder `name`."""
        view = ModelFolder()
        view._root = self._root
        view._prefix = f"{self._prefix}{name}/"
        return view

    def path(self, name: str) -> Path:
        """A path on disk to write the file or folder `name` to; its parent folder exists. Costs a temporary copy."""
        root = self._root
        if root._staging is None:
            root._staging = Path(tempfile.mkdtemp(prefix="modelstore-", dir=root._staging_parent))
        staged = root._staging / self._prefix / name
        staged.parent.mkdir(parents=True, exist_ok=True)
        return staged

    def add_path(self, name: str, path: str | os.PathLike[str]) -> None:
        """Take in a file or a folder that lies on disk already, under `name`, without copying it."""
        self._root._added[self._prefix + name] = Path(path)

    def add_buffers(self, name: str, pieces: Iterable[Piece]) -> None:
        """Take in a file that lies in memory, as pieces that follow each other."""
        self._root._added[self._prefix + name] = MemorySource(pieces)

    def add_bytes(self, name: str, data: bytes) -> None:
        """Take in a small file."""
        self.add_buffers(name, [data])

    def add_json(self, name: str, value: Any) -> None:
        """Take in a JSON file: sorted keys, UTF-8, so that equal values give equal bytes."""
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        self.add_bytes(name, (text + "\n").encode())

    def contents(self) -> FolderContents:
        """All files, sorted by name.

        Raises:
            InvalidNameError: a name cannot be stored, or two collide on some file system.
            UnsupportedObjectError: a device, a socket, a broken link or a cycle of links.
        """
        root = self._root
        files: dict[str, FileSource] = {}
        empty: list[str] = []
        sources = dict(root._added)
        if root._staging is not None:
            for child in root._staging.iterdir():
                _walk(child, child.name, files, empty)
        for name, source in sources.items():
            if isinstance(source, Path):
                _walk(source, name, files, empty)
            else:
                files[name] = source
        ordered = sorted(files.items(), key=lambda item: _encoded(item[0]))
        return FolderContents(
            tuple(FolderFile(name, source) for name, source in ordered), tuple(sorted(empty, key=_encoded))
        )

    def close(self) -> None:
        """Remove what was staged on disk, and let go of the memory that was taken in."""
        self._root._added.clear()
        if self._root._staging is not None:
            shutil.rmtree(self._root._staging, ignore_errors=True)
            self._root._staging = None

    def __enter__(self) -> ModelFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _walk(
    path: Path, name: str, files: dict[str, FileSource], empty: list[str], above: tuple[tuple[int, int], ...] = ()
) -> None:
    """Collect a file, or a folder with all below it; links are followed."""
    try:
        status = path.stat()
    except OSError as error:
        raise UnsupportedObjectError(
            f"{path} cannot be read ({error.strerror}); a link in the folder may point to nothing"
        ) from error
    if stat.S_ISREG(status.st_mode):
        files[name] = PathSource(path)
    elif stat.S_ISDIR(status.st_mode):
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            raise UnsupportedObjectError(f"{path} links back to a folder above it; remove that link")
        with _explained(path):
            children = sorted(path.iterdir())
        if not children:
            empty.append(name)
        for child in children:
            _walk(child, f"{name}/{child.name}", files, empty, (*above, identity))
    else:
        raise UnsupportedObjectError(f"{path} is neither a file nor a folder (a device, a pipe or a socket?)")


def check_names(names: Sequence[str]) -> None:
    """Refuse names that could not be unpacked everywhere, or would leave the folder they are unpacked to.

    Raises:
        InvalidNameError: an absolute name, `..`, an empty part, a backslash, a control character, bytes that
            are not UTF-8; a name that stands twice; a file that is also a folder; or two names that differ in
            case or Unicode form only, which overwrite each other on macOS and Windows.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        _check_name(name)
        key = fold_name(name)
        if key in seen:
            same = "stands twice" if seen[key] == name else f"differs from {seen[key]!r} in case or Unicode form only"
            raise InvalidNameError("file name", name, same)
        seen[key] = name
        for parent in _parents(name):
            spelled = folders.setdefault(fold_name(parent), parent)
            if spelled != parent:
                raise InvalidNameError("file name", name, f"its folder differs from {spelled!r} in case only")
    for key, name in seen.items():
        if key in folders:
            raise InvalidNameError("file name", name, "is a file and a folder at once")


def _check_name(name: str) -> None:
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidNameError("file name", name, "it must be relative, without empty parts, '.' or '..'")
    if "\\" in name or any(unicodedata.category(character) == "Cc" for character in name):
        raise InvalidNameError("file name", name, "backslashes and control characters cannot be unpacked everywhere")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidNameError("file name", name, "it is not UTF-8") from None


def _parents(name: str) -> Iterator[str]:
    at = name.find("/")
    while at != -1:
        yield name[:at]
        at = name.find("/", at + 1)


def fold_name(name: str) -> str:
    """The form under which a file system that ignores case and Unicode form keeps a name."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
