"""Azure Blob Storage keeps the contract, on Azurite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("azure.storage.blob")

from modelstore.storage.azure import AzureStorage
from modelstore.testing import StorageContract
from tests.servers import azurite

pytestmark = pytest.mark.skipif(not azurite.available(), reason="Azurite is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[azurite.Server]:
    """One Azurite for all tests of this file."""
    with azurite.serve(tmp_path_factory.mktemp("azurite")) as running:
        yield running


class TestAzure(StorageContract):
    """The contract, with the account's key."""

    chunk_size = azurite.SmallBlocks.smallest_part
    held_chunks = 11

    @pytest.fixture
    def storage(self, server: azurite.Server) -> AzureStorage:
        """A storage over a new container, below a prefix."""
        return server.storage(root_prefix="team/models")
