"""The storage over fsspec when servers are gone, refuse, break off, or say nothing."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from modelstore import deadline
from modelstore.exceptions import (
    CredentialsError,
    DeadlineExceededError,
    StorageError,
    StorageUnavailableError,
    StoreNotFoundError,
)
from modelstore.folder import Buffer
from modelstore.storage._fsspec import sftp as fsspec_sftp, webdav as fsspec_webdav
from modelstore.storage.base import Created, Storage
from modelstore.storage.fsspec import FsspecStorage
from modelstore.storage.publishing import temporary_name
from tests.servers import sftp
from tests.servers.backends import Backend, Running
from tests.storage.fsspec_helpers import folder_of, over_servers, over_sftp, over_webdav

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("paramiko")
pytest.importorskip("webdav4")

MIB = 1 << 20


def _cut(storage: Any) -> None:
    """Break the connections that nobody uses at the moment."""
    for files in storage._sessions._pool_of[os.getpid()].idle:
        if isinstance(files, fsspec_sftp.SFTPFiles):
            files._ssh.get_transport().sock.close()


def _verbs(storage: Storage) -> list[Any]:
    return [
        lambda: storage.create("a/1", b"x"),
        lambda: storage.write("a/2", [[b"x"]]),
        lambda: storage.read("a/1"),
        lambda: storage.read_into("a/1", 0, memoryview(bytearray(3))),
        lambda: list(storage.list("")),
        lambda: list(storage.list_children("")),
        lambda: storage.delete(["a/1"]),
        lambda: storage.sweep("", datetime.now(timezone.utc)),
    ]


@over_servers
def test_a_server_that_is_gone(backend: Backend, tmp_path: Path) -> None:
    """When nobody listens any more, every verb says that the server cannot be reached, also over old connections."""
    own = Running(tmp_path)
    storage: Any = own.storage(backend)
    storage.create("a/1", b"x")
    own.close()
    _cut(storage)  # sshd goes on with those who are connected
    for verb in _verbs(storage):
        with deadline.within(5), pytest.raises((StorageUnavailableError, DeadlineExceededError)):
            verb()


@over_servers
def test_a_root_that_is_missing(backend: Backend, servers: Running) -> None:
    """A folder that is not there is an error when a store is opened, and never an empty store."""
    storage: Any = servers.storage(backend)
    root = storage._place.root
    with pytest.raises(StoreNotFoundError, match="create_directory=True"):
        FsspecStorage(storage.address.replace(root, root + "/nothing"), storage_options=dict(storage._place.options))
    gone = pickle.loads(pickle.dumps(storage))
    gone._place = gone._place.__class__(**{**gone._place.__dict__, "root": root + "/nothing"})
    gone._begin(gone._place, False, "")
    for verb in _verbs(gone):
        with pytest.raises(StoreNotFoundError):
            verb()


@over_sftp
def test_another_key_does_not_let_in(backend: Backend, servers: Running, tmp_path: Path) -> None:
    """A key that the server does not know is a credentials error."""
    with pytest.raises(CredentialsError, match="key_filename"):
        servers.server(backend).storage(key=sftp.make_key(tmp_path / "other"))


@over_webdav
def test_another_password_does_not_let_in(backend: Backend, servers: Running) -> None:
    """A wrong password is a credentials error, and no message holds it."""
    with pytest.raises(CredentialsError) as caught:
        servers.server(backend).storage(password="wrong-one")
    assert "wrong-one" not in str(caught.value)


@over_sftp
def test_an_unknown_host_is_refused(
    backend: Backend, servers: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose key is not known is refused with its key and what to do, unless it is to be accepted."""
    monkeypatch.setenv("HOME", str(tmp_path))
    storage: Any = servers.storage(backend)
    options = {**storage._place.options, "host_key_policy": None}
    with pytest.raises(StorageError, match="known_hosts") as caught:
        FsspecStorage(storage.address, storage_options=options)
    assert "host_key_policy" in str(caught.value)
    (tmp_path / ".ssh").mkdir()
    host_key = (servers.server(backend).key.parent / "host.pub").read_text().split()
    known = f"[127.0.0.1]:{servers.server(backend).port} {host_key[0]} {host_key[1]}\n"
    (tmp_path / ".ssh" / "known_hosts").write_text(known)
    assert FsspecStorage(storage.address, storage_options=options).create("a", b"") is Created.MADE
    other = sftp.make_key(tmp_path / "other").with_suffix(".pub").read_text().split()
    (tmp_path / ".ssh" / "known_hosts").write_text(known.replace(host_key[1], other[1]))
    with pytest.raises(StorageError, match="not the one in"):
        FsspecStorage(storage.address, storage_options=options)


