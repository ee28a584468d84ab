"""The storage over fsspec keeps the promises of its protocol, on every file system that it writes to."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from modelstore.storage.base import Storage
from modelstore.storage.fsspec import FsspecStorage
from modelstore.testing import StorageContract
from tests.servers.backends import Backend, Running, named

pytest.importorskip("fsspec")


@pytest.mark.parametrize("backend", named("sftp"))
class TestSFTP(StorageContract):
    """OpenSSH's own server."""

    same_content_seconds = 1.1  # its times are whole seconds

    @pytest.fixture
    def storage(self, servers: Running, backend: Backend) -> Storage:
        return servers.storage(backend)


@pytest.mark.parametrize("backend", named("webdav"))
class TestWebDAV(StorageContract):
    """rclone's server."""

    held_chunks = 18

    @pytest.fixture
    def storage(self, servers: Running, backend: Backend) -> Storage:
        return servers.storage(backend)


class TestMemory(StorageContract):
    """fsspec's memory."""

    @pytest.fixture
    def storage(self) -> Storage:
        return FsspecStorage(f"memory://{uuid4().hex}/root")


class TestLocal(StorageContract):
    """A folder of this machine, by fsspec's name."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return FsspecStorage(f"file://{tmp_path}/store", create_directory=True)
