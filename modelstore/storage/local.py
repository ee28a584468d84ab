"""A folder as a storage: on a local disk, or on a network folder that is mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from modelstore.exceptions import InvalidArgumentError, ObjectNotFoundError, StorageError, StoreNotFoundError
from modelstore.folder import Buffer
from modelstore.records import now
from modelstore.storage import walking
from modelstore.storage.addressing import check_key, check_prefix, clip_range, location
from modelstore.storage.base import Created, ObjectInfo
from modelstore.storage.filewriter import byte_views, write_at, write_chunks
from modelstore.storage.oserrors import explain
from modelstore.storage.publishing import TemporaryFile, prune, sync_folder

_MISSING = (FileNotFoundError, NotADirectoryError)


class FileSystemStorage:
    """Each object is a file below `root`, under its key.

    Files appear whole or not at all, and are on the disk before they do. Folders come and go with the files in them.

    Args:
        root: an absolute path.
        create: make the folder if it is missing. It is never made later on, so that a network folder that is not
            mounted does not turn into an empty store on the disk below.

    Raises:
        InvalidArgumentError: `root` is not absolute.
        StoreNotFoundError: there is no such folder.
        StorageError: it could not be made.
    """

    kind = "file_system"
    streams = 0

    def __init__(self, root: Path, *, create: bool = False) -> None:
        if not root.is_absolute():
            raise InvalidArgumentError("root", f"the folder of a store must be an absolute path, and {root} is not")
        self._root = str(root)
        self._skew = timedelta()
        if create:
            _make_root(root)
        self._require_root()

    @property
    def address(self) -> str:
        """The folder as a `file://` URL."""
        return Path(self._root).as_uri()

    def location(self, key: str) -> dict[str, Any]:
        """Where `key` lies, with the ancestor's keys."""
        return location(self.kind, root=self._root, path=key)

    def create(self, key: str, data: bytes) -> Created:
        """See `Storage.create`."""
        path = self._path(key)
        with self._explained("creating", key):
            if _is_file(path):
                return Created.REFUSED  # without the syncs, for those who lose a race
            with TemporaryFile(self._root, path) as temporary:
                before = time.time()
                write_at(temporary.fd, byte_views([data]), 0)
                self._compare_clocks(before, os.fstat(temporary.fd).st_mtime)
                temporary.seal()
                return temporary.publish_new()

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        """See `Storage.write`."""
        path = self._path(key)
        # Errors of the chunks are not the storage's, and pass through, OSErrors of the user's files among them.
        with contextlib.ExitStack() as stack:
            with self._explained("writing", key):
                temporary = stack.enter_context(TemporaryFile(self._root, path))
            write_chunks(temporary.fd, chunks, lambda error: explain(error, "writing", key, self._root))
            with self._explained("writing", key):
                status = temporary.seal()
                temporary.publish_over()
        return walking.object_info(key, status)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Storage.read`."""
        with self._reading(key) as file:
            start, end = clip_range(start, end, os.fstat(file.fileno()).st_size)
            file.seek(start)
            parts = []
            while start < end and (part := file.read(end - start)):
                parts.append(part)
                start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`."""
        target = buffer.cast("B")
        filled = 0
        with self._reading(key) as file:
            file.seek(start)
            while filled < len(target) and (count := _read_some(file, target[filled:])):
                filled += count
        return filled

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Storage.list`. A folder is read when the listing comes to it."""
        parts = check_prefix(prefix)
        with self._explained("listing", prefix):
            self._require_root()
            yield from walking.walk(os.path.join(self._root, *parts), prefix)

    def list_children(self, prefix: str) -> Iterator[str]:
        """See `Storage.list_children`."""
        parts = check_prefix(prefix)
        with self._explained("listing", prefix):
            self._require_root()
            yield from walking.children(os.path.join(self._root, *parts))

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`. Folders that become empty go too."""
        for key in keys:
            path = self._path(key)
            with self._explained("deleting", key):
                try:
                    os.unlink(path)
                except _MISSING:
                    self._require_root()
                except OSError:
                    if not os.path.isdir(path):  # which is no object
                        raise
                prune(os.path.dirname(path), self._root)

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """See `Storage.sweep`."""
        folder = os.path.join(self._root, *check_prefix(prefix))
        limit = older_than.timestamp()
        removed = 0
        with self._explained("sweeping", prefix):
            self._require_root()
            for path in walking.temporary_files(folder):
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(path).st_mtime < limit:
                        os.unlink(path)
                        removed += 1
                        prune(os.path.dirname(path), self._root)
        return removed

    def policy(self) -> str:
        """The modes that the folder must have."""
        return (
            f"{self._root} and all folders below it: read, write and search (rwx) for whoever uploads,\n"
            "read and search (r-x) for whoever only loads; its files: read (r--) for both"
        )

    def clock(self) -> datetime:
        """This machine's time, corrected by what the last `create` showed of the file system's clock."""
        return now() + self._skew

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # Without the skew: it is between the folder and this machine. Without the look at the root: one that is not
        # there is reported on use, by a better message than one about a pickle.
        return _unpickled, (self._root,)

    def __repr__(self) -> str:
        return f"FileSystemStorage({self._root!r})"

    def _path(self, key: str) -> str:
        return os.path.join(self._root, *check_key(key))

    def _require_root(self) -> None:
        if not os.path.isdir(self._root):
            raise StoreNotFoundError(
                f"there is no folder {self._root}: see that the path is right and, if it is a network folder, mounted; "
                "or pass create_directory=True to begin a store there"
            )

    def _compare_clocks(self, before: float, stamped: float) -> None:
        after = time.time()
        # Kernels stamp files with the time of their last tick, some ms ago.
        skewed = not before - 0.05 <= stamped <= after
        self._skew = timedelta(seconds=stamped - (before + after) / 2) if skewed else timedelta()

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[BinaryIO]:
        try:
            # Unbuffered: the readers ask for as much as they want at a time.
            with open(self._path(key), "rb", buffering=0) as file:
                yield file
        except (*_MISSING, IsADirectoryError) as error:
            self._require_root()
            raise ObjectNotFoundError(key, self.address) from error
        except StorageError:
            raise
        except OSError as error:
            raise explain(error, "reading", key, self._root) from error

    @contextlib.contextmanager
    def _explained(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                self._require_root()
            raise explain(error, doing, key, self._root) from error


def _unpickled(root: str) -> FileSystemStorage:
    storage = FileSystemStorage.__new__(FileSystemStorage)
    storage._root = root
    storage._skew = timedelta()
    return storage


def _make_root(root: Path) -> None:
    """Make a folder and those above it, durably."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(str(folder.parent))
    except OSError as error:
        raise explain(error, "making", "the folder", str(root)) from error


def _is_file(path: str) -> bool:
    """Whether an object is there.

    Raises:
        IsADirectoryError: a folder is, so that no object can be.
    """
    try:
        status = os.stat(path)
    except _MISSING:
        return False
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return True


def _read_some(file: BinaryIO, target: memoryview) -> int:
    count: int | None = file.readinto(target)  # type: ignore[attr-defined]
    return count or 0
