"""What is known about an archive and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelstore.exceptions import IntegrityError

NONE, ZSTD = "none", "zstd"
SUFFIXES = {NONE: ".tar", ZSTD: ".tar.zst"}
_MAX = 1 << 62  # what no size reaches, so that sums stay small


@dataclass(frozen=True)
class ArchiveFile:
    """One file in an archive."""

    name: str
    """Relative, `/` between its parts."""
    size: int
    """Length in bytes."""
    start: int
    """Where its bytes start in the (uncompressed) tar stream."""
    digest: str
    """SHA-256 in hexadecimal; of a file larger than 16 MiB, that of its pieces' digests (docs/format.md)."""
    in_model: bool
    """Whether it belongs to the model; the manifest, the requirements and extra files do not."""


@dataclass(frozen=True)
class TablePlace:
    """Where the table lies in the stored object."""

    start: int
    size: int
    sha256: str


@dataclass(frozen=True)
class ArchiveInfo:
    """What a record keeps about an archive; sizes are in bytes, digests in hexadecimal."""

    size: int
    """Of the stored object."""
    raw_size: int
    """Of the tar that it holds; equal to `size` without compression."""
    compression: str
    """`none` or `zstd`."""
    chunks: int
    """How many chunks it is cut into."""
    archive_digest: str
    """Over the digests of the chunks, in order."""
    content_digest: str
    """Over the files of the model; equal for equal folders."""
    table: TablePlace

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON. `ArchiveInfo.from_dict(info.to_dict()) == info`."""
        return {
            "size": self.size,
            "raw_size": self.raw_size,
            "compression": self.compression,
            "chunks": self.chunks,
            "archive_digest": self.archive_digest,
            "content_digest": self.content_digest,
            "table": {"start": self.table.start, "size": self.table.size, "sha256": self.table.sha256},
        }

    @classmethod
    def from_dict(cls, data: Any, subject: str = "the record of an archive") -> ArchiveInfo:
        """The inverse of `to_dict`; other keys are passed over.

        Raises:
            IntegrityError: it is not what `to_dict` gives.
        """
        table = _field(data, "table", subject)
        compression = _field(data, "compression", subject)
        if not isinstance(compression, str) or compression not in SUFFIXES:
            raise IntegrityError(subject, "compression", f"{compression!r} is none of {', '.join(SUFFIXES)}")
        return cls(
            size=_count(data, "size", subject),
            raw_size=_count(data, "raw_size", subject),
            compression=compression,
            chunks=_count(data, "chunks", subject),
            archive_digest=_digest(data, "archive_digest", subject),
            content_digest=_digest(data, "content_digest", subject),
            table=TablePlace(
                _count(table, "start", subject), _count(table, "size", subject), _digest(table, "sha256", subject)
            ),
        )


def is_digest(value: object) -> bool:
    """Whether it is a SHA-256 as this library writes it: 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _field(data: Any, key: str, subject: str) -> Any:
    if not isinstance(data, Mapping) or key not in data:
        raise IntegrityError(subject, key, "it is missing")
    return data[key]


def _count(data: Any, key: str, subject: str) -> int:
    value = _field(data, key, subject)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX:
        raise IntegrityError(subject, key, "it is not a count")
    return value


def _digest(data: Any, key: str, subject: str) -> str:
    value = _field(data, key, subject)
    if not is_digest(value):
        raise IntegrityError(subject, key, "it is not a SHA-256 in hexadecimal")
    return str(value)
