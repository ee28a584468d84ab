"""The calls of hdfs-native that the storage makes, each with an end and with errors of ours."""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from modelstore import deadline
from modelstore.exceptions import AccessDeniedError, InvalidArgumentError, MissingDependencyError, StorageError
from modelstore.storage import patience
from modelstore.storage._hdfs.errors import NotEmptyError, explain, is_lost

if TYPE_CHECKING:
    from hdfs_native import Client, FileReader, FileStatus, FileWriter

R = TypeVar("R")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DEFAULTS = {"dfs.client.failover.max.attempts": "4"}
_CALL_SECONDS = 2 * deadline.STALL_SECONDS
"""How long one call may take where there is no earlier deadline: hdfs-native's own attempts included."""

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
"""Those of this process, and of the processes that it was forked from."""
_IDLE_SECONDS = 3.5
"""Somewhat longer than hdfs-native keeps a connection to a DataNode open for the next read."""
_last_read = -_IDLE_SECONDS
_reads_from = 0.0
"""By `time.monotonic`: when this process may read."""


class HDFSCalls:
    """A file system, and what is asked of it. Can be pickled, and used in a forked child.

    Methods raise `FileNotFoundError` and `FileExistsError` where hdfs-native does, and else `StorageError`s.

    Args:
        url: see `HDFSStorage`.
        options: see `HDFSStorage`.
    """

    def __init__(self, url: str | None, options: Mapping[str, str] | None) -> None:
        self._options = {**_DEFAULTS, **(options or {})}
        self.url = _checked(url or self._options.get("fs.defaultFS") or _configured("fs.defaultFS"))
        # By process: a forked child has none of the threads of its parent's.
        self._client_of: dict[int, Client] = {}

    def home(self) -> str:
        """The folder from which relative paths go."""
        prefix = self._options.get("dfs.user.home.dir.prefix", "/user")
        user = os.environ.get("HADOOP_PROXY_USER") or os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
        return f"{prefix.rstrip('/')}/{user}"

    def status(self, path: str, doing: str, key: str | None) -> FileStatus:
        """What the NameNode knows of a file or folder."""
        return self._call(lambda client: client.get_file_info(path), doing, key)

    def list(self, folder: str) -> list[FileStatus]:
        """What lies in a folder; nothing in one that is not there."""
        try:
            found = self._call(lambda client: list(client.list_status(folder)), "listing", folder)
        except FileNotFoundError:
            return []
        return [status for status in found if status.path != folder]  # a file lists itself

    def make_folder(self, folder: str) -> None:
        """Make a folder and those above it."""
        try:
            self._call(lambda client: client.mkdirs(folder, 0o755, True), "making", folder)
        except FileExistsError as error:
            raise StorageError(f"making {folder!r} in {self.url} failed: a file stands there or above") from error

    def create(self, path: str, key: str) -> FileWriter:
        """Open a new file. Its folders are made in the same step, so that nobody can remove them before."""
        try:
            return self._call(lambda client: client.create(path), "writing", key)
        except (FileNotFoundError, FileExistsError) as error:
            raise _misplaced("writing", key, self.url) from error

    def append(self, writer: FileWriter, data: bytes | memoryview, key: str) -> None:
        """Write on."""
        self._call(lambda _: writer.write(data), "writing", key)

    def close(self, writer: FileWriter, key: str) -> None:
        """Make durable what was written, and end the file."""
        with contextlib.suppress(NotImplementedError):  # an erasure-coded file, which goes to the disks as it is closed
            self._call(lambda _: writer.hsync(), "writing", key)
        self._call(lambda _: writer.close(), "writing", key)

    def let_go(self, writer: FileWriter) -> None:
        """Forget an open file, without asking anybody.

        What Python does when a writer goes out of use is to close it: whenever that is, for as long as the NameNode
        takes, and in a forked child for ever. A writer whose base class counts as closed is spared.
        """
        io.RawIOBase.close(writer)

    def rename_new(self, source: str, target: str, key: str) -> None:
        """Rename a file, which the NameNode refuses with a `FileExistsError` when the new name is taken."""
        self._rename(source, target, False, "creating", key)

    def rename_over(self, source: str, target: str, key: str) -> None:
        """Rename a file, in place of another one."""
        self._rename(source, target, True, "writing", key)

    def _rename(self, source: str, target: str, overwrite: bool, doing: str, key: str) -> None:
        try:
            self._call(lambda client: client.rename(source, target, overwrite), doing, key)
        except (FileExistsError, StorageError) as error:
            if not is_lost(error) and self._is_folder(target, key):
                raise _misplaced(doing, key, self.url) from error
            raise

    def _is_folder(self, path: str, key: str) -> bool:
        try:
            return bool(self.status(path, "looking at", key).isdir)
        except (FileNotFoundError, StorageError):
            return False

    def remove_file(self, path: str, key: str) -> bool:
        """Remove a file, or an empty folder; False if there is neither."""
        try:
            return bool(self._call(lambda client: client.delete(path, False), "deleting", key))
        except (FileNotFoundError, NotEmptyError):
            return False

    def remove_empty_folder(self, folder: str) -> bool:
        """Remove a folder, or find it gone; False if it is not empty, or may not be removed."""
        try:
            self._call(lambda client: client.delete(folder, False), "deleting", folder)
        except (NotEmptyError, AccessDeniedError):
            return False
        except FileNotFoundError:
            pass
        return True

    def open(self, path: str, key: str) -> FileReader:
        """Open a file for reading."""
        return self._call(lambda client: client.read(path), "reading", key)

    def read_range(self, reader: FileReader, start: int, length: int, key: str) -> bytes:
        """A range, which must lie within the file."""
        global _last_read
        wait = _reads_from - time.monotonic()
        if wait > 0:
            deadline.pause(wait)
        try:
            return self._read_range(reader, start, length, key)
        finally:
            _last_read = time.monotonic()

    def _read_range(self, reader: FileReader, start: int, length: int, key: str) -> bytes:
        return bytes(self._call(lambda _: reader.read_range(start, length), "reading", key))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client_of": {}}

    def _call(self, call: Callable[[Client], R], doing: str, key: str | None) -> R:
        client = self._client()
        try:
            # hdfs-native waits for the NameNode's answers without a limit.
            return patience.patiently(lambda: call(client), _CALL_SECONDS, doing, key)
        except Exception as error:
            if patience.is_over(error):
                # Its connection is stuck, and later calls would wait for it too.
                self._client_of.pop(os.getpid(), None)
            explained = explain(error, doing, key, self.url)
            if explained is error:
                raise
            raise explained from error
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                raise
            raise explain(error, doing, key, self.url) from error  # a panic of hdfs-native

    def _client(self) -> Client:
        mine = os.getpid()
        client = self._client_of.get(mine)
        if client is None:
            client = self._client_of.setdefault(mine, self._connect())
        return client

    def _connect(self) -> Client:
        try:
            from hdfs_native import Client
        except ImportError as error:
            raise MissingDependencyError("hdfs-native", "a store on HDFS", "pip install 'modelstore[hdfs]'") from error
        try:
            client = Client(self.url, self._options)
        except Exception as error:
            raise explain(error, "opening", None, self.url) from error
        _clients.add(client)
        return client


