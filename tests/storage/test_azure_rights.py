"""Azure with SAS tokens that really lack a right: what fails, how, and what still works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

pytest.importorskip("azure.storage.blob")

from azure.core.exceptions import ClientAuthenticationError
from azure.storage.blob import BlobServiceClient

from modelstore.exceptions import AccessDeniedError, CredentialsError, ObjectNotFoundError, StoreNotFoundError
from modelstore.storage.azure import AzureStorage
from modelstore.storage.base import Created
from tests.servers import azurite

pytestmark = pytest.mark.skipif(not azurite.available(), reason="Azurite is not installed")

BLOCK = azurite.SmallBlocks.smallest_part
VERBS: dict[str, Callable[[AzureStorage], object]] = {
    "create": lambda storage: storage.create("a/new", b"x"),
    "write": lambda storage: storage.write("a/small", [[b"x"]]),
    "write_large": lambda storage: storage.write("a/large", [[bytes(BLOCK)]]),
    "read": lambda storage: storage.read("a/1", 0, 3),
    "read_suffix": lambda storage: storage.read("a/1", -3),
    "read_into": lambda storage: storage.read_into("a/1", 0, memoryview(bytearray(3))),
    "list": lambda storage: list(storage.list("a/")),
    "list_children": lambda storage: list(storage.list_children("")),
    "delete": lambda storage: storage.delete(["a/2"]),
    "delete_many": lambda storage: storage.delete(["a/2", "a/3", "a/4"]),
}
NEEDS = {
    "create": "w",
    "write": "w",
    "write_large": "w",
    "read": "r",
    "read_suffix": "r",
    "read_into": "r",
    "list": "l",
    "list_children": "l",
    "delete": "d",
    "delete_many": "d",
}
RIGHTS = {"w": "write", "r": "read", "l": "read", "d": "delete"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[azurite.Server]:
    """One Azurite for all tests of this file."""
    with azurite.serve(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def container(server: azurite.Server) -> str:
    """The name of a container with a few objects."""
    storage = server.storage()
    for number in range(1, 5):
        storage.create(f"a/{number}", b"0123")
    return str(storage.location("")["container"])


@pytest.mark.parametrize("letters", ["rwdl", "rl", "rwl", "rwd", "wdl", "r", "l"])
def test_every_verb_takes_its_right(server: azurite.Server, container: str, letters: str) -> None:
    """A verb works with its right alone, and without it says which one is missing; no other verb minds."""
    storage = server.storage(container=container, sas=letters)
    for name, verb in VERBS.items():
        if NEEDS[name] in letters:
            verb(storage)
            continue
        with pytest.raises(AccessDeniedError) as caught:
            verb(storage)
        assert not isinstance(caught.value, CredentialsError)
        assert str(caught.value.right).endswith(f"blobs/{RIGHTS[NEEDS[name]]}"), name
        assert f"in a SAS token '{NEEDS[name]}'" in str(caught.value)
        assert f"{storage.address}/" in str(caught.value)
        assert "sig=" not in str(caught.value)


def test_a_right_is_missing_even_where_nothing_is(server: azurite.Server, container: str) -> None:
    """Who may not read hears so, not that an object is missing; who may, hears what is missing."""
    with pytest.raises(AccessDeniedError):
        server.storage(container=container, sas="wdl").read("none")
    with pytest.raises(ObjectNotFoundError):
        server.storage(container=container, sas="r").read("none")
    with pytest.raises(AccessDeniedError):
        server.storage(container=container, sas="rwl").delete(["none"])


def test_without_the_right_to_delete_an_interrupted_write_is_still_that(server: azurite.Server, container: str) -> None:
    """The error of a write that was given up is its own, not one of tidying up after it, and nothing is visible."""
    storage = server.storage(container=container, sas="rwl")

    def chunks() -> Iterator[list[bytes]]:
        yield [bytes(BLOCK)]
        raise ValueError("broken chunk")

    with pytest.raises(ValueError, match="broken chunk"):
        storage.write("a/5", chunks())
    assert [info.key for info in storage.list("")] == ["a/1", "a/2", "a/3", "a/4"]
    with pytest.raises(AccessDeniedError, match="blobs/delete"):
        storage.sweep("", storage.clock() + timedelta(days=1))


def test_a_create_is_refused_where_a_token_may_only_create(server: azurite.Server, container: str) -> None:
    """A token for new blobs only makes what is not there."""
    storage = server.storage(container=container, sas="rcl")
    assert storage.create("b/1", b"x") is Created.MADE


def strangers(server: azurite.Server, container: str) -> dict[str, AzureStorage]:
    url, key = server.account_url(), azurite.KEY
    wrong = server.connection_string.replace(key, "A" * 86 + "==")
    late = server.sas(container, "rwdl", timedelta(hours=-1))
    return {
        "expired": AzureStorage(container, account_url=url, credential=late),
        "wrong key": AzureStorage(container, connection_string=wrong),
        "broken key": AzureStorage(container, connection_string=server.connection_string.replace(key, "no key")),
        "altered token": AzureStorage(container, account_url=url, credential=server.sas(container, "r") + "A"),
        "nobody": AzureStorage(container, client=BlobServiceClient(url)),
    }


@pytest.mark.parametrize("who", ["expired", "wrong key", "broken key", "altered token", "nobody"])
def test_bad_credentials(server: azurite.Server, container: str, who: str) -> None:
    """Credentials that are missing, wrong or out of date are told from missing rights, for every verb."""
    storage = strangers(server, container)[who]
    for verb in VERBS.values():
        with pytest.raises(CredentialsError) as caught:
            verb(storage)
        assert storage.address in str(caught.value)
        assert "sig=" not in str(caught.value)


def test_no_credentials_to_be_found() -> None:
    """When azure-identity finds nothing, the error says how one logs in."""
    identity = pytest.importorskip("azure.identity")

    class Nothing:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def get_token(self, *scopes: str, **_: Any) -> None:
            raise self.error

    refused = ClientAuthenticationError("no such application")
    refused.status_code = 400  # by whoever hands out tokens
    for error in (identity.CredentialUnavailableError(message="tried everything"), refused):
        storage = AzureStorage("models", account_url="https://account.blob.core.windows.net", credential=Nothing(error))
        for verb in VERBS.values():
            with pytest.raises(CredentialsError, match="az login.*AZURE_CLIENT_ID"):
                verb(storage)


def test_a_container_that_is_not_there(server: azurite.Server) -> None:
    """Every verb says that there is no such container, and none makes one."""
    storage = server.storage(container="none-such")
    for verb in VERBS.values():
        with pytest.raises(StoreNotFoundError, match="no container 'none-such'"):
            verb(storage)
