"""Multipart uploads to Google Cloud Storage: parts in parallel, nothing left behind, answers that get lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from modelstore import deadline
from modelstore.exceptions import DeadlineExceededError, StorageError
from modelstore.folder import Buffer
from modelstore.storage._gcs import requests as gcs_requests
from modelstore.storage._gcs.errors import Explaining
from modelstore.storage._gcs.multipart import Multipart
from modelstore.storage.gcs import GCSStorage
from modelstore.storage.transfer import cut
from modelstore.testing import StorageContract
from tests.servers import fake_gcs, gcs_xml, moto, proxy

pytest.importorskip("google.cloud.storage")
pytestmark = pytest.mark.skipif(not fake_gcs.available(), reason="fake-gcs-server is not installed")

MIB = 1 << 20
AGES = datetime.now(timezone.utc) + timedelta(days=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fake_gcs.FakeGCS]:
    with fake_gcs.serve(tmp_path_factory.mktemp("fake-gcs")) as running:
        yield running


@pytest.fixture
def gateway(server: fake_gcs.FakeGCS) -> Iterator[gcs_xml.Gateway]:
    with gcs_xml.serve(server.port) as running:
        yield running


@pytest.fixture
def faults(gateway: gcs_xml.Gateway, tmp_path: Path) -> Iterator[proxy.Proxy]:
    with proxy.serve(tmp_path, gateway.port) as running:
        yield running


class TestMultipart(StorageContract):
    """The contract, with large objects in parts that go up in parallel."""

    chunk_size = 8 * MIB
    held_chunks = 24

    @pytest.fixture
    def storage(self, server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway) -> Iterator[GCSStorage]:
        yield server.storage(gateway.port)
        assert gateway.uploads == {}


def chunks(count: int, error: BaseException | None = None) -> Iterator[Sequence[Buffer]]:
    """Chunks of 4 MiB, and an error after them."""
    for number in range(count):
        yield [bytes([number]) * (4 * MIB)]
    if error is not None:
        raise error


def content(count: int) -> bytes:
    return b"".join(bytes(buffer) for chunk in chunks(count) for buffer in chunk)


def test_parts_go_up_in_parallel(server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway) -> None:
    """Parts of 16 MiB, the last one shorter, and several under way at once; the object is what they make together."""
    storage = server.storage(gateway.port)
    info = storage.write("large", chunks(17), 68 * MIB)
    (upload,) = gateway.joined
    assert [len(upload.parts[number]) for number in sorted(upload.parts)] == [16 * MIB] * 4 + [4 * MIB]
    assert gateway.most_busy > 1
    assert [info] == list(storage.list(""))
    assert storage.read("large") == content(17)


def test_parts_grow_with_the_object(server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway) -> None:
    """What is expected to be 300 GB is cut into parts of which ten thousand are enough."""
    storage = server.storage(gateway.port)
    storage.write("large", chunks(12), 300_000_000_000)
    (upload,) = gateway.joined
    assert [len(upload.parts[number]) for number in (1, 2)] == [32 * MIB, 16 * MIB]


def test_an_aborted_upload_is_given_up(server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway) -> None:
    """When the chunks raise after parts were sent, the server holds no upload any more, and no object."""
    storage = server.storage(gateway.port)
    error = OSError(5, "the disk")
    with pytest.raises(OSError, match="the disk") as caught:
        storage.write("large", chunks(16, error))
    assert caught.value is error
    assert gateway.uploads == {}
    assert list(storage.list("")) == []


def test_a_part_that_cannot_be_sent_ends_the_upload(
    server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway, faults: proxy.Proxy
) -> None:
    """A part that is refused for good raises our error, and the upload is given up."""
    storage = server.storage(faults.port)
    faults.set("status", code=403, match="partNumber=2", body="denied")
    with pytest.raises(StorageError, match="'large' in gs"):
        storage.write("large", chunks(16))
    assert gateway.uploads == {}
    assert list(storage.list("")) == []


def test_a_deadline_ends_an_upload(server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway, faults: proxy.Proxy) -> None:
    """An upload over a line that is too slow ends with its deadline, and is given up in a moment of its own."""
    storage = server.storage(faults.port)
    faults.set("stall", match="partNumber", s=30)
    with pytest.raises(DeadlineExceededError), deadline.within(2):
        storage.write("large", chunks(16))
    assert gateway.uploads == {}


@pytest.mark.parametrize("mode", ["status", "reset", "reset_up", "lost", "double"])
@pytest.mark.parametrize("match", ["POST .*uploads", "partNumber=2", "POST .*uploadId"])
def test_requests_that_fail_once_are_sent_again(
    server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway, faults: proxy.Proxy, mode: str, match: str
) -> None:
    """Each request of an upload may fail once, done or not done; the object is whole all the same."""
    storage = server.storage(faults.port)
    faults.set(mode, match=match, count=1)
    info = storage.write("large", chunks(9))
    assert storage.read("large") == content(9)
    assert info.size == 36 * MIB


def test_sweep_gives_up_old_uploads(server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway) -> None:
    """Uploads that died are given up, page by page: those below the prefix that are old enough, and no others."""
    storage = server.storage(gateway.port)
    bucket = storage.location("")["bucket"]
    for number in range(5):
        gateway.uploads[f"dead{number}"] = gcs_xml.Upload(bucket, f"root/prefix/a/{number}", {})
    gateway.uploads["young"] = gcs_xml.Upload(bucket, "root/prefix/a/young", {}, AGES + timedelta(days=1))
    gateway.uploads["elsewhere"] = gcs_xml.Upload(bucket, "root/prefix/b/1", {})
    gateway.uploads["another bucket"] = gcs_xml.Upload("other", "root/prefix/a/1", {})
    assert storage.sweep("a/", AGES) == 5
    assert sorted(gateway.uploads) == ["another bucket", "elsewhere", "young"]


def test_what_is_asked_for_is_sent(server: fake_gcs.FakeGCS, gateway: gcs_xml.Gateway) -> None:
    """Key, storage class and the project that pays are named where an upload begins."""
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    storage = server.storage(gateway.port, kms_key=key, storage_class="NEARLINE", user_project="payer")
    storage.write("large", chunks(9))
    (upload,) = gateway.joined
    assert upload.headers["x-goog-encryption-kms-key-name"] == key
    assert upload.headers["x-goog-storage-class"] == "NEARLINE"
    assert upload.headers["x-goog-user-project"] == "payer"


@pytest.mark.skipif(not moto.available(), reason="moto is not installed")
def test_the_requests_are_those_that_a_server_of_others_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that others wrote for S3, whose multipart uploads the XML API copies, takes the same requests."""
    import requests
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage as sdk

    monkeypatch.setattr(gcs_requests, "RETRY_SECONDS", 0.5)  # to an upload that was given up it answers 500

    class Unchecked(Multipart):
        def check(self, size: int) -> None:
            pass  # by the JSON API, which that server does not have

    def upload(client: Any, name: str) -> Unchecked:
        begun = Unchecked(client, client.bucket("abc").blob(name), name, Explaining("abc", "gs://abc"))
        assert begun.begin()
        return begun

    with moto.serve(tmp_path) as server:
        url = f"http://127.0.0.1:{server.port}"
        requests.put(f"{url}/abc", timeout=10).raise_for_status()
        client = sdk.Client(None, AnonymousCredentials(), client_options={"api_endpoint": url})
        parts = [memoryview(bytes([number]) * (5 * MIB)) for number in range(3)]
        upload(client, "a b/ü").send_all(cut([parts], 5 * MIB))
        assert requests.get(f"{url}/abc/a b/ü", timeout=10).content == b"".join(parts)
        given_up = upload(client, "given/up")
        given_up.abort()
        with pytest.raises(StorageError):
            given_up.send_all(cut([parts], 5 * MIB))
