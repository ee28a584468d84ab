"""A folder as one tarball that can be written and read in parallel, in part, and in bounded memory.

This room knows files and bytes; it knows neither frameworks nor buckets. docs/format.md describes the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelstore.archive.archive import Archive as Archive
    from modelstore.archive.cache import Cache as Cache
    from modelstore.archive.info import ArchiveFile as ArchiveFile, ArchiveInfo as ArchiveInfo
    from modelstore.archive.opening import RangeSource as RangeSource
    from modelstore.archive.pack import Packer as Packer
    from modelstore.archive.staging import staged as staged

_HOMES = {
    "Archive": "archive",
    "ArchiveFile": "info",
    "ArchiveInfo": "info",
    "Cache": "cache",
    "Packer": "pack",
    "RangeSource": "opening",
    "staged": "staging",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # On use, so that `import modelstore` does not pay for tarfile, hashlib and the threads.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
