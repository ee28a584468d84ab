"""S3 keeps the contract on Ceph's RADOS gateway, and says what went wrong there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest

pytest.importorskip("boto3")

from modelstore.exceptions import AccessDeniedError, CredentialsError, ObjectNotFoundError, StoreNotFoundError
from modelstore.storage.base import Created
from modelstore.storage.s3 import S3Storage
from modelstore.testing import StorageContract
from tests.servers import ceph, moto

pytestmark = pytest.mark.skipif(not ceph.available(), reason="Ceph is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ceph.Server]:
    """One gateway for all tests of this file."""
    with ceph.serve(tmp_path_factory.mktemp("ceph")) as running:
        yield running


class TestS3OnCeph(StorageContract):
    """The contract."""

    chunk_size = 5 * moto.MIB
    held_chunks = 11
    same_content_seconds = 1.0

    @pytest.fixture
    def storage(self, server: ceph.Server) -> S3Storage:
        """A storage in a bucket of its own."""
        return server.storage()


@pytest.fixture(scope="module")
def other(server: ceph.Server) -> dict[str, str]:
    """Credentials of a user who owns nothing here."""
    access_key, secret_key = server.user("other")
    return {"access_key": access_key, "secret_key": secret_key}


def allow(server: ceph.Server, bucket: str, *rights: str, below: str = "some/prefix/*") -> None:
    """Let the other user do some things in a bucket, and nothing else."""
    arn = f"arn:aws:s3:::{bucket}"
    user = {"AWS": "arn:aws:iam:::user/other"}
    resources = [arn, f"{arn}/{below}"]
    statement = {"Effect": "Allow", "Principal": user, "Action": list(rights), "Resource": resources}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    server.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))


def test_wrong_credentials(server: ceph.Server) -> None:
    """An unknown key and a wrong secret are told from a missing right."""
    bucket = server.bucket()
    for keys in ({"access_key": "nobody"}, {"secret_key": "wrong"}):
        storage = server.storage(bucket=bucket, **keys)
        with pytest.raises(CredentialsError, match="wrong or have expired"):
            storage.read("a")
        with pytest.raises(CredentialsError, match="wrong or have expired"):
            list(storage.list(""))
        with pytest.raises(CredentialsError, match="wrong or have expired"):
            storage.create("a", b"")


def test_a_missing_bucket(server: ceph.Server) -> None:
    """A bucket that does not exist is named by every verb."""
    storage = server.storage(bucket="there-is-none")
    verbs: list[Callable[[], object]] = [
        lambda: storage.read("a"),
        lambda: list(storage.list("")),
        lambda: list(storage.list_children("")),
        lambda: storage.create("a", b""),
        lambda: storage.write("a", [[b"x"]]),
        lambda: storage.sweep("", datetime.now(timezone.utc)),
    ]
    for verb in verbs:
        with pytest.raises(StoreNotFoundError, match="there-is-none"):
            verb()


def test_somebody_elses_bucket(server: ceph.Server, other: dict[str, str]) -> None:
    """Without any rights, each verb names the one that it lacks, and a missing object is not claimed to be missing."""
    bucket = server.bucket()
    server.storage(bucket=bucket).create("a", b"x")
    storage = server.storage(bucket=bucket, **other)
    verbs: list[tuple[str, Callable[[], object]]] = [
        ("s3:GetObject", lambda: storage.read("a")),
        ("s3:GetObject", lambda: storage.read("missing")),
        ("s3:ListBucket", lambda: list(storage.list(""))),
        ("s3:PutObject", lambda: storage.create("b", b"")),
        ("s3:PutObject", lambda: storage.write("b", [[b"x"]])),
        ("s3:PutObject", lambda: storage.write("b", [[bytes(6 * moto.MIB)]])),
        ("s3:ListBucketMultipartUploads", lambda: storage.sweep("", datetime.now(timezone.utc))),
    ]
    for right, verb in verbs:
        with pytest.raises(AccessDeniedError) as caught:
            verb()
        assert (caught.value.right, type(caught.value)) == (right, AccessDeniedError)


def test_read_only(server: ceph.Server, other: dict[str, str]) -> None:
    """Who may get and list reads, and is told of a missing object; writing and deleting are refused."""
    bucket = server.bucket()
    server.storage(bucket=bucket).create("a/1", b"x")
    allow(server, bucket, "s3:GetObject", "s3:ListBucket")
    storage = server.storage(bucket=bucket, **other)
    assert storage.read("a/1") == b"x"
    assert [info.key for info in storage.list("")] == ["a/1"]
    with pytest.raises(ObjectNotFoundError):
        storage.read("a/2")
    with pytest.raises(AccessDeniedError, match="s3:PutObject"):
        storage.create("a/2", b"")
    with pytest.raises(AccessDeniedError):
        storage.delete(["a/1"])
    assert storage.read("a/1") == b"x"


def test_without_deletion(server: ceph.Server, other: dict[str, str]) -> None:
    """Who may not delete can write, and hears of each deletion that did not happen."""
    bucket = server.bucket()
    allow(server, bucket, "s3:GetObject", "s3:ListBucket", "s3:PutObject")
    storage = server.storage(bucket=bucket, **other)
    assert storage.create("a/1", b"x") is Created.MADE
    storage.write("a/2", [[bytes(6 * moto.MIB)]])
    for keys in (["a/1"], ["a/1", "a/2"]):
        with pytest.raises(AccessDeniedError, match="s3:DeleteObject"):
            storage.delete(keys)
    assert [info.key for info in storage.list("")] == ["a/1", "a/2"]


def test_sweep_by_age(server: ceph.Server) -> None:
    """Uploads that somebody left behind go when they are old enough, and only below the prefix."""
    bucket = server.bucket()
    storage = server.storage(bucket=bucket)
    client = server.client()
    for key in ("some/prefix/a/1", "some/prefix/ab/1", "some/prefixed"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    now = datetime.now(timezone.utc)
    assert storage.sweep("", now - timedelta(hours=1)) == 0
    assert storage.sweep("a/", now + timedelta(hours=1)) == 1
    assert storage.sweep("", now + timedelta(hours=1)) == 1
    assert [each["Key"] for each in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["some/prefixed"]
