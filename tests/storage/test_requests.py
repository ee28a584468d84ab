"""How many requests each call costs, counted on the wire: time and money on S3 are requests.

The server is moto, in this process, so that logs of 10,000 events can be put straight into it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.registry import keys
from tests.registry.helpers import write_log
from tests.servers import moto, proxy
from tests.servers.proxy import Proxy, Seen

pytestmark = pytest.mark.skipif(not moto.available(), reason="moto or boto3 is not installed")

MANY = 10_000
TAIL = MANY % keys.SEGMENT
PREFIX = "some/prefix/"
CHUNK = 16 * 1024 * 1024


class Straight:
    """Puts objects into moto without asking its server."""

    def __init__(self, bucket: str) -> None:
        from moto.s3.models import s3_backends

        self._bucket = bucket
        self._contents: Any = s3_backends["123456789012"]["aws"]

    def create(self, key: str, data: bytes) -> None:
        self._contents.put_object(self._bucket, PREFIX + key, data)


@pytest.fixture(scope="module")
def server() -> Iterator[moto.Server]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    _, port = running.get_host_and_port()
    yield moto.Server(port)
    running.stop()


@pytest.fixture(scope="module")
def counted(server: moto.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxy.serve(tmp_path_factory.mktemp("proxy"), server.port) as between:
        yield between


class Counting:
    """Opens stores on one bucket, and counts the requests that they send."""

    def __init__(self, server: moto.Server, counted: Proxy, bucket: str, folder: Path) -> None:
        self._server = server
        self._proxy = counted
        self._bucket = bucket
        self._folder = folder
        self._machines = 0
        counted.set()

    def on(self, bucket: str) -> Counting:
        """The same on another bucket."""
        return Counting(self._server, self._proxy, bucket, self._folder / bucket)

    def store(self) -> ModelStore:
        """On a fresh machine: nothing in the cache, no index."""
        self._machines += 1
        storage = self._server.storage(
            self._proxy.port, bucket=self._bucket, root_prefix=PREFIX, proofs=self._folder / "proofs"
        )
        return ModelStore(storage, cache_directory=self._folder / f"machine-{self._machines}")

    def requests(self) -> list[Seen]:
        """Those since the last time."""
        seen = self._proxy.seen
        self._proxy.set()
        return seen


@pytest.fixture
def counting(server: moto.Server, counted: Proxy, tmp_path: Path) -> Counting:
    return Counting(server, counted, server.bucket(), tmp_path)


@pytest.fixture(scope="module")
def many(server: moto.Server) -> str:
    """A bucket with a domain of 10,000 models, whose archives are nowhere."""
    bucket = server.bucket()
    write_log(Straight(bucket), "many", MANY)
    return bucket


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "weights.bin"
    file.write_bytes(os.urandom(1000))
    return file


def besides(requests: list[Seen], *patterns: str) -> list[str]:
    """The requests that match none of the patterns."""
    lines = [f"{seen.method} {seen.target}" for seen in requests]
    return [line for line in lines if not any(re.search(pattern, line) for pattern in patterns)]


EVENT = r"^GET .*/domains/many/log/\d+/\d+\.json"
JOINED = r"^GET .*/domains/many/compact/[0-9-]+\.ndjson\.gz"


def test_a_load_from_a_domain_of_one(counting: Counting, weights: Path) -> None:
    """On a fresh machine a load by id takes at most 6 requests besides the archive's chunks, warm at most 2."""
    counting.store().upload("fraud", "one", model=str(weights))
    fresh = counting.store()
    counting.requests()
    assert fresh.load("fraud", "one").read_bytes() == weights.read_bytes()
    cold = besides(counting.requests())
    chunks = 1
    assert len(cold) <= 6 + chunks, cold
    for _ in range(2):
        assert fresh.load("fraud", "one").read_bytes() == weights.read_bytes()
        warm = besides(counting.requests())
        assert len(warm) <= 2, warm


def test_a_load_of_several_chunks(counting: Counting, tmp_path: Path) -> None:
    """Each chunk of a large archive is one request, and nothing else grows with it."""
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(3 * CHUNK))
    counting.store().upload("fraud", "large", model=str(large))
    counting.requests()
    assert counting.store().load("fraud", "large").stat().st_size == 3 * CHUNK
    cold = besides(counting.requests())
    assert len(cold) <= 6 + 5, cold


