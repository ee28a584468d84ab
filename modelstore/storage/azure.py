"""Azure Blob Storage as a storage."""

from __future__ import annotations

import builtins
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from modelstore import deadline
from modelstore.exceptions import InvalidArgumentError, ObjectNotFoundError
from modelstore.folder import Buffer
from modelstore.storage import transfer
from modelstore.storage._azure import reading as azure_reading, writing as azure_writing
from modelstore.storage._azure.calls import Calls
from modelstore.storage._azure.client import Access, Clients
from modelstore.storage._azure.errors import DELETE, READ, Translator
from modelstore.storage._azure.policy import policy
from modelstore.storage._azure.writing import MOST_BLOCKS, plain
from modelstore.storage.addressing import check_key, check_prefix, clean_prefix, is_part, location
from modelstore.storage.base import Created, ObjectInfo

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient


class AzureStorage:
    """Objects are block blobs in a container that exists already.

    Args:
        container: its name.
        root_prefix: what the names of all blobs of the store begin with.
        connection_string: of the account, with its key or a SAS token.
        account_url: of the account (`https://<account>.blob.core.windows.net`), in place of a connection string. It may
            hold a SAS token.
        credential: an account key, a SAS token, or any credential of the SDK (default with `account_url` alone: what
            `azure.identity.DefaultAzureCredential` finds).
        client: a `BlobServiceClient` to use as it is, in place of all these. It cannot be pickled.
        access_tier: of archives, such as `Cool`; the log, which is read all the time, stays in the account's own.
        encryption_scope: that all blobs are encrypted in.

    Raises:
        InvalidArgumentError: arguments that do not go together, or that the SDK cannot use.
        MissingDependencyError: the SDK is not installed.
    """

    kind = "azure:blob-storage"
    streams = transfer.THREADS

    smallest_part = transfer.PART
    """Bytes in a block, if no more are needed to fit an object into as many as there may be."""

    def __init__(
        self,
        container: str,
        root_prefix: str | None = None,
        *,
        connection_string: str | None = None,
        account_url: str | None = None,
        credential: Any = None,
        client: BlobServiceClient | None = None,
        access_tier: str | None = None,
        encryption_scope: str | None = None,
    ) -> None:
        if not container or "/" in container:
            raise InvalidArgumentError("container", f"container={container!r} is no name of a container")
        if client is not None and (connection_string, account_url, credential) != (None, None, None):
            raise InvalidArgumentError("client", "client= brings its own account and credential; pass it alone")
        self._container = container
        self._prefix = clean_prefix(root_prefix)
        self._access = Access(connection_string, account_url, credential)
        self._clients = Clients(container, self._access, client)
        self._given = {"access_tier": access_tier, "encryption_scope": encryption_scope}
        self._settings = azure_writing.Settings(access_tier, encryption_scope)
        self._calls = Calls(self._clients, Translator(self.address, container), self._prefix)

    @property
    def address(self) -> str:
        """The URL of the container and the prefix in it, without a SAS token."""
        return f"{self._clients.url}/{self._prefix}".rstrip("/")

    def location(self, key: str) -> dict[str, Any]:
        """Where `key` lies, with the ancestor's keys: `prefix` is the blob's whole name."""
        return location(self.kind, prefix=self._prefix + key, container=self._container)

    def create(self, key: str, data: bytes) -> Created:
        """See `Storage.create`: one request."""
        return azure_writing.create(self._calls, key, data, self._settings)

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        """See `Storage.write`.

        One request for up to 4 MiB; else one for each block, up to eight at a time, and one that makes the blob of
        them.
        """
        part_size = transfer.part_size(expected, MOST_BLOCKS, self.smallest_part)
        return azure_writing.write(self._calls, key, chunks, part_size, self._settings)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Storage.read`: one request; two for a suffix, since Azure has none: the first asks for the size."""
        return azure_reading.read(self._calls, key, start, end)

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`: one request."""
        return azure_reading.read_into(self._calls, key, start, buffer)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Storage.list`: one request for each 5,000 objects."""
        # The metadata say which blobs are the folders of an account with a hierarchical namespace.
        for blob in self._pages(prefix, "list_blobs", include=["metadata"]):
            key = blob.name[len(self._prefix) :]
            if (blob.metadata or {}).get("hdi_isfolder") != "true" and all(map(is_part, key.split("/"))):
                yield ObjectInfo(key, blob.size, blob.last_modified.astimezone(timezone.utc), plain(blob.etag))

    def list_children(self, prefix: str) -> Iterator[str]:
        """See `Storage.list_children`: one request for each 5,000 children and objects directly below the prefix.

        In an account with a hierarchical namespace, folders stay when their last object goes, and are listed still.
        """
        at = len(self._prefix + prefix)
        names = {item.name for item in self._pages(prefix, "walk_blobs") if item.name.endswith("/")}
        # Azure's order is that of the names with their slashes, in which `a-b/` comes before `a/`.
        return iter(sorted(child for name in names if is_part(child := name[at:-1])))

    def _pages(self, prefix: str, verb: str, **arguments: Any) -> Iterator[Any]:
        check_prefix(prefix)
        token: str | None = None
        while True:

            def page(token: str | None = token) -> tuple[builtins.list[Any], str | None]:
                walk = getattr(self._calls.container(), verb)
                pages = walk(self._prefix + prefix, **arguments, **self._calls.options()).by_page(token)
                return builtins.list(next(pages, ())), pages.continuation_token

            items, token = self._calls.run("listing", prefix, READ, page)
            yield from items
            if not token:
                return

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`: one request for each, eight at a time.

        Not Azure's batches: accounts with a hierarchical namespace have none, and deletions cost nothing.
        """
        wanted = builtins.list(dict.fromkeys(keys))
        for key in wanted:
            check_key(key)
        if len(wanted) < 2:
            for key in wanted:
                self._delete(key)
            return
        with ThreadPoolExecutor(transfer.THREADS, "modelstore-delete") as pool:
            # After an error, `map` begins no more of them.
            builtins.list(pool.map(deadline.carried(self._delete), wanted))

    def _delete(self, key: str) -> None:
        try:
            self._calls.blob("deleting", key, DELETE, lambda blob, options: blob.delete_blob(**options))
        except ObjectNotFoundError:
            return

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """See `Storage.sweep`: a listing, and two requests for each write that was interrupted.

        What Azure holds of such a write is not visible, and it drops it by itself a week after the last block.
        """
        blobs = self._pages(prefix, "list_blobs", include=["uncommittedblobs"])
        return azure_writing.sweep(self._calls, blobs, older_than)

    def policy(self) -> str:
        """Commands for Azure's `az` that make a role and assign it, and one that makes SAS tokens."""
        return policy(self._clients.account, self._container, self._prefix)

    def clock(self) -> datetime:
        """The service's time as its last answer told it; before that, this machine's."""
        return self._calls.clock()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self._clients.given is not None:
            raise pickle.PicklingError(
                f"the storage at {self.address} was given a ready-made client=, which cannot be pickled; pass "
                "connection_string=, or account_url= and credential=, so that another process can make its own"
            )
        return _unpickled, (type(self), self._container, self._prefix, self._access, self._given)

    def __repr__(self) -> str:
        return f"AzureStorage({self.address!r})"


def _unpickled(
    cls: type[AzureStorage], container: str, prefix: str, access: Access, given: dict[str, str | None]
) -> AzureStorage:
    return cls(
        container,
        prefix,
        connection_string=access.connection_string,
        account_url=access.account_url,
        credential=access.credential,
        **given,
    )
