"""Servers that speak S3 and ignore If-None-Match: `rclone serve s3`, which ignores ranges too, and s3rver."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.servers import moto, process

NAMES = ("rclone", "s3rver")

_LOCAL = Path(__file__).parents[2] / ".ci" / "servers"
_S3RVER = (_LOCAL / "node_modules/.bin/s3rver", _LOCAL / "s3rver/node_modules/.bin/s3rver")


def available(name: str) -> bool:
    """Whether one of them is installed."""
    return process.found(name, bool(_program(name)))


@contextlib.contextmanager
def serve(folder: Path, name: str) -> Iterator[moto.Server]:
    """Run one of them, with its objects and its log in a folder."""
    port, objects = process.free_port(), folder / f"{name}-objects"
    objects.mkdir()
    if name == "rclone":
        server = moto.Server(port, "test", "testsecret")
        keys = f"{server.access_key},{server.secret_key}"
        command = [_program(name), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, str(objects)]
    else:
        server = moto.Server(port, "S3RVER", "S3RVER")  # its only user
        command = [_program(name), "-d", str(objects), "-a", "127.0.0.1", "-p", str(port), "--no-vhost-buckets"]
    with process.running(command, port, folder / f"{name}.log"):
        yield server


def _program(name: str) -> str:
    if name == "rclone":
        return process.program(name) or ""
    here = shutil.which(name) or next((path for path in _S3RVER if path.exists()), "")
    return str(here) if shutil.which("node") else ""
