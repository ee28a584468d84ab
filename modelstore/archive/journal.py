"""Which chunks of an archive have been unpacked, noted beside the files while it is done.

A hint and no more: what it names is read back from the disk and checked before it is believed. So it is never synced,
and may be torn, stale or made up. One line a chunk, each appended by one call::

    modelstore-journal 1 <archive digest> <digest of its table> <check>
    <chunk> <digest of the piece of a larger file that it holds, else -> <check>
"""

from __future__ import annotations

import os
import threading
import zlib
from contextlib import suppress
from pathlib import Path

from modelstore.archive.info import ArchiveInfo, is_digest
from modelstore.archive.trees import SAFE, remove

_LARGEST = 64 << 20
"""Bytes that are read of one; the chunks of 1 TB take 6 MiB."""


class Journal:
    """The journal of an archive.

    Args:
        path: where it is, or will be once there is something to note; outside of the folder that is unpacked into.
        info: the archive. The journal of another one is removed.
    """

    def __init__(self, path: Path, info: ArchiveInfo) -> None:
        self._path = path
        self._head = _line(f"modelstore-journal 1 {info.archive_digest} {info.table.sha256}")
        self._file = -1
        self._lock = threading.Lock()

    def read(self) -> dict[int, bytes | None]:
        """The chunks that are noted, with the digest of the piece that each holds.

        If there are none, because there is no journal or it is another's, what is noted next begins a new one.
        """
        try:
            with open(os.open(self._path, os.O_RDONLY | SAFE), "rb") as file:
                head, *lines = file.read(_LARGEST).split(b"\n")
        except OSError:
            head, lines = b"", []
        found = dict(filter(None, map(_row, lines))) if head == self._head else {}
        if not found:
            self.remove()
        return found

    def note(self, chunk: int, digest: bytes | None) -> None:
        """Add a chunk whose bytes have been written. May be called from several threads."""
        line = b"\n" + _line(f"{chunk} {digest.hex() if digest else '-'}")
        with self._lock, suppress(OSError):  # without it another attempt takes longer; this one goes on
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | SAFE, 0o644)
                if not os.fstat(self._file).st_size:
                    line = self._head + line
            # A line begins with its line feed, so that one that was torn spoils none but itself.
            os.write(self._file, line)

    def remove(self) -> None:
        """Forget everything; what is noted next begins a new one."""
        self.close()
        remove(self._path)

    def close(self) -> None:
        """Close the file. May be called twice."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def _line(fields: str) -> bytes:
    data = fields.encode()
    return b"%s %08x" % (data, zlib.crc32(data))


def _row(line: bytes) -> tuple[int, bytes | None] | None:
    fields = line.split(b" ")
    if len(fields) != 3 or not fields[0].isdigit() or b"%08x" % zlib.crc32(line[:-9]) != fields[2]:
        return None
    digest = fields[1].decode("latin-1")
    if digest != "-" and not is_digest(digest):
        return None
    try:
        return int(fields[0]), bytes.fromhex(digest) if digest != "-" else None
    except ValueError:  # more digits than a number may have
        return None
