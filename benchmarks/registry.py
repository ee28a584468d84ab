"""Searching many models: `python -m benchmarks.registry [--models 100000] [--domains 200] [--url URL] [--mlflow
PYTHON]`.

The models are written straight into the logs, as so many uploads would have left them. Each question is asked in a
process that has the index on disk: its first answer is left out, the median of the others counts, without the look at
the storage (`max_age=`), whose cost stands beside it. MLflow (on SQLite, in an environment of its own) is asked the
same of as many models.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEAMS = ("fincrime", "credit", "marketing", "ops", "research")
WORDS = ("smote", "weights", "recall", "precision", "calibrated", "baseline", "tuned", "threshold", "leak", "promising")


def vary(model: dict[str, Any], number: int) -> None:
    """What differs from model to model."""
    chance = random.Random(number)
    model["metrics"] = {"auc": chance.random(), "loss": chance.random()} if number % 50 else {"loss": chance.random()}
    model["tags"] = {"team": TEAMS[number % 5], "stage": chance.choice(("dev", "test"))}
    model["note"] = " ".join(chance.sample(WORDS, 4))
    model["parameters"]["C"] = chance.random()


def make(url: str, models: int, domains: int) -> None:
    """Fill a store."""
    from sklearn.linear_model import LogisticRegression

    from benchmarks.many import write_many
    from modelstore import ModelStore

    with tempfile.TemporaryDirectory() as scratch:
        small = ModelStore.from_file_system(scratch, cache_directory=Path(scratch) / "cache")
        record = small.upload("d", model=LogisticRegression().fit([[0], [1]], [0, 1]))
    store = ModelStore.from_url(url, create_directory=True, cache_directory=tempfile.mkdtemp())
    store.create_model_state("production")  # so that there is a store
    for at in range(domains):
        write_many(store.storage, f"domain {at}", record, models // domains, vary)


def ask(url: str, cache: str, runs: int) -> dict[str, float]:
    """The figures of one process, in seconds and bytes."""
    from modelstore import ModelStore

    store = ModelStore.from_url(url, cache_directory=cache)
    found: dict[str, float] = {}
    start = time.perf_counter()
    store.search(limit=1)
    found["refresh"] = time.perf_counter() - start
    old = {"max_age": 3600.0}
    questions: dict[str, Callable[[], Any]] = {
        "search, filter and order, all domains": lambda: store.search(
            "metrics.auc > 0.5 and tags.team == 'fincrime'", order_by="-metrics.auc", limit=20, **old
        ),
        "search, selective filter, all domains": lambda: store.search("metrics.auc > 0.999", **old),
        "search, filter and order, all results": lambda: store.search(
            "tags.team == 'fincrime' and metrics.auc > 0.9", order_by="-metrics.auc", **old
        ),
        "search, filter and order, one domain": lambda: store.search(
            "metrics.auc > 0.5", domain="domain 0", order_by="-metrics.auc", **old
        ),
        "full text, all domains": lambda: store.search(text="smote leak", limit=20, **old),
    }
    for name, question in questions.items():
        found[name] = _median(question, runs)
    found["list_models"] = _median(lambda: store.list_models("domain 1"), runs)
    found["leaderboard"] = _median(lambda: store.leaderboard("domain 1", "auc"), runs)
    found["history"] = _median(lambda: store.history("domain 1"), runs)
    lines = Path("/proc/self/status").read_text().splitlines()  # not getrusage, which counts what was before exec
    found["memory"] = next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("VmHWM"))
    return found


def _median(question: Callable[[], Any], runs: int) -> float:
    question()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        question()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def index_size(cache: str) -> int:
    """Bytes of the local index."""
    return sum(path.stat().st_size for path in Path(cache).rglob("*.sqlite*"))


def _elsewhere(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.registry", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def measure(url: str, models: int, domains: int, runs: int) -> None:
    """Print the table for one size."""
    make(url, models, domains)
    cache = tempfile.mkdtemp(prefix="bench-cache-")
    try:
        fresh = _elsewhere("--ask", url, cache, "--runs", "1")
        warm = _elsewhere("--ask", url, cache, "--runs", str(runs))
        print(f"\n{models:,} models in {domains} domains; index {index_size(cache) / 1e6:.0f} MB\n")
        print("| what | warm median | at most | |\n| --- | --- | --- | --- |")
        for name, seconds in warm.items():
            if name not in ("refresh", "memory"):
                met = "met" if seconds < 0.1 else "**missed**"
                print(f"| {name} | {seconds * 1000:.1f} ms | 100 ms | {met} |")
        print(f"\nfresh index: {fresh['refresh']:.1f} s, {fresh['refresh'] / models * 1e6:.0f} µs a model")
        print(f"refresh with nothing new: {warm['refresh']:.2f} s")
        print(f"memory: fresh {fresh['memory'] / 1e6:.0f} MB, warm {warm['memory'] / 1e6:.0f} MB (at most 500 MB)")
    finally:
        shutil.rmtree(cache, ignore_errors=True)


MLFLOW = """
import json, os, random, statistics, sys, time
count, runs, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
import mlflow
from mlflow.tracking import MlflowClient
uri = f"sqlite:///{folder}/mlflow.db"
mlflow.set_tracking_uri(uri); mlflow.set_registry_uri(uri)
client = MlflowClient()
teams = ("fincrime", "credit", "marketing", "ops", "research")
names = [f"domain {at}" for at in range(20)]
for name in names:
    client.create_registered_model(name)
for number in range(count):
    client.create_model_version(names[number % 20], f"{folder}/m/{number}", tags={"team": teams[number % 5], "stage":
    "dev"})
def ask():
    start = time.perf_counter()
    client.search_model_versions("tags.team = 'fincrime'", max_results=20, order_by=["creation_timestamp DESC"])
    return time.perf_counter() - start
ask()
print(json.dumps(statistics.median(ask() for _ in range(runs))))
"""


def beside_mlflow(python: str, models: int, runs: int) -> None:
    """The same question to both, in one run."""
    folder = tempfile.mkdtemp(prefix="bench-mlflow-")
    try:
        command = [python, "-c", MLFLOW, str(models), str(runs), folder]
        ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
        if ended.returncode:
            raise SystemExit(f"MLflow failed:\n{ended.stderr[-3000:]}")
        theirs = float(json.loads(ended.stdout.splitlines()[-1]))
        url = f"{folder}/store"
        make(url, models, 20)
        _elsewhere("--ask", url, f"{folder}/cache", "--runs", "1")
        ours = _elsewhere("--ask", url, f"{folder}/cache", "--runs", str(runs))
        mine = ours["search, filter and order, all domains"]
        print(f"\n{models:,} models, a tag filter, an order, 20 results: MLflow takes {theirs / mine:.0f} × as long")
        print(f"(with a look at the storage, {theirs / (mine + ours['refresh']):.1f} ×)")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--domains", type=int, default=200)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--url", help="of an empty store (default: a temporary folder)")
    parser.add_argument("--mlflow", help="the Python of an environment with MLflow")
    parser.add_argument("--ask", nargs=2, metavar=("URL", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        print(json.dumps(ask(*options.ask, options.runs)))
        return
    for models in options.models:
        folder = tempfile.mkdtemp(prefix="bench-store-")
        try:
            url = f"{options.url}/{models}" if options.url else folder
            measure(url, models, min(options.domains, max(1, models // 50)), options.runs)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if options.mlflow:
        beside_mlflow(options.mlflow, 10_000, options.runs)


if __name__ == "__main__":
    main()
