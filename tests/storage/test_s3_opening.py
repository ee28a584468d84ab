"""How S3Storage is opened: its arguments, clients of others, credentials, and the policy that it asks for."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("boto3")

import boto3

from modelstore import deadline
from modelstore.exceptions import CredentialsError, DeadlineExceededError, InvalidArgumentError
from modelstore.storage._s3 import client as s3_client
from modelstore.storage.base import Created
from modelstore.storage.s3 import S3Storage
from tests.servers import moto

pytestmark = pytest.mark.skipif(not moto.available(), reason="moto is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[moto.Server]:
    """One moto for all tests of this file."""
    with moto.serve(tmp_path_factory.mktemp("moto")) as running:
        yield running


def test_a_client_or_session_that_was_passed_in(server: moto.Server) -> None:
    """Both are used, and cannot be pickled, which the error explains."""
    bucket = server.bucket()
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="testsecret", region_name="us-east-1")
    for storage, other in (
        (S3Storage(bucket, client=server.client()), "region="),
        (S3Storage(bucket, session=session, endpoint=server.endpoint), "access_key="),
    ):
        assert storage.create(other, b"x") is Created.MADE
        assert storage.read(other) == b"x"
        assert storage.address == f"s3+{server.endpoint}/{bucket}/"
        with pytest.raises(InvalidArgumentError, match=other):
            pickle.dumps(storage)


def test_arguments_that_do_not_go_together(server: moto.Server) -> None:
    """What cannot be meant is an error with the argument's name."""
    for arguments in (
        {"bucket": ""},
        {"access_key": "a"},
        {"client": server.client(), "access_key": "a", "secret_key": "b"},
        {"storage_class": "GLACIER"},
        {"endpoint": "127.0.0.1:9000"},
        {"root_prefix": "a//b"},
    ):
        with pytest.raises(InvalidArgumentError):
            S3Storage(**{"bucket": "bucket", **arguments})


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any credentials the error says how to give some."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PROFILE", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CredentialsError, match="AWS_ACCESS_KEY_ID"):
        S3Storage("bucket", region="us-east-1").create("a", b"x")


def test_a_secret_is_never_shown() -> None:
    """Neither the address nor a representation holds a secret, and an endpoint may not either."""
    storage = S3Storage("b", endpoint="https://host:1/path", access_key="id", secret_key="hidden")
    assert storage.address == "s3+https://host:1/path/b/"
    assert "hidden" not in f"{storage!r} {storage._clients._settings!r} {storage.location('a')}"
    with pytest.raises(InvalidArgumentError) as caught:
        S3Storage("b", endpoint="https://me:hidden@host:1/path")
    assert "hidden" not in str(caught.value)


def test_policy() -> None:
    """The policy names the bucket, keeps to the prefix, and speaks of KMS only with a key."""
    statements = json.loads(S3Storage("bucket", "a/b").policy())["Statement"]
    assert {"arn:aws:s3:::bucket", "arn:aws:s3:::bucket/a/b/*"} == {each["Resource"] for each in statements}
    assert statements[0]["Condition"] == {"StringLike": {"s3:prefix": "a/b/*"}}
    granted = json.dumps(statements)
    for right in ("ListBucket", "GetObject", "PutObject", "AbortMultipartUpload", "DeleteObject"):
        assert f"s3:{right}" in granted
    assert "kms:" not in granted
    assert "kms:GenerateDataKey" in S3Storage("bucket", kms_key="arn:aws:kms:x:1:key/2").policy()


def test_aws_checks_what_it_receives() -> None:
    """Over TLS to AWS the SDK adds a checksum in a trailer."""
    storage = S3Storage("bucket", region="eu-north-1", access_key="a", secret_key="b")
    config = storage._clients.get().meta.config
    assert config.request_checksum_calculation == "when_supported"
    assert "payload_signing_enabled" not in config.s3


def test_credentials_that_are_not_handed_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that credentials come from keeps no call beyond its deadline, the first write included."""
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} -c 'import time; time.sleep(3)'\n")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    storage = S3Storage("bucket", endpoint="http://127.0.0.1:1")
    with pytest.raises(DeadlineExceededError), deadline.within(1):
        storage.create("a/b", b"x")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_while_a_client_is_made() -> None:
    """A child that is forked while another thread makes a client can make its own."""
    with s3_client._CLIENTS_LOCK:
        child = os.fork()
        if child == 0:
            os._exit(0 if s3_client._CLIENTS_LOCK.acquire(timeout=5) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
