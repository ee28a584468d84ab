"""Ours beside each framework's own save and load: `python -m benchmarks.frameworks [--runs N] [--only NAME …]`.

Each framework that is installed gets a fresh process, in which ours and its own take turns; the first turn of both
warms up and is not counted. "Own" is the framework's save into a temporary folder, a copy to where it is to lie, and an
fsync of each file; and its load from there. "First load" is out of the store, every digest checked; "again" out of the
cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
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
MODULES = {
    "pytorch": "torch", "torchscript": "torch", "torch_export": "torch", "pytorch_lightning": "lightning",
    "tensorflow": "keras", "sksurv": "sksurv",
}  # fmt: skip
BAR_S, BAR_SHARE = 0.030, 0.10


def measure(name: str, folder: Path, runs: int) -> dict[str, Any]:
    """One framework: medians in seconds, sizes in bytes."""
    from benchmarks import framework_models, framework_models_deep  # noqa: F401  (registers the networks)
    from modelstore import ModelStore

    own = framework_models.MODELS[name]
    model = own.build()
    given = own.given(model)
    times: dict[str, list[float]] = {key: [] for key in ("own save", "own load", "upload", "first load", "again")}
    sizes = {}
    store = ModelStore.from_file_system(folder / "store", create_directory=True, cache_directory=folder / "cache")
    for run in range(runs + 1):
        place, model_id = folder / f"run{run}", f"m{run}"
        place.mkdir()
        target = place / "own"
        turns: list[tuple[str, Callable[[], object]]] = [
            ("own save", lambda target=target: _save(own, model, target)),
            ("upload", lambda model_id=model_id: store.upload("d", model_id, **given)),
            ("own load", lambda target=target: own.load(target / "model")),
            ("first load", lambda model_id=model_id: store.load("d", model_id)),
            ("again", lambda model_id=model_id: store.load("d", model_id)),
        ]
        for key, turn in turns:
            start = time.perf_counter()
            kept = turn()
            times[key].append(time.perf_counter() - start)
            del kept
        sizes = {
            "own": _size(target),
            "ours": int(store.get_model_info("d", model_id)["storage"]["archive"]["size"]),
        }
        shutil.rmtree(place, ignore_errors=True)
    return {"bytes": sizes, **{key: statistics.median(found[1:]) for key, found in times.items()}}


def _save(own: Any, model: Any, target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        own.save(model, Path(scratch) / "model")
        shutil.copytree(scratch, target)
    for path in target.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _row(name: str, found: dict[str, Any]) -> tuple[str, bool]:
    def above(ours: str, own: str) -> tuple[str, bool]:
        met = found[ours] <= found[own] * (1 + BAR_SHARE) + BAR_S
        text = f"{(found[ours] - found[own]) * 1000:+.0f} ms ({found[ours] / found[own]:.1f} ×)"
        return text if met else f"**{text}**", met

    cells = [above("upload", "own save"), above("first load", "own load"), above("again", "own load")]
    size = found["bytes"]
    texts = [name, f"{size['own']:,}", f"{size['ours'] / size['own']:.2f}", *(text for text, _ in cells)]
    return "| " + " | ".join(texts) + " |", all(met for _, met in cells)


def main() -> int:
    """Print the table; the exit code says whether every bar was met."""
    from benchmarks import framework_models, framework_models_deep  # noqa: F401

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=sorted(framework_models.MODELS))
    parser.add_argument("--one", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], Path(options.one[1]), options.runs)))
        return 0
    names = options.only or sorted(framework_models.MODELS)
    installed = [name for name in names if importlib.util.find_spec(MODULES.get(name, name)) is not None]
    print("| framework | own bytes | ours | upload above own save | first load above own load | again |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for name in installed:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            command = [
                sys.executable,
                "-m",
                "benchmarks.frameworks",
                "--runs",
                str(options.runs),
                "--one",
                name,
                folder,
            ]
            ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        if ended.returncode:
            raise SystemExit(f"{name} failed:\n{ended.stderr[-3000:]}")
        line, met = _row(name, json.loads(ended.stdout.splitlines()[-1]))
        rows.append(met)
        print(line, flush=True)
    print(f"\nAt most {BAR_S * 1000:.0f} ms plus {BAR_SHARE:.0%} above the framework's own: {sum(rows)} of {len(rows)}")
    return 0 if all(rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
