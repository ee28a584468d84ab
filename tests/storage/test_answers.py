"""Answers to a commit that are lost, late, doubled or mean nothing: it happens once or not at all, or we say so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from modelstore import ModelStore
from modelstore.exceptions import (
    AccessDeniedError,
    CommitUnknownError,
    ModelExistsException,
    ModelStoreError,
    StorageError,
)
from modelstore.registry.gc import collect
from modelstore.registry.keys import parse_event_key
from modelstore.storage.base import Storage
from tests.servers import backends, proxy
from tests.servers.backends import Backend, Running

CREATION = {
    "s3-moto": r"^PUT .*/log/",
    "gcs-fake": r"^POST .*ifGenerationMatch=0",
    "azure-azurite": r"^PUT .*/log/",
}
"""How the creation of an event looks on the wire."""

CONFLICT = "<Error><Code>ConditionalRequestConflict</Code><Message>Try again.</Message></Error>"

over_http = pytest.mark.parametrize("backend", backends.named(*CREATION))
on_s3 = pytest.mark.parametrize("backend", backends.named("s3-moto"))


@pytest.fixture
def faulty(backend: Backend, servers: Running, tmp_path: Path) -> Iterator[proxy.Proxy]:
    with proxy.serve(tmp_path, servers.server(backend).port) as running:
        yield running


@pytest.fixture
def storage(backend: Backend, servers: Running, faulty: proxy.Proxy) -> Storage:
    return servers.storage(backend, faulty.port)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"weights" * 100)
    return file


@pytest.fixture
def store(storage: Storage, weights: Path) -> ModelStore:
    """A store in which one model lies already, so that the next creation is that of an event."""
    store = ModelStore(storage, timeout=20)
    store.upload("fraud", "before", model=str(weights))
    return store


def numbers(storage: Storage) -> list[int | None]:
    return [parse_event_key(info.key) for info in storage.list("domains/fraud/log/")]


def is_whole(storage: Storage, tmp_path: Path, *ids: str) -> None:
    """A fresh machine sees these models and no others, loads each, and there is no garbage."""
    fresh = ModelStore(storage, cache_directory=tmp_path / "fresh")
    assert fresh.list_models("fraud") == list(reversed(ids))
    for model_id in ids:
        assert fresh.load("fraud", model_id).read_bytes() == b"weights" * 100
    assert collect(fresh._registry, True, timedelta(minutes=-5)).garbage == ()


@over_http
@pytest.mark.parametrize("mode", ["lost", "late", "double"])
def test_one_answer_goes_astray(
    backend: Backend, store: ModelStore, storage: Storage, faulty: proxy.Proxy, weights: Path, tmp_path: Path, mode: str
) -> None:
    """The upload finds its own event and returns: it is there once, under one number, and nothing is left over."""
    faulty.set(mode, match=CREATION[backend.name], count=1, s=0.4)
    assert store.upload("fraud", "one", model=str(weights))["model"]["model_id"] == "one"
    assert faulty.hits == 1
    faulty.set()
    assert numbers(storage) == [1, 2]
    is_whole(storage, tmp_path, "before", "one")


@on_s3
@pytest.mark.parametrize("made", [True, False])
def test_a_conflict_is_no_refusal(
    backend: Backend,
    store: ModelStore,
    storage: Storage,
    faulty: proxy.Proxy,
    weights: Path,
    tmp_path: Path,
    made: bool,
) -> None:
    """S3's 409 leaves it open whether the event was made; it is asked for again until that is known."""
    faulty.set("status", code=409, body=CONFLICT, forward=made, match=CREATION[backend.name], count=3)
    store.upload("fraud", "one", model=str(weights))
    assert faulty.hits == 3
    faulty.set()
    assert numbers(storage) == [1, 2]
    is_whole(storage, tmp_path, "before", "one")


