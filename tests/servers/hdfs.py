"""HDFS: a real NameNode and DataNode (Hadoop 2.7.3, of 2016) on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelstore.storage.hdfs import HDFSStorage
from tests.servers import process

_JARS = Path(__file__).parents[2] / ".ci" / "servers" / "hadoop" / "jars"
_SCRIPT = Path(__file__).with_name("start_hdfs.sh")
_numbers = itertools.count()


class Server:
    """HDFS, whose NameNode listens at `port`."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, port: int | None = None) -> str:
        """Where it is; through a proxy at another port."""
        return f"hdfs://127.0.0.1:{port or self.port}"

    def storage(self, port: int | None = None, **arguments: Any) -> HDFSStorage:
        """A storage over a new empty folder.

        Args:
            port: of a proxy in front of the NameNode; files' contents go past it, to the DataNode.
            **arguments: the storage's own.
        """
        root = f"/test-{os.getpid()}-{next(_numbers)}"
        HDFSStorage(root, url=self.url(), create_directory=True)
        return HDFSStorage(root, url=self.url(port), **arguments)


def available() -> bool:
    """Whether Hadoop's jars, Java and the client are here."""
    here = _JARS.is_dir() and shutil.which("java") and importlib.util.find_spec("hdfs_native")
    return process.found("hdfs", bool(here))


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run HDFS for as long as the context lasts, with its files below `folder`."""
    ports = [process.free_port() for _ in range(5)]
    data = folder / f"hdfs-{ports[0]}"
    command = ["bash", str(_SCRIPT), str(_JARS), str(data), *map(str, ports)]
    with process.running(command, lambda: _has_data_node(ports[1]), folder / f"hdfs-{ports[0]}.log"):
        yield Server(ports[0])


def _has_data_node(port: int) -> bool:
    """Whether the NameNode would find a place for a file."""
    query = f"http://127.0.0.1:{port}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
    try:
        with urllib.request.urlopen(query, timeout=1) as answer:
            return b'"NumLiveDataNodes" : 1' in answer.read()
    except OSError:
        return False
