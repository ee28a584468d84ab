"""Clients for Azure Blob Storage: how they are set up, and why so. All choices about speed and patience are here."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelstore import deadline
from modelstore.exceptions import InvalidArgumentError, MissingDependencyError

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient, ContainerClient

_INSTALL = "pip install 'modelstore[azure]'"


@dataclass(frozen=True)
class Access:
    """What clients are made from."""

    connection_string: str | None = field(default=None, repr=False)
    account_url: str | None = field(default=None, repr=False)  # it may hold a SAS token
    credential: Any = field(default=None, repr=False)

    def connect(self) -> BlobServiceClient:
        """A client with connections of its own.

        Raises:
            InvalidArgumentError: not exactly one of connection string and URL, or one that the SDK cannot use.
            MissingDependencyError: the SDK, or what finds credentials, is not installed.
        """
        if (self.connection_string is None) == (self.account_url is None):
            raise InvalidArgumentError(
                "connection_string", "a container is reached by one of connection_string=, account_url= and client="
            )
        try:
            from azure.storage.blob import BlobServiceClient

            from modelstore.storage._azure.transport import options
        except ModuleNotFoundError as error:
            raise MissingDependencyError("azure-storage-blob", "a store on Azure Blob Storage", _INSTALL) from error
        try:
            if self.connection_string is not None:
                return BlobServiceClient.from_connection_string(
                    self.connection_string, credential=self.credential, **options()
                )
            return BlobServiceClient(self.account_url, credential=self._found_credential(), **options())
        except (ValueError, TypeError, AttributeError) as error:
            which = "connection_string" if self.connection_string is not None else "account_url"
            raise InvalidArgumentError(
                which, f"{which}= or credential= cannot be used: {error}; see the account's page 'Access keys'"
            ) from error

    def _found_credential(self) -> Any:
        if self.credential is not None or "sig=" in urlsplit(str(self.account_url)).query:
            return self.credential
        try:
            from azure.identity import DefaultAzureCredential
        except ModuleNotFoundError as error:
            purpose = "a store on Azure Blob Storage without connection_string= or credential="
            raise MissingDependencyError("azure-identity", purpose, _INSTALL) from error
        return DefaultAzureCredential()

    def __getstate__(self) -> dict[str, Any]:
        try:
            pickle.dumps(self.credential)
        except Exception as error:
            raise pickle.PicklingError(
                f"the credential= of this storage ({type(self.credential).__name__}) cannot be pickled; leave it out, "
                "so that each process finds its own by DefaultAzureCredential, or pass an account key or a SAS token"
            ) from error
        return dict(self.__dict__)


class Clients:
    """The client of a container, one for each process: connections must not be shared with a forked child.

    Args:
        container: its name.
        access: what to make clients from.
        client: a client of the account to use as it is, in place of `access`; timeouts and retries are its own where
            there is no deadline. A forked child uses one like it, with the same credential.
    """

    def __init__(self, container: str, access: Access, client: BlobServiceClient | None = None) -> None:
        self._container = container
        self._access = access
        self.given = client
        self._made = (os.getpid(), self._connected(client or access.connect()))

    @property
    def url(self) -> str:
        """Of the container, without what lets one in."""
        url = urlsplit(self._made[1].url)
        return f"{url.scheme}://{url.netloc}{url.path}"

    @property
    def account(self) -> str:
        """The account's name."""
        return str(self._made[1].account_name)

    def get(self) -> ContainerClient:
        """The client of this process."""
        pid, client = self._made
        if pid != os.getpid():
            client = self._connected(self._access.connect() if self.given is None else _alike(self.given))
            self._made = (os.getpid(), client)
        return client

    def options(self, noted: Callable[[Any], None]) -> dict[str, Any]:
        """Arguments that every call of the SDK is to be given; `noted` gets each answer."""
        options: dict[str, Any] = {"raw_response_hook": noted}
        if self.given is not None:
            left = deadline.remaining("sending a request")
            if left is not None:
                # Its pauses between attempts are not known, and may be longer than what is left.
                options["retry_total"] = 0
                options["connection_timeout"] = min(left, deadline.CONNECT_SECONDS)
                options["read_timeout"] = min(left, deadline.STALL_SECONDS)
        return options

    def _connected(self, service: BlobServiceClient) -> ContainerClient:
        return service.get_container_client(self._container)


def _alike(client: BlobServiceClient) -> BlobServiceClient:
    from azure.storage.blob import BlobServiceClient

    from modelstore.storage._azure.transport import options

    return BlobServiceClient(client.url, credential=client.credential, **options())
