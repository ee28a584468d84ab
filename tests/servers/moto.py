"""moto's S3 server: quick to start. It honours If-None-Match, and checks neither secrets nor Content-MD5."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelstore.storage.s3 import S3Storage
from tests.servers import process

MIB = 1 << 20


class SmallParts(S3Storage):
    """Uploads in the smallest parts that S3 takes, so that tests of multipart uploads need few bytes."""

    smallest_part = 5 * MIB


@dataclass
class Server:
    """A running server that speaks S3."""

    port: int
    access_key: str = "test"
    secret_key: str = "testsecret"
    kind: str = "aws:s3"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return self.url()

    def url(self, port: int | None = None) -> str:
        """Its URL, or that of a proxy in front of it."""
        return f"http://127.0.0.1:{port or self.port}"

    def client(self, port: int | None = None, **settings: Any) -> Any:
        """A plain boto3 client, with other credentials or settings where given."""
        import boto3
        from botocore.config import Config

        arguments: dict[str, Any] = {
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "region_name": "us-east-1",
            "endpoint_url": self.url(port),
            "config": Config(s3={"addressing_style": "path"}),
        }
        return boto3.Session().client("s3", **{**arguments, **settings})

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"store-{next(self._numbers)}-{uuid.uuid4().hex[:8]}"
        self.client().create_bucket(Bucket=name)
        return name

    def storage(self, port: int | None = None, **arguments: Any) -> S3Storage:
        """A storage with small parts, in a new bucket or that of `bucket=`; other arguments are S3Storage's.

        Args:
            port: of a proxy in front of the server.
        """
        given: dict[str, Any] = {
            "bucket": arguments["bucket"] if "bucket" in arguments else self.bucket(),
            "root_prefix": "some/prefix",
            "endpoint": self.url(port),
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "region": "us-east-1",
        }
        return SmallParts(**{**given, **arguments})


def available() -> bool:
    """Whether it is installed."""
    return process.found("moto", all(importlib.util.find_spec(name) for name in ("moto", "flask", "boto3")))


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run it, with its log in a folder."""
    port = process.free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with process.running(command, port, folder / "moto.log"):
        yield Server(port)
