"""S3 keeps the contract on moto."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("boto3")

from modelstore.storage.s3 import S3Storage
from modelstore.testing import StorageContract
from tests.servers import moto

pytestmark = pytest.mark.skipif(not moto.available(), reason="moto is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[moto.Server]:
    """One moto for all tests of this file."""
    with moto.serve(tmp_path_factory.mktemp("moto")) as running:
        yield running


class TestS3OnMoto(StorageContract):
    """The contract."""

    chunk_size = 5 * moto.MIB
    held_chunks = 11
    same_content_seconds = 1.0

    @pytest.fixture
    def storage(self, server: moto.Server) -> S3Storage:
        """A storage in a bucket of its own."""
        return server.storage()
