"""A file whose content and name appear together: written under a temporary name, made durable, then published.

`TemporaryFile` is the only way in which the local storage makes files. Its name starts with a dot, so that no listing
shows it, and it lies in its target's folder, so that publishing never crosses file systems.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from types import TracebackType

from modelstore.exceptions import UnsafeStorageError
from modelstore.storage import norename
from modelstore.storage.base import Created
from modelstore.storage.oserrors import INDEFINITE

_PREFIX, _SUFFIX = ".modelstore-", ".tmp"
# What file systems without hard links answer; EMLINK: this one has reached its limit of links.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}
)
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})
_WINDOWS = os.name == "nt"
_ATTEMPTS = 100
"""How often a folder is made again when somebody who deletes empty folders keeps removing it beneath us."""


class TemporaryFile:
    """Use as a context manager: leaving it before it was published removes it and the folders made for it.

    Args:
        root: the folder of the store; it must exist, and is never made here: where a network folder is not mounted,
            a store of that name must not spring up on the disk below.
        target: the path to be published, below `root`.
    """

    def __init__(self, root: str, target: str) -> None:
        self._root = root
        self._target = target
        self._folder = os.path.dirname(target)
        self._path = os.path.join(self._folder, temporary_name())
        self._changed_folders: dict[str, None] = {self._folder: None}
        self._identity: os.stat_result | None = None
        self._named = False
        self.fd = -1
        """The open file; -1 once it is closed."""

    def __enter__(self) -> TemporaryFile:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        for _ in range(_ATTEMPTS):
            try:
                self.fd = os.open(self._path, flags, 0o666)
                break
            except FileNotFoundError:
                self._make_folder(self._folder)
        else:
            raise FileNotFoundError(errno.ENOENT, "its folder vanishes as often as it is made", self._folder)
        self._named = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._drop_name()
        if kind is not None:
            prune(self._folder, self._root)

    def _make_folder(self, folder: str) -> None:
        """One attempt to make a folder and those above it; somebody may be removing them at the same time."""
        parent = os.path.dirname(folder)
        if folder == self._root:
            raise FileNotFoundError(errno.ENOENT, "the folder of the store is gone", folder)
        try:
            os.mkdir(folder)
        except FileNotFoundError:
            self._make_folder(parent)
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                os.mkdir(folder)
        except FileExistsError:
            if not os.path.isdir(folder) and os.path.lexists(folder):
                raise
        self._changed_folders[parent] = None

    def seal(self) -> os.stat_result:
        """Make what was written durable; returns the file's final status."""
        # The kernel stamps files once a tick (up to 10 ms) and reuses the inode of a deleted file at once, so without
        # these random nanoseconds an object that is deleted and made again could look like the one before.
        mtime = os.fstat(self.fd).st_mtime_ns - int.from_bytes(os.urandom(4), "big") % 1_000_000
        with contextlib.suppress(OSError):  # a file system that does not let us has coarser etags, that is all
            os.utime(self.fd if os.utime in os.supports_fd else self._path, ns=(mtime, mtime))
        sync(self.fd)
        self._identity = os.fstat(self.fd)
        return self._identity

    def publish_new(self) -> Created:
        """Give the sealed file its name unless that is taken. Of several callers at most one is told MADE.

        Raises:
            OSError: the name was certainly not given.
            UnsafeStorageError: nothing here gives a name only if it is free.
        """
        created = self._give_name()
        if created is not Created.MADE:
            return created
        self._drop_name()  # before the folder is synced: one commit of the file system's journal for both
        try:
            self._sync_folders()
        except OSError:
            return Created.UNKNOWN  # it is there, but may not survive a power failure
        return Created.MADE

    def publish_over(self) -> None:
        """Give the sealed file its name, in place of a file that may have it."""
        if _WINDOWS:
            self._close()
        os.replace(self._path, self._target)
        self._named = False
        self._sync_folders()

    def _give_name(self) -> Created:
        if _WINDOWS:
            self._close()  # Windows renames no open file
            return self._attempt(os.rename)
        try:
            return self._attempt(os.link)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        try:
            return self._attempt(norename.rename_new)
        except OSError as error:
            if error.errno not in norename.UNSUPPORTED:
                raise
            raise UnsafeStorageError(
                f"the file system of {self._root} has neither hard links nor a rename that never replaces, so two "
                "writers could lose each other's work: keep the store on another file system, or pass "
                "unsafe_concurrent_writes=True if there is only ever one writer"
            ) from error

    def _attempt(self, publish: Callable[[str, str], None]) -> Created:
        try:
            publish(self._path, self._target)
        except FileExistsError:
            # A network file system may send a request twice and answer the second time that the name is taken,
            # by us. Hence the look at which file it is.
            return Created.MADE if self._is_ours() else Created.REFUSED
        except OSError as error:
            if error.errno not in INDEFINITE:
                raise
            return Created.MADE if self._is_ours() else Created.UNKNOWN
        return Created.MADE

    def _is_ours(self) -> bool:
        try:
            return self._identity is not None and os.path.samestat(os.stat(self._target), self._identity)
        except OSError:
            return False

    def _drop_name(self) -> None:
        if self._named:
            self._named = False
            with contextlib.suppress(OSError):  # renamed already, or left to `sweep`
                os.unlink(self._path)

    def _sync_folders(self) -> None:
        for folder in self._changed_folders:
            sync_folder(folder)

    def _close(self) -> None:
        if self.fd != -1:
            fd, self.fd = self.fd, -1
            os.close(fd)


def sync(fd: int) -> None:
    """Make a file durable: down to the medium, which on macOS `fsync` alone does not do."""
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # network folders do not know it
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable, where the system can: Windows and some network folders cannot."""
    if _WINDOWS:
        return
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # a folder that may be written but not read
    try:
        sync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def prune(folder: str, root: str) -> None:
    """Remove a folder below `root` and those above it, without the root, as far as they are empty."""
    while folder != root:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:
            return  # not empty, or in use: both are fine
        folder = os.path.dirname(folder)


def temporary_name() -> str:
    """A name for a file that is not published yet, which nobody else has."""
    return f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one of ours that was never published."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)