@over_http
@pytest.mark.parametrize("made", [True, False])
def test_no_answer_ever(
    backend: Backend,
    store: ModelStore,
    storage: Storage,
    faulty: proxy.Proxy,
    weights: Path,
    tmp_path: Path,
    made: bool,
) -> None:
    """With no answer to any creation, the caller is told that the outcome is unknown, and the bytes are left to gc."""
    faulty.set("status", code=503, forward=made, match=CREATION[backend.name])
    with pytest.raises(CommitUnknownError) as caught:
        store.upload("fraud", "one", model=str(weights), timeout=3)
    assert caught.value.number == 2
    faulty.set()
    if made:
        is_whole(storage, tmp_path, "before", "one")
    else:
        assert numbers(storage) == [1]
        collected = collect(ModelStore(storage)._registry, grace=timedelta(minutes=-5)).garbage
        assert [item.reason for item in collected] == ["orphan"]
        is_whole(storage, tmp_path, "before")


@on_s3
def test_giving_up_takes_the_number(
    backend: Backend, store: ModelStore, storage: Storage, faulty: proxy.Proxy, weights: Path, tmp_path: Path
) -> None:
    """When answers come back only for the void event, the upload has certainly failed, and its bytes are gone."""
    tries = 6 + 1  # RETRIES, and the first
    faulty.set("status", code=409, body=CONFLICT, match=CREATION[backend.name], count=tries)
    with pytest.raises(StorageError, match="nothing was committed"):
        store.upload("fraud", "one", model=str(weights))
    faulty.set()
    assert numbers(storage) == [1, 2]
    is_whole(storage, tmp_path, "before")
    store.upload("fraud", "one", model=str(weights))
    is_whole(storage, tmp_path, "before", "one")


@over_http
@pytest.mark.parametrize("mode", ["lost", "late", "double"])
def test_two_want_one_id_and_no_answer_is_to_be_trusted(
    backend: Backend, storage: Storage, store: ModelStore, faulty: proxy.Proxy, weights: Path, tmp_path: Path, mode: str
) -> None:
    """Of four that upload one id at once, all of whose answers go astray for a while, one gets it."""
    stores = [ModelStore(storage, cache_directory=tmp_path / f"machine-{number}", timeout=20) for number in range(4)]
    faulty.set(mode, match=CREATION[backend.name], count=6, s=0.3)

    def upload(store: ModelStore) -> bool:
        try:
            store.upload("fraud", "one", model=str(weights))
        except ModelExistsException:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(upload, stores))
    faulty.set()
    assert won.count(True) == 1
    is_whole(storage, tmp_path, "before", "one")


@over_http
def test_a_refusal_is_certain(
    backend: Backend, store: ModelStore, storage: Storage, faulty: proxy.Proxy, weights: Path, tmp_path: Path
) -> None:
    """A commit that the storage forbids has not happened: the error says so, and the bytes are removed at once."""
    faulty.set("status", code=403, body="<Error><Code>AccessDenied</Code></Error>", match=CREATION[backend.name])
    with pytest.raises(AccessDeniedError):
        store.upload("fraud", "one", model=str(weights))
    faulty.set()
    assert numbers(storage) == [1]
    is_whole(storage, tmp_path, "before")


@over_http
def test_a_server_that_dies_before_the_commit(
    backend: Backend, store: ModelStore, storage: Storage, faulty: proxy.Proxy, weights: Path, tmp_path: Path
) -> None:
    """Nobody listens any more: nothing was committed, or the outcome is unknown; when it is back, all is as before."""
    faulty.set("down")
    with pytest.raises(ModelStoreError) as caught:
        store.upload("fraud", "one", model=str(weights), timeout=3)
    assert not isinstance(caught.value, CommitUnknownError), "nothing of it was ever sent"
    faulty.set()
    is_whole(storage, tmp_path, "before")
    store.upload("fraud", "one", model=str(weights))
    is_whole(storage, tmp_path, "before", "one")
