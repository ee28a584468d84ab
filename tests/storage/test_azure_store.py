"""What is Azure's own about its storage: clients, requests, blocks that nobody committed."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

pytest.importorskip("azure.storage.blob")

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContainerClient

from modelstore import deadline
from modelstore.exceptions import StorageError
from modelstore.folder import Buffer
from modelstore.storage._azure import reading as azure_reading
from modelstore.storage.azure import AzureStorage
from modelstore.storage.base import Created
from tests.servers import azurite, proxy
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.skipif(not azurite.available(), reason="Azurite is not installed")

BLOCK = azurite.SmallBlocks.smallest_part
TOMORROW = datetime.now(timezone.utc) + timedelta(days=1)
URL = "https://account.blob.core.windows.net"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[azurite.Server]:
    """One Azurite for all tests of this file."""
    with azurite.serve(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture(scope="module")
def between(server: azurite.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in front of it, which tells what requests were made."""
    with proxy.serve(tmp_path_factory.mktemp("proxy"), server.port) as running:
        yield running


@pytest.fixture
def storage(server: azurite.Server) -> AzureStorage:
    return server.storage(root_prefix="team")


def container_of(server: azurite.Server, storage: AzureStorage) -> ContainerClient:
    return server.container(storage.location("x")["container"])


def uncommitted(container: ContainerClient) -> list[str]:
    listed = {blob.name for blob in container.list_blobs(include=["uncommittedblobs"])}
    return sorted(listed - {blob.name for blob in container.list_blobs()})


# -- clients and processes --------------------------------------------------------------------------------------------


def test_what_cannot_be_pickled_says_what_can() -> None:
    """A ready-made client or credential cannot go to another process; the error names arguments that can."""
    with pytest.raises(pickle.PicklingError, match="pass connection_string="):
        pickle.dumps(AzureStorage("models", client=BlobServiceClient(URL, credential=azurite.KEY)))

    class Credential:
        def get_token(self, *scopes: str) -> None: ...

        def __reduce__(self) -> str:
            raise TypeError("no")

    with pytest.raises(pickle.PicklingError, match="DefaultAzureCredential"):
        pickle.dumps(AzureStorage("models", account_url=URL, credential=Credential()))


def test_a_client_passed_in(server: azurite.Server, between: Proxy) -> None:
    """A client passed in is the one that is used, with and without a deadline, and its likeness in a forked child."""
    between.set()
    name = server.container().container_name
    client = BlobServiceClient.from_connection_string(
        server.connection_string_at(between.port), user_agent="my-own", max_single_put_size=64
    )
    storage = AzureStorage(name, client=client)
    assert storage.create("a/1", b"x" * 1000) is Created.MADE
    assert storage.create("a/1", b"y" * 1000) is Created.REFUSED
    assert len(between.seen) > 2  # its own size for a single put: blocks and their list, which keeps the condition
    with deadline.within(30):
        assert storage.write("a/2", [[bytes(BLOCK)], [b"end"]]).size == BLOCK + 3
        assert storage.read("a/2", -3) == b"end"
        assert [info.key for info in storage.list("")] == ["a/1", "a/2"]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert storage.read("a/2", BLOCK) == b"end"
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert storage.read("a/2", BLOCK) == b"end"


def test_a_storage_with_a_sas_token_can_be_pickled(server: azurite.Server) -> None:
    """Credentials that are text travel with the storage, tier and scope too."""
    storage = server.storage(sas=azurite.FULL, access_tier="Cool")
    copy: AzureStorage = pickle.loads(pickle.dumps(storage))
    assert copy.address == storage.address
    copy.write("a/1", [[b"x"]])
    (blob,) = container_of(server, storage).list_blobs()
    assert (blob.name, blob.blob_tier) == ("a/1", "Cool")


# -- requests ---------------------------------------------------------------------------------------------------------


