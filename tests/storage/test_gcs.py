"""Google Cloud Storage on fake-gcs-server: the contract, and what is this storage's own."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from modelstore.exceptions import CredentialsError, InvalidArgumentError, MissingDependencyError
from modelstore.records import now
from modelstore.storage.base import Created
from modelstore.storage.gcs import GCSStorage
from modelstore.testing import StorageContract
from tests.servers import fake_gcs, proxy

pytest.importorskip("google.cloud.storage")
pytestmark = pytest.mark.skipif(not fake_gcs.available(), reason="fake-gcs-server is not installed")

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fake_gcs.FakeGCS]:
    """One server for all tests of this file; each has a bucket of its own."""
    with fake_gcs.serve(tmp_path_factory.mktemp("fake-gcs")) as running:
        yield running


class TestGCSStorage(StorageContract):
    """The contract. The server has no multipart uploads, so large objects go in sequence."""

    chunk_size = 4 * MIB
    held_chunks = 12
    many = 1100

    @pytest.fixture
    def storage(self, server: fake_gcs.FakeGCS) -> GCSStorage:
        """A storage over a new bucket."""
        return server.storage()


class TestGivenClient(StorageContract):
    """The contract with a client that the caller made, but for pickling, which it cannot do."""

    chunk_size = 4 * MIB
    held_chunks = 12

    @pytest.fixture
    def storage(self, server: fake_gcs.FakeGCS) -> GCSStorage:
        """A storage over a new bucket."""
        return GCSStorage(server.bucket(), client=given_client(server))

    def test_pickling(self, storage: GCSStorage) -> None:  # type: ignore[override]
        """The error says what to pass instead of the client."""
        with pytest.raises(InvalidArgumentError, match="credentials= or endpoint="):
            pickle.dumps(storage)

    test_an_object_source_can_be_pickled = test_pickling  # type: ignore[assignment]


def given_client(server: fake_gcs.FakeGCS) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    endpoint = {"api_endpoint": f"http://127.0.0.1:{server.port}"}
    return storage.Client("test", AnonymousCredentials(), client_options=endpoint)


def described(server: fake_gcs.FakeGCS, storage: GCSStorage, key: str) -> Any:
    """An object's metadata, as the SDK tells it."""
    place = storage.location(key)
    return given_client(server).bucket(place["bucket"]).get_blob(place["prefix"])


def test_key_and_payer_are_named(server: fake_gcs.FakeGCS, tmp_path: Path) -> None:
    """The project that pays stands in each request, the key in each that makes an object."""
    with proxy.serve(tmp_path, server.port) as seen:
        storage = server.storage(seen.port, kms_key="projects/p/key", user_project="payer")
        storage.create("a", b"")
        storage.write("b", [[b"x"]])
        storage.write("c", [[bytes(9 * MIB)]])
        storage.read("a")
        list(storage.list(""))
        list(storage.list_children(""))
        storage.delete(["a"])
        targets = [(one.method, unquote(one.target)) for one in seen.seen]
    # The SDK may ask once for the bucket, for traces, where opentelemetry is installed.
    targets = [(method, target) for method, target in targets if "/o" in target or "?uploads" in target]
    begun = [target for method, target in targets if method == "POST" and "?uploads" not in target]
    assert len(begun) == 3
    assert all("kmsKeyName=projects/p/key" in target for target in begun)
    # Multipart uploads name it in a header, and the parts of a session belong to one that has named it.
    asked = [target for method, target in targets if "?uploads" not in target and method != "PUT"]
    assert len(asked) == 8
    assert all("userProject=payer" in target for target in asked)


def test_the_storage_class_is_that_of_archives(server: fake_gcs.FakeGCS) -> None:
    """What is written gets the storage class; what is created, and read often, does not."""
    storage = server.storage(storage_class="COLDLINE")
    storage.write("archive", [[b"x"]])
    storage.create("event", b"{}")
    assert described(server, storage, "archive").storage_class == "COLDLINE"
    assert described(server, storage, "event").storage_class == "STANDARD"


def test_objects_are_neither_encoded_nor_decoded(server: fake_gcs.FakeGCS) -> None:
    """Compressed bytes are stored as plain bytes, and read as they are stored whatever somebody has marked them as."""
    storage = server.storage()
    packed = gzip.compress(b"text" * 1000)
    storage.write("a.ndjson.gz", [[packed]])
    blob = described(server, storage, "a.ndjson.gz")
    assert blob.content_encoding is None
    assert storage.read("a.ndjson.gz") == packed
    blob.content_encoding = "gzip"
    blob.patch()
    assert storage.read("a.ndjson.gz") == packed


def test_an_etag_outlives_a_change_of_metadata(server: fake_gcs.FakeGCS) -> None:
    """Labels that somebody sticks on an object do not make it another one."""
    storage = server.storage()
    info = storage.write("a", [[b"x"]])
    blob = described(server, storage, "a")
    blob.metadata = {"team": "fraud"}
    blob.patch()
    assert [info] == list(storage.list(""))


def test_what_is_no_key_of_ours_is_not_listed(server: fake_gcs.FakeGCS) -> None:
    """Placeholders of folders, hidden names and the like that other tools left below the prefix are passed over."""
    storage = server.storage()
    place = storage.location("")
    bucket = given_client(server).bucket(place["bucket"])
    for name in ("a/", ".hidden/x", "a/.tmp", "a//b", "a/1"):
        bucket.blob(place["prefix"] + name).upload_from_string(b"")
    assert [info.key for info in storage.list("")] == ["a/1"]
    assert list(storage.list_children("")) == ["a"]


