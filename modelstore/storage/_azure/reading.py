"""What comes down from Azure: one request for a range, whose body goes where it is wanted as it comes in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from modelstore import deadline
from modelstore.exceptions import StorageUnavailableError
from modelstore.storage import transfer
from modelstore.storage._azure.calls import Calls
from modelstore.storage._azure.errors import READ
from modelstore.storage.addressing import clip_range

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

AT_ONCE = 1 << 20
"""Bytes that are taken from a connection at a time, at most."""

_RANGE = re.compile(r"bytes (\d+)--?\d+/(\d+)")  # of an empty blob, Azure sends 416, and Azurite a range to -1


class RangeAnswer(Protocol):
    """What `transfer.fill` reads from (see `transfer.Answer`), of one version of a blob."""

    total: int
    etag: str

    def readinto(self, buffer: memoryview) -> int: ...

    def close(self) -> None: ...


class _Nothing:
    """The answer to a range that begins at the end of the blob or beyond."""

    def __init__(self, start: int) -> None:
        self.total = start  # not known, and not asked for: nothing follows
        self.etag = ""

    def readinto(self, buffer: memoryview) -> int:
        """Nothing comes."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


class _Streamed:
    """A body that comes straight from its connection."""

    def __init__(self, body: Any, total: int, etag: str) -> None:
        self.total = total
        self.etag = etag
        self._body = body

    def readinto(self, buffer: memoryview) -> int:
        """What comes at once, up to `AT_ONCE`."""
        connection = getattr(self._body.raw.connection, "sock", None)
        silence = deadline.at_most(deadline.STALL_SECONDS, "reading")
        if connection is not None:
            # What was left when the request was sent may be less by now.
            connection.settimeout(silence)
        try:
            data = _read_some(self._body.raw, min(len(buffer), AT_ONCE))
        except Exception as error:
            raise deadline.exceeded("reading") or _broke_off(error) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the connection back, or up when something is still coming."""
        self._body.close()


class _Pieces:
    """A body that the SDK gives in pieces."""

    def __init__(self, pieces: Iterator[bytes], total: int, etag: str) -> None:
        self.total = total
        self.etag = etag
        self._pieces = pieces
        self._left = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        """What is left of a piece, or the next one."""
        if not self._left:
            try:
                self._left = memoryview(next(self._pieces, b""))
            except Exception as error:
                raise deadline.exceeded("reading") or _broke_off(error) from error
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        """The SDK closes what it opened."""


class _Ranges:
    """Asks for ranges of one version of a blob: the one that the first answer came from."""

    def __init__(self, calls: Calls, key: str, etag: str = "") -> None:
        self._calls = calls
        self._key = key
        self._etag = etag

    def __call__(self, start: int, end: int | None) -> RangeAnswer:
        """The answer to one request."""
        etag = self._etag
        answer = self._calls.blob(
            "reading", self._key, READ, lambda blob, options: _open_range(blob, start, end, etag, options)
        )
        self._etag = etag or answer.etag
        return answer


def read(calls: Calls, key: str, start: int, end: int | None) -> bytes:
    """See `Storage.read`."""
    etag = ""
    if start < 0 or (end is not None and end <= start):
        size, etag = _size(calls, key)
        start, end = clip_range(start, end, size)
        if start == end:
            return b""
    ranges = _Ranges(calls, key, etag)
    first = ranges(start, end)
    wanted = (first.total if end is None else min(first.total, end)) - start
    waiting = [first]

    def ask(start: int, end: int) -> RangeAnswer:
        return waiting.pop() if waiting else ranges(start, end)

    try:
        buffer = memoryview(bytearray(max(wanted, 0)))
        return bytes(buffer[: transfer.fill(ask, start, buffer)])
    finally:
        for answer in waiting:
            answer.close()


def read_into(calls: Calls, key: str, start: int, buffer: memoryview) -> int:
    """See `Storage.read_into`."""
    if not buffer.nbytes:
        _size(calls, key)
    return transfer.fill(_Ranges(calls, key), start, buffer)


def _size(calls: Calls, key: str) -> tuple[int, str]:
    found = calls.blob("reading", key, READ, lambda blob, options: blob.get_blob_properties(**options))
    return found.size, found.etag


def _open_range(blob: BlobClient, start: int, end: int | None, etag: str, options: dict[str, Any]) -> RangeAnswer:
    """Ask for the bytes from `start` to `end` (exclusive; None for all that follow).

    Raises:
        Exception: what the SDK raises.
    """
    try:
        operations = _operations(blob)
        if operations is None:
            return _open_publicly(blob, start, end, etag, options)
        return _open_directly(operations, start, end, etag, options)
    except Exception as error:
        if getattr(error, "status_code", None) == 416:
            return _Nothing(start)
        raise


def _operations(blob: BlobClient) -> Any:
    return getattr(getattr(blob, "_client", None), "blob", None)


def _has_connection(body: Any) -> bool:
    return hasattr(getattr(body, "raw", None), "connection")


def _open_directly(operations: Any, start: int, end: int | None, etag: str, options: dict[str, Any]) -> RangeAnswer:
    """By the SDK's generated client, which is not public.

    `download_blob` holds the whole body in memory before it gives out a byte, copies it more than once, and where it
    breaks off begins again at its start, after sleeping without regard to any deadline.
    """
    answers: list[Any] = []

    def take(answer: Any, stream: Any, _: object) -> Any:
        answers.append(answer.http_response)
        return stream

    headers = {"If-Match": etag} if etag else {}
    wanted = f"bytes={start}-{'' if end is None else end - 1}"
    stream = operations.download(range=wanted, headers=headers, cls=take, **options)
    response = answers[0]
    found = _RANGE.fullmatch(response.headers.get("Content-Range") or "")
    if found is None or int(found[1]) != start:
        raise ValueError(f"asked for {wanted}, the server sent {response.headers.get('Content-Range') or 'all'}")
    total, etag = int(found[2]), response.headers.get("ETag") or ""
    body = getattr(response, "internal_response", None)
    if _has_connection(body):
        return _Streamed(body, total, etag)
    return _Pieces(iter(stream), total, etag)  # of a transport that is not the SDK's default


def _open_publicly(blob: BlobClient, start: int, end: int | None, etag: str, options: dict[str, Any]) -> RangeAnswer:
    from azure.core import MatchConditions

    if etag:
        options = {**options, "etag": etag, "match_condition": MatchConditions.IfNotModified}
    download = blob.download_blob(offset=start, length=None if end is None else end - start, **options)
    total = int(download.properties.content_range.rpartition("/")[2])
    return _Pieces(iter(download.chunks()), total, download.properties.etag)


def _read_some(raw: Any, size: int) -> bytes:
    read1 = getattr(raw, "read1", None)  # of urllib3 2 on; without it a body that drips is waited for
    data: bytes = raw.read(min(size, 1 << 16), decode_content=False) if read1 is None else read1(size, False)
    return data


def _broke_off(error: Exception) -> StorageUnavailableError:
    return StorageUnavailableError(f"the answer broke off ({type(error).__name__}: {error}); try again")
