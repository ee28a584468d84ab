"""Azure when the network or the service fails: what is retried, what is raised, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("azure.storage.blob")

from azure.storage.blob import BlobServiceClient

from modelstore import deadline
from modelstore.exceptions import (
    AccessDeniedError,
    CredentialsError,
    DeadlineExceededError,
    StorageError,
    StorageUnavailableError,
    StoreNotFoundError,
    ThrottledError,
)
from modelstore.storage.azure import AzureStorage
from modelstore.storage.base import Created
from tests.servers import azurite, process, proxy
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.skipif(not azurite.available(), reason="Azurite is not installed")

BLOCK = azurite.SmallBlocks.smallest_part
GRACE = 2.0
"""Seconds by which a call on a busy machine may end after its deadline."""

VERBS: dict[str, Callable[[AzureStorage], object]] = {
    "create": lambda storage: storage.create("a/new", b"x"),
    "write": lambda storage: storage.write("a/small", [[b"x"]]),
    "write_large": lambda storage: storage.write("a/large", [[bytes(BLOCK)]]),
    "read": lambda storage: storage.read("a/1"),
    "read_suffix": lambda storage: storage.read("a/1", -3),
    "read_into": lambda storage: storage.read_into("a/1", 0, memoryview(bytearray(3))),
    "list": lambda storage: list(storage.list("a/")),
    "list_children": lambda storage: list(storage.list_children("")),
    "delete": lambda storage: storage.delete(["a/2"]),
    "sweep": lambda storage: storage.sweep("", storage.clock()),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[azurite.Server]:
    """One Azurite for all tests of this file."""
    with azurite.serve(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture(scope="module")
def running_proxy(server: azurite.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxy.serve(tmp_path_factory.mktemp("proxy"), server.port) as running:
        yield running


@pytest.fixture
def between(running_proxy: Proxy) -> Iterator[Proxy]:
    """A proxy in front of the server, through which all goes until a test says otherwise."""
    running_proxy.set()
    yield running_proxy
    running_proxy.set()


@pytest.fixture
def storage(server: azurite.Server, between: Proxy) -> AzureStorage:
    """A storage behind the proxy, with one object."""
    storage = server.storage(between.port)
    storage.create("a/1", b"0123")
    return storage


# -- what the service says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "error", "said"),
    [
        (503, "ServerBusy", ThrottledError, "try again later"),
        (429, "TooManyRequests", ThrottledError, "try again later"),
        (500, "InternalError", StorageUnavailableError, "try again later"),
        (500, "OperationTimedOut", StorageUnavailableError, "try again later"),
        (403, "AuthenticationFailed", CredentialsError, "renew"),
        (401, "InvalidAuthenticationInfo", CredentialsError, "renew"),
        (409, "PublicAccessNotPermitted", CredentialsError, "renew"),
        (403, "KeyBasedAuthenticationNotPermitted", CredentialsError, "az login"),
        (403, "AuthorizationPermissionMismatch", AccessDeniedError, "policy()"),
        (403, "AuthorizationFailure", AccessDeniedError, "firewall"),
        (403, "InsufficientAccountPermissions", AccessDeniedError, "policy()"),
        (404, "ContainerNotFound", StoreNotFoundError, "check its name"),
        (409, "ContainerBeingDeleted", StoreNotFoundError, "check its name"),
        (409, "BlobArchived", StorageError, "az storage blob set-tier --tier Hot"),
        (409, "BlobBeingRehydrated", StorageError, "takes hours"),
        (412, "LeaseLost", StorageError, "lease"),
        (409, "SnapshotsPresent", StorageError, "snapshots"),
        (400, "InvalidHeaderValue", StorageError, "InvalidHeaderValue"),
    ],
)
@pytest.mark.parametrize("verb", ["write", "write_large", "read", "read_suffix", "list", "delete", "create"])
def test_answers_become_our_errors(
    storage: AzureStorage,
    between: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    status: int,
    code: str,
    error: type[StorageError],
    said: str,
) -> None:
    """Each code of the service becomes the error that says what to do, with address and key, whatever was asked."""
    monkeypatch.setattr("modelstore.storage._azure.transport.backoff", lambda failures: 0.0)
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>because</Message></Error>'
    between.set("status", code=status, body=body, headers={"x-ms-error-code": code})
    if verb == "create" and status >= 500:
        assert VERBS[verb](storage) is Created.UNKNOWN
        return
    with pytest.raises(error) as caught:
        VERBS[verb](storage)
    assert type(caught.value) is error
    assert said in str(caught.value)
    assert f"{storage.address}/a/" in str(caught.value)


@pytest.mark.parametrize("code", ["BlobAlreadyExists", "UnauthorizedBlobOverwrite", "BlobImmutableDueToPolicy"])
def test_refusals(storage: AzureStorage, between: Proxy, code: str) -> None:
    """What a creation can hear only where there is a blob is a refusal."""
    body = f"<Error><Code>{code}</Code></Error>"
    between.set("status", code=403 if code.startswith("U") else 409, body=body, headers={"x-ms-error-code": code})
    assert storage.create("a/new", b"x") is Created.REFUSED


@pytest.mark.parametrize("verb", VERBS)
def test_passing_errors_are_retried(storage: AzureStorage, between: Proxy, verb: str) -> None:
    """Two failures in a row, of the service or of the connection, are not noticed."""
    for mode in ("status", "reset"):
        between.set(mode, count=2, code=503)
        VERBS[verb](storage)
        assert between.hits == 2


def test_an_answer_that_the_sdk_cannot_read(storage: AzureStorage, between: Proxy) -> None:
    """An error without a message, at which the SDK stumbles, is still told by its status, and a creation's outcome is
    still unknown."""
    between.set("status", code=500, body="<Error><Code>InternalError</Code></Error>")
    with deadline.within(5.0):
        assert storage.create("a/new", b"x") is Created.UNKNOWN
    between.set("status", code=403, body="<Error><Code>AuthorizationFailure</Code></Error>")
    with pytest.raises(AccessDeniedError):
        storage.write("a/new", [[b"x"]])


# -- lost answers -----------------------------------------------------------------------------------------------------


def test_a_lost_answer_to_a_creation(storage: AzureStorage, between: Proxy) -> None:
    """The SDK asks again and hears of its own blob: refused, and what is there is ours. When no try is answered, the
    outcome is unknown."""
    between.set("lost", count=1)
    assert storage.create("a/2", b"mine") is Created.REFUSED
    assert storage.read("a/2") == b"mine"
    between.set("lost")
    assert storage.create("a/3", b"mine") is Created.UNKNOWN
    between.set()
    assert storage.create("a/3", b"other") is Created.REFUSED
    assert storage.read("a/3") == b"mine"


def test_a_lost_answer_and_then_a_certain_failure(
    storage: AzureStorage, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the last try certainly did nothing says nothing about the first, whose answer was lost: unknown."""

    def away(failures: int) -> float:
        between.set("status", code=403, headers={"x-ms-error-code": "AuthorizationFailure"}, body="<Error/>")
        return 0.0

    monkeypatch.setattr("modelstore.storage._azure.transport.backoff", away)
    between.set("lost")
    assert storage.create("a/2", b"mine") is Created.UNKNOWN
    between.set()
    assert storage.read("a/2") == b"mine"


