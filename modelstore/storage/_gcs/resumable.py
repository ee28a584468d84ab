"""Uploads in sequence: one session that takes part after part, for servers without multipart uploads.

Written here over the documented protocol since the SDK's own reads from a file. Resending is all the resuming there
is: a server ignores bytes of a range that it has kept already, and says how far it has got.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelstore.storage._gcs.errors import Explaining, status_of
from modelstore.storage._gcs.parts import BINARY, Upload
from modelstore.storage._gcs.requests import Body, patience, retried, send
from modelstore.storage.transfer import Part

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

_DONE = (200, 201)
_MORE = 308
_KEPT = re.compile(r"bytes=0-(\d+)")
_SESSION_IS_GONE = (404, 410)


class Resumable(Upload):
    """One resumable upload.

    Args:
        client: the client of this process.
        blob: the object.
        key: its key, for messages.
        explaining: translates errors.
        endpoint: where the session is reached, whatever host the server believes to have; None believes it.
    """

    def __init__(self, client: Client, blob: Blob, key: str, explaining: Explaining, endpoint: str | None) -> None:
        super().__init__(client, blob, key, explaining)
        self._endpoint = endpoint
        self._session = ""

    def begin(self) -> None:
        """Open the session."""
        with self.explaining("writing", self.key):
            url = retried(
                lambda: self.blob.create_resumable_upload_session(
                    content_type=BINARY, client=self.client, timeout=patience(), retry=None
                )
            )
        if self._endpoint is not None:
            # An emulator in a container, or a server behind a proxy, does not know how it is reached.
            parts, reached = urlsplit(url), urlsplit(self._endpoint)
            url = parts._replace(scheme=reached.scheme, netloc=reached.netloc).geturl()
        self._session = url

    def send_all(self, parts: Iterator[Part]) -> None:
        """Send all parts, of which there is at least one; one is looked ahead, since the last one must say so."""
        part = next(parts)
        for following in parts:
            self._send(part, None)
            part = following
        self._send(part, part.start + part.size)

    def abort(self) -> None:
        """Close the session, and drop what it has taken."""
        send(self.client, "DELETE", self._session, (204, 404, 410, 499), headers={"Content-Length": "0"})

    def _send(self, part: Part, total: int | None) -> None:
        at, end = part.start, part.start + part.size
        while True:
            answer = self._send_range(part, at, end, total)
            if answer is None or answer.status_code in _DONE:
                return self.check(end)
            found = _KEPT.match(answer.headers.get("Range", ""))
            kept = int(found[1]) + 1 if found else 0
            if kept >= end and total is None:
                return
            if kept <= at:
                raise self.failed(f"the server keeps {kept:,} bytes after {at:,} were sent")
            at = kept

    def _send_range(self, part: Part, start: int, end: int, total: int | None) -> Any:
        """The answer; None when the session had ended, which the last part does: an earlier answer was lost then."""
        whole = "*" if total is None else str(total)
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{whole}", "Content-Type": BINARY}
        with self.asking():
            try:
                body = Body(_from(part, start))
                return send(self.client, "PUT", self._session, (*_DONE, _MORE), data=body, headers=headers)
            except Exception as error:
                if total is None or status_of(error) not in _SESSION_IS_GONE:
                    raise
                return None


def _from(part: Part, start: int) -> list[memoryview]:
    """The pieces of a part from a byte of the object on."""
    skip = start - part.start
    pieces = []
    for piece in part.pieces:
        pieces.append(piece[skip:])
        skip = max(0, skip - len(piece))
    return [piece for piece in pieces if len(piece)]
