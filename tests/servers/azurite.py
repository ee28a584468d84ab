"""Azurite: Azure Blob Storage on this machine, in memory."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.storage.azure import AzureStorage
from tests.servers import process

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, the same everywhere: no secret."""

FULL = "rwdl"
"""The letters of all that a store needs: read, write, delete, list."""

_LOCAL = Path(__file__).parents[2] / ".ci" / "servers" / "node_modules" / ".bin" / "azurite-blob"
_numbers = itertools.count()


class SmallBlocks(AzureStorage):
    """Uploads in small blocks, so that tests of them need few bytes."""

    smallest_part = 5 << 20


class Server:
    """Azurite at `port`."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def connection_string(self) -> str:
        """For all clients of Azure, with the account's key."""
        return self.connection_string_at(self.port)

    def connection_string_at(self, port: int) -> str:
        """The same, through a proxy at another port."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.account_url(port)};"
        )

    def account_url(self, port: int | None = None) -> str:
        """Where the account is, with nothing that lets one in."""
        return f"http://127.0.0.1:{port or self.port}/{ACCOUNT}"

    def storage(
        self, port: int | None = None, *, container: str | None = None, sas: str | None = None, **arguments: Any
    ) -> AzureStorage:
        """A storage over an empty container, or over `container`.

        Args:
            port: of a proxy in front.
            container: one that is there already.
            sas: the letters of what it may do (see `FULL`); the account's key may do everything.
            **arguments: the storage's own.
        """
        container = container or self.container().container_name
        if sas is None:
            return SmallBlocks(container, connection_string=self.connection_string_at(port or self.port), **arguments)
        token = self.sas(container, sas)
        return SmallBlocks(container, account_url=self.account_url(port), credential=token, **arguments)

    def container(self, name: str | None = None) -> ContainerClient:
        """The SDK's client of a container, by default of a new one: for what a storage does not do."""
        from azure.storage.blob import BlobServiceClient

        service = BlobServiceClient.from_connection_string(self.connection_string)
        if name is not None:
            return service.get_container_client(name)
        return service.create_container(f"test-{os.getpid()}-{next(_numbers)}")

    def sas(self, container: str, letters: str, expires: timedelta = timedelta(hours=1)) -> str:
        """A token for one container that allows what its letters say, for so long."""
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        return generate_container_sas(
            ACCOUNT,
            container,
            account_key=KEY,
            permission=ContainerSasPermissions.from_string(letters),
            expiry=datetime.now(timezone.utc) + expires,
        )


def available() -> bool:
    """Whether Azurite and the SDK are here."""
    return process.found("azurite", _binary() is not None and _has_sdk())


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run Azurite for as long as the context lasts; its log goes to `folder`."""
    port = process.free_port()
    command = [str(_binary()), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--inMemoryPersistence", "--extentMemoryLimit", "4096", "--silent", "--disableTelemetry"]
    # It lags behind the SDK's API version; and the account stands in the path, not in the host's name.
    command += ["--skipApiVersionCheck", "--disableProductStyleUrl"]
    with process.running(command, port, folder / f"azurite-{port}.log"):
        yield Server(port)


def _binary() -> str | None:
    return shutil.which("azurite-blob") or (str(_LOCAL) if _LOCAL.exists() else None)


def _has_sdk() -> bool:
    try:
        return importlib.util.find_spec("azure.storage.blob") is not None
    except ModuleNotFoundError:  # not even the package `azure`
        return False
