"""What the tests of the storage over fsspec share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.servers.backends import Backend, Running, named

over_servers = pytest.mark.parametrize("backend", named("sftp", "webdav"))
over_sftp = pytest.mark.parametrize("backend", named("sftp"))
over_webdav = pytest.mark.parametrize("backend", named("webdav"))


def folder_of(storage: Any, servers: Running, backend: Backend) -> Path:
    """Where on this machine the objects of a storage lie."""
    root = storage._place.root
    return Path(root) if backend.name == "sftp" else Path(f"{servers.server(backend).served}{root}")
