"""Processes that all create the same key."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier

from modelstore.storage.base import Created, Storage


def assert_one_winner(storage: Storage, processes: int, turns: int) -> None:
    """Of all processes, started afresh, exactly one is told MADE each turn, and its content is there."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(processes), context.SimpleQueue()
    children = [
        context.Process(target=_create, args=(storage, number, turns, start, results)) for number in range(processes)
    ]
    for child in children:
        child.start()
    told = [results.get() for _ in range(processes * turns)]
    for child in children:
        child.join()
    made = {key: content for key, content, result in told if result == Created.MADE.name}
    assert sorted(result for _, _, result in told) == ["MADE"] * turns + ["REFUSED"] * (processes - 1) * turns
    assert {info.key: storage.read(info.key) for info in storage.list("")} == made


def _create(storage: Storage, number: int, turns: int, start: Barrier, results: object) -> None:
    for turn in range(turns):
        key, content = f"race/{turn}/1", str(number).encode() * 100
        start.wait(60)
        try:
            result = storage.create(key, content).name
        except Exception as error:
            result = repr(error)
        results.put((key, content, result))  # type: ignore[attr-defined]