def test_children_are_sorted_over_all_pages(server: fake_gcs.FakeGCS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google sorts `a-b/` before `a/`; children are sorted by their names, on whichever pages they come."""
    storage = server.storage()

    class Page:
        def __init__(self, name: str) -> None:
            self.prefixes = (f"{storage._root}x/{name}/",)

    monkeypatch.setattr(storage, "_pages", lambda *_, **__: iter([Page("a-b"), Page("a")]))
    assert list(storage.list_children("x/")) == ["a", "a-b"]


def test_the_clock_is_the_servers(server: fake_gcs.FakeGCS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is an hour off finds it out with its first creation, or its first read."""
    import modelstore.storage.gcs as module

    storage = server.storage()
    storage.create("a", b"")
    monkeypatch.setattr(module, "now", lambda: now() + timedelta(hours=1))
    for verb in (lambda: storage.read("a"), lambda: storage.create("b", b"")):
        storage._skew = timedelta()
        verb()
        assert abs(storage.clock() - now()) < timedelta(seconds=10)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address names bucket and prefix, and the server where it is not Google's; the copy has the same."""
    assert GCSStorage("b").address == "gs://b/"
    assert GCSStorage("b", "/a/c/").address == "gs://b/a/c/"
    assert GCSStorage("b", "a", endpoint="https://x.example.com/").address == "gs+https://x.example.com/b/a/"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:4443")
    storage = GCSStorage("b", "a")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    assert storage.address == pickle.loads(pickle.dumps(storage)).address == "gs+http://localhost:4443/b/a/"


def test_the_emulators_variable_is_enough(server: fake_gcs.FakeGCS, monkeypatch: pytest.MonkeyPatch) -> None:
    """With STORAGE_EMULATOR_HOST set a bucket's name is all that it takes."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.port}")
    assert GCSStorage(server.bucket()).create("a", b"x") is Created.MADE


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": ""},
        {"bucket": "a/b"},
        {"bucket": "b", "root_prefix": "a//b"},
        {"bucket": "b", "endpoint": "ftp://x"},
        {"bucket": "b", "client": object(), "endpoint": "http://x"},
    ],
)
def test_arguments_that_cannot_be_used(wrong: dict[str, Any]) -> None:
    """They are refused before anything is asked for."""
    with pytest.raises(InvalidArgumentError):
        GCSStorage(**wrong)


class NoCredentials:
    """Stands in for the SDK's search for credentials on a machine that has none."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from google.auth.exceptions import DefaultCredentialsError

        self.asked += 1
        raise DefaultCredentialsError("none here")


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> NoCredentials:
    search = NoCredentials()
    monkeypatch.setattr("google.auth.default", search)
    return search


def test_without_credentials_and_project_it_is_anonymous(no_credentials: NoCredentials) -> None:
    """As a public bucket is read: no credentials are no error, and requests go without a name."""
    from google.auth.credentials import AnonymousCredentials

    client = GCSStorage("b")._client()
    assert isinstance(client._credentials, AnonymousCredentials)
    assert no_credentials.asked == 1


def test_without_credentials_a_project_is_an_error(no_credentials: NoCredentials) -> None:
    """Who names a project wants to act for it, and hears how to log in."""
    with pytest.raises(CredentialsError, match="gcloud auth application-default login"):
        GCSStorage("b", project="p").read("a")


def test_credentials_are_not_sent_in_the_clear(no_credentials: NoCredentials) -> None:
    """For an endpoint over plain HTTP the machine's credentials are not even looked for."""
    GCSStorage("b", endpoint="http://127.0.0.1:1", project="p")._client()
    assert no_credentials.asked == 0


def test_expired_credentials(server: fake_gcs.FakeGCS) -> None:
    """Credentials that cannot be renewed are an error that says how to log in, from any verb."""
    from google.auth.credentials import Credentials
    from google.auth.exceptions import RefreshError

    class Expired(Credentials):  # type: ignore[misc]
        def refresh(self, request: object) -> None:
            raise RefreshError("invalid_grant")

    storage = server.storage(credentials=Expired())
    for verb in (lambda: storage.read("a"), lambda: storage.create("a", b""), lambda: list(storage.list(""))):
        with pytest.raises(CredentialsError, match="invalid_grant.*gcloud auth"):
            verb()


def test_the_policy_is_for_the_prefix() -> None:
    """It names the bucket, limits objects and listings to the prefix, and brings in key and payer."""
    text = GCSStorage("b", "team/x", kms_key="projects/p/k", user_project="payer").policy()
    assert "gs://b" in text
    assert r"projects/_/buckets/b/objects/team/x/" in text
    assert "objectListPrefix" in text
    assert "--authorize-cmek=projects/p/k" in text
    assert "payer" in text
    assert "objectListPrefix" not in GCSStorage("b").policy()


def test_a_missing_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SDK the storage can be named, and its use says which command installs it."""
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    monkeypatch.delattr("google.cloud.storage", raising=False)
    with pytest.raises(MissingDependencyError, match=r"modelstore\[gcs\]"):
        GCSStorage("b").read("a")


def test_importing_imports_no_sdk() -> None:
    """The module, and a storage that is not used yet, load neither the SDK nor requests."""
    code = (
        "import sys; from modelstore.storage.gcs import GCSStorage; GCSStorage('b').policy(); "
        "sys.exit(any(name in sys.modules for name in ('google.auth', 'google.cloud.storage', 'requests', 'urllib3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}).returncode == 0
