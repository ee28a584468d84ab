"""The sizes by which an archive is cut."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK = 16 << 20
"""Bytes of the tar stream in one chunk, at most; also the piece by which large files are hashed. Part of the format."""

LARGE = 4 << 20
"""From this size on a file starts a chunk of its own. The writer's choice: readers do not depend on it."""


@dataclass(frozen=True)
class Limits:
    """How a packer cuts and what a reader accepts. Other values than the default are for tests only."""

    chunk: int = CHUNK
    large: int = LARGE


DEFAULT = Limits()