@over_sftp
def test_a_broken_connection_is_made_again(backend: Backend, servers: Running) -> None:
    """Reading and creating go on over a new connection when the old one has died unnoticed."""
    storage: Any = servers.storage(backend)
    content = os.urandom(9 * MIB)
    storage.write("a/1", [[content]])
    _cut(storage)
    assert storage.read("a/1") == content
    _cut(storage)
    assert storage.create("a/2", b"x") is Created.MADE


@over_sftp
def test_connections_go_with_the_storage(backend: Backend, servers: Running) -> None:
    """A storage that is out of use leaves no connection open, and no thread behind it."""
    storage: Any = servers.storage(backend)
    storage.create("a", b"x")
    (files,) = storage._sessions._pool_of[os.getpid()].idle
    transport = files._ssh.get_transport()
    assert transport.is_active()
    del storage, files
    gc.collect()
    transport.join(10)
    assert not transport.is_alive()


@over_servers
def test_a_lost_answer_is_unknown(backend: Backend, servers: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the connection breaks while the name is given, the outcome is UNKNOWN, whether it was given or not."""
    storage: Any = servers.storage(backend)
    storage.create("first", b"")
    for cls in (fsspec_sftp.SFTPFiles, fsspec_webdav.WebDAVFiles):
        publish = cls.publish_new

        def lost(self: Any, temporary: str, path: str, publish: Any = publish) -> None:
            if path.endswith("given"):
                publish(self, temporary, path)
            raise EOFError

        monkeypatch.setattr(cls, "publish_new", lost)
    assert storage.create("given", b"x") is Created.UNKNOWN
    assert storage.create("not-there", b"x") is Created.UNKNOWN
    monkeypatch.undo()
    assert storage.create("given", b"x") is Created.REFUSED
    assert storage.create("not-there", b"x") is Created.MADE
    assert storage.sweep("", datetime.now(timezone.utc) + timedelta(days=1)) == 0


@over_servers
def test_a_server_that_says_nothing(backend: Backend, servers: Running) -> None:
    """With a server that accepts and then is silent, opening ends by its deadline."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        storage: Any = servers.storage(backend)
        options = {**storage._place.options}
        if "base_url" in options:
            options["base_url"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        else:
            options["port"] = silent.getsockname()[1]
        with deadline.within(1), pytest.raises(DeadlineExceededError):
            FsspecStorage(f"{storage._place.protocol}:///store", storage_options=options)


@over_servers
def test_an_upload_that_fails_leaves_no_folders_on_sftp(backend: Backend, servers: Running) -> None:
    """An aborted write leaves no file at all, hidden ones included, and on SFTP no folder either."""
    storage: Any = servers.storage(backend)

    def chunks() -> Iterator[Sequence[Buffer]]:
        for _ in range(20):
            yield [bytes(MIB)]
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        storage.write("a/b/c", chunks())
    left = list(folder_of(storage, servers, backend).rglob("*"))
    assert [path for path in left if path.is_file()] == []
    assert backend.name != "sftp" or left == []


@over_servers
def test_sweep_takes_old_temporaries_only(backend: Backend, servers: Running) -> None:
    """What an interrupted write left is swept once it is old, and its folder with it where that is safe."""
    storage: Any = servers.storage(backend)
    storage.create("a/1", b"x")
    left = f"{storage._place.root}/a/{temporary_name()}"

    def leave(files: Any) -> None:
        sink = files.open_new(left)
        sink.write(memoryview(b"half"))
        sink.finish()

    storage._sessions.call(leave, "writing")
    assert storage.sweep("", datetime.now(timezone.utc) - timedelta(minutes=1)) == 0
    assert storage.sweep("", datetime.now(timezone.utc) + timedelta(minutes=1)) == 1
    assert [info.key for info in storage.list("")] == ["a/1"]


@over_servers
def test_writers_and_removers_in_one_folder(backend: Backend, servers: Running) -> None:
    """While others delete what makes a folder empty, large writes into it succeed."""
    storage: Any = servers.storage(backend)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(8):
                storage.write(f"x/{turn}/{number}", [[b"content"]])
                storage.delete([f"x/{turn}/{number}"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@over_sftp
def test_links_to_files_are_followed(backend: Backend, servers: Running) -> None:
    """A link in the folder of a store counts as the file it leads to; one that leads nowhere or up is passed over."""
    storage: Any = servers.storage(backend)
    storage.create("a/1", b"x")
    folder = folder_of(storage, servers, backend) / "a"
    (folder / "2").symlink_to("1")
    (folder / "3").symlink_to("nowhere")
    (folder / "4").symlink_to("..")
    assert [(info.key, info.size) for info in storage.list("")] == [("a/1", 1), ("a/2", 1)]
