"""nginx as the fastest server of a bucket's objects, which it only reads: files at BUCKET/KEY below a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import found, free_port, running

BUCKET = "bucket"

_CONFIGURATION = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {objects};
    }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A running nginx."""

    port: int
    objects: Path
    """Below it lie the buckets."""

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"


def available() -> bool:
    """Whether nginx is installed."""
    return found("nginx", _binary() is not None)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve the files below `folder / "objects"` until the context is left."""
    objects, port = folder / "objects", free_port()
    (objects / BUCKET).mkdir(parents=True, exist_ok=True)
    for path in (folder, objects, objects / BUCKET):
        path.chmod(0o755)  # its workers are somebody else when it is started by root
    configuration = folder / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    configuration.write_text(user + _CONFIGURATION.format(folder=folder, port=port, objects=objects))
    binary = _binary()
    assert binary is not None
    with running([binary, "-c", str(configuration), "-p", str(folder)], port, folder / "nginx.log"):
        yield Server(port, objects)


def _binary() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
