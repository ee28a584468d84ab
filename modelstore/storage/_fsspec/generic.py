"""Any file system of fsspec's, by what all of them have."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from modelstore.exceptions import UnsafeStorageError
from modelstore.storage._fsspec.files import Entry, Sink, name_of

_TIMES = ("mtime", "last_modified", "LastModified", "modified", "updated", "modify", "last_commit", "created")
_MARKS = ("etag", "ETag", "generation", "version", "version_id", "VersionId", "ino", "checksum", "md5", "sha", "uid")


class GenericFiles:
    """An instance of the file system that nobody else has. Folders that become empty are left: what some of them call
    removing a folder takes what is in it along.
    """

    def __init__(self, cls: type[Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._fs = cls(*args, **options, skip_instance_cache=True)

    def has_root(self, root: str) -> bool:
        """See `Files.has_root`."""
        try:
            return not root or self.stat(root).is_folder
        except FileNotFoundError:
            return False

    def stat(self, path: str) -> Entry:
        """See `Files.stat`."""
        self._fs.invalidate_cache()
        return entry_of(self._fs.info(path))

    def scan(self, folder: str) -> list[Entry]:
        """See `Files.scan`."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [entry_of(info) for info in found if info["name"].strip("/") != folder.strip("/")]

    def read(self, path: str, start: int, end: int) -> tuple[bytes, int]:
        """See `Files.read`."""
        found = self.stat(path)
        if found.is_folder:
            raise FileNotFoundError(path)
        end = min(end, found.size)
        if start >= end:
            return b"", found.size
        return bytes(self._fs.cat_file(path, start=start, end=end)), found.size

    def open_new(self, path: str) -> Sink:
        """See `Files.open_new`."""
        return _FileSink(self._fs.open(path, "wb"))

    def prove(self, folder: str) -> str:
        """See `Files.prove`."""
        name = type(self._fs).__name__
        return f"nobody has shown that fsspec's {name} can create a file only if there is none, in one step"

    def publish_new(self, temporary: str, path: str) -> None:
        """See `Files.publish_new`."""
        raise UnsafeStorageError(self.prove(path))

    def publish_over(self, temporary: str, path: str) -> None:
        """See `Files.publish_over`."""
        self._fs.mv(temporary, path)

    def remove(self, path: str) -> bool:
        """See `Files.remove`."""
        try:
            if self.stat(path).is_folder:
                return False
            self._fs.rm_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def make_folder(self, path: str) -> None:
        """See `Files.make_folder`."""
        self._fs.mkdir(path, create_parents=False)

    def remove_folder(self, path: str) -> bool:
        """See `Files.remove_folder`."""
        return False

    def alive(self) -> bool:
        """See `Files.alive`."""
        return True

    def close(self) -> None:
        """Fsspec has no such call; the instance goes out of use."""

    def forget(self) -> None:
        """Nothing is known of how it would let go."""


class _FileSink:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: memoryview) -> None:
        """See `Sink.write`."""
        self._file.write(bytes(data))

    def finish(self) -> None:
        """See `Sink.finish`."""
        self._file.close()

    def abandon(self) -> None:
        """See `Sink.abandon`."""
        with contextlib.suppress(Exception):
            self._file.close()


def entry_of(info: Mapping[str, Any]) -> Entry:
    """What fsspec's description of a file says."""
    modified = next((when for name in _TIMES if (when := _time(info.get(name)))), None)
    size = int(info.get("size") or 0)
    marks = [f"{modified.timestamp():.6f}" if modified else "", f"{size:x}"]
    marks += [str(info[name]) for name in _MARKS if info.get(name) is not None]
    folder = info.get("type") == "directory"
    return Entry(name_of(str(info["name"]).rstrip("/")), folder, size, modified, "-".join(marks))


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, timezone.utc)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return _time(datetime.fromisoformat(value.replace("Z", "+00:00")))
    return None
