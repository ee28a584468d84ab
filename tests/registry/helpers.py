"""A registry over a storage in memory, and records small enough to make many."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import Any

from modelstore.registry import keys
from modelstore.registry.events import FIRST_PREVIOUS, UPLOADED, Event, digest
from modelstore.registry.registry import Model, Registry
from modelstore.storage.base import Created
from modelstore.storage.memory import MemoryStorage


def record_of(domain: str, model_id: str, **more: Any) -> dict[str, Any]:
    """The least that a record holds."""
    return {
        "model": {"domain": domain, "model_id": model_id, "model_type": {"library": "sklearn"}, **more},
        "code": {"user": "somebody"},
        "extra": None,
        "modelstore": "0",
    }


def add(registry: Registry, domain: str, model_id: str, **more: Any) -> Model:
    """Commit an upload whose archive is one small object."""
    key = f"archives/{domain}/{model_id}/{len(list(registry.storage.list('archives/')))}/artifacts.tar"
    registry.storage.write(key, [[b"archive"]])
    return registry.add(domain, model_id, record_of(domain, model_id, **more), {"key": key})


def open_registry(storage: Any, folder: Any = None) -> Registry:
    """A registry that does not wait between retries."""
    registry = Registry(storage, folder)
    registry.logs.pause = lambda seconds: None
    return registry


def write_log(storage: Any, domain: str, count: int) -> None:
    """A log of `count` uploads with its joined files, made straight, as that many commits would have left it."""
    storage.create(keys.MARKER, b'{"format":1,"store":"abc"}\n')
    previous, raws = FIRST_PREVIOUS, []
    for number in range(1, count + 1):
        body = {
            "model_id": f"m{number}",
            "record": record_of(domain, f"m{number}"),
            "archive": {"key": f"archives/{number}"},
        }
        event = Event(domain, number, UPLOADED, "2026-01-01T00:00:00.000000Z", "u", f"{number:032x}", previous, body)
        raws.append(event.encode())
        previous = digest(raws[-1])
        storage.create(keys.event_key(domain, number), raws[-1])
    joined = {}
    for first in range(1, count - keys.SEGMENT + 2, keys.SEGMENT):
        last = first + keys.SEGMENT - 1
        joined[first] = gzip.compress(b"".join(raws[first - 1 : last]), mtime=0)
        storage.create(keys.compact_key(domain, first, last), joined[first])
    for first in range(1, count - keys.BLOCK + 2, keys.BLOCK):
        last = first + keys.BLOCK - 1
        block = b"".join(joined[start] for start in range(first, last, keys.SEGMENT))
        storage.create(keys.compact_key(domain, first, last), block)


class FaultyStorage(MemoryStorage):
    """Answers creations of events as a script says; what is not in the script is answered truthfully.

    lost-made: created, no answer. lost: not created, no answer. late: no answer, and created when the next creation
    but one arrives. doubled: created, then refused, as by an SDK that retries by itself. never: no answer, not
    created, and so for all that follow.
    """

    def __init__(self, script: Iterable[str]) -> None:
        super().__init__()
        self.script = list(script)
        self.late: list[tuple[int, str, bytes]] = []
        self.dead = False
        self.creations = 0

    def create(self, key: str, data: bytes) -> Created:
        if "log/" not in key:
            return super().create(key, data)
        self.creations += 1
        for due, late_key, late_data in list(self.late):
            if due <= self.creations:
                self.late.remove((due, late_key, late_data))
                super().create(late_key, late_data)
        fault = self.script.pop(0) if self.script else "ok"
        if fault == "never" or self.dead:
            self.dead = True
            return Created.UNKNOWN
        if fault == "lost":
            return Created.UNKNOWN
        if fault == "late":
            self.late.append((self.creations + 2, key, data))
            return Created.UNKNOWN
        outcome = super().create(key, data)
        if fault == "lost-made":
            return Created.UNKNOWN
        if fault == "doubled":
            return Created.REFUSED
        return outcome


class CountingStorage(MemoryStorage):
    """Counts requests by verb."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.requests: list[tuple[str, str]] = []

    def create(self, key: str, data: bytes) -> Created:
        self.requests.append(("create", key))
        return super().create(key, data)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self.requests.append(("read", key))
        return super().read(key, start, end)

    def list(self, prefix: str) -> Any:
        self.requests.append(("list", prefix))
        return super().list(prefix)

    def list_children(self, prefix: str) -> Any:
        self.requests.append(("list", prefix))
        return super().list_children(prefix)
