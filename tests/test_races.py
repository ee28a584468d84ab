"""Many processes at once: nobody's work is lost, and of those who want one id exactly one gets it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import ModelExistsException
from modelstore.registry.keys import parse_event_key

WRITERS = 16
EACH = 20

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="these tests fork")


def _upload_many(root: Path, source: Path, writer: int, start: Any, queue: Any) -> None:
    store = ModelStore.from_file_system(root)
    start.wait()
    for number in range(EACH):
        store.upload("fraud", model_id=f"{writer}-{number}", model=str(source))
    try:
        queue.put((writer, store.upload("fraud", model_id="the one", model=str(source), note=str(writer)).note))
    except ModelExistsException:
        queue.put((writer, None))


def _load_many(root: Path, start: Any, queue: Any) -> None:
    store = ModelStore.from_file_system(root)
    start.wait()
    queue.put([store.load("fraud", "shared", verify="full").read_bytes() for _ in range(3)])


def run(target: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:
    """All of them at once, each with what it put into the queue."""
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    children = [context.Process(target=target, args=(*given, start, queue)) for given in arguments]
    for child in children:
        child.start()
    start.set()
    results = [queue.get(timeout=120) for _ in children]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    return results


def test_sixteen_processes_upload_to_one_domain(tmp_path: Path) -> None:
    """16 × 20 uploads at once: all 320 are there, numbered without gaps; of 16 uploads of one id one wins."""
    source = tmp_path / "model.bin"
    source.write_bytes(b"weights")
    root = tmp_path / "store"
    root.mkdir()
    answers = run(_upload_many, [(root, source, writer) for writer in range(WRITERS)])
    winners = [note for _, note in answers if note is not None]
    assert len(winners) == 1
    store = ModelStore.from_file_system(root)
    ids = store.list_models("fraud")
    expected = {f"{writer}-{number}" for writer in range(WRITERS) for number in range(EACH)} | {"the one"}
    assert len(ids) == len(expected) == WRITERS * EACH + 1
    assert set(ids) == expected
    assert store.get_model_info("fraud", "the one").note == winners[0]
    numbers = [parse_event_key(info.key) for info in store.storage.list("domains/fraud/log/")]
    assert numbers == list(range(1, len(expected) + 1))
    archives = [info.key for info in store.storage.list("archives/")]
    assert len(archives) == len(expected), "the bytes of those who lost are gone"


def test_processes_load_one_model_into_one_cache(tmp_path: Path) -> None:
    """Eight processes fill the cache with one model at once: each gets the model, and one copy stays."""
    source = tmp_path / "model.bin"
    source.write_bytes(os.urandom(300_000))
    root = tmp_path / "store"
    root.mkdir()
    ModelStore.from_file_system(root).upload("fraud", model_id="shared", model=str(source))
    for contents in run(_load_many, [(root,)] * 8):
        assert contents == [source.read_bytes()] * 3
