"""One archive for the tests of the cache, and what fills an entry with it."""

from __future__ import annotations

from pathlib import Path

from modelstore.archive import Archive, ArchiveFile, Cache
from modelstore.archive.limits import Limits
from tests.archive.helpers import Stored, noise, pack

FILES = {"model/weights": noise(5000), "config": b"{}", "empty": b""}
DATA, INFO = pack(FILES, ["void"], limits=Limits())
DIGEST = INFO.archive_digest


class Filler:
    """Unpacks the archive, and counts how often."""

    def __init__(self, data: bytes = DATA) -> None:
        self.calls = 0
        self._archive = Archive.open(Stored(data), "it")

    def __call__(self, target: Path, journal: Path | None = None) -> list[ArchiveFile]:
        self.calls += 1
        return self._archive.extract(target, journal=journal)


def marker(cache: Cache, digest: str = DIGEST) -> Path:
    return cache.root / digest[:2] / digest / "entry.json"
