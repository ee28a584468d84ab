"""One call to Azure: with this process's client, within the deadline, its errors translated."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from modelstore.exceptions import ModelStoreError
from modelstore.records import now
from modelstore.storage._azure.client import Clients
from modelstore.storage._azure.errors import Translator, answer_of
from modelstore.storage.addressing import check_key
from modelstore.storage.guard import in_time

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

R = TypeVar("R")


class Calls:
    """Calls about the blobs of one store. May be used from several threads.

    Args:
        clients: gives the clients.
        errors: translates what they raise.
        prefix: what the names of all blobs begin with.
    """

    def __init__(self, clients: Clients, errors: Translator, prefix: str) -> None:
        self.errors = errors
        self.prefix = prefix
        self._clients = clients
        self._skew = timedelta()

    def name(self, key: str) -> str:
        """The blob's name, after a look at its key."""
        check_key(key)
        return self.prefix + key

    def container(self) -> ContainerClient:
        """The client of the container, in this process."""
        return self._clients.get()

    def options(self) -> dict[str, Any]:
        """Arguments for every call of the SDK, as of now."""
        return self._clients.options(self._note_clock)

    def blob(self, doing: str, key: str, right: str, call: Callable[[BlobClient, dict[str, Any]], R]) -> R:
        """What `call` returns, which is given the client of the blob under a key, and options to pass on.

        Args:
            doing: what is being done, such as "reading".
            key: the object.
            right: the data action that it takes.
            call: calls the SDK, and nothing else.

        Raises:
            StorageError: what `call` raised, translated.
        """
        name = self.name(key)
        return self.run(doing, key, right, lambda: call(self.container().get_blob_client(name), self.options()))

    def run(self, doing: str, key: str, right: str, call: Callable[[], R]) -> R:
        """The same for any call of the SDK."""
        try:
            return in_time(call, doing, key)
        except (ModelStoreError, MemoryError):
            raise
        except Exception as error:
            raise self.errors(answer_of(error), doing, key, right) from error

    def clock(self) -> datetime:
        """The service's time, as its last answer told it; this machine's before that."""
        return now() + self._skew

    def _note_clock(self, answer: Any) -> None:
        try:
            skew = parsedate_to_datetime(answer.http_response.headers["Date"]) - now()
        except (KeyError, TypeError, ValueError):  # no date, or none that can be read
            return
        # The header counts in whole seconds and took a while to come here.
        self._skew = skew if abs(skew) >= timedelta(seconds=2) else timedelta()
