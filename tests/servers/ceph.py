"""Ceph's RADOS gateway: a real S3 implementation, with users, rights and checksums that count. Up in 12 seconds."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import moto, process

_PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool", "rados", "ceph")


@dataclass
class Server(moto.Server):
    """A running gateway, with the user test."""

    folder: Path = Path()

    def user(self, name: str) -> tuple[str, str]:
        """Access key and secret of a new user, who may do nothing in the buckets of others."""
        command = ["radosgw-admin", "-c", str(self.folder / "ceph.conf"), "-n", "client.rgw", "user", "create"]
        command += ["--uid", name, "--display-name", name]
        said = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
        (keys,) = json.loads(said)["keys"]
        return keys["access_key"], keys["secret_key"]


def available() -> bool:
    """Whether it is installed."""
    return process.found("ceph", all(map(shutil.which, _PROGRAMS)))


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run it, with its data (but not the objects, which are in memory) in a folder."""
    script = Path(__file__).parent / "start_ceph.sh"
    port, *ports = (process.free_port() for _ in range(3))
    data = folder / "ceph"
    with tempfile.TemporaryDirectory(prefix="ceph", dir="/tmp") as sockets:
        command = ["bash", str(script), str(data), sockets, str(port), *map(str, ports)]
        with process.running(command, port, folder / "ceph.log"):
            yield Server(port, folder=data)
