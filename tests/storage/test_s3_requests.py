"""What S3Storage sends, and what it makes of the answers it gets, on moto and with answers of our own."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

pytest.importorskip("boto3")

import boto3
from botocore.response import StreamingBody
from botocore.stub import Stubber

from modelstore import deadline
from modelstore.exceptions import (
    CredentialsError,
    DeadlineExceededError,
    ObjectNotFoundError,
    StorageError,
    StorageUnavailableError,
    StoreNotFoundError,
    ThrottledError,
)
from modelstore.storage._s3.client import Clients
from modelstore.storage._s3.read import Reader
from modelstore.storage.base import Created
from modelstore.storage.s3 import S3Storage
from tests.servers import moto, proxy

pytestmark = pytest.mark.skipif(not moto.available(), reason="moto is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[moto.Server]:
    """One moto for all tests of this file."""
    with moto.serve(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture(scope="module")
def between(server: moto.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[proxy.Proxy]:
    """A proxy in front of it."""
    with proxy.serve(tmp_path_factory.mktemp("proxy"), server.port) as running:
        yield running


@pytest.fixture
def stubbed() -> Iterator[tuple[S3Storage, Stubber]]:
    """A storage on AWS whose client gives the answers that a test has put in."""
    client = boto3.Session().client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stub:
        yield S3Storage("bucket", "p", client=client), stub


def requests_of(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """A list that fills with the requests' names and headers."""
    seen: list[tuple[str, dict[str, str]]] = []
    get = Clients.get

    def watched(clients: Clients) -> Any:
        client = get(clients)

        def note(request: Any, event_name: str, **_: object) -> None:
            plain = {name.lower(): _text(value) for name, value in request.headers.items()}
            seen.append((event_name.rpartition(".")[2], plain))

        client.meta.events.register("before-send.s3", note, unique_id="test")
        return client

    monkeypatch.setattr(Clients, "get", watched)
    return seen


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ConditionalRequestConflict", 409, Created.UNKNOWN),
        ("PreconditionFailed", 412, Created.REFUSED),
        ("InternalError", 500, Created.UNKNOWN),
        ("SlowDown", 503, Created.UNKNOWN),
        ("InvalidAccessKeyId", 403, CredentialsError),
        ("NoSuchBucket", 404, StoreNotFoundError),
        ("RequestTimeTooSkewed", 403, StorageError),
    ],
)
def test_answers_to_a_creation(
    stubbed: tuple[S3Storage, Stubber], code: str, status: int, expected: Created | type[Exception]
) -> None:
    """A conflict and a failing server leave it open, a refused condition and a certain failure do not."""
    storage, stub = stubbed
    stub.add_client_error("put_object", code, code, status)
    if isinstance(expected, Created):
        assert storage.create("a/1", b"x") is expected
    else:
        with pytest.raises(expected, match=r"s3://bucket/p/a/1"):
            storage.create("a/1", b"x")


@pytest.mark.parametrize(
    ("code", "status", "expected", "said"),
    [
        ("NoSuchKey", 404, ObjectNotFoundError, "a/1"),
        ("NoSuchBucket", 404, StoreNotFoundError, "'bucket'"),
        ("SlowDown", 503, ThrottledError, "later"),
        ("InternalError", 500, StorageUnavailableError, "later"),
        ("ExpiredToken", 400, CredentialsError, "renew"),
        ("RequestTimeTooSkewed", 403, StorageError, "clock"),
        ("PermanentRedirect", 301, StorageError, "region="),
        ("KMS.DisabledException", 400, StorageError, "KMS key"),
        ("InvalidObjectState", 403, StorageError, "restore"),
        ("PreconditionFailed", 412, StorageError, "replaced"),
    ],
)
def test_answers_to_a_read(
    stubbed: tuple[S3Storage, Stubber], code: str, status: int, expected: type[Exception], said: str
) -> None:
    """Each failure has its error, which says what to do."""
    storage, stub = stubbed
    stub.add_client_error("get_object", code, code, status)
    with pytest.raises(expected, match=said):
        storage.read("a/1")