def test_a_creation_that_was_never_sent(server: azurite.Server) -> None:
    """Where nobody listens, nothing was created, and the error says so at once."""
    storage = server.storage(process.free_port())
    with pytest.raises(StorageUnavailableError, match="account's name"):
        storage.create("a/1", b"x")


def test_a_creation_out_of_time(storage: AzureStorage, between: Proxy) -> None:
    """A creation whose answer has not come at the deadline is unknown; one that had no time to begin failed."""
    between.set("stall", s=30)
    with deadline.within(0.5):
        assert storage.create("a/2", b"x") is Created.UNKNOWN
        with pytest.raises(DeadlineExceededError):
            storage.create("a/3", b"x")
    between.set()
    assert [info.key for info in storage.list("")] == ["a/1", "a/2"]


def test_a_lost_answer_to_the_list_of_blocks(storage: AzureStorage, between: Proxy) -> None:
    """Asking again for what was done already is no error."""
    between.set("lost", count=1, match="comp=blocklist")
    assert storage.write("a/2", [[bytes(BLOCK)]] * 2).size == 2 * BLOCK
    assert between.hits == 1
    between.set()
    assert [info.size for info in storage.list("")] == [4, 2 * BLOCK]


# -- bodies that break off --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reset", "truncate"])
def test_a_body_that_breaks_off_is_resumed(storage: AzureStorage, between: Proxy, mode: str) -> None:
    """A read goes on at the byte where the answer broke off."""
    content = bytes(range(256)) * (BLOCK // 128)
    storage.write("a/2", [[content]])
    between.set(mode, after=BLOCK, count=1)
    assert storage.read("a/2") == content
    between.set(mode, after=BLOCK, count=1)
    buffer = bytearray(len(content))
    assert storage.read_into("a/2", 0, memoryview(buffer)) == len(content)
    assert buffer == content
    assert len(between.seen) == 2


def test_an_upload_that_breaks_off_is_repeated(storage: AzureStorage, between: Proxy) -> None:
    """A block whose connection broke in its middle is sent again, from its first byte."""
    content = bytes(range(256)) * (BLOCK // 128)
    between.set("reset_up", after=BLOCK // 2, count=2)
    storage.write("a/2", [[content]])
    assert between.hits == 2
    assert storage.read("a/2") == content


# -- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [("stall", {"s": 60}), ("bandwidth", {"bps": 20}), ("status", {"code": 503})])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_ends_in_time(
    storage: AzureStorage, between: Proxy, verb: str, fault: tuple[str, dict[str, int]]
) -> None:
    """With a server that is silent, that drips, or that is always busy, a call ends soon after its deadline."""
    mode, how = fault
    between.set(mode, **how)
    began = time.monotonic()
    with deadline.within(0.5):
        if verb == "create":
            assert VERBS[verb](storage) is Created.UNKNOWN
        else:
            with pytest.raises((DeadlineExceededError, StorageUnavailableError)):
                VERBS[verb](storage)
    assert time.monotonic() - began < 0.5 + GRACE


def test_a_stall_in_the_middle_of_a_body(storage: AzureStorage, between: Proxy) -> None:
    """The deadline counts in the middle of an answer as at its beginning."""
    storage.write("a/2", [[bytes(2 * BLOCK)]])
    between.set("stall", after=BLOCK, s=60)
    began = time.monotonic()
    with deadline.within(1.0), pytest.raises(DeadlineExceededError):
        storage.read("a/2")
    assert time.monotonic() - began < 1.0 + GRACE


def test_a_client_passed_in_keeps_the_deadline(server: azurite.Server, between: Proxy) -> None:
    """Its own pauses between tries, of a quarter of a minute, do not count then."""
    name = server.container().container_name
    client = BlobServiceClient.from_connection_string(server.connection_string_at(between.port))
    storage = AzureStorage(name, client=client)
    between.set("status", code=503)
    began = time.monotonic()
    with deadline.within(3.0), pytest.raises(ThrottledError):
        storage.read("a/1")
    assert time.monotonic() - began < 3.0 + GRACE


def test_the_clock_is_the_services(storage: AzureStorage, between: Proxy) -> None:
    """The service's time is that of its last answer, an error's too, and costs no request."""
    date = "Fri, 01 Jan 2038 00:00:00 GMT"
    between.set("status", code=403, headers={"Date": date, "x-ms-error-code": "AuthorizationFailure"}, body="<Error/>")
    with pytest.raises(AccessDeniedError):
        storage.read("a/1")
    assert storage.clock().year == 2038
    assert len(between.seen) == 1
    between.set()
    storage.read("a/1")
    assert storage.clock().year < 2038
