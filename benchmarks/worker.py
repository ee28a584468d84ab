"""One measurement in a fresh process: `python -m benchmarks.worker TASK FOLDER`, the result as JSON on stdout.

"By hand" is what a user does without a store: the framework's own save to a temporary file, a copy into the target
folder, an fsync at the end as durability needs.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TREES = int(os.environ.get("BENCH_TREES", "210"))
LAYERS = int(os.environ.get("BENCH_LAYERS", "16"))  # of 64 MiB each


def store_in(folder: Path, cache: str = "cache") -> Any:
    from modelstore import ModelStore

    return ModelStore.from_file_system(folder / "store", create_directory=True, cache_directory=folder / cache)


def by_hand(save: Callable[[str], object], target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "model")
        save(name)
        shutil.copy(name, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def timed(function: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def settle(folder: Path, size: int = 5 * 2**29) -> None:
    """Write out what earlier runs left, and touch the memory that files of `size` bytes (2.5 GB) will take.

    Nobody is to pay for somebody else's dirty pages. And a virtual machine whose host takes back what is free gets it
    again page by page, ten times as slowly as the pages are written: that would be all that is measured.
    """
    os.sync()
    scratch, block = folder / "scratch", bytes(2**24)
    with open(scratch, "wb", buffering=0) as file:
        for _ in range(size // len(block)):
            file.write(block)
    scratch.unlink()


class Peak:
    """The highest resident memory since `start`, above what it was then, in bytes."""

    def start(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self._status("VmRSS")

    def stop(self) -> int:
        return self._status("VmHWM") - self.before

    @staticmethod
    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@contextmanager
def counted_fsyncs() -> Iterator[list[float]]:
    """The seconds that each fsync took."""
    spent: list[float] = []
    originals = {name: getattr(os, name) for name in ("fsync", "fdatasync")}

    def wrap(original: Callable[[Any], None]) -> Callable[[Any], None]:
        def call(file: Any) -> None:
            start = time.perf_counter()
            original(file)
            spent.append(time.perf_counter() - start)

        return call

    for name, original in originals.items():
        setattr(os, name, wrap(original))
    try:
        yield spent
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def small_classifier() -> Any:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))


def torch_model() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(*[torch.nn.Linear(4096, 4096, bias=False) for _ in range(LAYERS)])


def forest() -> Any:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    data = make_classification(n_samples=60_000, n_features=20, n_informative=8, flip_y=0.3, random_state=0)
    return RandomForestClassifier(n_estimators=TREES, n_jobs=2, random_state=0).fit(*data)


# -- tasks ------------------------------------------------------------------------------------------------------


def small_upload(folder: Path) -> dict[str, Any]:
    import joblib

    clf, store = small_classifier(), store_in(folder)
    first = timed(lambda: store.upload("small", model=clf))
    hand, ours, syncs, counts = [], [], [], []
    for number in range(30):
        hand.append(timed(lambda n=number: by_hand(lambda name: joblib.dump(clf, name), folder / f"hand-{n}")))
        with counted_fsyncs() as spent:
            ours.append(timed(lambda: store.upload("small", model=clf)))
        syncs.append(sum(spent))
        counts.append(len(spent))
    return {
        "first": first,
        "hand": statistics.median(hand),
        "ours": statistics.median(ours),
        "fsync": statistics.median(syncs),
        "fsyncs": statistics.median(counts),
    }


def torch_upload_ours(folder: Path) -> dict[str, Any]:
    model, store, peak = torch_model(), store_in(folder), Peak()
    store.upload("warm", model=model[0])
    settle(folder)
    peak.start()
    seconds = timed(lambda: store.upload("big", model=model))
    return {"seconds": seconds, "peak": peak.stop()}


def torch_upload_hand(folder: Path) -> dict[str, Any]:
    import torch

    model = torch_model()
    by_hand(lambda name: torch.save(model[0], name), folder / "warm.pt")
    settle(folder)
    return {"seconds": timed(lambda: by_hand(lambda name: torch.save(model, name), folder / "hand.pt"))}


def torch_load_ours(folder: Path) -> dict[str, Any]:
    import torch  # noqa: F401

    cache = f"cache-{os.getpid()}"
    store = store_in(folder, cache)
    store.load("warm")
    settle(folder)
    first = timed(lambda: store.load("big"))
    settle(folder)
    again = statistics.median(timed(lambda: store.load("big")) for _ in range(5))
    shutil.rmtree(folder / cache, ignore_errors=True)
    return {"first": first, "again": again}


def torch_load_plain(folder: Path) -> dict[str, Any]:
    import torch

    torch.load(folder / "warm.pt", weights_only=False)
    settle(folder)
    return {
        "first": timed(lambda: torch.load(folder / "hand.pt", weights_only=False)),
        "again": statistics.median(
            timed(lambda: torch.load(folder / "hand.pt", weights_only=False, mmap=True)) for _ in range(5)
        ),
    }


def forest_make(folder: Path) -> dict[str, Any]:
    import joblib

    joblib.dump(forest(), folder / "forest.joblib")
    return {"bytes": (folder / "forest.joblib").stat().st_size}


def forest_ours(folder: Path) -> dict[str, Any]:
    import joblib
    import skops.io

    model = joblib.load(folder / "forest.joblib")
    store = store_in(folder, f"cache-{os.getpid()}")
    store.upload("warm", model=small_classifier())
    store.load("warm")
    settle(folder)
    up = timed(lambda: store.upload("forest", model=model))
    size = store.get_domain("forest")["storage"]["archive"]["size"]
    settle(folder)
    down = timed(lambda: store.load("forest"))
    again = timed(lambda: store.load("forest"))
    settle(folder)
    skops_up = timed(lambda: skops.io.dump(model, folder / "forest.skops"))
    types = skops.io.get_untrusted_types(file=folder / "forest.skops")
    skops_down = timed(lambda: skops.io.load(folder / "forest.skops", trusted=types))
    shutil.rmtree(folder / f"cache-{os.getpid()}", ignore_errors=True)
    return {
        "upload": up, "load": down, "again": again, "bytes": size, "skops_upload": skops_up, "skops_load": skops_down,
    }  # fmt: skip


def forest_hand(folder: Path) -> dict[str, Any]:
    import joblib

    model = joblib.load(folder / "forest.joblib")
    settle(folder)
    up = timed(lambda: by_hand(lambda name: joblib.dump(model, name), folder / "forest-hand"))
    return {"upload": up, "load": timed(lambda: joblib.load(folder / "forest-hand"))}


def many_make(folder: Path) -> dict[str, Any]:
    """10,000 models straight into the log: records as a real upload makes them, and joined files."""
    from benchmarks.many import write_many

    store = store_in(folder)
    record = store.upload("one", model=small_classifier(), metrics={"auc": 0.9}, tags={"team": "x"})
    write_many(store.storage, "many", record, 10_000)
    return {"record bytes": len(json.dumps(record))}


def many_fresh(folder: Path) -> dict[str, Any]:
    from benchmarks.many import CountingStorage

    cache = f"cache-{os.getpid()}"
    store = store_in(folder, cache)
    counting = CountingStorage(store.storage)
    store._registry.storage = store._registry.logs.storage = counting
    seconds = timed(lambda: store.list_models("many"))
    shutil.rmtree(folder / cache, ignore_errors=True)
    return {"seconds": seconds, "reads": counting.reads}


def many_warm(folder: Path) -> dict[str, Any]:
    store = store_in(folder)
    first = timed(lambda: store.list_models("many"))
    return {"seconds": first, "again": statistics.median(timed(lambda: store.list_models("many")) for _ in range(9))}


def state_load(folder: Path) -> dict[str, Any]:
    import skops.io

    store = store_in(folder)
    info = store.upload("state", model=small_classifier())
    store.create_model_state("production")
    store.set_model_state("state", info.model_id, "production")
    out = Path(store.download(folder / "state-files", "state"))
    store.load("state", state="production")
    ours, theirs = [], []
    for _ in range(30):
        ours.append(timed(lambda: store.load("state", state="production")))
        theirs.append(timed(lambda: skops.io.load(out / "model.skops", trusted=[])))
    return {"ours": statistics.median(ours), "framework": statistics.median(theirs)}


TASKS = {
    function.__name__: function
    for function in (
        small_upload, torch_upload_ours, torch_upload_hand, torch_load_ours, torch_load_plain, forest_make,
        forest_ours, forest_hand, many_make, many_fresh, many_warm, state_load,
    )
}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](Path(sys.argv[2]))))
