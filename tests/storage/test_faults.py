"""Everything that networks do, at random: what returns is right, what fails says so in time, and the store stays whole.

`MODELSTORE_TEST_FAULTS` says how many uploads, and as many loads, each storage goes through (30);
`MODELSTORE_TEST_SEED` repeats what one run drew, as far as threads allow.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import CommitUnknownError, DeadlineExceededError, DomainNotFoundException, ModelStoreError
from modelstore.registry.gc import collect
from modelstore.storage.base import Storage
from tests.servers import backends, proxy
from tests.servers.backends import Backend, Running

TIMES = int(os.environ.get("MODELSTORE_TEST_FAULTS", "30"))
SEED = int(os.environ.get("MODELSTORE_TEST_SEED", random.SystemRandom().randrange(10**6)))
CLIENTS = 8
DOMAINS = 4
DEADLINE = 10.0
"""Seconds for each call."""
SLACK = 3.0
"""Seconds that a call may take beyond its deadline, on a machine that has other things to do."""
STALL = 1.0
"""Seconds for which the proxy says nothing, and then breaks the connection."""

BUSY: dict[str, dict[str, Any]] = {
    "s3-moto": {"body": "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"},
    "gcs-fake": {
        "body": '{"error": {"code": 503, "message": "Backend Error"}}',
        "headers": {"Content-Type": "application/json"},
    },
    "azure-azurite": {
        "body": "<Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>",
        "headers": {"x-ms-error-code": "ServerBusy"},
    },
}
"""How each service says 503."""


@dataclass
class Tally:
    """What became of all calls."""

    returned: dict[tuple[str, str], bytes] = field(default_factory=dict)
    unknown: dict[tuple[str, str], bytes] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    loaded: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    late: list[str] = field(default_factory=list)


class Client:
    """Uploads and loads by turns, and notes what came of it."""

    def __init__(self, number: int, storage: Storage, folder: Path, tally: Tally) -> None:
        self._number = number
        self._storage = storage
        self._folder = folder
        self._tally = tally
        self._draw = random.Random(SEED * 1000 + number)
        self._machines = 0
        self._store = self._machine()

    def work(self, times: int) -> None:
        for number in range(times):
            self._upload(number)
            if self._draw.random() < 0.3:
                self._store = self._machine()
            self._load()

    def _machine(self) -> ModelStore:
        """A store on a machine that knows nothing yet."""
        self._machines += 1
        cache = self._folder / f"client-{self._number}-{self._machines}"
        return ModelStore(self._storage, cache_directory=cache, timeout=DEADLINE, progress=False)

    def _upload(self, number: int) -> None:
        domain, model_id = f"domain {self._draw.randrange(DOMAINS)}", f"{self._number}-{number}"
        # A few in several parts, most in one.
        (size,) = self._draw.choices([100, 5_000, 200_000, 2_000_000, 11_000_000], [4, 3, 3, 1, 1])
        file = self._folder / f"{model_id}.bin"
        content = self._draw.randbytes(size)
        file.write_bytes(content)
        error = self._in_time(lambda: self._store.upload(domain, model_id, model=str(file)))
        name = (domain, model_id)
        if error is None:
            self._tally.returned[name] = content
        elif isinstance(error, CommitUnknownError):
            self._tally.unknown[name] = content
        else:
            self._tally.failed[name] = f"{type(error).__name__}: {error}"
        file.unlink()

    def _load(self) -> None:
        known = list(self._tally.returned.items())
        if not known:
            return
        (domain, model_id), content = self._draw.choice(known)
        loaded: list[bytes] = []
        error = self._in_time(lambda: loaded.append(self._store.load(domain, model_id).read_bytes()))
        if error is None:
            assert loaded == [content], f"{model_id} of {domain} is not what was uploaded"
            self._tally.loaded += 1

    def _in_time(self, call: Callable[[], object]) -> ModelStoreError | None:
        start = time.monotonic()
        try:
            call()
            error = None
        except ModelStoreError as raised:
            error = raised
        took = time.monotonic() - start
        if took > DEADLINE + SLACK:
            self._tally.late.append(f"{took:.1f} s: {error!r}")
        self._tally.errors[type(error).__name__ if error else "none"] += 1
        return error


@pytest.fixture
def faulty(backend: Backend, servers: Running, tmp_path: Path) -> Iterator[proxy.Proxy]:
    """A proxy in front of the backend's server."""
    with proxy.serve(tmp_path, servers.server(backend).port) as running:
        yield running


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", backends.named(*BUSY))
def test_faults_at_random(
    backend: Backend, servers: Running, faulty: proxy.Proxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call returns what is right or raises one of our errors in time; afterwards the store is consistent.

    What was uploaded is listed and loads, what failed is not there, what is unknown is there whole or not at all, and
    gc finds orphans and nothing else.
    """
    storage = servers.storage(backend, faulty.port)
    ModelStore(storage).create_model_state("made while all is well")
    tally = Tally()
    clients = [Client(number, storage, tmp_path, tally) for number in range(CLIENTS)]
    faulty.set("random", seed=SEED, rate=0.12, s=STALL, **BUSY[backend.name])
    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda client: client.work(-(-TIMES // CLIENTS)), clients))
    struck = faulty.hits_by_mode
    faulty.set()
    with capsys.disabled():
        print(
            f"\n{backend}: seed {SEED}, {time.monotonic() - start:.0f} s; faults {struck}; "
            f"{len(tally.returned)} uploaded, {tally.loaded} loaded; {dict(tally.errors)}"
        )
    assert tally.late == []
    assert sum(struck.values()) > TIMES / 3, "the proxy did what it should"
    assert len(tally.returned) > TIMES / 4, "most faults are overcome"
    check(ModelStore(storage, cache_directory=tmp_path / "check"), tally)


def check(store: ModelStore, tally: Tally) -> None:
    """The store holds what it must, and nothing that it must not."""
    listed = {(domain, model_id) for domain in store.list_domains() for model_id in store.list_models(domain)}
    assert set(tally.returned) - listed == set(), "what was uploaded is listed"
    assert listed & set(tally.failed) == set(), [tally.failed[name] for name in listed & set(tally.failed)]
    assert listed <= set(tally.returned) | set(tally.unknown)
    for name in listed:
        expected = tally.returned.get(name) or tally.unknown[name]
        assert store.load(*name, verify="full").read_bytes() == expected
    garbage = collect(store._registry, grace=timedelta(minutes=-5)).garbage
    assert {item.reason for item in garbage} <= {"orphan"}
    for name in listed:
        assert store.files(*name), "gc has left what it must"
    assert collect(store._registry, True, timedelta(minutes=-5)).garbage == ()


@pytest.mark.parametrize("mode", ["stall", "refuse", "down"])
@pytest.mark.parametrize("backend", backends.named(*BUSY))
def test_no_call_outlives_its_deadline(
    backend: Backend, servers: Running, faulty: proxy.Proxy, tmp_path: Path, mode: str
) -> None:
    """With a server that says nothing, or is not there, each call ends with an error of ours when its time is over."""
    storage = servers.storage(backend, faulty.port)
    file = tmp_path / "weights.bin"
    file.write_bytes(os.urandom(11_000_000))
    store = ModelStore(storage)
    store.upload("fraud", "one", model=str(file))
    fresh = ModelStore(storage, cache_directory=tmp_path / "fresh")
    faulty.set(mode)
    calls: list[Callable[[], object]] = [
        lambda: store.upload("fraud", "two", model=str(file), timeout=1.5),
        lambda: fresh.load("fraud", "one", timeout=1.5),
        lambda: fresh.list_models("fraud", timeout=1.5),
        lambda: store.list_domains(timeout=1.5),
        lambda: store.delete_model("fraud", "one", skip_prompt=True, purge=True, timeout=1.5),
        lambda: store.gc(timeout=1.5),
    ]
    for call in calls:
        start = time.monotonic()
        with pytest.raises(ModelStoreError) as caught:
            call()
        assert time.monotonic() - start < 1.5 + SLACK
        assert not isinstance(caught.value, DomainNotFoundException), "not to be reached is not the same as not there"
        if mode == "stall":
            assert isinstance(caught.value, (DeadlineExceededError, CommitUnknownError))
    faulty.set()
    assert fresh.load("fraud", "one").read_bytes() == file.read_bytes()
