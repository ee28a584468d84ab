"""The files that fsspec keeps in this process."""

from __future__ import annotations

from typing import Any

from modelstore.exceptions import InvalidArgumentError
from modelstore.storage._fsspec.files import Entry, Sink
from modelstore.storage._fsspec.generic import GenericFiles, entry_of


class MemoryFiles(GenericFiles):
    """All on the dictionary of files: fsspec's files have one position for all who read them."""

    def __init__(self, cls: type[Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if not options.get("global_store", True):
            raise InvalidArgumentError("global_store", "a store needs fsspec's shared memory: leave out global_store")
        super().__init__(cls, args, options)

    def has_root(self, root: str) -> bool:
        """See `Files.has_root`."""
        return True  # folders come with the files in them

    def stat(self, path: str) -> Entry:
        """See `Files.stat`."""
        file = self._fs.store.get(path)
        if file is None:
            return super().stat(path)
        return entry_of({"name": path, "type": "file", "size": file.size, "created": file.created})

    def read(self, path: str, start: int, end: int) -> tuple[bytes, int]:
        """See `Files.read`."""
        file = self._fs.store.get(path)
        if file is None:
            raise FileNotFoundError(path)
        with file.getbuffer() as content:
            return bytes(content[start:end]), len(content)

    def open_new(self, path: str) -> Sink:
        """See `Files.open_new`."""
        return _MemorySink(self._fs, path)

    def prove(self, folder: str) -> str:
        """See `Files.prove`."""
        return ""

    def publish_new(self, temporary: str, path: str) -> None:
        """See `Files.publish_new`."""
        file = self._fs.store[temporary]
        # One step under the interpreter's lock; on builds without it, under the dictionary's own.
        taken = self._fs.store.setdefault(path, file) is not file
        if not taken:
            del self._fs.store[temporary]
            return
        raise FileExistsError(path)

    def publish_over(self, temporary: str, path: str) -> None:
        """See `Files.publish_over`."""
        self._fs.store[path] = self._fs.store.pop(temporary)

    def remove(self, path: str) -> bool:
        """See `Files.remove`."""
        return self._fs.store.pop(path, None) is not None

    def make_folder(self, path: str) -> None:
        """There are no folders here but those that files are in."""


class _MemorySink:
    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self._path = path
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        """See `Sink.write`."""
        self._data += data

    def finish(self) -> None:
        """See `Sink.finish`."""
        self._fs.pipe_file(self._path, bytes(self._data))

    def abandon(self) -> None:
        """See `Sink.abandon`."""
        self._data.clear()
