"""What Google's answers and the network's failures become: our errors, in time, that say what to do next."""

from __future__ import annotations

import contextlib
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modelstore import deadline
from modelstore.exceptions import (
    AccessDeniedError,
    CredentialsError,
    DeadlineExceededError,
    ObjectNotFoundError,
    StorageError,
    StorageUnavailableError,
    StoreNotFoundError,
    ThrottledError,
)
from modelstore.storage._gcs import requests as gcs_requests
from modelstore.storage.base import Created
from modelstore.storage.gcs import GCSStorage
from tests.servers import fake_gcs, process, proxy

pytest.importorskip("google.cloud.storage")
pytestmark = pytest.mark.skipif(not fake_gcs.available(), reason="fake-gcs-server is not installed")

Verb = Callable[[GCSStorage], Any]
VERBS: dict[str, Verb] = {
    "create": lambda storage: storage.create("a/1", b"x"),
    "write": lambda storage: storage.write("a/1", [[b"x"]]),
    "write much": lambda storage: storage.write("a/1", [[bytes(9 << 20)]]),
    "read": lambda storage: storage.read("a/1"),
    "read_into": lambda storage: storage.read_into("a/1", 0, memoryview(bytearray(4))),
    "list": lambda storage: list(storage.list("a/")),
    "list_children": lambda storage: list(storage.list_children("")),
    "delete": lambda storage: storage.delete(["a/1"]),
    "sweep": lambda storage: storage.sweep("", storage.clock()),
}
ANSWERS: list[tuple[int, str, str, type[StorageError], str]] = [
    (401, "Anonymous caller does not have storage.objects.get access", "required", CredentialsError, "gcloud auth"),
    (403, "m@x.com does not have storage.objects.get access", "forbidden", AccessDeniedError, "grant storage.obj"),
    (403, "The billing account for the owning project is disabled", "accountDisabled", AccessDeniedError, "billing is"),
    (403, "Permission denied on Cloud KMS key", "forbidden", AccessDeniedError, "cryptoKeyEncrypterDecrypter"),
    (403, "The rate of requests is too high", "rateLimitExceeded", ThrottledError, "try again later"),
    (400, "Bucket is a requester pays bucket but no user project", "required", AccessDeniedError, "user_project="),
    (400, "Invalid argument", "invalid", StorageError, "Invalid argument"),
    (404, "The specified bucket does not exist.", "notFound", StoreNotFoundError, "gcloud storage buckets create"),
    (429, "The object exceeded the rate limit", "rateLimitExceeded", ThrottledError, "try again later"),
    (503, "We encountered an internal error", "backendError", StorageUnavailableError, "try again later"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fake_gcs.FakeGCS]:
    with fake_gcs.serve(tmp_path_factory.mktemp("fake-gcs")) as running:
        yield running


@pytest.fixture(scope="module")
def in_front(server: fake_gcs.FakeGCS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[proxy.Proxy]:
    with proxy.serve(tmp_path_factory.mktemp("proxy"), server.port) as running:
        yield running


@pytest.fixture
def faults(in_front: proxy.Proxy) -> Iterator[proxy.Proxy]:
    in_front.set()
    yield in_front
    in_front.set()


@pytest.fixture
def storage(server: fake_gcs.FakeGCS, faults: proxy.Proxy) -> GCSStorage:
    return server.storage(faults.port)


@pytest.fixture
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are tried again for half a second instead of half a minute."""
    monkeypatch.setattr(gcs_requests, "RETRY_SECONDS", 0.5)


@pytest.mark.usefixtures("short_retries")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("status", "message", "reason", "error", "advice"), ANSWERS)
def test_refusals(
    storage: GCSStorage,
    faults: proxy.Proxy,
    verb: str,
    status: int,
    message: str,
    reason: str,
    error: type[StorageError],
    advice: str,
) -> None:
    """Each refusal of Google's is our error for every verb, with what Google said, where, and what to do."""
    body = {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}
    faults.set("status", code=status, body=json.dumps(body), headers={"Content-Type": "application/json"})
    if verb == "create" and status == 503:
        assert storage.create("a/1", b"x") is Created.UNKNOWN
        return
    with pytest.raises(StorageError) as caught:
        VERBS[verb](storage)
    assert type(caught.value) is error
    assert advice in str(caught.value)
    assert storage.address in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_the_missing_right_is_named(storage: GCSStorage, faults: proxy.Proxy) -> None:
    """An error for a denied request says which permission it takes."""
    said = "m@x.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud Storage object."
    faults.set("status", code=403, body=json.dumps({"error": {"code": 403, "message": said}}))
    with pytest.raises(AccessDeniedError) as caught:
        storage.create("a/1", b"x")
    assert (caught.value.right, caught.value.key) == ("storage.objects.create", "a/1")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "sweep"])
