"""The storage on HDFS keeps the promises of its protocol, against a real NameNode and DataNode."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from modelstore import deadline
from modelstore.exceptions import (
    AccessDeniedError,
    DeadlineExceededError,
    InvalidArgumentError,
    StorageError,
    StorageUnavailableError,
    StoreNotFoundError,
)
from modelstore.storage._hdfs.client import HDFSCalls
from modelstore.storage._hdfs.errors import LostAnswerError
from modelstore.storage.base import Created, Storage
from modelstore.storage.hdfs import HDFSStorage
from modelstore.storage.publishing import temporary_name
from modelstore.testing import StorageContract
from tests.servers import hdfs, process
from tests.servers.backends import Running, named
from tests.storage.races import assert_one_winner

pytest.importorskip("hdfs_native")
pytestmark = pytest.mark.skipif(not hdfs.available(), reason="Hadoop's jars or Java are not here")


class TestHDFS(StorageContract):
    """Real files on a real cluster of one DataNode."""

    many = 40  # one takes half a second: see `HDFSStorage.create`

    @pytest.fixture
    def storage(self, servers: Running) -> Storage:
        return servers.storage(named("hdfs")[0].values[0])


@pytest.fixture
def server(servers: Running) -> Any:
    return servers.server(named("hdfs")[0].values[0])


def test_eight_processes_create_one_key(server: hdfs.Server) -> None:
    """Of eight processes that create one key one is told MADE and its content is there, three times in a row."""
    assert_one_winner(server.storage(), processes=8, turns=3)


def test_nothing_is_left_when_a_name_is_taken(server: hdfs.Server) -> None:
    """A refused creation, and one under a folder's name, leave no temporary file."""
    storage = server.storage()
    storage.create("a/b/1", b"x")
    assert storage.create("a/b/1", b"y") is Created.REFUSED
    with pytest.raises(StorageError, match="the other way round"):
        storage.create("a/b", b"y")
    with pytest.raises(StorageError, match="a file stands"):
        storage.create("a/b/1/2", b"y")
    with pytest.raises(StorageError, match="the other way round"):
        storage.write("a/b", [[b"y"]])
    assert storage.read("a/b/1") == b"x"
    assert storage.sweep("", datetime.now(timezone.utc) + timedelta(days=1)) == 0


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_lost_answer_is_looked_into(server: hdfs.Server, monkeypatch: pytest.MonkeyPatch, carried_out: bool) -> None:
    """When the answer to the rename is lost, what is there decides; sending it again settles what is still open."""
    rename = HDFSCalls.rename_new

    def lost(self: HDFSCalls, *paths: str) -> None:
        if carried_out:
            rename(self, *paths)
        raise LostAnswerError("the connection broke")

    storage = server.storage()
    monkeypatch.setattr(HDFSCalls, "rename_new", lost)
    assert storage.create("a/1", b"x") is (Created.MADE if carried_out else Created.UNKNOWN)
    monkeypatch.undo()
    assert storage.create("a/1", b"x") is (Created.REFUSED if carried_out else Created.MADE)
    assert storage.sweep("", datetime.now(timezone.utc) + timedelta(days=1)) == 0


def test_a_rename_that_was_sent_twice_counts(server: hdfs.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """hdfs-native repeats a rename when a connection breaks, and then hears that there is nothing to rename: MADE."""
    rename = HDFSCalls.rename_new

    def twice(self: HDFSCalls, *paths: str) -> None:
        rename(self, *paths)
        rename(self, *paths)

    monkeypatch.setattr(HDFSCalls, "rename_new", twice)
    assert server.storage().create("a/1", b"x") is Created.MADE


def test_sweep_removes_old_temporary_files(server: hdfs.Server) -> None:
    """What a killed writer left behind is swept once it is old, with its folders; what is new is left alone."""
    storage = server.storage()
    writer = HDFSCalls(server.url(), None).create(f"{storage.location('')['root']}/a/b/{temporary_name()}", "a/b")
    writer.close()
    assert list(storage.list("")) == list(storage.list_children("")) == []
    assert storage.sweep("", datetime.now(timezone.utc) - timedelta(hours=1)) == 0
    assert storage.sweep("a/", datetime.now(timezone.utc) + timedelta(hours=1)) == 1
    assert storage.sweep("", datetime.now(timezone.utc) + timedelta(hours=1)) == 0


def test_a_missing_root_is_told(server: hdfs.Server) -> None:
    """A folder that is not there is no store, until it is asked to be made."""
    with pytest.raises(StoreNotFoundError, match="create_directory=True"):
        HDFSStorage("/no/such/folder", url=server.url())
    storage = HDFSStorage("/made/here", url=server.url(), create_directory=True)
    assert storage.address == f"{server.url()}/made/here"
    assert list(storage.list("")) == []


def test_a_relative_root_lies_in_the_home_folder(server: hdfs.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Hadoop's own tools, a path without a slash begins in the user's folder."""
    monkeypatch.setenv("HADOOP_USER_NAME", "ann")
    assert HDFSCalls(server.url(), None).home() == "/user/ann"


def test_rights_are_told(server: hdfs.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who may only read reads; whatever else fails says which rights are missing."""
    storage = server.storage()
    storage.create("a/1", b"x")
    monkeypatch.setenv("HADOOP_USER_NAME", "reader")
    reader = HDFSStorage(storage.location("")["root"], url=server.url())
    assert reader.read("a/1") == b"x"
    assert [info.key for info in reader.list("")] == ["a/1"]
    for verb in (
        lambda: reader.create("a/2", b""),
        lambda: reader.write("a/2", [[b""]]),
        lambda: reader.delete(["a/1"]),
    ):
        with pytest.raises(AccessDeniedError, match="Permission denied"):
            verb()
    assert storage.read("a/1") == b"x"


def test_nobody_listens() -> None:
    """Without a NameNode every verb says so, after the attempts that the options allow."""
    options = {"dfs.client.failover.max.attempts": "0"}
    with pytest.raises(StorageUnavailableError, match="NameNode"):
        HDFSStorage("/x", url=f"hdfs://127.0.0.1:{process.free_port()}", options=options)


def test_a_silent_server_does_not_hold_up_a_call() -> None:
    """Where something listens and never answers, a call ends when its time is over."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeadlineExceededError):  # noqa: SIM117
        with deadline.within(0.5):
            HDFSStorage("/x", url=f"hdfs://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize("url", ["http://host", "hdfs://", "host:8020", "hdfs://user@host:8020", "hdfs://host/path"])
def test_what_is_no_url(url: str) -> None:
    """What cannot be a NameNode's address is refused before anything is asked."""
    with pytest.raises(InvalidArgumentError, match="names no HDFS"):
        HDFSStorage("/x", url=url)


def test_the_configured_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL, that of Hadoop's configuration counts; without that, an error says what to set."""
    for name in ("HADOOP_CONF_DIR", "HADOOP_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidArgumentError, match="HADOOP_CONF_DIR"):
        HDFSCalls(None, None)
    setting = "<property><name>fs.defaultFS</name><value>hdfs://name</value></property>"
    (tmp_path / "core-site.xml").write_text(f"<configuration>{setting}</configuration>")
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    assert HDFSCalls(None, None).url == "hdfs://name"
    assert HDFSCalls(None, {"fs.defaultFS": "hdfs://other:1"}).url == "hdfs://other:1"
