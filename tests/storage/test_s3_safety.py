"""Servers that ignore If-None-Match are found out before anything is written, and others only asked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("boto3")

from modelstore.exceptions import UnsafeStorageError
from modelstore.storage._s3 import proof as s3_proof
from modelstore.storage.base import Created
from modelstore.storage.s3 import S3Storage
from tests.servers import moto, proxy, unsafe_s3

_UNSAFE = [
    pytest.param(name, marks=pytest.mark.skipif(not unsafe_s3.available(name), reason=f"{name} is not installed"))
    for name in unsafe_s3.NAMES
]
_PROBE = "some/prefix/.modelstore-probe"


@pytest.fixture(scope="module", params=_UNSAFE)
def unsafe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[moto.Server]:
    """A server that ignores the condition."""
    with unsafe_s3.serve(tmp_path_factory.mktemp("unsafe"), request.param) as running:
        yield running


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[moto.Server]:
    """One that honours it."""
    if not moto.available():
        pytest.fail("moto is needed beside boto3")
    with moto.serve(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process begins without proofs, as another would."""
    monkeypatch.setattr(s3_proof, "_PROVEN", set())


def keys(server: moto.Server, bucket: str) -> list[str]:
    return [found["Key"] for found in server.client().list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_an_unsafe_server_is_refused(unsafe: moto.Server, tmp_path: Path) -> None:
    """Each verb that changes something fails and says how to go on; nothing is written but the probe, which no listing
    shows, and nothing is taken for proven.
    """
    bucket = unsafe.bucket()
    storage = unsafe.storage(bucket=bucket, proofs=tmp_path)
    verbs: list[Callable[[], object]] = [
        lambda: storage.create("a/1", b"x"),
        lambda: storage.write("a/1", [[b"x"]]),
        lambda: storage.delete(["a/1"]),
    ]
    for verb in verbs:
        with pytest.raises(UnsafeStorageError, match="unsafe_concurrent_writes=True"):
            verb()
    assert keys(unsafe, bucket) == [_PROBE]
    assert list(storage.list("")) == list(storage.list_children("")) == []
    assert list(tmp_path.iterdir()) == []


def test_an_unsafe_server_can_be_written_to_knowingly(unsafe: moto.Server) -> None:
    """With unsafe_concurrent_writes, what is there is still refused, ranges are right and nothing is probed."""
    bucket = unsafe.bucket()
    storage = unsafe.storage(bucket=bucket, unsafe_concurrent_writes=True)
    assert storage.create("a/1", b"0123456789") is Created.MADE
    assert storage.create("a/1", b"other") is Created.REFUSED
    assert [storage.read("a/1", *part) for part in ((0, None), (2, 5), (-3, None), (8, 20), (-30, None))] == [
        b"0123456789",
        b"234",
        b"789",
        b"89",
        b"0123456789",
    ]
    buffer = bytearray(4)
    assert storage.read_into("a/1", 7, memoryview(buffer)) == 3
    assert bytes(buffer) == b"789\0"
    storage.create("a/2", b"")
    storage.delete(["a/1", "a/2", "a/3"])
    assert keys(unsafe, bucket) == []


def test_a_safe_server_is_asked_once_a_machine(
    safe: moto.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first creation probes with two requests; neither the next one does, nor that of another process."""
    bucket, proofs = safe.bucket(), tmp_path / "not" / "yet"
    with proxy.serve(tmp_path, safe.port) as between:

        def requests(key: str) -> int:
            storage = safe.storage(port=between.port, bucket=bucket, proofs=proofs)
            between.set()
            assert storage.create(key, b"x") is Created.MADE
            assert len(keys(safe, bucket)) > 1
            return len(between.seen)

        assert requests("1") == 3
        assert requests("2") == 1
        monkeypatch.setattr(s3_proof, "_PROVEN", set())  # another process
        assert requests("3") == 1
        for file in proofs.iterdir():
            file.unlink()
        monkeypatch.setattr(s3_proof, "_PROVEN", set())  # another machine: the probe is there by now
        assert requests("4") == 2
    assert [info.key for info in safe.storage(bucket=bucket).list("")] == ["1", "2", "3", "4"]


def test_proofs_that_cannot_be_kept(safe: moto.Server, tmp_path: Path) -> None:
    """A folder that cannot be made costs requests, and nothing else."""
    file = tmp_path / "file"
    file.write_text("in the way")
    assert safe.storage(proofs=file / "below").create("1", b"x") is Created.MADE


def test_reading_asks_for_no_proof(safe: moto.Server) -> None:
    """Who only reads and lists leaves no probe behind."""
    bucket = safe.bucket()
    storage = safe.storage(bucket=bucket)
    safe.client().put_object(Bucket=bucket, Key="some/prefix/a/1", Body=b"x")
    assert (storage.read("a/1"), [info.key for info in storage.list("a/")]) == (b"x", ["a/1"])
    storage.delete([])
    assert keys(safe, bucket) == ["some/prefix/a/1"]


def test_aws_is_not_probed() -> None:
    """AWS itself is known to be safe; what only looks like it is not."""
    from modelstore.storage._s3.client import is_aws

    assert all(map(is_aws, (None, "https://s3.eu-north-1.amazonaws.com", "https://b.s3.cn-north-1.amazonaws.com.cn")))
    assert not any(map(is_aws, ("http://127.0.0.1:1", "https://amazonaws.com.example", "https://xamazonaws.com")))
    assert S3Storage("bucket").address == "s3://bucket/"