def test_no_bucket(server: fake_gcs.FakeGCS, verb: str) -> None:
    """In a bucket that does not exist every verb says so, though this server's answers do not."""
    storage = GCSStorage("no-such-bucket", endpoint=f"http://127.0.0.1:{server.port}")
    with pytest.raises(StoreNotFoundError, match="no bucket 'no-such-bucket'"):
        VERBS[verb](storage)


def test_a_missing_object_takes_no_second_question(storage: GCSStorage, faults: proxy.Proxy) -> None:
    """Once the bucket has answered, an object that is not there is known after one request."""
    storage.create("a/1", b"x")
    faults.set()
    with pytest.raises(ObjectNotFoundError):
        storage.read("a/2")
    # The SDK may ask once for the bucket, for traces, where opentelemetry is installed.
    assert len([one for one in faults.seen if "/o" in one.target]) == 1


@pytest.mark.parametrize("mode", ["lost", "reset", "truncate"])
def test_a_creation_whose_answer_is_lost(storage: GCSStorage, faults: proxy.Proxy, mode: str) -> None:
    """When no answer ever comes back, the outcome is unknown; the object is there all the same."""
    faults.set(mode)
    with deadline.within(1.5):
        assert storage.create("a/1", b"x") is Created.UNKNOWN
    faults.set()
    assert storage.read("a/1") == b"x"


def test_a_creation_that_was_never_sent() -> None:
    """Where nobody listens, a creation has certainly failed."""
    storage = GCSStorage("b", endpoint=f"http://127.0.0.1:{process.free_port()}")
    with pytest.raises(StorageError), deadline.within(1):
        storage.create("a/1", b"x")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", [{"mode": "stall", "s": 30}, {"mode": "bandwidth", "bps": 20}, {"mode": "refuse"}])
def test_deadlines(storage: GCSStorage, faults: proxy.Proxy, verb: str, fault: dict[str, Any]) -> None:
    """A server that is silent, drips or does not let one in is given up when the time is over."""
    VERBS["create"](storage)
    storage = pickle.loads(pickle.dumps(storage))  # without the connections that are open by now
    faults.set(**fault)
    began = time.monotonic()
    with deadline.within(1):
        if verb == "create":
            with contextlib.suppress(DeadlineExceededError):
                assert storage.create("a/2", b"x") is Created.UNKNOWN
        else:
            # Where it is refused, and there is no time for another try, the reason is worth more than the time.
            refused = (DeadlineExceededError, StorageUnavailableError)
            with pytest.raises(refused if fault["mode"] == "refuse" else DeadlineExceededError):
                VERBS[verb](storage)
    assert time.monotonic() - began < 2.5 + 5 * (verb == "write much")  # what it left is given up in its own time


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("mode", ["status", "reset", "truncate", "reset_up"])
def test_what_fails_once_is_tried_again(storage: GCSStorage, faults: proxy.Proxy, verb: str, mode: str) -> None:
    """One failure of each kind is not noticed by the caller of any verb."""
    if verb not in ("create", "write much"):
        storage.create("a/1", b"x")
    faults.set(mode, count=1)
    VERBS[verb](storage)


