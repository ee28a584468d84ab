"""Sixteen processes write to one domain of one bucket at once: nobody's work is lost, and one gets what all want."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelstore import ModelStore
from modelstore.registry.keys import parse_event_key
from modelstore.storage.base import Created
from tests.servers import backends
from tests.servers.backends import Backend, Running
from tests.storage.racers import WRITERS, create_all, in_processes, upload_many

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs a fork server"),
    pytest.mark.parametrize("backend", backends.where(lambda backend: backend.shared)),
]


def test_uploads_to_one_domain(backend: Backend, servers: Running, tmp_path: Path) -> None:
    """All uploads of all processes are there, numbered without gaps; of those of one id exactly one has won."""
    storage = servers.storage(backend)
    source = tmp_path / "model.bin"
    source.write_bytes(b"weights")
    won = in_processes(upload_many, storage, tmp_path, source, backend.each)
    assert won.count(True) == 1
    assert won.count(False) == WRITERS - 1
    store = ModelStore(storage)
    ids = store.list_models("fraud")
    expected = {f"{writer}-{number}" for writer in range(WRITERS) for number in range(backend.each)} | {"the one"}
    assert len(ids) == len(expected) == WRITERS * backend.each + 1
    assert set(ids) == expected
    assert store.get_model_info("fraud", "the one").note == f"of {won.index(True)}"
    assert store.load("fraud", "the one").read_bytes() == b"weights"
    numbers = [parse_event_key(info.key) for info in storage.list("domains/fraud/log/")]
    assert numbers == list(range(1, len(expected) + 1))
    assert len(list(storage.list("archives/"))) == len(expected), "the bytes of those who lost are gone"


def test_creations_of_the_same_keys(backend: Backend, servers: Running, tmp_path: Path) -> None:
    """Of 16 processes that create one key, exactly one is told that it has made it, and its bytes are there."""
    storage = servers.storage(backend)
    count = 4 * backend.each
    outcomes = in_processes(create_all, storage, tmp_path, count)
    for number in range(count):
        answers = [outcomes[writer][number] for writer in range(WRITERS)]
        assert answers.count(Created.MADE) == 1
        assert answers.count(Created.REFUSED) == WRITERS - 1
        assert storage.read(f"race/{number}") == f"{answers.index(Created.MADE)}".encode()