def test_a_load_from_a_domain_of_ten_thousand(counting: Counting, many: str, weights: Path) -> None:
    """On a fresh machine at most 6 requests besides the log's: joined files, and at most 64 events after them."""
    ten_thousand = counting.on(many)
    ten_thousand.store().upload("many", "the last", model=str(weights))
    fresh = ten_thousand.store()
    ten_thousand.requests()
    assert fresh.load("many", "the last").read_bytes() == weights.read_bytes()
    cold = ten_thousand.requests()
    chunks = 1
    others = besides(cold, EVENT, JOINED)
    assert len(others) <= 6 + chunks, others
    events = len(cold) - len(besides(cold, EVENT))
    joined = len(cold) - len(besides(cold, JOINED))
    assert TAIL < events <= keys.SEGMENT
    assert joined == MANY // keys.BLOCK + MANY % keys.BLOCK // keys.SEGMENT
    fresh.load("many", "the last")
    warm = besides(ten_thousand.requests())
    assert len(warm) <= 2, warm


def test_listing_ten_thousand(counting: Counting, many: str) -> None:
    """At most 250 requests on a fresh machine, and one when it has the index."""
    ten_thousand = counting.on(many)
    fresh = ten_thousand.store()
    assert len(fresh.list_models("many")) >= MANY
    cold = besides(ten_thousand.requests())
    assert len(cold) <= 250, len(cold)
    assert len(fresh.list_models("many")) >= MANY
    warm = besides(ten_thousand.requests())
    assert len(warm) == 1, warm


def test_an_upload_with_a_warm_index(counting: Counting, weights: Path) -> None:
    """At most 8 requests besides parts and compaction; the first one on a machine also proves the endpoint, once."""
    store = counting.store()
    store.upload("fraud", "first", model=str(weights))
    counting.requests()
    store.upload("fraud", "second", model=str(weights))
    small = besides(counting.requests(), r"partNumber=")
    assert len(small) <= 8, small
    again = counting.store()
    again.list_models("fraud")
    counting.requests()
    again.upload("fraud", "third", model=str(weights))
    proven = besides(counting.requests(), r"partNumber=")
    assert len(proven) <= 8, proven


def test_a_large_upload_with_a_warm_index(counting: Counting, tmp_path: Path) -> None:
    """Parts are all that grows with a model."""
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(3 * CHUNK))
    store = counting.store()
    store.upload("fraud", "first", model=str(large))
    counting.requests()
    store.upload("fraud", "second", model=str(large))
    sent = counting.requests()
    others = besides(sent, r"partNumber=")
    assert len(others) <= 8, others
    assert 3 <= len(sent) - len(others) <= 3 * CHUNK // (5 * 1024 * 1024) + 2


def test_an_upload_that_compacts(counting: Counting, server: moto.Server, weights: Path) -> None:
    """Once in 64 uploads a listing and the joined file come on top, and no more."""
    bucket = server.bucket()
    write_log(Straight(bucket), "many", keys.SEGMENT * 3 - 2)
    own = counting.on(bucket)
    store = own.store()
    store.upload("many", "before the last", model=str(weights))
    own.requests()
    store.upload("many", "last of the segment", model=str(weights))
    sent = own.requests()
    compaction = [line for line in besides(sent) if "compact" in line]
    assert len(compaction) == 2, compaction
    assert len(sent) - len(compaction) <= 8


def test_what_is_there_already_costs_one_request(counting: Counting, weights: Path) -> None:
    """With a warm index, records, states and listings of a domain are one listing of the log's end."""
    store = counting.store()
    store.upload("fraud", "one", model=str(weights))
    store.create_model_state("production")
    store.set_model_state("fraud", "one", "production")
    store.get_model_states("fraud", "one")
    counting.requests()
    for ask in (
        lambda: store.get_model_info("fraud", "one"),
        lambda: store.list_models("fraud"),
        lambda: store.model_exists("fraud", "one"),
        lambda: store.model_exists("fraud", "other"),
    ):
        ask()
        asked = besides(counting.requests())
        assert len(asked) == 1, asked
