"""rclone serving a folder of this machine: by SFTP or by WebDAV."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.servers import process

USER, PASSWORD = "test", "test"


def available(*packages: str) -> bool:
    """Whether rclone and the client's packages are here."""
    here = _binary() is not None and all(importlib.util.find_spec(package) is not None for package in packages)
    return process.found("rclone", here)


@contextlib.contextmanager
def serving(protocol: str, folder: Path, served: Path) -> Iterator[int]:
    """Serve `served` for as long as the context lasts; gives the port. Log and cache go to `folder`."""
    port = process.free_port()
    served.mkdir(exist_ok=True)
    command = [str(_binary()), "serve", protocol, "--addr", f"127.0.0.1:{port}", "--user", USER, "--pass", PASSWORD]
    command += ["--config", "/dev/null", "--cache-dir", str(folder / "rclone"), str(served)]
    with process.running(command, port, folder / f"{protocol}-{port}.log"):
        yield port


def _binary() -> str | None:
    return shutil.which("rclone") or shutil.which("rclone", path=str(Path(sys.executable).parent))
