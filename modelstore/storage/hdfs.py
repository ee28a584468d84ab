"""HDFS as a storage, through hdfs-native: no Java on the client's side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import ObjectNotFoundError, StorageError, StoreNotFoundError
from modelstore.folder import Buffer
from modelstore.records import now
from modelstore.storage import patience, transfer
from modelstore.storage._hdfs.client import HDFSCalls, milliseconds
from modelstore.storage._hdfs.errors import is_lost
from modelstore.storage.addressing import check_key, check_prefix, clean_prefix, clip_range, is_part, location
from modelstore.storage.base import Created, ObjectInfo
from modelstore.storage.publishing import is_temporary, temporary_name

if TYPE_CHECKING:
    from hdfs_native import FileStatus

_SLICE = 4 * transfer.MIB
"""Bytes that are read or written by one call: few enough to come within the time of a call on a slow network."""


class HDFSStorage:
    """Each object is a file below `root`, under its key.

    A file is written under a temporary name and renamed, which the NameNode does as one step and, for `create`, only
    if the name is free. Folders come and go with the files in them.

    Args:
        root: the folder of the store; one that does not start with `/` lies in the user's home folder.
        url: `hdfs://host:port`, or `hdfs://name` for a name service of the configuration (default: what
            `fs.defaultFS` in the `core-site.xml` of `HADOOP_CONF_DIR` or `HADOOP_HOME` says).
        create_directory: make the folder if it is missing.
        options: Hadoop's settings, over those of the configuration. `dfs.client.failover.max.attempts` is 4 where it is
            not among them (about 15 s): hdfs-native's own 15 take three minutes to say that nobody is there.

    Raises:
        InvalidArgumentError: there is no such URL, or none was given and none is configured.
        StoreNotFoundError: there is no such folder.
        StorageError: the file system could not be asked.
    """

    kind = "hdfs"
    streams = transfer.THREADS

    def __init__(
        self,
        root: str,
        *,
        url: str | None = None,
        create_directory: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._calls = HDFSCalls(url, options)
        base = "/" if root.startswith("/") else self._calls.home() + "/"
        self._root = (base + clean_prefix(root)).rstrip("/")
        self._skew = timedelta()
        if create_directory:
            self._calls.make_folder(self._root or "/")
        self._require_root()

    @property
    def address(self) -> str:
        """`hdfs://host:port/root`."""
        return self._calls.url + self._root

    def location(self, key: str) -> dict[str, Any]:
        """Where `key` lies, with the ancestor's keys."""
        return location(self.kind, root=self._root or "/", path=key)

    def create(self, key: str, data: bytes) -> Created:
        """See `Storage.create`. Eight calls of the NameNode and the DataNodes, and a pause of hdfs-native's of about
        0.4 s where the NameNode has not yet heard of the block when the file is closed.
        """
        with self._temporary(key) as (temporary, path):
            sealed = self._put(temporary, [[data]] if data else [], key)
            return self._publish_new(temporary, path, sealed, data, key)

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        """See `Storage.write`: in sequence, through the DataNodes' pipeline."""
        with self._temporary(key) as (temporary, path):
            sealed = self._put(temporary, chunks, key)
            self._calls.rename_over(temporary, path, key)
        return _object_info(key, sealed)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Storage.read`."""
        parts = list(self._slices(key, start, end))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`."""
        target = buffer.cast("B")
        filled = 0
        for part in self._slices(key, start, start + len(target)):
            target[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Storage.list`. A folder is read when the listing comes to it: a request for each 1,000 entries."""
        folder = self._folder(prefix)
        self._require_root()
        yield from self._walk(folder, prefix)

    def list_children(self, prefix: str) -> Iterator[str]:
        """See `Storage.list_children`: a request for each child besides the listing, to see that it holds an object."""
        folder = self._folder(prefix)
        self._require_root()
        names = sorted(name[:-1] for name, _ in self._entries(folder) if name.endswith("/"))
        yield from (name for name in names if self._holds_object(f"{folder}/{name}"))

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`. Folders that become empty go too."""
        for key in keys:
            path = self._path(key)
            if self._calls.remove_file(path, key):
                self._prune(path)

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """See `Storage.sweep`."""
        folder = self._folder(prefix)
        self._require_root()
        removed = 0
        for path, modified in self._temporary_files(folder):
            if milliseconds(modified) < older_than and self._calls.remove_file(path, prefix):
                removed += 1
                self._prune(path)
        return removed

    def policy(self) -> str:
        """The modes that the folder must have."""
        root = self._root or "/"
        return (
            f"hdfs dfs -setfacl -R -m user:UPLOADER:rwx,default:user:UPLOADER:rwx {root}\n"
            f"hdfs dfs -setfacl -R -m user:READER:r-x,default:user:READER:r-x {root}\n"
            "(UPLOADER also deletes; whoever only loads needs no more than READER has; all folders above need --x)"
        )

    def clock(self) -> datetime:
        """This machine's time, corrected by what the last file made here showed of the NameNode's clock."""
        return now() + self._skew

    def __getstate__(self) -> dict[str, Any]:
        # Without the skew, which is between the NameNode and this machine.
        return {**self.__dict__, "_skew": timedelta()}

    def __repr__(self) -> str:
        return f"HDFSStorage({self._root or '/'!r}, url={self._calls.url!r})"

    # -- making files -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _temporary(self, key: str) -> Iterator[tuple[str, str]]:
        """A free name in the folder of `key`, and the path of `key`; what is left under that name goes at the end."""
        path = self._path(key)
        temporary = f"{path.rpartition('/')[0]}/{temporary_name()}"
        try:
            yield temporary, path
        except BaseException:
            patience.tidy(lambda: self._forget(temporary, key))
            raise

    def _put(self, temporary: str, chunks: Iterable[Sequence[Buffer]], key: str) -> FileStatus:
        """Write a file and make it durable: on the disks of its DataNodes, and in the NameNode's journal."""
        writer = self._calls.create(temporary, key)
        size = 0
        try:
            for part in transfer.cut(chunks, _SLICE):  # whose errors are the caller's
                self._calls.append(writer, part.pieces[0] if len(part.pieces) == 1 else b"".join(part.pieces), key)
                size += part.size
            before = now()
            self._calls.close(writer, key)
        finally:
            self._calls.let_go(writer)
        sealed = self._calls.status(temporary, "writing", key)
        if sealed.length != size:
            raise StorageError(f"writing {key!r} to {self.address} left {sealed.length:,} of {size:,} bytes", key)
        self._compare_clocks(before, milliseconds(sealed.modification_time))
        return sealed

    def _publish_new(self, temporary: str, path: str, sealed: FileStatus, data: bytes, key: str) -> Created:
        try:
            self._calls.rename_new(temporary, path, key)
            return Created.MADE
        except FileExistsError:
            outcome = Created.REFUSED
        except (StorageError, FileNotFoundError) as error:
            if isinstance(error, StorageError) and not is_lost(error):
                raise
            # hdfs-native sends a request again when a connection breaks, so it can say that there is nothing to rename
            # because the first one was carried out. What is there now tells more than any answer.
            outcome = self._look(path, sealed, data, key)
        if outcome is not Created.MADE:
            patience.tidy(lambda: self._calls.remove_file(temporary, key))
        return outcome

    def _look(self, path: str, sealed: FileStatus, data: bytes, key: str) -> Created:
        """What became of a rename whose answer was lost."""
        try:
            found = self._calls.status(path, "creating", key)
            same = (found.length, found.modification_time) == (sealed.length, sealed.modification_time)
            return Created.MADE if same and self.read(key) == data else Created.UNKNOWN
        except (StorageError, FileNotFoundError):
            return Created.UNKNOWN

    def _compare_clocks(self, before: datetime, stamped: datetime) -> None:
        after = now()
        skewed = not before - timedelta(milliseconds=50) <= stamped <= after
        self._skew = stamped - (before + (after - before) / 2) if skewed else timedelta()

    def _forget(self, temporary: str, key: str) -> None:
        if self._calls.remove_file(temporary, key):
            self._prune(temporary)

    def _prune(self, path: str) -> None:
        """Remove the folders above a file that was removed, without the root, as far as they are empty: the NameNode
        sees to that.

        Never those above a file that was not there: what the path has for a folder may be a file, and go.
        """
        folder = path.rpartition("/")[0]
        while folder != self._root and self._calls.remove_empty_folder(folder):
            folder = folder.rpartition("/")[0]

    # -- reading ------------------------------------------------------------------------------------------------

    def _slices(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        path = self._path(key)
        try:
            reader = self._calls.open(path, key)
        except FileNotFoundError as error:
            self._require_root()
            raise ObjectNotFoundError(key, self.address) from error
        at, stop = clip_range(start, end, len(reader))
        while at < stop:
            length = min(_SLICE, stop - at)
            part = self._calls.read_range(reader, at, length, key)
            if len(part) != length:
                raise StorageError(f"reading {key!r} in {self.address} gave {len(part):,} of {length:,} bytes", key)
            yield part
            at += length

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        for name, status in sorted(self._entries(folder), key=itemgetter(0)):
            if name.endswith("/"):
                yield from self._walk(f"{folder}/{name[:-1]}", prefix + name)
            else:
                yield _object_info(prefix + name, status)

    def _entries(self, folder: str) -> Iterator[tuple[str, FileStatus]]:
        """Files and folders that can be part of a key; folders with a `/` at the end, which sorts them as part of a
        whole key: `a-b/x` comes before `a/x`.
        """
        for status in self._calls.list(folder or "/"):
            name = status.path.rpartition("/")[2]
            if is_part(name):
                yield name + "/" * status.isdir, status

    def _holds_object(self, folder: str) -> bool:
        folders = []
        for name, _ in self._entries(folder):
            if not name.endswith("/"):
                return True
            folders.append(f"{folder}/{name[:-1]}")
        return any(map(self._holds_object, folders))

    def _temporary_files(self, folder: str) -> Iterator[tuple[str, int]]:
        for status in self._calls.list(folder or "/"):
            if status.isdir:
                yield from self._temporary_files(status.path)
            elif is_temporary(status.path.rpartition("/")[2]):
                yield status.path, status.modification_time

    # -- paths --------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return "/".join((self._root, *check_key(key)))

    def _folder(self, prefix: str) -> str:
        return "/".join((self._root, *check_prefix(prefix)))

    def _status_or_none(self, path: str, key: str) -> FileStatus | None:
        try:
            return self._calls.status(path, "looking at", key)
        except FileNotFoundError:
            return None

    def _require_root(self) -> None:
        found = self._status_or_none(self._root or "/", "")
        if found is None or not found.isdir:
            raise StoreNotFoundError(
                f"there is no folder {self.address}: see that the path is right, or pass create_directory=True to "
                "begin a store there"
            )


def _object_info(key: str, status: FileStatus) -> ObjectInfo:
    # hdfs-native does not tell the id of a file. The time, in ms, is that of its closing, and making another file takes
    # several requests that the NameNode writes to its journal, so two under one key never have the same.
    etag = f"{status.modification_time:x}-{status.length:x}"
    return ObjectInfo(key, status.length, milliseconds(status.modification_time), etag)
