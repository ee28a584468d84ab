"""S3, and the servers that speak its protocol, through boto3."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelstore.exceptions import InvalidArgumentError, StorageError
from modelstore.folder import Buffer
from modelstore.storage._s3 import proof as s3_proof
from modelstore.storage._s3.calls import Calls
from modelstore.storage._s3.client import Clients, Settings, is_aws
from modelstore.storage._s3.delete import delete
from modelstore.storage._s3.errors import Translator, code_of, status_of
from modelstore.storage._s3.policy import policy
from modelstore.storage._s3.read import Reader
from modelstore.storage._s3.write import Writer, abort_uploads, uploads
from modelstore.storage.addressing import check_key, check_prefix, clean_prefix, is_part, location
from modelstore.storage.base import Created, ObjectInfo
from modelstore.storage.transfer import PART, THREADS

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_NOT_READABLE = ("GLACIER", "DEEP_ARCHIVE")


class S3Storage:
    """Objects in a bucket, below a prefix.

    What is not given comes from the SDK's own chain: environment, configuration files, instance roles. An etag is
    S3's own, which depends on the content alone, with the time of writing in whole seconds.

    Args:
        bucket: an existing bucket.
        root_prefix: where in it the store lies.
        region: the bucket's region.
        endpoint: URL of a server other than AWS.
        access_key: with `secret_key`, and `session_token` for temporary ones, the credentials.
        secret_key: see `access_key`.
        session_token: see `access_key`.
        session: a `boto3.Session` to make clients with.
        client: a ready-made S3 client, used as it is: its timeouts, retries and checksums are its owner's choice.
        kind: what records call this kind of storage.
        kms_key: encrypt new objects with this KMS key.
        storage_class: of what `write` writes; events always have the bucket's own, as they are small and often read.
        requester_pays: whoever asks pays for the requests.
        path_style: the bucket's name in the path of URLs (default: with all servers but AWS) or in the host's name.
        user_agent: what to add to the `User-Agent` header.
        unsafe_concurrent_writes: write even to a server that cannot create an object only if there is none.
        proofs: a folder in which this machine remembers that a server can.

    Raises:
        InvalidArgumentError: arguments that cannot be used, or not together.
    """

    streams = THREADS
    smallest_part = PART
    """Bytes in each part of an upload but the last, at least; S3 asks for 5 MiB or more."""

    def __init__(
        self,
        bucket: str,
        root_prefix: str | None = None,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        session: Any = None,
        client: Any = None,
        kind: str = "aws:s3",
        kms_key: str | None = None,
        storage_class: str | None = None,
        requester_pays: bool = False,
        path_style: bool | None = None,
        user_agent: str | None = None,
        unsafe_concurrent_writes: bool = False,
        proofs: Path | None = None,
    ) -> None:
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        _check(bucket, access_key, secret_key, session, client, storage_class)
        self.kind = kind
        self._bucket = bucket
        self._root = clean_prefix(root_prefix)
        self._endpoint = _endpoint(endpoint, client)
        self._kms_key = kms_key
        self.unsafe_concurrent_writes = unsafe_concurrent_writes
        self._proofs = proofs
        # The endpoint of the environment is part of the address, so it goes with a pickled storage.
        self._arguments["endpoint"] = self._endpoint if client is None else endpoint
        settings = Settings(region, self._endpoint, access_key, secret_key, session_token, path_style, user_agent)
        self._clients = Clients(settings, session, client)
        common = {"Bucket": bucket, **({"RequestPayer": "requester"} if requester_pays else {})}
        self._calls = Calls(self._clients, Translator(self.address, bucket, region, kms_key), common)
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        self._class = {"StorageClass": storage_class} if storage_class else {}

    @property
    def address(self) -> str:
        """`s3://<bucket>/<prefix>` on AWS, `s3+http(s)://<host>/<bucket>/<prefix>` elsewhere."""
        if self._endpoint is None or is_aws(self._endpoint):
            return f"s3://{self._bucket}/{self._root}"
        url = urlsplit(self._endpoint)
        return f"s3+{url.scheme}://{url.netloc}{url.path.rstrip('/')}/{self._bucket}/{self._root}"

    def location(self, key: str) -> dict[str, Any]:
        """Bucket and whole key, with the ancestor's keys."""
        return location(self.kind, bucket=self._bucket, prefix=self._root + key)

    def create(self, key: str, data: bytes) -> Created:
        """See `Storage.create`. One request, and before the first to a server that is not AWS two to prove it."""
        full_key = self._full(key)
        self._require_proof()
        if self.unsafe_concurrent_writes and self._calls.look(full_key, key):
            return Created.REFUSED
        arguments = {"Key": full_key, "Body": bytes(data), **self._encryption}
        outcome = self._calls.send("put_object", "creating", key, IfNoneMatch="*", **arguments)
        if self.unsafe_concurrent_writes and outcome.error is not None and s3_proof.is_unknown_to_server(outcome.error):
            outcome = self._calls.send("put_object", "creating", key, **arguments)
        if outcome.answer is not None:
            return Created.MADE
        assert outcome.error is not None
        if status_of(outcome.error) == 412 or code_of(outcome.error) == "PreconditionFailed":
            return Created.REFUSED
        if not outcome.sure:
            return Created.UNKNOWN
        raise self._calls.failure(outcome, "put_object", "creating", key) from outcome.error

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        """See `Storage.write`. Up to a part's size two requests, else three and one for each part, eight at a time."""
        full_key = self._full(key)
        self._require_proof()
        size = Writer(self._calls, key, full_key, {**self._encryption, **self._class}).write(
            chunks, expected, self.smallest_part
        )
        # Neither what put_object nor what complete_multipart_upload answers tells the time that a listing will.
        found = self._calls("head_object", "looking at", key, Key=full_key)
        if found["ContentLength"] != size:
            raise StorageError(
                f"{self.address}{key} has {found['ContentLength']:,} bytes after {size:,} were written; write it again",
                key,
            )
        return _info(key, size, found["LastModified"], found["ETag"])

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Storage.read`. One request, more where a body breaks off."""
        return Reader(self._calls, key, self._full(key)).read(start, end)

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`. One request, more where a body breaks off."""
        return Reader(self._calls, key, self._full(key)).read_into(start, buffer)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Storage.list`. One request for every thousand objects."""
        check_prefix(prefix)
        for page in self._pages(prefix):
            for found in page.get("Contents", ()):
                key = found["Key"][len(self._root) :]
                if all(map(is_part, key.split("/"))):
                    yield _info(key, found["Size"], found["LastModified"], found["ETag"])

    def list_children(self, prefix: str) -> Iterator[str]:
        """See `Storage.list_children`. One request for every thousand of children and objects beside them."""
        check_prefix(prefix)
        skipped = len(self._root) + len(prefix)
        found = [each for page in self._pages(prefix, Delimiter="/") for each in page.get("CommonPrefixes", ())]
        # S3 sorts them with their slash, which puts `a-b/` before `a/`.
        yield from sorted(filter(is_part, (each["Prefix"][skipped:-1] for each in found)))

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`. One request for every thousand objects, or one each where the server lacks that."""
        wanted = [self._full(key) for key in keys]
        if wanted:
            self._require_proof()
            delete(self._calls, wanted, self._root)

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """See `Storage.sweep`: aborts multipart uploads. A listing, and one request for each."""
        check_prefix(prefix)
        found = [each for each in uploads(self._calls, self._root + prefix) if each["Initiated"] < older_than]
        if found:
            self._require_proof()
        return abort_uploads(self._calls, found)

    def policy(self) -> str:
        """An IAM policy."""
        china = (self._arguments["region"] or "").startswith("cn-")
        return policy(self._bucket, self._root, self._kms_key, "aws-cn" if china else "aws")

    def clock(self) -> datetime:
        """The time of the server's last answer and what has passed since."""
        return self._calls.clock()

    def __reduce__(self) -> tuple[Any, ...]:
        for name, instead in (("client", "region=, endpoint=, access_key= …"), ("session", "access_key= …, or none")):
            if self._arguments[name] is not None:
                raise InvalidArgumentError(
                    name,
                    f"a store that was opened with {name}= cannot be sent to another process, since the {name} cannot; "
                    f"open it with {instead} instead",
                )
        return _unpickled, (type(self), self._arguments)

    def __repr__(self) -> str:
        return f"S3Storage({self.address!r})"

    def _full(self, key: str) -> str:
        check_key(key)
        return self._root + key

    def _require_proof(self) -> None:
        if self.unsafe_concurrent_writes:
            return
        endpoint = self._calls.endpoint()
        if not is_aws(endpoint):
            s3_proof.require(self._calls, self._root, endpoint, self._bucket, self._proofs, self._encryption)

    def _pages(self, prefix: str, **arguments: str) -> Iterator[dict[str, Any]]:
        position: dict[str, str] = {}
        full_prefix = self._root + prefix
        while True:
            page = self._calls("list_objects_v2", "listing", prefix, Prefix=full_prefix, **arguments, **position)
            yield page
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == position.get("ContinuationToken"):
                raise StorageError(f"{self.address} cut off a listing and does not say where it goes on", prefix)
            position = {"ContinuationToken": token}


def _unpickled(cls: type[S3Storage], arguments: dict[str, Any]) -> S3Storage:
    return cls(**arguments)


def _check(
    bucket: str, access_key: str | None, secret_key: str | None, session: Any, client: Any, storage_class: str | None
) -> None:
    if not bucket:
        raise InvalidArgumentError("bucket_name", "a store on S3 needs the name of a bucket")
    if (access_key is None) != (secret_key is None):
        raise InvalidArgumentError("access_key", "access_key and secret_key go together: pass both, or neither")
    if client is not None and (session is not None or access_key is not None):
        raise InvalidArgumentError("client", "a ready-made client has its credentials: pass it alone, or none")
    if storage_class in _NOT_READABLE:
        raise InvalidArgumentError(
            "storage_class", f"what lies in {storage_class} cannot be read at once; GLACIER_IR can"
        )


def _endpoint(given: str | None, client: Any) -> str | None:
    """Where requests go, if it is not for the SDK to choose."""
    if client is not None:
        return str(client.meta.endpoint_url)
    if given is None and os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        given = next((os.environ[name] for name in _ENDPOINT_VARIABLES if os.environ.get(name)), None)
    if given is not None and "@" in given:
        raise InvalidArgumentError("endpoint", "endpoint= holds a password: pass access_key= and secret_key= instead")
    if given is not None and urlsplit(given).scheme not in ("http", "https"):
        raise InvalidArgumentError("endpoint", f"endpoint={given!r} is no URL: it begins with http:// or https://")
    return given


def _info(key: str, size: int, modified: datetime, etag: str) -> ObjectInfo:
    # Whole seconds: what a HEAD tells. A listing may tell more, and both must agree.
    modified = modified.astimezone(timezone.utc).replace(microsecond=0)
    return ObjectInfo(key, size, modified, f"{etag.strip(chr(34))}-{int(modified.timestamp())}")
