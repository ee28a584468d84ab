"""Processes that write to one storage at the same moment. Imports little: each of them imports it."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

from modelstore import ModelStore
from modelstore.exceptions import ModelExistsException
from modelstore.storage.base import Created, Storage

WRITERS = 16


def in_processes(work: Any, storage: Storage, folder: Path, *arguments: Any) -> list[Any]:
    """What `work` returns in each of 16 processes that begin at the same moment. The storage goes to them by pickle."""
    # Children of a process that has done nothing yet: no client, connection or thread comes to them by the fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["modelstore.model_store", "tests.storage.racers"])
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
        results = dict(_results(children, queue))
        for child in children:
            child.join(30)
    finally:
        for child in children:
            child.kill()
    for number, (error, _) in sorted(results.items()):
        assert error is None, f"process {number}: {error}"
    return [results[number][1] for number in range(WRITERS)]


def _results(children: list[Any], queue: Any) -> Iterator[tuple[int, tuple[str | None, Any]]]:
    until = time.monotonic() + 240
    left = len(children)
    while left:
        try:
            yield queue.get(timeout=1)
            left -= 1
        except Empty:
            # One that could not even begin says nothing, and the others would wait for it.
            died = [child.exitcode for child in children if child.exitcode]
            assert not died, f"processes ended with {died} before they began"
            assert time.monotonic() < until, f"{left} processes have not ended"


def _child(
    work: Any, storage: Storage, cache: str, number: int, start: Any, queue: Any, arguments: tuple[Any, ...]
) -> None:
    os.environ["MODELSTORE_CACHE"] = cache
    try:
        start.wait(200)
        queue.put((number, (None, work(storage, number, *arguments))))
    except BaseException as error:
        queue.put((number, (f"{type(error).__name__}: {error}", None)))


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


def create_all(storage: Storage, writer: int, count: int) -> list[Created]:
    """Create the same keys as all others do."""
    return [storage.create(f"race/{number}", f"{writer}".encode()) for number in range(count)]
