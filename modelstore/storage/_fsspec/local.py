"""A folder of this machine, named in fsspec's way: what `FileSystemStorage` does, in the steps of fsspec's storage."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from modelstore.exceptions import StorageUnavailableError
from modelstore.storage import walking
from modelstore.storage._fsspec.files import Entry, Sink, name_of, parent
from modelstore.storage.addressing import clip_range
from modelstore.storage.oserrors import INDEFINITE
from modelstore.storage.publishing import sync, sync_folder, temporary_name

_NOT_THERE = (FileNotFoundError, NotADirectoryError)


class LocalFiles:
    """The system's own calls: fsspec's know neither links nor fsync."""

    def __init__(self, cls: type[Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        cls(*args, **options)  # which says what is wrong with them

    def has_root(self, root: str) -> bool:
        """See `Files.has_root`."""
        return os.path.isdir(root or "/")

    def stat(self, path: str) -> Entry:
        """See `Files.stat`."""
        try:
            return _entry(name_of(path), os.stat(path))
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error

    def scan(self, folder: str) -> list[Entry]:
        """See `Files.scan`."""
        entries = []
        with contextlib.suppress(*_NOT_THERE):
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                with contextlib.suppress(*_NOT_THERE):
                    status = os.stat(path)
                    # Links to folders are not followed: they may lead up.
                    if not (stat.S_ISDIR(status.st_mode) and os.path.islink(path)):
                        entries.append(_entry(name, status))
        return entries

    def read(self, path: str, start: int, end: int) -> tuple[bytes, int]:
        """See `Files.read`."""
        try:
            with open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                start, end = clip_range(start, end, size)
                file.seek(start)
                return file.read(end - start) or b"", size
        except (NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(*error.args) from error

    def open_new(self, path: str) -> Sink:
        """See `Files.open_new`."""
        return _LocalSink(path)

    def prove(self, folder: str) -> str:
        """See `Files.prove`."""
        first, second = (f"{folder}/{temporary_name()}" for _ in range(2))
        with open(first, "xb"):
            pass
        try:
            os.link(first, second)
            os.unlink(second)
        except OSError as error:
            return f"its file system makes no hard links ({error.strerror})"
        finally:
            os.unlink(first)
        return ""

    def publish_new(self, temporary: str, path: str) -> None:
        """See `Files.publish_new`."""
        try:
            os.link(temporary, path)
            with contextlib.suppress(OSError):  # left to `sweep`
                os.unlink(temporary)
            sync_folder(parent(path))
        except OSError as error:
            if error.errno in INDEFINITE:
                raise StorageUnavailableError(f"no certain answer came ({error.strerror})") from error
            raise

    def publish_over(self, temporary: str, path: str) -> None:
        """See `Files.publish_over`."""
        os.replace(temporary, path)
        sync_folder(parent(path))

    def remove(self, path: str) -> bool:
        """See `Files.remove`."""
        try:
            os.unlink(path)
        except _NOT_THERE:
            return False
        except OSError:
            if os.path.isdir(path):  # which is no object
                return False
            raise
        return True

    def make_folder(self, path: str) -> None:
        """See `Files.make_folder`."""
        os.mkdir(path)
        sync_folder(parent(path))

    def remove_folder(self, path: str) -> bool:
        """See `Files.remove_folder`."""
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # not empty, or in use
        return True

    def alive(self) -> bool:
        """See `Files.alive`."""
        return True

    def close(self) -> None:
        """There is nothing to close."""

    def forget(self) -> None:
        """There is nothing to forget."""


class _LocalSink:
    def __init__(self, path: str) -> None:
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115

    def write(self, data: memoryview) -> None:
        """See `Sink.write`."""
        while len(data):
            data = data[self._file.write(data) or 0 :]

    def finish(self) -> None:
        """See `Sink.finish`."""
        fd = self._file.fileno()
        # Random nanoseconds: see `TemporaryFile.seal`.
        mtime = os.fstat(fd).st_mtime_ns - int.from_bytes(os.urandom(4), "big") % 1_000_000
        with contextlib.suppress(OSError):
            os.utime(fd if os.utime in os.supports_fd else self._file.name, ns=(mtime, mtime))
        sync(fd)
        self._file.close()

    def abandon(self) -> None:
        """See `Sink.abandon`."""
        self._file.close()


def _entry(name: str, status: os.stat_result) -> Entry:
    info = walking.object_info(name, status)
    return Entry(name, stat.S_ISDIR(status.st_mode), info.size, info.modified, info.etag)
