"""One object of a storage, as something to read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from modelstore.storage.base import Storage


@dataclass(frozen=True)
class ObjectSource:
    """The bytes under one key. May be used from several threads; can be pickled."""

    storage: Storage
    key: str
    advance: Callable[[int], None] | None = field(default=None, compare=False)
    """Told how many bytes each `read_into` has read."""

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Bytes start…end, as `Storage.read` gives them: a negative start alone reads a suffix."""
        return self.storage.read(self.key, start, end)

    def read_into(self, start: int, buffer: memoryview) -> int:
        """Fill `buffer` with the bytes from `start` on; returns how many there were (fewer only at the end)."""
        count = self.storage.read_into(self.key, start, buffer)
        if self.advance is not None:
            self.advance(count)
        return count

    def __str__(self) -> str:
        return f"{self.storage.address.rstrip('/')}/{self.key}"
