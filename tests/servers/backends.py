"""Every kind of storage that the tests run over, each with the server that it takes, started when first needed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from modelstore.storage.base import Storage


@dataclass(frozen=True)
class Backend:
    """One kind of storage."""

    name: str
    server: str | None = None
    """The module of `tests.servers`; None: there is no server."""
    sdk: tuple[str, ...] = ()
    """The packages that the storage imports."""
    shared: bool = True
    """Whether other processes see the same objects."""
    http: bool = False
    """Whether the fault proxy understands what goes over the wire."""
    each: int = 3
    """How many uploads a process makes in a race: more where they are quick."""
    arguments: tuple[tuple[str, Any], ...] = ()
    """For the server's `storage()`."""

    def available(self) -> bool:
        """Whether all that it takes is installed here.

        Raises:
            RuntimeError: it is not, and `MODELSTORE_TEST_SERVERS` names it.
        """
        here = all(_installed(package) for package in self.sdk)
        if self.server is None:
            return here
        # Asked for even without the SDK: where the server must be here, so must that.
        return bool(importlib.import_module(f"tests.servers.{self.server}").available()) and here

    def __str__(self) -> str:
        return self.name


BACKENDS = (
    Backend("memory", shared=False),
    Backend("local", each=20),
    Backend("s3-moto", "moto", ("boto3",), http=True, each=2),
    Backend("s3-ceph", "ceph", ("boto3",), http=True),
    Backend("gcs-fake", "fake_gcs", ("google.cloud.storage",), http=True),
    Backend("azure-azurite", "azurite", ("azure.storage.blob",), http=True),
    Backend("hdfs", "hdfs", ("hdfs_native",)),
    Backend("sftp", "sftp", ("fsspec", "paramiko")),
    Backend("webdav", "webdav", ("fsspec", "webdav4")),
)


def named(*names: str) -> list[Any]:
    """Parameters for the backends of these names; those that are not available here are skipped."""
    return where(lambda backend: backend.name in names)


def where(chosen: Callable[[Backend], bool] = lambda backend: True) -> list[Any]:
    """Parameters for `@pytest.mark.parametrize("backend", …)`."""
    return [_parameter(backend) for backend in BACKENDS if chosen(backend)]


def _parameter(backend: Backend) -> Any:
    missing = not backend.available()
    mark = pytest.mark.skipif(missing, reason=f"{backend} needs a server and an SDK that are not installed here")
    return pytest.param(backend, marks=mark, id=backend.name)


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package above it
        return False


class Running:
    """The servers of a test session, each started when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, Any] = {}
        self._started = contextlib.ExitStack()
        self._numbers = itertools.count()

    def server(self, backend: Backend) -> Any:
        """The backend's server, with `port` and `storage(port=…)`."""
        assert backend.server is not None
        if backend.server not in self._servers:
            module = importlib.import_module(f"tests.servers.{backend.server}")
            folder = self._folder / backend.server
            folder.mkdir(exist_ok=True)
            self._servers[backend.server] = self._started.enter_context(module.serve(folder))
        return self._servers[backend.server]

    def storage(self, backend: Backend, port: int | None = None) -> Storage:
        """A storage over a new empty bucket, folder or prefix; `port` is that of a proxy in front of the server."""
        if backend.server is not None:
            storage: Storage = self.server(backend).storage(port, **dict(backend.arguments))
            return storage
        if backend.name == "memory":
            from modelstore.storage.memory import MemoryStorage

            return MemoryStorage()
        from modelstore.storage.local import FileSystemStorage

        return FileSystemStorage(self._folder / f"local-{next(self._numbers)}", create=True)

    def close(self) -> None:
        """Stop them."""
        self._started.close()
