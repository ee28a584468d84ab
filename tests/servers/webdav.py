"""WebDAV: rclone's server, which refuses to move onto what is there already when it is asked to."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelstore.storage.fsspec import FsspecStorage
from tests.servers import process, rclone

_numbers = itertools.count()


class Server:
    """rclone's WebDAV server at `port`, over the folder `served` of this machine."""

    def __init__(self, port: int, served: Path) -> None:
        self.port = port
        self.served = served

    def storage(self, port: int | None = None, *, password: str = rclone.PASSWORD, **arguments: Any) -> FsspecStorage:
        """A storage over a new empty folder.

        Args:
            port: of a proxy in front.
            password: of the server's user.
            **arguments: the storage's own.
        """
        root = f"test-{os.getpid()}-{next(_numbers)}"
        arguments.setdefault("create_directory", True)  # rclone does not see at once what comes from elsewhere
        return FsspecStorage(
            f"webdav://127.0.0.1:{port or self.port}/{root}",
            storage_options={"auth": (rclone.USER, password)},
            **arguments,
        )


def available() -> bool:
    """Whether the server and the client are here."""
    return process.found("webdav", rclone.available("fsspec", "webdav4"))


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve a folder below `folder` for as long as the context lasts."""
    served = folder / "webdav"
    with rclone.serving("webdav", folder, served) as port:
        yield Server(port, served)
