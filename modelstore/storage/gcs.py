"""Google Cloud Storage, through google-cloud-storage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelstore import deadline
from modelstore.exceptions import AccessDeniedError, InvalidArgumentError, ObjectNotFoundError
from modelstore.folder import Buffer
from modelstore.records import now
from modelstore.storage._gcs import multipart as gcs_multipart, policy as gcs_policy
from modelstore.storage._gcs.client import Clients, Settings, check_endpoint
from modelstore.storage._gcs.errors import Explaining, NotFoundError, leaves_it_open, status_of
from modelstore.storage._gcs.read import Reader
from modelstore.storage._gcs.requests import patience, retried
from modelstore.storage._gcs.write import Writer, content_type
from modelstore.storage.addressing import check_key, check_prefix, clean_prefix, is_part, location
from modelstore.storage.base import Created, ObjectInfo
from modelstore.storage.transfer import THREADS

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

_FIELDS = "items(name,size,generation,timeCreated),nextPageToken"


class GCSStorage:
    """A bucket of Google Cloud Storage, or what lies below a prefix in it.

    Credentials are found by the SDK (Application Default Credentials). Where there are none and no `project` is given,
    the store is opened without anybody's name, which is enough to read a public bucket.

    Args:
        bucket: its name. It must exist.
        root_prefix: where in it the store lies (default: at its top).
        project: the project to act for; needed only where the credentials name none and it is to be said who acts.
        client: a `google.cloud.storage.Client` to use as it is. Its session limits how long a server may be silent, not
            how long an answer may take, and the storage cannot be pickled.
        credentials: of google-auth, instead of those that the SDK finds.
        endpoint: the URL of a server that speaks as Google's does (default: STORAGE_EMULATOR_HOST, else Google's own).
            One over plain HTTP is never sent credentials that the SDK has found.
        kms_key: the resource name of the key of Cloud KMS that objects are encrypted with (default: the bucket's).
        storage_class: of the archives (default: the bucket's). The logs, which are read often, keep the bucket's.
        user_project: the project that pays, for buckets where whoever asks does.

    Raises:
        InvalidArgumentError: an argument that cannot be used.
    """

    kind = "google:cloud-storage"
    streams = THREADS

    def __init__(
        self,
        bucket: str,
        root_prefix: str | None = None,
        *,
        project: str | None = None,
        client: Client | None = None,
        credentials: Any = None,
        endpoint: str | None = None,
        kms_key: str | None = None,
        storage_class: str | None = None,
        user_project: str | None = None,
    ) -> None:
        if not bucket or "/" in bucket:
            raise InvalidArgumentError("bucket_name", f"bucket_name={bucket!r} is no name of a bucket")
        if client is not None and (credentials is not None or endpoint is not None):
            raise InvalidArgumentError("client", "client= has its own credentials and endpoint; pass it or those")
        self._bucket = bucket
        self._root = clean_prefix(root_prefix)
        self._settings = Settings(project, credentials, _endpoint_of(client) if client else check_endpoint(endpoint))
        self._given = client
        self._clients = Clients(self._settings, client)
        self._kms_key = kms_key
        self._storage_class = storage_class
        self._user_project = user_project
        self._explaining = Explaining(bucket, self.address)
        self._writer = Writer(self._clients.get, self._explaining, self._settings.endpoint)
        self._skew = timedelta()
        self._bucket_is_there = False

    @property
    def address(self) -> str:
        """`gs://<bucket>/<prefix>` at Google, `gs+http(s)://<host>/<bucket>/<prefix>` elsewhere."""
        if self._settings.endpoint is None:
            return f"gs://{self._bucket}/{self._root}"
        return f"gs+{self._settings.endpoint}/{self._bucket}/{self._root}"

    def location(self, key: str) -> dict[str, Any]:
        """Bucket and whole key, with the ancestor's keys."""
        return location(self.kind, bucket=self._bucket, prefix=self._root + key)

    def create(self, key: str, data: bytes) -> Created:
        """See `Storage.create`. One request, on condition that there is no generation of the object."""
        check_key(key)
        blob = self._blob(key)
        errors: list[Exception] = []

        def attempt() -> None:
            # By the SDK's call, which sends content and condition as one multipart/related body.
            kind = content_type(key)
            blob.upload_from_string(bytes(data), kind, if_generation_match=0, timeout=patience(), retry=None)
            # Looked at here, as part of the attempt: an answer that nobody understands leaves it open.
            if blob.generation is None:
                raise ValueError("the answer does not tell of an object")
            self._note_time(blob.time_created)

        with self._asking("creating", key):
            try:
                retried(attempt, failed=errors.append)
            except Exception as error:
                if status_of(error) == 412:
                    return Created.REFUSED
                if status_of(error) == 409 or any(map(leaves_it_open, errors)):
                    return Created.UNKNOWN
                raise
        return Created.MADE

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        """See `Storage.write`. One request up to 8 MiB, above that one a part and two or three more."""
        check_key(key)
        blob = self._blob(key)
        if self._storage_class is not None:
            blob.storage_class = self._storage_class
        try:
            self._writer.write(blob, key, chunks, expected)
        except NotFoundError as error:
            raise self._explaining.no_bucket(key) from error  # a new object can miss nothing else
        with self._explaining("writing", key):
            return _info(key, blob)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Storage.read`. One request."""
        reader = self._reader(key)
        with self._asking("reading", key):
            data = reader.read(start, end)
        self._note_date(reader.date)
        return data

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`. One request, and another each time that an answer breaks off."""
        reader = self._reader(key)
        with self._asking("reading", key):
            count = reader.read_into(start, buffer.cast("B"))
        self._note_date(reader.date)
        return count

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Storage.list`. A request for each 1,000 objects."""
        check_prefix(prefix)
        return self._list(prefix)

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in self._pages(prefix, _FIELDS):
            with self._explaining("listing", prefix):
                found = [(blob.name[len(self._root) :], blob) for blob in page]
                infos = [_info(key, blob) for key, blob in found if all(map(is_part, key.split("/")))]
            yield from infos

    def list_children(self, prefix: str) -> Iterator[str]:
        """See `Storage.list_children`. A request for each 1,000 objects and children."""
        check_prefix(prefix)
        return self._list_children(prefix)

    def _list_children(self, prefix: str) -> Iterator[str]:
        start = len(self._root + prefix)
        pages = self._pages(prefix, "prefixes,nextPageToken", delimiter="/")
        # Google sorts them with their slash, which puts `a-b/` before `a/`, perhaps on another page.
        yield from sorted(filter(is_part, (name[start:-1] for page in pages for name in page.prefixes)))

    def _pages(self, prefix: str, fields: str, **how: Any) -> Iterator[Any]:
        token = None

        def ask() -> tuple[Any, str | None]:
            # An iterator of its own for each page and attempt: the SDK's is at its end once a page has failed.
            blobs = self._bucket_of_client().list_blobs(
                prefix=self._root + prefix, fields=fields, page_token=token, timeout=patience(), retry=None, **how
            )
            return next(blobs.pages), blobs.next_page_token

        while True:
            with self._asking("listing", prefix):
                page, token = retried(ask)
            self._bucket_is_there = True
            yield page
            if token is None:
                return

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`. One request an object, eight at a time."""
        checked = [key for key in dict.fromkeys(keys) if check_key(key)]
        if len(checked) == 1:
            return self._delete(checked[0])
        with ThreadPoolExecutor(THREADS, "modelstore-delete") as pool:
            for _ in pool.map(deadline.carried(self._delete), checked):
                pass

    def _delete(self, key: str) -> None:
        blob = self._blob(key)
        try:
            with self._asking("deleting", key):
                retried(lambda: blob.delete(timeout=patience(), retry=None))
        except ObjectNotFoundError:
            pass

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """See `Storage.sweep`: gives up multipart uploads. Sessions of resumable uploads cannot be listed; Google drops
        them after a week.
        """
        check_prefix(prefix)
        client, below = self._client(), self._root + prefix
        try:
            with self._asking("sweeping", prefix):
                return gcs_multipart.sweep(client, self._bucket, below, self._user_project, older_than)
        except ObjectNotFoundError:
            return 0  # the bucket is there, so it is the question that this server does not know

    def policy(self) -> str:
        """Commands of gcloud that grant what a store takes, on its prefix only."""
        return gcs_policy.policy(self._bucket, self._root, self._kms_key, self._user_project)

    def clock(self) -> datetime:
        """This machine's time, corrected by what the last answers showed of the storage's."""
        return now() + self._skew

    def __reduce__(self) -> tuple[Any, ...]:
        if self._given is not None:
            raise InvalidArgumentError(
                "client",
                "a store that was opened with client= cannot be pickled, since clients cannot: "
                "pass project=, credentials= or endpoint= instead",
            )
        return _unpickled, (
            self._bucket,
            self._root,
            {
                "project": self._settings.project,
                "credentials": self._settings.credentials,
                "endpoint": self._settings.endpoint,
                "kms_key": self._kms_key,
                "storage_class": self._storage_class,
                "user_project": self._user_project,
            },
        )

    def __repr__(self) -> str:
        return f"GCSStorage({self.address!r})"

    def _client(self) -> Client:
        return self._clients.get()

    def _bucket_of_client(self) -> Any:
        return self._client().bucket(self._bucket, user_project=self._user_project)

    def _blob(self, key: str) -> Blob:
        return self._bucket_of_client().blob(self._root + key, kms_key_name=self._kms_key)

    def _reader(self, key: str) -> Reader:
        check_key(key)
        return Reader(self._client, self._bucket, self._root + key, self._user_project, key, self._explaining)

    @contextmanager
    def _asking(self, doing: str, key: str) -> Iterator[None]:
        """Requests for a key, with their errors translated."""
        try:
            with self._explaining(doing, key):
                yield
        except NotFoundError:
            self._require_bucket(key)
            raise ObjectNotFoundError(key, self.address) from None

    def _require_bucket(self, key: str) -> None:
        """See that the bucket is there, when an answer left it open (Google's own say it).

        Raises:
            StoreNotFoundError: it is not.
        """
        if self._bucket_is_there:
            return
        try:
            with self._explaining("looking for the bucket of", key):
                bucket = self._bucket_of_client()
                retried(lambda: next(bucket.list_blobs(max_results=1, timeout=patience(), retry=None).pages))
        except NotFoundError:
            raise self._explaining.no_bucket(key) from None
        except AccessDeniedError:
            return
        self._bucket_is_there = True

    def _note_date(self, date: str | None) -> None:
        if date is not None:
            with contextlib.suppress(ValueError):
                self._note_time(parsedate_to_datetime(date))

    def _note_time(self, theirs: datetime | None) -> None:
        """An answer that went well, and what the server's clock showed then."""
        if theirs is not None:
            self._bucket_is_there = True
            skew = theirs - now()
            # A Date has whole seconds, and an answer takes its time to come.
            self._skew = skew if abs(skew) > timedelta(seconds=3) else timedelta()


def _unpickled(bucket: str, root: str, settings: dict[str, Any]) -> GCSStorage:
    return GCSStorage(bucket, root, **settings)


def _info(key: str, blob: Blob) -> ObjectInfo:
    # Not the ETag: that changes with an object's metadata too.
    return ObjectInfo(key, int(blob.size), blob.time_created.astimezone(timezone.utc), str(blob.generation))


def _endpoint_of(client: Client) -> str | None:
    host = urlsplit(client.api_endpoint).hostname or ""
    return None if host.endswith(".googleapis.com") else str(client.api_endpoint)
