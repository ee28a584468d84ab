"""The storage over fsspec where much, little or nothing is proven, and the URLs that name file systems."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from modelstore import ModelStore, deadline
from modelstore.exceptions import (
    CredentialsError,
    InvalidArgumentError,
    MissingDependencyError,
    ObjectNotFoundError,
    StorageError,
    UnsafeStorageError,
)
from modelstore.storage._fsspec import sftp as fsspec_sftp, webdav as fsspec_webdav
from modelstore.storage.base import Created, Storage
from modelstore.storage.fsspec import FsspecStorage
from tests.servers import process, rclone
from tests.servers.backends import Backend, Running
from tests.storage.fsspec_helpers import folder_of, over_servers, over_webdav

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("paramiko")
pytest.importorskip("webdav4")

with_rclone = pytest.mark.skipif(not rclone.available("paramiko"), reason="needs rclone")


class Plain(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """A file system that nobody has proven anything of."""

    protocol = "plain"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("plain://", "memory://")))


fsspec.register_implementation("plain", Plain, clobber=True)


# -- what may be written to ---------------------------------------------------------------------------------------


def test_an_unproven_file_system_is_only_read(tmp_path: Path) -> None:
    """On a file system that is not on the list `create` and `write` refuse, and say how to go on; reading works."""
    Plain.store.clear()
    Plain().pipe_file("/store/a/1", b"found")
    storage = FsspecStorage("plain://store")
    assert storage.read("a/1") == b"found"
    assert [info.key for info in storage.list("")] == ["a/1"]
    with pytest.raises(UnsafeStorageError, match="unsafe_concurrent_writes=True"):
        storage.create("a/2", b"x")
    with pytest.raises(UnsafeStorageError, match="Plain"):
        storage.write("a/3", [[b"x"]])
    assert [info.key for info in storage.list("")] == ["a/1"]


def test_an_unproven_file_system_with_the_risk_taken(tmp_path: Path) -> None:
    """With unsafe_concurrent_writes=True a whole store works there."""
    storage = FsspecStorage("plain://risky", unsafe_concurrent_writes=True, create_directory=True)
    assert storage.create("a/1", b"x") is Created.MADE
    assert storage.create("a/1", b"y") is Created.REFUSED
    assert storage.write("a/1", [[b"abc"], [b"d"]]).size == 4
    assert storage.read("a/1") == b"abcd"
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    ModelStore(storage).upload("d", "one", model=str(model))
    assert ModelStore(FsspecStorage("plain://risky")).load("d", "one").read_bytes() == b"weights"


@with_rclone
def test_a_server_of_sftp_without_links_is_only_read(tmp_path: Path) -> None:
    """rclone's server renames over what is there and makes no links: the trial finds that out and leaves nothing."""
    served = tmp_path / "served"
    with rclone.serving("sftp", tmp_path, served) as port:
        options = {"password": rclone.PASSWORD, "host_key_policy": "auto_add", "look_for_keys": False}
        url = f"sftp://{rclone.USER}@127.0.0.1:{port}/"
        storage = FsspecStorage(url, "store", storage_options=options, create_directory=True)
        for _ in range(2):
            with pytest.raises(UnsafeStorageError, match="hardlink@openssh"):
                storage.create("a/1", b"x")
        assert list((served / "store").iterdir()) == []
        risky = FsspecStorage(url, "store", storage_options=options, unsafe_concurrent_writes=True)
        assert risky.create("a/1", b"x") is Created.MADE
        assert risky.create("a/1", b"y") is Created.REFUSED
        assert risky.write("a/2", [[b"z"]]).size == 1
        assert storage.read("a/1") == b"x"
        with pytest.raises(CredentialsError):
            FsspecStorage(url, "store", storage_options={**options, "password": "wrong"})


