"""`timeout=`, and the calls for code that must not block."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from modelstore import CommitUnknownError, DeadlineExceededError, InvalidArgumentError, ModelStore, deadline
from modelstore.storage.base import Created
from modelstore.storage.memory import MemoryStorage


class SlowStorage(MemoryStorage):
    """Takes `delay` seconds for each request, and keeps the deadline as storages do."""

    delay = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)

    def _wait(self, doing: str, key: str) -> None:
        time.sleep(deadline.at_most(self.delay, doing, key))
        deadline.remaining(doing, key)

    def create(self, key: str, data: bytes) -> Created:
        self._wait("creating", key)
        return super().create(key, data)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self._wait("reading", key)
        return super().read(key, start, end)

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        self._wait("reading", key)
        return super().read_into(key, start, buffer)

    def list(self, prefix: str) -> Any:
        self._wait("listing", prefix)
        return super().list(prefix)

    def list_children(self, prefix: str) -> Any:
        self._wait("listing", prefix)
        return super().list_children(prefix)


class Unanswering(SlowStorage):
    """Never says whether it created something, once `mute` is set."""

    mute = False

    def create(self, key: str, data: bytes) -> Created:
        return Created.UNKNOWN if self.mute else super().create(key, data)


@pytest.fixture
def storage() -> SlowStorage:
    return SlowStorage()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def test_a_call_ends_within_its_timeout(storage: SlowStorage, model: Path, tmp_path: Path) -> None:
    """Each call that meets a slow storage raises DeadlineExceededError, with what was given, and soon."""
    store = ModelStore(storage)
    store.create_model_state("s")
    store.upload("d", "one", model=model)
    storage.delay = 30.0
    calls = {
        "upload": lambda: store.upload("d", "two", model=model, timeout=0.2),
        "load": lambda: store.load("d", "one", timeout=0.2),
        "download": lambda: store.download(tmp_path / "out", "d", "one", timeout=0.2),
        "files": lambda: store.files("d", timeout=0.2),
        "list_models": lambda: store.list_models("d", timeout=0.2),
        "get_model_info": lambda: store.get_model_info("d", "one", timeout=0.2),
        "set_model_state": lambda: store.set_model_state("d", "one", "s", timeout=0.2),
        "delete_model": lambda: store.delete_model("d", "one", skip_prompt=True, timeout=0.2),
        "gc": lambda: store.gc(timeout=0.2),
        "doctor": lambda: store.doctor(timeout=0.2),
    }
    for name, call in calls.items():
        begun = time.monotonic()
        with pytest.raises(DeadlineExceededError) as caught:
            call()
        assert caught.value.seconds == 0.2, name
        assert time.monotonic() - begun < 10, name
    storage.delay = 0.0
    assert store.list_models("d") == ["one"]


def test_every_call_that_may_wait_takes_a_timeout() -> None:
    """All public methods but the constructors and the old names have the keyword `timeout`."""
    methods = {
        name: method
        for name, method in inspect.getmembers(ModelStore, inspect.isfunction)
        if not name.startswith("_") and not inspect.ismethod(method)
    }
    assert len(methods) > 20
    assert [name for name, method in methods.items() if "timeout" not in inspect.signature(method).parameters] == []


def test_a_store_has_a_timeout_that_calls_override(storage: SlowStorage, model: Path) -> None:
    """The store's counts where a call has none, and goes along when it is pickled."""
    storage.delay = 0.3
    store = ModelStore(storage, timeout=0.05)
    with pytest.raises(DeadlineExceededError, match="0.05 s"):
        store.list_models("d")
    copy = pickle.loads(pickle.dumps(store))
    copy.storage.delay = 0.3
    with pytest.raises(DeadlineExceededError, match="0.05 s"):
        copy.list_domains()
    store.upload("d", "one", model=model, timeout=60)
    assert store.list_models("d", timeout=60) == ["one"]


def test_threads_that_read_for_a_call_keep_its_deadline(tmp_path: Path) -> None:
    """The chunks of an archive are read by several threads; none of them waits longer than the call may."""
    storage = SlowStorage()
    many = tmp_path / "many"
    many.mkdir()
    for number in range(5):
        (many / f"{number}.bin").write_bytes(bytes([number]) * (5 << 20))
    store = ModelStore(storage)
    store.upload("d", "one", model=many)
    seen: set[str] = set()
    reading = storage.read_into

    def stalled(key: str, start: int, buffer: memoryview) -> int:
        seen.add(threading.current_thread().name)
        storage.delay = 30.0
        return reading(key, start, buffer)

    storage.read_into = stalled  # type: ignore[method-assign]
    begun = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        store.load("d", "one", timeout=1.0)
    assert time.monotonic() - begun < 15
    assert len(seen) > 1


def test_a_commit_without_an_answer_says_so(tmp_path: Path, model: Path) -> None:
    """When the time ends while the storage does not say whether it took the event, the outcome is unknown."""
    storage = Unanswering()
    store = ModelStore(storage)
    store.upload("d", "one", model=model)
    storage.mute = True
    begun = time.monotonic()
    with pytest.raises(CommitUnknownError):
        store.upload("d", "two", model=model, timeout=0.3)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "10", True])
def test_what_is_no_timeout_is_refused(storage: SlowStorage, timeout: Any) -> None:
    """Neither a store nor a call takes one that is no positive number."""
    with pytest.raises(InvalidArgumentError, match="timeout"):
        ModelStore(storage, timeout=timeout)
    with pytest.raises(InvalidArgumentError, match="timeout"):
        ModelStore(storage).list_domains(timeout=timeout)


def test_nothing_blocks_the_event_loop(storage: SlowStorage, model: Path, tmp_path: Path) -> None:
    """While uploads, loads and downloads wait for a storage, other tasks go on; results are those of the methods."""
    storage.delay = 0.1
    store = ModelStore(storage)

    async def run() -> tuple[int, Any, str]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        record = await store.aupload("d", "one", model=model)
        assert record.model_id == "one"
        loaded, path = await asyncio.gather(store.aload("d", "one"), store.adownload(tmp_path / "out", "d"))
        ticking.cancel()
        return ticks, loaded, path

    ticks, loaded, path = asyncio.run(run())
    assert ticks > 10
    assert loaded.read_bytes() == b"weights"
    assert (Path(path) / "model.bin").read_bytes() == b"weights"


def test_what_is_awaited_has_the_methods_signature_and_errors(storage: SlowStorage, model: Path) -> None:
    """aload is load: same arguments, same errors, same timeout."""
    store = ModelStore(storage)
    store.upload("d", "one", model=model)
    for name in ("upload", "load", "download"):
        method, awaited = getattr(ModelStore, name), getattr(ModelStore, f"a{name}")
        assert inspect.signature(awaited) == inspect.signature(method)
        assert inspect.iscoroutinefunction(awaited)
        assert awaited.__name__ == f"a{name}"
    storage.delay = 30.0
    with pytest.raises(DeadlineExceededError):
        asyncio.run(store.aload("d", "one", timeout=0.1))
    with pytest.raises(TypeError):
        asyncio.run(store.aload("d", "one", timeuot=0.1))  # type: ignore[call-arg]
