"""Sixteen processes write to one domain of one bucket at once: nobody's work is lost, and one gets what all want."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import ModelExistsException
from modelstore.registry.keys import parse_event_key
from modelstore.storage.base import Created, Storage
from tests.servers import backends
from tests.servers.backends import Backend, Running

WRITERS = 16

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs a fork server"),
    pytest.mark.parametrize("backend", backends.where(lambda backend: backend.shared)),
]


def in_processes(work: Any, storage: Storage, folder: Path, *arguments: Any) -> list[Any]:
    """What `work` returns in each of 16 processes that begin at the same moment. The storage goes to them by pickle."""
    # Children of a process that has done nothing yet: no client, connection or thread comes to them by the fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["modelstore.model_store", "tests.storage.test_racing"])
    start, queue = context.Barrier(WRITERS), context.Queue()
    children = [
        context.Process(
            target=_child, args=(work, storage, str(folder / f"machine-{number}"), number, start, queue, arguments)
        )
        for number in range(WRITERS)
    ]
    for child in children:
        child.start()
    try:
        results = dict(queue.get(timeout=240) for _ in children)
    finally:
        for child in children:
            child.join(30)
            child.kill()
    for number, (error, _) in sorted(results.items()):
        assert error is None, f"process {number}: {error}"
    return [results[number][1] for number in range(WRITERS)]


def _child(
    work: Any, storage: Storage, cache: str, number: int, start: Any, queue: Any, arguments: tuple[Any, ...]
) -> None:
    os.environ["MODELSTORE_CACHE"] = cache
    try:
        start.wait(200)
        queue.put((number, (None, work(storage, number, *arguments))))
    except BaseException as error:
        queue.put((number, (f"{type(error).__name__}: {error}", None)))
        raise


def upload_many(storage: Storage, writer: int, source: Path, each: int) -> bool:
    """Upload some models, then one whose id all the others want too; whether this process got it."""
    store = ModelStore(storage)
    for number in range(each):
        store.upload("fraud", f"{writer}-{number}", model=str(source))
    try:
        store.upload("fraud", "the one", model=str(source), note=f"of {writer}")
    except ModelExistsException:
        return False
    return True


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


def create_all(storage: Storage, writer: int, count: int) -> list[Created]:
    """Create the same keys as all others do."""
    return [storage.create(f"race/{number}", f"{writer}".encode()) for number in range(count)]


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