@over_webdav
def test_a_server_of_webdav_that_is_not_known_is_only_read(
    backend: Backend, servers: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server is none of those that lock the new name while they move, nothing is created."""
    storage: Any = servers.storage(backend)
    monkeypatch.setattr(fsspec_webdav, "KNOWN_SERVERS", re.compile("another"))
    with pytest.raises(UnsafeStorageError, match="rclone"):
        storage.create("a", b"")


@over_servers
def test_a_trial_leaves_nothing_and_happens_once(
    backend: Backend, servers: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first creation nothing but its object is there; a pickled copy does not try again."""
    storage: Any = servers.storage(backend)
    assert storage.create("a", b"x") is Created.MADE
    assert sorted(path.name for path in folder_of(storage, servers, backend).iterdir()) == ["a"]
    copy = pickle.loads(pickle.dumps(storage))
    monkeypatch.setattr(fsspec_sftp.SFTPFiles, "prove", None)
    monkeypatch.setattr(fsspec_webdav.WebDAVFiles, "prove", None)
    assert copy.create("b", b"x") is Created.MADE


def _create_all(storage: Storage, writer: int, start: Any, queue: Any) -> None:
    start.wait(60)
    queue.put([(turn, writer, storage.create(f"race/{turn}", str(writer).encode()).name) for turn in range(10)])


@over_servers
@pytest.mark.skipif(sys.platform == "win32", reason="needs a fork server")
def test_eight_processes_create_one_key(backend: Backend, servers: Running) -> None:
    """Of eight processes that create the same keys at the same time, one each is told MADE, and its bytes are there."""
    storage: Any = servers.storage(backend)
    context = multiprocessing.get_context("forkserver")
    start, queue = context.Barrier(8), context.Queue()
    children = [context.Process(target=_create_all, args=(storage, number, start, queue)) for number in range(8)]
    for child in children:
        child.start()
    results = [one for _ in children for one in queue.get(timeout=120)]
    for child in children:
        child.join(30)
    for turn in range(10):
        outcomes = [(writer, result) for number, writer, result in results if number == turn]
        assert sorted(result for _, result in outcomes) == ["MADE"] + ["REFUSED"] * 7
        winner = next(writer for writer, result in outcomes if result == "MADE")
        assert storage.read(f"race/{turn}") == str(winner).encode()
    assert storage.sweep("", datetime.now(timezone.utc) + timedelta(days=1)) == 0


# -- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["nothing-like-this://x/y", "webdav:///folder", "sftp://host/a/../b"])
def test_urls_that_name_nothing(url: str) -> None:
    """A protocol that nobody knows, a host that is missing and a path that leads elsewhere are argument errors."""
    with pytest.raises(InvalidArgumentError):
        FsspecStorage(url)


@pytest.mark.parametrize(
    ("url", "module", "command"),
    [
        ("sftp://host/x", "paramiko", "pip install 'modelstore[sftp]'"),
        ("webdavs://host/x", "webdav4", "pip install 'modelstore[webdav]'"),
        ("smb://host/x", "smbclient", "pip install smbclient"),
    ],
)
def test_what_is_not_installed(url: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is missing is named with the command that installs it."""
    from fsspec.registry import _registry

    protocol = url.partition(":")[0].replace("webdavs", "webdav")
    monkeypatch.delitem(_registry, protocol, raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == module or "implementations.sftp" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.fsspec", None)
    with pytest.raises(MissingDependencyError) as caught:
        FsspecStorage(url)
    assert caught.value.command == command


@over_servers
def test_no_secret_is_told(backend: Backend, servers: Running) -> None:
    """Neither address nor location nor repr of a storage hold what lets one in, from the URL or from the options."""
    storage: Any = servers.storage(backend)
    for text in (storage.address, str(storage.location("a/b")), repr(storage)):
        assert "key_filename" not in text
        assert rclone.PASSWORD + "'" not in text
    with deadline.within(3), pytest.raises(StorageError) as caught:
        FsspecStorage(f"{storage._place.protocol}://me:se%20cret@127.0.0.1:{process.free_port()}/x")
    assert "cret" not in str(caught.value)


def test_an_instance_of_a_file_system() -> None:
    """A file system of fsspec's can be passed instead of a URL, with the folder in it; it is rebuilt, so it pickles."""
    root = uuid4().hex
    storage = FsspecStorage(fsspec.filesystem("memory"), f"{root}/store")
    assert storage.create("a", b"x") is Created.MADE
    assert pickle.loads(pickle.dumps(storage)).read("a") == b"x"
    assert FsspecStorage(f"memory://{root}/store").read("a") == b"x"
    assert storage.address == f"memory:///{root}/store"
    with pytest.raises(InvalidArgumentError, match="root="):
        FsspecStorage(fsspec.filesystem("memory"))
    with pytest.raises(ObjectNotFoundError):
        storage.read("b")


def test_what_cannot_be_pickled() -> None:
    """A storage that was made with a client says which arguments would let it go to other processes."""
    storage = FsspecStorage(Plain(client=threading.Lock()), "x", unsafe_concurrent_writes=True, create_directory=True)
    with pytest.raises(InvalidArgumentError, match="instead of clients"):
        pickle.dumps(storage)
