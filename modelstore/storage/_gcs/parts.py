"""What both kinds of uploads in parts share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelstore.exceptions import ObjectNotFoundError, StorageUnavailableError
from modelstore.storage._gcs.errors import Explaining, NotFoundError
from modelstore.storage._gcs.requests import patience, retried

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

BINARY = "application/octet-stream"


class Upload:
    """An upload of one object in parts.

    Args:
        client: the client of this process.
        blob: the object, with its storage class, key and so on.
        key: its key, for messages.
        explaining: translates errors.
    """

    def __init__(self, client: Client, blob: Blob, key: str, explaining: Explaining) -> None:
        self.client = client
        self.blob = blob
        self.key = key
        self.explaining = explaining

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Requests that belong to the upload, with their errors translated; what a 404 misses is the upload."""
        try:
            with self.explaining("writing", self.key):
                yield
        except (NotFoundError, ObjectNotFoundError) as error:
            raise self.failed(f"the server does not know the upload any more ({error})") from error

    def failed(self, reason: str) -> StorageUnavailableError:
        """The error for an upload that the server did not carry out as it should have."""
        return StorageUnavailableError(
            f"writing {self.key!r} in {self.explaining.address} failed: {reason}; upload again", self.key
        )

    def check(self, size: int) -> None:
        """See that the object is there, with all its bytes.

        Raises:
            StorageUnavailableError: it is not there, or has another size; it is removed then.
        """
        with self.asking():
            retried(lambda: self.blob.reload(timeout=patience(), retry=None))
            if self.blob.size != size:
                retried(lambda: self.blob.delete(timeout=patience(), retry=None))
                raise self.failed(f"{self.blob.size:,} bytes arrived of {size:,}")