def test_a_body_that_breaks_off_is_resumed(storage: GCSStorage, faults: proxy.Proxy) -> None:
    """An answer that breaks off is asked for again from where it stopped, not from its start, and of that version."""
    content = bytes(range(256)) * (16 << 10)
    storage.write("a/1", [[content]])
    faults.set("truncate", after=3 << 20, count=1)
    buffer = bytearray(len(content))
    assert storage.read_into("a/1", 0, memoryview(buffer)) == len(content)
    assert bytes(buffer) == content
    first, second = (one for one in faults.seen if "/o" in one.target)  # not the SDK's, for traces
    assert "generation=" not in first.target
    assert "generation=" in second.target


def test_a_slow_line_is_not_a_dead_one(
    server: fake_gcs.FakeGCS, faults: proxy.Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that takes longer than any patience goes up all the same, as long as some of it gets through."""
    monkeypatch.setattr(deadline, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(deadline, "STALL_SECONDS", 3.0)
    storage = server.storage(faults.port)
    faults.set("bandwidth", bps=4 << 20)
    began = time.monotonic()
    storage.write("a/1", [[bytes(17 << 20)]])
    assert time.monotonic() - began > 3.0


def test_a_page_that_fails_is_asked_for_again(server: fake_gcs.FakeGCS, faults: proxy.Proxy) -> None:
    """A listing goes on at the page whose answer was lost, and leaves nothing out."""
    storage = server.storage(faults.port)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: storage.create(f"many/{number:04}", b""), range(1100)))
    faults.set("truncate", after=2000, skip=1, count=1)
    assert [info.key for info in storage.list("many/")] == [f"many/{number:04}" for number in range(1100)]


def test_an_upload_in_sequence_that_fails_leaves_nothing(storage: GCSStorage, faults: proxy.Proxy) -> None:
    """A session whose part is refused for good is closed, and no object appears."""
    faults.set("status", code=403, body="denied", match="PUT", skip=1)
    with pytest.raises(AccessDeniedError):
        storage.write("a/1", [[bytes(16 << 20)]] * 3)
    faults.set()
    assert list(storage.list("")) == []


def test_a_part_that_arrives_twice_is_found_out(storage: GCSStorage, faults: proxy.Proxy) -> None:
    """This server keeps a part twice that was sent twice; such an object is removed, and the upload fails."""
    faults.set("lost", match="PUT", count=1)
    with pytest.raises(StorageUnavailableError, match="upload again"):
        storage.write("a/1", [[bytes(16 << 20)]] * 2)
    faults.set()
    assert list(storage.list("")) == []


@pytest.mark.parametrize("body", ["[]", "null", "{}", '{"size": "x", "generation": "1", "timeCreated": "yesterday"}'])
def test_an_answer_that_nobody_understands(storage: GCSStorage, faults: proxy.Proxy, body: str) -> None:
    """It is no error of the SDK's, and says of a creation neither that it was made nor that it was not."""
    for verb in ("write", "list", "list_children"):
        faults.set("status", code=200, body=body)
        with contextlib.suppress(StorageError):  # `{}` is a listing of nothing
            VERBS[verb](storage)
    faults.set("status", code=200, body=body)
    assert storage.create("a/1", b"x") is Created.UNKNOWN


def test_a_token_that_is_not_handed_out() -> None:
    """Whoever hands out tokens keeps no call beyond its deadline."""
    from google.auth.credentials import Credentials

    given_up = threading.Event()

    class Never(Credentials):  # type: ignore[misc]
        def refresh(self, request: Any) -> None:
            given_up.wait(20)

    try:
        for verb in ("create", "read", "list"):
            storage = GCSStorage("bucket", endpoint="https://127.0.0.1:1", credentials=Never())
            begun = time.monotonic()
            with pytest.raises(DeadlineExceededError), deadline.within(0.5):
                VERBS[verb](storage)
            assert time.monotonic() - begun < 10
    finally:
        given_up.set()
