"""A log of many uploads made straight, and a storage that counts what is read from it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from typing import Any

from modelstore.records import to_plain
from modelstore.registry import keys
from modelstore.registry.events import FIRST_PREVIOUS, UPLOADED, Event, digest


def write_many(
    storage: Any, domain: str, record: Any, count: int, vary: Callable[[dict[str, Any], int], None] | None = None
) -> None:
    """`count` uploads like `record`, with the joined files that so many commits leave.

    Args:
        vary: changes the record of each, given its number.
    """
    plain = to_plain(record)
    archive = plain.pop("storage")["archive"]
    previous, raws = FIRST_PREVIOUS, []
    fsync, os.fsync = os.fsync, lambda file: None  # only the making of the data is meant to be quick
    try:
        for number in range(1, count + 1):
            plain["model"]["model_id"] = f"{number:032x}"
            plain["model"]["domain"] = domain
            if vary is not None:
                vary(plain["model"], number)
            body = {
                "model_id": f"{number:032x}",
                "record": plain,
                "archive": {**archive, "key": f"archives/many/{number}"},
            }
            event = Event(domain, number, UPLOADED, plain["code"]["created"], "u", f"{number:032x}", previous, body)
            raws.append(event.encode())
            previous = digest(raws[-1])
            storage.create(keys.event_key(domain, number), raws[-1])
        joined = {}
        for first in range(1, count - keys.SEGMENT + 2, keys.SEGMENT):
            last = first + keys.SEGMENT - 1
            joined[first] = gzip.compress(b"".join(raws[first - 1 : last]), 6, mtime=0)
            storage.create(keys.compact_key(domain, first, last), joined[first])
        for first in range(1, count - keys.BLOCK + 2, keys.BLOCK):
            last = first + keys.BLOCK - 1
            parts = [joined[start] for start in range(first, last, keys.SEGMENT)]
            storage.create(keys.compact_key(domain, first, last), b"".join(parts))
    finally:
        os.fsync = fsync


class CountingStorage:
    """Passes everything on and counts reads of objects."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def read(self, *arguments: Any) -> bytes:
        """Count and pass on."""
        self.reads += 1
        data: bytes = self._storage.read(*arguments)
        return data
