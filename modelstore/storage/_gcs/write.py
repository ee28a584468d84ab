"""Writing large objects: in one request, in parts that go up in parallel, or in sequence.

In parallel by the multipart uploads of the XML API: they show nothing before their end, take no right to delete, and
can be listed and given up. Where each connection carried 20 MB/s at most they brought 58 MB/s and the sequence 14, with
50 ms to each answer 104 and 35. Not by composing temporary objects, which is parallel too: that takes the right to
delete, soft deletion keeps (and bills) the pieces for a week, and those of a process that died stay for good.

In sequence, by a resumable upload, where a server (an emulator) or a role does not have multipart uploads.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from modelstore import deadline
from modelstore.folder import Buffer
from modelstore.storage import transfer
from modelstore.storage._gcs.errors import Explaining
from modelstore.storage._gcs.multipart import MOST_PARTS, Multipart
from modelstore.storage._gcs.parts import BINARY
from modelstore.storage._gcs.requests import patience, retried
from modelstore.storage._gcs.resumable import Resumable
from modelstore.storage.transfer import Part

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

SINGLE = 8 * transfer.MIB
"""Up to here an object goes in one request; the SDK copies it on its way, and makes several of a larger one."""

TIDYING_SECONDS = 5.0
"""For giving up what a failed upload has left."""


class Writer:
    """How one storage writes large objects.

    Args:
        client: gives the client of this process.
        explaining: translates errors.
        endpoint: where the storage is reached if it is not Google's own.
    """

    def __init__(self, client: Callable[[], Client], explaining: Explaining, endpoint: str | None) -> None:
        self._client = client
        self._explaining = explaining
        self._endpoint = endpoint
        self._in_parallel = True

    def write(self, blob: Blob, key: str, chunks: Iterable[Sequence[Buffer]], expected: int) -> None:
        """Write an object; afterwards `blob` knows its size, generation and time.

        Raises:
            StorageError: it was not written, and nothing is left behind.
            What `chunks` raises; nothing is left behind.
        """
        parts = transfer.cut(chunks, transfer.part_size(expected, MOST_PARTS))
        held = list(itertools.islice(parts, 2))
        if len(held) < 2 and sum(part.size for part in held) <= SINGLE:
            content = b"".join(itertools.chain.from_iterable(part.pieces for part in held))
            self._write_at_once(blob, key, content)
            return
        upload = self._begin(blob, key)
        try:
            upload.send_all(itertools.chain(_given_up(held), parts))
        except BaseException:
            # What cannot be given up now is left to `sweep`; the first error is the one to tell of.
            with deadline.afresh(TIDYING_SECONDS), contextlib.suppress(Exception):
                upload.abort()
            raise

    def _write_at_once(self, blob: Blob, key: str, content: bytes) -> None:
        with self._explaining("writing", key):
            retried(lambda: blob.upload_from_string(content, content_type(key), timeout=patience(), retry=None))

    def _begin(self, blob: Blob, key: str) -> Multipart | Resumable:
        if self._in_parallel:
            multipart = Multipart(self._client(), blob, key, self._explaining)
            if multipart.begin():
                return multipart
        resumable = Resumable(self._client(), blob, key, self._explaining, self._endpoint)
        resumable.begin()
        self._in_parallel = False  # uploads are allowed, so it is the other kind that this server does not have
        return resumable


def content_type(key: str) -> str:
    """What an object says it is: for whoever looks at the bucket with other tools."""
    return "application/json" if key.endswith(".json") else BINARY


def _given_up(parts: list[Part]) -> Iterator[Part]:
    """The parts of a list, which does not hold them any longer."""
    while parts:
        yield parts.pop(0)
