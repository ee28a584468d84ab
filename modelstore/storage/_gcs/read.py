"""Ranges of an object, read straight into memory that is there already.

Not by the SDK's downloads: they go through 8 KiB pieces and a file object, verify checksums of whole objects only, and
know no buffer. Each chunk of an archive carries a digest of its own.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modelstore.exceptions import StorageError, StorageUnavailableError
from modelstore.storage import transfer
from modelstore.storage._gcs.client import base_url
from modelstore.storage._gcs.errors import Explaining
from modelstore.storage._gcs.requests import send

if TYPE_CHECKING:
    from google.cloud.storage import Client

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(-?\d+)/(\d+)")
_BEYOND_END = 416

READ = 1 << 18
"""Bytes asked of a connection at a time."""


class Answer:
    """A range of an object whose bytes are coming in; see `transfer.Answer`."""

    def __init__(self, response: Any, asked_start: int) -> None:
        self._response = response
        self.generation = response.headers.get("x-goog-generation")
        self.date = response.headers.get("Date")
        if response.status_code == _BEYOND_END:
            self.start, self.total = max(asked_start, 0), 0
            return
        found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if response.status_code == http.client.PARTIAL_CONTENT and found:
            self.start, self.total = int(found[1]), int(found[3])
        else:  # the whole object; without its length, for one that the server decodes, there is no telling what it is
            self.start, self.total = 0, int(response.headers.get("Content-Length", "-1"))

    def readinto(self, buffer: memoryview) -> int:
        """See `transfer.Answer.readinto`."""
        import urllib3

        try:
            data: bytes = self._response.raw.read(min(len(buffer), READ), decode_content=False)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise StorageUnavailableError(f"the answer broke off ({error})") from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """See `transfer.Answer.close`."""
        self._response.close()


class Reader:
    """Reads one object: whichever version the first answer shows, and no other after a break.

    Args:
        client: gives the client of this process.
        bucket: where the object lies.
        name: its whole name in the bucket.
        user_project: who pays.
        key: for messages.
        explaining: translates errors.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        bucket: str,
        name: str,
        user_project: str | None,
        key: str,
        explaining: Explaining,
    ) -> None:
        self._client = client
        self._path = f"/download/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
        self._query = {"alt": "media", **({"userProject": user_project} if user_project else {})}
        self._key = key
        self._explaining = explaining
        self._generation: str | None = None
        self.date: str | None = None
        """The `Date` of the last answer."""

    def read(self, start: int, end: int | None) -> bytes:
        """See `Storage.read`."""
        if start >= 0 and end is not None and end <= start:
            end, wanted = start + 1, 0  # nothing, but of an object that must be there
        else:
            wanted = None
        first = self._ask(start, end)
        at = first.start
        size = max(0, (first.total if end is None else min(end, first.total)) - at) if wanted is None else 0
        buffer = bytearray(size)
        waiting = [first]
        try:
            self._fill(lambda begin, stop: waiting.pop() if waiting else self._ask(begin, stop), at, memoryview(buffer))
        finally:
            first.close()
        return bytes(buffer)

    def read_into(self, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`."""
        if not len(buffer):
            self._ask(start, start + 1).close()
            return 0
        return self._fill(self._ask, start, buffer)

    def _fill(self, ask: Callable[[int, int], Answer], start: int, buffer: memoryview) -> int:
        try:
            return transfer.fill(ask, start, buffer)
        except StorageUnavailableError as error:
            if error.key is not None:
                raise
            message = f"reading {self._key!r} in {self._explaining.address} failed: {error}; try again later"
            raise StorageUnavailableError(message, self._key) from error

    def _ask(self, start: int, end: int | None) -> Answer:
        headers = {"Accept-Encoding": "gzip"}  # as it is stored, whatever its Content-Encoding says
        if start < 0:
            headers["Range"] = f"bytes={start}"
        elif start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with self._explaining("reading", self._key):
            answer = Answer(self._send(headers), start)
        self.date = answer.date
        self._generation = answer.generation or self._generation
        expected = max(answer.total + start, 0) if start < 0 else start
        if answer.total < 0 or (answer.total and answer.start != expected):
            answer.close()
            raise StorageError(
                f"{self._explaining.address} does not answer for the range that it was asked for", self._key
            )
        return answer

    def _send(self, headers: dict[str, str]) -> Any:
        client = self._client()
        query = {**self._query, **({"generation": self._generation} if self._generation else {})}
        url = base_url(client) + self._path
        return send(client, "GET", url, (200, 206, _BEYOND_END), params=query, headers=headers, stream=True)
