"""What the storage over fsspec asks of a file system: one connection to it, and the handful of steps made of it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

SLICE = 4 << 20
"""Bytes that one call reads or writes at most: few enough to come within its time over a slow network."""


@dataclass(frozen=True)
class Entry:
    """A file or a folder."""

    name: str
    """Without the folder's."""
    is_folder: bool
    size: int = 0
    modified: datetime | None = None
    """By the file system's clock, in UTC; None where it tells none."""
    mark: str = ""
    """What tells one content of the file from the next."""


class Sink(Protocol):
    """A file that is being written."""

    def write(self, data: memoryview) -> None:
        """Add bytes to it."""

    def finish(self) -> None:
        """Make durable what was written, as far as the file system can be asked to, and end it."""

    def abandon(self) -> None:
        """Let go of it, whatever is there then. Raises nothing."""


class Files(Protocol):
    """One connection to a file system; used by one thread at a time.

    Paths are absolute, joined by `/`, and mean what they say: nothing in them is decoded. Besides errors of the file
    system's own kind, methods raise `FileNotFoundError` for what is missing, folders above it included, and
    `FileExistsError` for what is there already.
    """

    def has_root(self, root: str) -> bool:
        """Whether the folder of a store is there, or need not be."""

    def stat(self, path: str) -> Entry:
        """What is there."""

    def scan(self, folder: str) -> list[Entry]:
        """What lies in a folder; nothing in one that is not there, or no folder."""

    def read(self, path: str, start: int, end: int) -> tuple[bytes, int]:
        """Bytes start…end, as far as there are any, and the size of the whole file."""

    def open_new(self, path: str) -> Sink:
        """Begin a file under a name that nobody else has."""

    def prove(self, folder: str) -> str:
        """Try with files of its own in a folder whether `publish_new` keeps its promise here; empty if it does, else
        what is missing.
        """

    def publish_new(self, temporary: str, path: str) -> None:
        """Give a file its name unless that is taken, in one step. To be called only where it is proven.

        Raises:
            FileExistsError: it is taken.
            StorageUnavailableError: nobody knows whether it happened; so do errors that stand for a lost connection.
        """

    def publish_over(self, temporary: str, path: str) -> None:
        """Give a file its name, in place of one that may have it."""

    def remove(self, path: str) -> bool:
        """Remove a file; False if there is none."""

    def make_folder(self, path: str) -> None:
        """Make a folder in one that is there."""

    def remove_folder(self, path: str) -> bool:
        """Remove a folder if it is empty, in one step; False if it was left where it is."""

    def alive(self) -> bool:
        """Whether it is worth keeping for the next call. Asks nobody."""

    def close(self) -> None:
        """End the connection, and with it what is under way."""

    def forget(self) -> None:
        """In a forked child: let go of the connection so that the parent can go on with it."""


PROVEN: Mapping[str, str] = {
    "fsspec.implementations.sftp:SFTPFileSystem": "modelstore.storage._fsspec.sftp:SFTPFiles",
    "webdav4.fsspec:WebdavFileSystem": "modelstore.storage._fsspec.webdav:WebDAVFiles",
    "fsspec.implementations.memory:MemoryFileSystem": "modelstore.storage._fsspec.memory:MemoryFiles",
    "fsspec.implementations.local:LocalFileSystem": "modelstore.storage._fsspec.local:LocalFiles",
}
"""The file systems that have a way to create a file only if it is absent, content and name at once, each with the
module that goes it. All others are for reading, unless the caller takes the risk. By class and not by protocol: whoever
registers another class under a known protocol has proven nothing.

- SFTP: a hard link (`hardlink@openssh.com`), which no server makes over a file that is there. Not SSH_FXP_RENAME, which
  OpenSSH makes of a link too, but of a look and a rename where the file system has no links, and others always.
- WebDAV: MOVE with `Overwrite: F`, on servers that are known to lock the new name meanwhile.
- memory: one step on the dictionary that holds the files of the process.
- local: a hard link.
"""

_GENERIC = "modelstore.storage._fsspec.generic:GenericFiles"


def connect(cls: type[Any], args: tuple[Any, ...], options: Mapping[str, Any]) -> Files:
    """A new connection to the file system that fsspec's class makes of these arguments."""
    module, _, name = PROVEN.get(f"{cls.__module__}:{cls.__qualname__}", _GENERIC).partition(":")
    files: Files = getattr(importlib.import_module(module), name)(cls, args, dict(options))
    return files


def parent(path: str) -> str:
    """The folder that a path lies in."""
    return path.rpartition("/")[0]


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]
