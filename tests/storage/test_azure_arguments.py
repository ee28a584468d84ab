"""The arguments of the storage on Azure, and the grant that it asks for: no request is made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("azure.storage.blob")

from azure.storage.blob import BlobServiceClient

from modelstore.exceptions import InvalidArgumentError, MissingDependencyError
from modelstore.storage.azure import AzureStorage

URL = "https://account.blob.core.windows.net"
KEY = "a2V5"


def test_an_address_holds_no_secret() -> None:
    """The address names account, container and prefix, and neither key nor SAS token, wherever they were given."""
    token = "sv=2024-01-01&sp=r&sig=secret%3D"
    for storage in (
        AzureStorage("models", "/team/a/", account_url=f"{URL}?{token}"),
        AzureStorage("models", "team/a", account_url=URL + "/", credential="?" + token),
        AzureStorage("models", "team/a", account_url=URL, credential=KEY),
        AzureStorage("models", "team/a", connection_string=f"AccountName=account;AccountKey={KEY}"),
        AzureStorage("models", "team/a", connection_string=f"BlobEndpoint={URL};SharedAccessSignature={token}"),
        AzureStorage("models", "team/a", client=BlobServiceClient(f"{URL}?{token}")),
    ):
        assert storage.address == f"{URL}/models/team/a"
        assert repr(storage) == f"AzureStorage('{URL}/models/team/a')"
    assert AzureStorage("models", account_url=URL, credential=token).address == f"{URL}/models"


def test_location_is_the_ancestors() -> None:
    """A record says where an archive lies in the ancestor's terms: the container, and the blob's whole name."""
    storage = AzureStorage("models", "team", account_url=URL, credential=KEY)
    location = storage.location("archives/a")
    assert (location["type"], location["container"]) == ("azure:blob-storage", "models")
    assert location["prefix"] == "team/archives/a"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "one of connection_string="),
        ({"connection_string": "", "account_url": URL}, "one of connection_string="),
        ({"connection_string": "no connection string"}, "connection_string= or credential= cannot be used"),
        ({"account_url": "http://127.0.0.1:1/account"}, "account_url= or credential= cannot be used"),
        ({"account_url": URL, "credential": KEY, "access_tier": "Archive"}, "nothing in it can be read"),
        ({"account_url": URL, "credential": KEY, "access_tier": "Tepid"}, "Cold, Cool, Hot"),
        ({"account_url": URL, "client": "a client"}, "pass it alone"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], said: str) -> None:
    """Arguments that do not go together, or that the SDK refuses, are an error before any request."""
    with pytest.raises(InvalidArgumentError, match=said):
        AzureStorage("models", **arguments)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_what_is_no_container(name: str) -> None:
    """A container has a name without slashes."""
    with pytest.raises(InvalidArgumentError, match="container"):
        AzureStorage(name, account_url=URL, credential=KEY)


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SDK, or without azure-identity where credentials are to be found, the error says what to install."""
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'modelstore[azure]'")) as caught:
        AzureStorage("models", account_url=URL)
    assert caught.value.package == "azure-identity"
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'modelstore[azure]'")) as caught:
        AzureStorage("models", account_url=URL, credential=KEY)
    assert caught.value.package == "azure-storage-blob"


def test_importing_it_imports_no_sdk() -> None:
    """The module can be imported where the SDK is not installed."""
    code = "import sys, modelstore.storage.azure; print({'azure', 'requests', 'urllib3'} & set(sys.modules) or 'none')"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "none"


def test_a_url_alone_finds_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account's URL without credentials means those that azure-identity finds; with a SAS token it does not."""
    identity = pytest.importorskip("azure.identity")
    made: list[object] = []
    found = identity.DefaultAzureCredential
    monkeypatch.setattr(identity, "DefaultAzureCredential", lambda: made.append(found()) or made[-1])
    AzureStorage("models", account_url=f"{URL}?sv=1&sig=x")
    assert made == []
    AzureStorage("models", account_url=URL)
    assert len(made) == 1


def test_the_policy_names_what_is_needed() -> None:
    """The grant is a role with four data actions, on this container only, and below this prefix only."""
    text = AzureStorage("models", "team", account_url=URL, credential=KEY).policy()
    role = json.loads(text[text.index("'{") + 1 : text.index("}'") + 1])
    assert [action.rpartition("blobs/")[2] for action in role["DataActions"]] == [
        "read",
        "write",
        "add/action",
        "delete",
    ]
    assert role["Actions"] == []
    assert text.count("storageAccounts/account/blobServices/default/containers/models") == 2
    assert text.count("StringStartsWith 'team/'") == 2
    assert "--permissions rwdl" in text
    script = "set -eu; az() { :; }; WHO=a SUBSCRIPTION=b GROUP=c UNTIL=d\n" + text
    subprocess.run(["bash", "-c", script], check=True)


def test_the_policy_of_a_whole_container_has_no_condition() -> None:
    """Without a prefix the roles hold for the whole container."""
    assert "CONDITION" not in AzureStorage("models", account_url=URL, credential=KEY).policy()