@pytest.mark.parametrize("told", ["bytes 3-5/10", "bytes 0-2/*"])
def test_a_range_that_nobody_asked_for(stubbed: tuple[S3Storage, Stubber], told: str) -> None:
    """Bytes from elsewhere in the object, or from nobody knows where, are an error and not its content."""
    storage, stub = stubbed
    for _ in range(2):
        body = StreamingBody(io.BytesIO(b"345"), 3)
        answer = {"Body": body, "ContentLength": 3, "ContentRange": told, "ETag": '"e"'}
        stub.add_response("get_object", answer)
    with pytest.raises(StorageError, match="speak S3"):
        storage.read("a/1", 0, 3)
    stub.add_response("get_object", {**answer, "Body": StreamingBody(io.BytesIO(b"345"), 3)})
    with pytest.raises(StorageError, match="speak S3"):
        Reader(storage._calls, "a/1", "p/a/1").read_into(0, memoryview(bytearray(3)))


@pytest.mark.parametrize("there", [False, True])
def test_denied_or_not_there(stubbed: tuple[S3Storage, Stubber], there: bool) -> None:
    """S3 denies missing objects to whom may not list the bucket; a listing of that one key tells the two apart."""
    storage, stub = stubbed
    stub.add_client_error("get_object", "AccessDenied", "Access Denied", 403)
    found = [{"Key": "p/a/1"}] if there else [{"Key": "p/a/10"}]
    stub.add_response(
        "list_objects_v2", {"Contents": found, "KeyCount": 1}, {"Bucket": "bucket", "Prefix": "p/a/1", "MaxKeys": 1}
    )
    with pytest.raises(PermissionError if there else ObjectNotFoundError):
        storage.read("a/1")
    stub.assert_no_pending_responses()


def test_deletions_that_fail_are_reported(stubbed: tuple[S3Storage, Stubber]) -> None:
    """An answer of 200 that lists keys which were not deleted is an error with the first of them."""
    storage, stub = stubbed
    stub.add_response("delete_objects", {"Errors": [{"Key": "p/b", "Code": "AccessDenied", "Message": "no"}]})
    with pytest.raises(PermissionError, match="s3:DeleteObject") as caught:
        storage.delete(["a", "b"])
    assert getattr(caught.value, "key", None) == "b"


def test_servers_without_multiple_deletion(stubbed: tuple[S3Storage, Stubber]) -> None:
    """Where several objects cannot be deleted at once, they are one by one."""
    storage, stub = stubbed
    stub.add_client_error("delete_objects", "MissingContentMD5", "Missing required header", 400)
    for _ in range(2):
        stub.add_response("delete_object", {})
    storage.delete(["a", "b"])
    stub.assert_no_pending_responses()


