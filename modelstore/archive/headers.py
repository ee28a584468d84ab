"""The headers of a tar: written, and compared with the table when an archive is unpacked.

Made here and not by `tarfile`, so that every Python writes, and expects, the same bytes for ever.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from itertools import accumulate

from modelstore.archive.limits import Limits
from modelstore.archive.table import BLOCK, TABLE_NAME, Table, table_length
from modelstore.exceptions import UnsafeArchiveError

_NAME, _LARGEST = 100, 8**11 - 1
"""What a field of a plain header holds; what is longer goes into an extended (pax) header before it."""


def header(name: str, size: int, *, folder: bool) -> bytes:
    """The header of a file or folder, one or more blocks: modes 0644 and 0755, time, owner and group 0."""
    path = f"{name}/" if folder else name
    records = b""
    if not path.isascii() or len(path) > _NAME:
        records += _record(b"path", path.encode())
    if size > _LARGEST:
        records += _record(b"size", b"%d" % size)
        size = 0
    mode, kind = (0o755, b"5") if folder else (0o644, b"0")
    block = _block(path.encode("ascii", "replace")[:_NAME], mode, size, kind)
    if not records:
        return block
    return _block(b"././@PaxHeader", 0, len(records), b"x") + records + bytes(-len(records) % BLOCK) + block


def _block(name: bytes, mode: int, size: int, kind: bytes) -> bytes:
    fields, end, total = _constant(mode, kind)
    digits = b"%011o" % size
    checksum = total + sum(name) + sum(digits)
    return b"%s%s%s%s%06o\0 %s" % (name.ljust(_NAME, b"\0"), fields, digits, _TIME, checksum, end)


_TIME = b"\0%011o\0" % 0


@cache
def _constant(mode: int, kind: bytes) -> tuple[bytes, bytes, int]:
    """What lies between name and size and after the checksum, and the sum of all but name and size."""
    fields = b"%07o\0%07o\0%07o\0" % (mode, 0, 0)
    start = kind + bytes(_NAME) + b"ustar\x0000"
    return fields, start + bytes(BLOCK - 156 - len(start)), sum(fields) + sum(_TIME) + 8 * ord(" ") + sum(start)


def _record(key: bytes, value: bytes) -> bytes:
    """A record says its own length, which the digits of that length are part of."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


class HeaderCheck:
    """Compares what a chunk holds beside files with what the table says: `tar` is to unpack the same files as we do.

    Each chunk is compared by itself, in whatever order they come and from several threads.
    """

    def __init__(self, table: Table, limits: Limits, subject: str) -> None:
        self._entries = table.entries
        self._subject = subject
        self._starts = [entry.start for entry in table.entries]
        self._begins = list(accumulate((chunk.raw for chunk in table.chunks), initial=0))
        # The table's own data follows the last chunk: its length, and a trailer of one block.
        self._table_size = table_length(len(table.chunks), [entry.name for entry in table.entries]) + BLOCK

    def check(self, chunk: int, raw: memoryview) -> None:
        """Look at the bytes of a chunk.

        Raises:
            UnsafeArchiveError: between its files lies something else than their headers.
        """
        begin, end = self._begins[chunk], self._begins[chunk + 1]
        for start, expected in self._gaps(begin, end):
            low, high = max(start, begin), min(start + len(expected), end)
            if low < high and raw[low - begin : high - begin].tobytes() != expected[low - start : high - start]:
                raise UnsafeArchiveError(self._subject, f"chunk {chunk}", "its tar headers are not those of its table")

    def _gaps(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """What is to lie between files within begin…end of the tar stream, perhaps beginning before or ending after."""
        index = bisect_left(self._starts, begin)  # also one that only touches the chunk, where a header may be missing
        while index <= len(self._entries):
            before = self._entries[index - 1] if index else None
            start = before.start + before.size if before else 0
            if start > end:
                return
            if index < len(self._entries):
                entry = self._entries[index]
                expected = header(entry.name, entry.size, folder=entry.folder)
                stop = entry.start
            else:
                expected, stop = header(TABLE_NAME, self._table_size, folder=False), self._begins[-1]
            padding = -start % BLOCK
            if start + padding + len(expected) != stop:
                raise UnsafeArchiveError(self._subject, f"byte {start}", "there is no room for the header of a file")
            yield start, bytes(padding) + expected
            index += 1