def milliseconds(since_epoch: int) -> datetime:
    """The time, as HDFS counts it."""
    return _EPOCH + timedelta(milliseconds=since_epoch)


def _misplaced(doing: str, key: str, address: str) -> StorageError:
    return StorageError(
        f"{doing} {key!r} in {address} failed: a file stands where the store needs a folder, or the other way round; "
        "something else has written into the store",
        key,
    )


def _checked(url: str | None) -> str:
    parts = urlsplit(url or "")
    if parts.scheme not in ("hdfs", "viewfs") or not parts.netloc or "@" in parts.netloc or parts.path not in ("", "/"):
        raise InvalidArgumentError(
            "url",
            f"url={url!r} names no HDFS: pass url='hdfs://host:port', or set HADOOP_CONF_DIR to a folder whose "
            "core-site.xml has fs.defaultFS",
        )
    return f"{parts.scheme}://{parts.netloc}"


def _configured(name: str) -> str | None:
    """A setting of the configuration that hdfs-native reads by itself, which does not tell it."""
    from xml.etree import ElementTree

    folder = os.environ.get("HADOOP_CONF_DIR")
    if folder is None and "HADOOP_HOME" in os.environ:
        folder = os.path.join(os.environ["HADOOP_HOME"], "etc", "hadoop")
    if folder is None:
        return None
    try:
        properties: Iterable[ElementTree.Element] = ElementTree.parse(Path(folder, "core-site.xml")).iter("property")
    except (OSError, ElementTree.ParseError):
        return None
    found = {one.findtext("name", "").strip(): one.findtext("value", "").strip() for one in properties}
    return found.get(name)


def _in_child() -> None:
    """Make hdfs-native usable in a forked child, which has its state but none of its threads."""
    global _reads_from
    # Taking down a client waits for its threads: in a child for ever, when a storage goes out of use or at the end. So
    # its parent's each get a reference that nobody gives back.
    for client in list(_clients):
        _immortal(client)
    # All clients of a process share their idle connections to DataNodes, which here are the parent's too: what one of
    # both asked for, the other could get. They count as stale after a while, and until then nothing is read.
    _reads_from = _last_read + _IDLE_SECONDS


def _immortal(thing: object) -> None:
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
