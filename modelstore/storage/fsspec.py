"""Any file system that fsspec reaches, as a storage: SFTP, WebDAV, and whatever else can write and rename."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import InvalidArgumentError, ObjectNotFoundError
from modelstore.folder import Buffer
from modelstore.records import now
from modelstore.storage import transfer
from modelstore.storage._fsspec.files import SLICE, Entry, connect, parent
from modelstore.storage._fsspec.opening import Place, locate
from modelstore.storage._fsspec.sessions import Session, Sessions
from modelstore.storage._fsspec.writing import Writer
from modelstore.storage.addressing import check_key, check_prefix, clip_range, is_part, location
from modelstore.storage.base import Created, ObjectInfo
from modelstore.storage.publishing import is_temporary

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class FsspecStorage:
    """Each object is a file below the root, under its key, written under a temporary name in the same folder.

    Whether it may be written to is decided at the first attempt: by a list of file systems whose way to create a file
    only if it is absent is proven (SFTP with hard links, WebDAV on servers that are known for it, this process'
    memory, this machine's files), and by a trial on the server itself. Others are for reading.

    Times on SFTP and most WebDAV servers are whole seconds. Where those are all that a server tells, as on SFTP, a key
    that is deleted and made again within one, with as many bytes, has the etag it had.

    Args:
        filesystem_or_url: `sftp://user@host:port/folder`, `webdavs://host/folder` (`webdav://` without TLS), any URL
            that fsspec knows, or one of its file systems, which is made anew from what it was made of.
        root: the folder of the store, below that of the URL.
        storage_options: what the file system is made with: see fsspec's documentation of it. An SSH host must be in
            `~/.ssh/known_hosts` unless `host_key_policy` says otherwise.
        unsafe_concurrent_writes: write also where nothing keeps writers from losing each other's work, for stores that
            are only ever written to by one process and thread.
        create_directory: make the root if it is missing.

    Raises:
        InvalidArgumentError: there is no such protocol, or its URL lacks something.
        MissingDependencyError: the package for it is not installed.
        StoreNotFoundError: there is no such folder.
        StorageError: the file system could not be asked.
    """

    streams = transfer.THREADS

    def __init__(
        self,
        filesystem_or_url: str | AbstractFileSystem,
        root: str | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        unsafe_concurrent_writes: bool = False,
        create_directory: bool = False,
    ) -> None:
        self._begin(locate(filesystem_or_url, root, storage_options), unsafe_concurrent_writes, None)
        if create_directory:
            self._sessions.attempt(self._writer.make_root, "making")
        else:
            self._require_root()

    def _begin(self, place: Place, unsafe: bool, missing: str | None) -> None:
        self._place = place
        self.kind = f"fsspec:{place.protocol}"
        self._sessions = Sessions(partial(connect, place.cls, place.args, place.options), place.address)
        self.unsafe_concurrent_writes = unsafe
        self._writer = Writer(self._sessions, place.root, place.address, unsafe, missing)

    @property
    def address(self) -> str:
        """`protocol://user@host:port/root`, without secrets."""
        return self._place.address

    def location(self, key: str) -> dict[str, Any]:
        """Where `key` lies, with the ancestor's keys."""
        return location(self.kind, root=self._place.root or "/", path=key)

    def create(self, key: str, data: bytes) -> Created:
        """See `Storage.create`. About seven requests."""
        return self._writer.create(self._path(key), data, key)

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        """See `Storage.write`: in sequence."""
        return self._info(key, self._writer.write(self._path(key), chunks, key))

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Storage.read`. A negative start takes one more request."""
        if start < 0:
            start, end = clip_range(start, end, self._size(key))
        first, size = self._slice(key, start, SLICE if end is None else min(SLICE, max(0, end - start)))
        start, end = clip_range(start, end, size)
        if len(first) == end - start:
            return first
        data = bytearray(end - start)
        data[: len(first)] = first
        count = len(first) + self.read_into(key, start + len(first), memoryview(data)[len(first) :])
        return bytes(data[:count])

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`: in slices of 4 MiB, each asked for again when its connection breaks."""
        target = buffer.cast("B")
        filled = 0
        while True:
            wanted = min(SLICE, len(target) - filled)
            data, size = self._slice(key, start + filled, wanted)
            target[filled : filled + len(data)] = data
            filled += len(data)
            if filled == len(target) or start + filled >= size:
                return filled

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Storage.list`. A folder is read, by one request or a few, when the listing comes to it."""
        folder = self._folder(prefix)
        self._require_root()
        yield from self._walk(folder, prefix)

    def list_children(self, prefix: str) -> Iterator[str]:
        """See `Storage.list_children`: a listing for each child besides, to see that it holds an object."""
        folder = self._folder(prefix)
        self._require_root()
        names = sorted(name[:-1] for name, _ in self._entries(folder) if name.endswith("/"))
        yield from (name for name in names if self._holds_object(f"{folder}/{name}"))

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`. Folders that become empty go too, where nothing else can go with them."""
        for key in keys:
            if not self._remove(self._path(key), "deleting", key):
                self._require_root()

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """See `Storage.sweep`."""
        folder = self._folder(prefix)
        self._require_root()
        removed = 0
        for path, entry in self._temporary_files(folder):
            if entry.modified is not None and entry.modified < older_than:
                removed += self._remove(path, "sweeping", prefix)
        return removed

    def policy(self) -> str:
        """What the user of the file system must be allowed to do."""
        return (
            f"{self.address} and all folders below it: list, read, create, rename and delete files and folders for\n"
            "whoever uploads (on SFTP rwx, and hard links); list and read (r-x) for whoever only loads"
        )

    def clock(self) -> datetime:
        """This machine's time, corrected by what the last file made here showed of the file system's clock."""
        return now() + self._writer.skew

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        try:
            pickle.dumps((self._place.args, self._place.options))
        except Exception as error:
            raise InvalidArgumentError(
                "storage_options",
                f"this store on {self.address} cannot be pickled, since what it was made with cannot ({error}): pass "
                "names, numbers and texts (host, username, password, key_filename, base_url, auth) instead of clients",
            ) from error
        return _unpickled, (self._place, self._writer.unsafe, self._writer.missing)

    def __repr__(self) -> str:
        return f"FsspecStorage({self.address!r})"

    def _path(self, key: str) -> str:
        return "/".join([self._place.root, *check_key(key)])

    def _folder(self, prefix: str) -> str:
        return "/".join([self._place.root, *check_prefix(prefix)])

    def _require_root(self) -> None:
        if not self._sessions.call(lambda files: files.has_root(self._place.root), "opening"):
            raise self._writer.no_root()

    def _info(self, key: str, entry: Entry) -> ObjectInfo:
        # What has no time counts as young, so that nobody removes it for its age.
        return ObjectInfo(key, entry.size, entry.modified or self.clock(), entry.mark)

    def _slice(self, key: str, start: int, length: int) -> tuple[bytes, int]:
        """Bytes from `start` on, as far as there are any, and the size of the whole object."""
        path = self._path(key)
        try:
            return self._sessions.call(lambda files: files.read(path, start, start + length), "reading", key)
        except FileNotFoundError as error:
            self._require_root()
            raise ObjectNotFoundError(key, self.address) from error

    def _size(self, key: str) -> int:
        return self._slice(key, 0, 0)[1]

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        for name, entry in sorted(self._entries(folder), key=itemgetter(0)):
            if entry.is_folder:
                yield from self._walk(f"{folder}/{entry.name}", prefix + name)
            else:
                yield self._info(prefix + name, entry)

    def _entries(self, folder: str) -> Iterator[tuple[str, Entry]]:
        """Files and folders that can be part of a key; folders with a `/` at the end, which sorts them as part of a
        whole key: `a-b/x` comes before `a/x`.
        """
        for entry in self._scan(folder):
            if is_part(entry.name):
                yield entry.name + "/" * entry.is_folder, entry

    def _scan(self, folder: str) -> Sequence[Entry]:
        return self._sessions.call(lambda files: files.scan(folder), "listing", folder)

    def _holds_object(self, folder: str) -> bool:
        folders = []
        for _, entry in self._entries(folder):
            if not entry.is_folder:
                return True
            folders.append(f"{folder}/{entry.name}")
        return any(map(self._holds_object, folders))

    def _temporary_files(self, folder: str) -> Iterator[tuple[str, Entry]]:
        for entry in self._scan(folder):
            path = f"{folder}/{entry.name}"
            if entry.is_folder:
                yield from self._temporary_files(path)
            elif is_temporary(entry.name):
                yield path, entry

    def _remove(self, path: str, doing: str, key: str) -> bool:
        def remove(session: Session) -> bool:
            removed = session.call(lambda files: files.remove(path), doing, key)
            if removed:
                self._writer.prune(session, parent(path), key)
            return removed

        return self._sessions.attempt(remove, doing, key)


def _unpickled(place: Place, unsafe: bool, missing: str | None) -> FsspecStorage:
    # Without a look at the root: one that is not there is reported on use.
    storage = FsspecStorage.__new__(FsspecStorage)
    storage._begin(place, unsafe, missing)
    return storage