def test_tier_and_scope_are_sent(server: azurite.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives go to the tier, small or large, the log does not; the encryption scope goes with every upload."""
    storage = server.storage(access_tier="cool", encryption_scope="team-scope")
    sent: list[tuple[str, str | None, str | None]] = []
    run = storage._calls.options

    def options() -> dict[str, Any]:
        def hook(request: Any) -> None:
            headers, comp = request.http_request.headers, request.http_request.query.get("comp", "blob")
            if request.http_request.method == "PUT":
                sent.append((comp, headers.get("x-ms-access-tier"), headers.get("x-ms-encryption-scope")))

        return {**run(), "raw_request_hook": hook}

    monkeypatch.setattr(storage._calls, "options", options)
    storage.create("log/1", b"x")
    storage.write("small", [[b"x"]])
    storage.write("large", [[bytes(BLOCK)]])
    assert sent == [
        ("blob", None, "team-scope"),
        ("blob", "Cool", "team-scope"),
        ("block", None, "team-scope"),
        ("blocklist", "Cool", "team-scope"),
    ]
    tiers = {blob.name: blob.blob_tier for blob in container_of(server, storage).list_blobs()}
    assert (tiers["small"], tiers["large"]) == ("Cool", "Cool")


def test_how_many_requests(server: azurite.Server, between: Proxy) -> None:
    """One request for each verb, but for suffixes and for what goes up in blocks."""
    storage = server.storage(between.port)
    large = storage.write("large", [[bytes(BLOCK)]] * 3).size

    def requests(work: Any) -> list[str]:
        between.set()
        work()
        return [one.method for one in between.seen]

    assert requests(lambda: storage.create("a/1", b"x")) == ["PUT"]
    assert requests(lambda: storage.write("a/2", [[b"x"], [b"y"]])) == ["PUT"]
    assert requests(lambda: storage.write("a/3", [[bytes(BLOCK)], [b"y"]])) == ["PUT"] * 3
    assert requests(lambda: storage.read("large")) == ["GET"]
    assert requests(lambda: storage.read("large", 1, large - 1)) == ["GET"]
    assert requests(lambda: storage.read_into("large", 7, memoryview(bytearray(large)))) == ["GET"]
    assert requests(lambda: storage.read("large", -5)) == ["HEAD", "GET"]
    assert requests(lambda: list(storage.list("a/"))) == ["GET"]
    assert requests(lambda: list(storage.list_children(""))) == ["GET"]
    assert requests(lambda: storage.delete(["a/1", "a/2", "missing"])) == ["DELETE"] * 3
    assert requests(lambda: (storage.clock(), storage.policy(), storage.address, storage.location("x"))) == []


def test_reads_without_what_is_private_in_the_sdk(storage: AzureStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a later SDK hide its generated client, or a client have another transport, ranges are still right."""
    content = os.urandom(100_000)
    storage.write("a/1", [[content]])
    storage.create("empty", b"")

    def check() -> None:
        for start, end in ((0, None), (5, 5000), (99_990, None), (-7, None), (100_000, None), (200_000, 300_000)):
            assert storage.read("a/1", start, end) == content[start:end]
        buffer = bytearray(1000)
        assert storage.read_into("a/1", 99_500, memoryview(buffer)) == 500
        assert bytes(buffer[:500]) == content[99_500:]
        assert storage.read("empty") == b""

    monkeypatch.setattr(azure_reading, "_operations", lambda blob: None)
    check()
    monkeypatch.undo()
    monkeypatch.setattr(azure_reading, "_has_connection", lambda body: False)
    check()


def test_an_object_that_is_replaced_while_it_is_read(storage: AzureStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read whose answer broke off never goes on in another version of the object."""
    storage.write("a/1", [[b"old" * 1000]])
    read_some = azure_reading._read_some

    def broken(raw: Any, size: int) -> bytes:
        monkeypatch.setattr(azure_reading, "_read_some", read_some)
        storage.write("a/1", [[b"new" * 1000]])
        raise OSError("broken")

    monkeypatch.setattr(azure_reading, "_read_some", broken)
    with pytest.raises(StorageError, match="replaced in the meantime"):
        storage.read("a/1")
    assert storage.read("a/1") == b"new" * 1000


def test_folders_of_a_hierarchical_namespace_are_no_objects(server: azurite.Server, storage: AzureStorage) -> None:
    """Such accounts list their folders as empty blobs, which say so in their metadata."""
    storage.create("a/b/1", b"x")
    for folder in ("team/a", "team/a/b"):
        container_of(server, storage).upload_blob(folder, b"", metadata={"hdi_isfolder": "true"})
    assert [info.key for info in storage.list("")] == ["a/b/1"]
    assert [info.key for info in storage.list("a/")] == ["a/b/1"]


# -- interrupted uploads ----------------------------------------------------------------------------------------------


def test_an_interrupted_write_leaves_no_blocks(server: azurite.Server, storage: AzureStorage) -> None:
    """When a write in blocks is given up, what was sent is dropped, with nothing visible in between."""

    def chunks() -> Iterator[Sequence[Buffer]]:
        yield from [[bytes(BLOCK)]] * 3
        raise ValueError("broken chunk")

    with pytest.raises(ValueError, match="broken chunk"):
        storage.write("a/1", chunks())
    assert uncommitted(container_of(server, storage)) == []
    storage.write("kept", [[b"old"]])
    with pytest.raises(ValueError, match="broken chunk"):
        storage.write("kept", chunks())
    assert storage.read("kept") == b"old"


def test_sweep_drops_what_a_dead_writer_left(server: azurite.Server, storage: AzureStorage) -> None:
    """Blocks of a writer that died are dropped once they are old enough; empty objects, and blobs outside, stay."""
    container = container_of(server, storage)
    for name in ("team/a/1", "team/b/1", "other/1", "team/.hidden"):
        container.get_blob_client(name).stage_block("0001", b"x")
    storage.create("a/empty", b"")
    committed = container.get_blob_client("team/a/2")
    committed.upload_blob(b"")
    committed.stage_block("0001", b"x")
    assert storage.sweep("a/", datetime.now(timezone.utc) - timedelta(hours=1)) == 0
    assert storage.sweep("a/", TOMORROW) == 1
    assert uncommitted(container) == ["other/1", "team/.hidden", "team/b/1"]
    assert [info.key for info in storage.list("")] == ["a/2", "a/empty"]


def test_sweep_spares_a_blob_that_is_made_meanwhile(
    server: azurite.Server, storage: AzureStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that commits between the sweep's look at its blocks and their deletion keeps what it has written."""
    container = container_of(server, storage)
    blob = container.get_blob_client("team/a/1")
    blob.stage_block("0001", b"content")
    look = type(blob).get_blob_properties

    def look_and_commit(self: Any, **options: Any) -> Any:
        try:
            return look(self, **options)
        except ResourceNotFoundError:
            blob.commit_block_list(["0001"])
            raise

    monkeypatch.setattr(type(blob), "get_blob_properties", look_and_commit)
    limit = datetime.now(timezone.utc) + timedelta(seconds=1)
    time.sleep(2.5)  # times of blobs count in seconds: the blocks are older than the limit, what is made now is not
    assert storage.sweep("", limit) == 0
    assert storage.read("a/1") == b"content"