def test_arguments_are_sent(server: moto.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """New objects carry the KMS key, large ones the storage class, and every request says who pays."""
    storage = server.storage(kms_key="some-key", storage_class="STANDARD_IA", requester_pays=True, user_agent="mine/1")
    seen = requests_of(storage, monkeypatch)
    storage.create("a/1", b"x")
    storage.write("a/2", [[b"x"]])
    storage.write("a/3", [[bytes(6 * moto.MIB)]])
    storage.read("a/1")
    storage.delete(["a/1", "a/2"])
    storage.sweep("", datetime.now(timezone.utc))
    assert list(storage.list(""))
    for name, headers in seen:
        assert headers["x-amz-request-payer"] == "requester", name
        assert "mine/1" in headers["user-agent"]
        new = name in ("PutObject", "CreateMultipartUpload")
        assert headers.get("x-amz-server-side-encryption-aws-kms-key-id") == ("some-key" if new else None)
    large = [headers.get("x-amz-storage-class") for name, headers in seen if name == "CreateMultipartUpload"]
    small = [headers.get("x-amz-storage-class") for name, headers in seen if name == "PutObject"]
    assert large == ["STANDARD_IA"]
    assert small[-2:] == [None, "STANDARD_IA"]


def test_bodies_are_sent_as_they_are_over_plain_http(server: moto.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a server of one's own no body is hashed for the sake of sending it."""
    storage = server.storage()
    seen = requests_of(storage, monkeypatch)
    storage.write("a", [[bytes(6 * moto.MIB)]])
    parts = [headers for name, headers in seen if name == "UploadPart"]
    assert [headers["x-amz-content-sha256"] for headers in parts] == ["UNSIGNED-PAYLOAD"] * 2
    assert not [name for headers in parts for name in headers if "checksum" in name or "trailer" in name]


@pytest.mark.parametrize("error", [ValueError("of the chunks"), KeyboardInterrupt()])
def test_an_aborted_upload_leaves_no_parts(server: moto.Server, error: BaseException) -> None:
    """Whatever ends an upload in parts, S3 lists no upload of it afterwards, and others stay."""
    bucket = server.bucket()
    storage = server.storage(bucket=bucket)
    server.client().create_multipart_upload(Bucket=bucket, Key="some/prefix/a/x2")

    def chunks() -> Iterator[list[bytes]]:
        for _ in range(3):
            yield [bytes(5 * moto.MIB)]
        raise error

    with pytest.raises(type(error)):
        storage.write("a/x", chunks())
    assert [each["Key"] for each in _uploads(server, bucket)] == ["some/prefix/a/x2"]
    assert storage.sweep("b/", datetime.now(timezone.utc) + timedelta(days=1)) == 0
    assert storage.sweep("a/", datetime.now(timezone.utc) + timedelta(days=1)) == 1
    assert _uploads(server, bucket) == []


@pytest.mark.parametrize("request_", ["POST .*uploads", "POST .*uploadId", "PUT .*partNumber"])
def test_answers_that_are_lost_during_an_upload(server: moto.Server, between: proxy.Proxy, request_: str) -> None:
    """An upload whose beginning, part or completion gets no answer ends whole, and leaves no other upload behind."""
    bucket = server.bucket()
    storage = server.storage(port=between.port, bucket=bucket)
    storage.create("first", b"")
    between.set("lost", match=request_, count=1)
    data = bytes(range(256)) * (6 * moto.MIB // 256)
    assert storage.write("a/x", [[data]]).size == len(data)
    assert between.hits == 1
    between.set()
    assert storage.read("a/x") == data
    assert _uploads(server, bucket) == []


@pytest.mark.parametrize("after", [0, 15, 40, 120, 160, 200, 240, 280, 320, 360, 400, 500, 700])
def test_answers_that_break_off(server: moto.Server, between: proxy.Proxy, after: int) -> None:
    """However early an answer ends, in its head or its body, it is never taken for a whole one: not once, when the next
    is whole, and not when all do.
    """
    bucket = server.bucket()
    storage = server.storage(port=between.port, bucket=bucket)
    between.set()
    for number in range(3):
        storage.create(f"a/{number}", b"content")
    between.set("truncate", after=after, count=1)
    assert [info.key for info in storage.list("a/")] == ["a/0", "a/1", "a/2"]
    between.set("truncate", after=after, count=1)
    assert storage.read("a/1") == b"content"
    between.set("truncate", after=after)
    with deadline.within(1.0):
        try:
            assert [info.key for info in storage.list("a/")] == ["a/0", "a/1", "a/2"]
        except (StorageUnavailableError, DeadlineExceededError):
            assert between.hits > 1
    between.set()


@pytest.mark.parametrize("how", [{"mode": "stall", "s": 20}, {"mode": "bandwidth", "bps": 50}, {"mode": "down"}])
def test_calls_end_within_their_deadline(server: moto.Server, between: proxy.Proxy, how: dict[str, Any]) -> None:
    """A server that says nothing, drips or is not there ends no call later than the deadline of 1 s and a moment."""
    storage = server.storage(port=between.port)
    between.set()
    storage.create("a", bytes(1000))
    large = bytes(12 * moto.MIB)
    calls = [
        lambda: storage.read("a"),
        lambda: storage.read_into("a", 0, memoryview(bytearray(1000))),
        lambda: list(storage.list("")),
        lambda: storage.delete(["a", "b"]),
        lambda: storage.create("b", b"x"),
        lambda: storage.write("c", [[large]]),
    ]
    for call in calls:
        between.set(**how)
        started = time.monotonic()
        with deadline.within(1.0):
            try:
                result = call()
            except (DeadlineExceededError, StorageUnavailableError):
                result = Created.UNKNOWN
        between.set()
        assert result is Created.UNKNOWN
        assert time.monotonic() - started < 3.0


def _uploads(server: moto.Server, bucket: str) -> list[dict[str, Any]]:
    return list(server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", ()))
