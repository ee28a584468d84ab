"""A storage in this process's memory: for tests, and for trying things out without a folder or bucket."""

from __future__ import annotations

import itertools
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelstore.exceptions import ObjectNotFoundError
from modelstore.folder import Buffer
from modelstore.records import now
from modelstore.storage.addressing import check_key, check_prefix, clip_range, location
from modelstore.storage.base import Created, ObjectInfo


@dataclass(frozen=True, eq=False)
class _Object:
    data: bytes
    info: ObjectInfo


@dataclass(eq=False)
class _Contents:
    # No lock: every use is one operation of a dict with str keys, which the interpreter does as a whole. A lock
    # that another thread holds during a fork would stay locked in the child.
    objects: dict[str, _Object] = field(default_factory=dict)
    writes: Iterator[int] = field(default_factory=itertools.count)


_CONTENTS: weakref.WeakValueDictionary[str, _Contents] = weakref.WeakValueDictionary()
"""What lies under each name, for as long as some storage of that name lives."""


class MemoryStorage:
    """Objects in memory. Storages of one name share them within a process, so a pickled one finds them again there;
    another process starts with nothing, a forked child with a copy.

    Args:
        name: the name to share under (default: one that nobody else has).
    """

    kind = "memory"
    streams = 0

    def __init__(self, name: str | None = None) -> None:
        self.name = name or uuid.uuid4().hex
        self._contents = _CONTENTS.setdefault(self.name, _Contents())

    @property
    def address(self) -> str:
        """`memory://<name>`."""
        return f"memory://{self.name}"

    def location(self, key: str) -> dict[str, Any]:
        """Where `key` lies, in the shape of the ancestor's file system."""
        return location(self.kind, root=self.address, path=key)

    def create(self, key: str, data: bytes) -> Created:
        """See `Storage.create`; durable for as long as the process lives."""
        made = self._object(key, bytes(data))
        return Created.MADE if self._contents.objects.setdefault(key, made) is made else Created.REFUSED

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        """See `Storage.write`."""
        check_key(key)
        data = bytearray()
        for chunk in chunks:
            for buffer in chunk:
                data += buffer
        made = self._object(key, bytes(data))
        self._contents.objects[key] = made
        return made.info

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Storage.read`."""
        data = self._get(key)
        start, end = clip_range(start, end, len(data))
        return data[start:end]

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`."""
        target = buffer.cast("B")
        found = memoryview(self._get(key))[start : start + len(target)]
        target[: len(found)] = found
        return len(found)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Storage.list`: what there was when the listing began."""
        check_prefix(prefix)
        objects = self._contents.objects.copy()
        return iter([objects[key].info for key in sorted(objects) if key.startswith(prefix)])

    def list_children(self, prefix: str) -> Iterator[str]:
        """See `Storage.list_children`."""
        rests = (info.key[len(prefix) :].partition("/") for info in self.list(prefix))
        return iter(sorted({child for child, slash, _ in rests if slash}))

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`."""
        for key in keys:
            check_key(key)
            self._contents.objects.pop(key, None)

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """See `Storage.sweep`: nothing is ever left behind here."""
        check_prefix(prefix)
        return 0

    def policy(self) -> str:
        """Nothing needs to be granted."""
        return "a storage in memory needs no grant"

    def clock(self) -> datetime:
        """This machine's time."""
        return now()

    def __reduce__(self) -> tuple[Any, ...]:
        return MemoryStorage, (self.name,)

    def __repr__(self) -> str:
        return f"MemoryStorage({self.name!r})"

    def _object(self, key: str, data: bytes) -> _Object:
        check_key(key)
        return _Object(data, ObjectInfo(key, len(data), now(), str(next(self._contents.writes))))

    def _get(self, key: str) -> bytes:
        check_key(key)
        found = self._contents.objects.get(key)
        if found is None:
            raise ObjectNotFoundError(key, self.address)
        return found.data
