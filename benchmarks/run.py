"""Measure what docs/performance.md states: `python -m benchmarks.run [--runs N] [--only NAME …] [--ancestor PYTHON]`.

Every run is a fresh process; ours and the plain baseline take turns, and medians are compared. Absolute times say more
about the machine than about the program, so the table gives ratios and differences to a baseline of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MS = 1000.0
Row = tuple[str, str, str, bool]


class Bench:
    """Runs tasks in fresh processes and keeps what they say."""

    def __init__(self, folder: Path, runs: int, ancestor: str | None) -> None:
        self.folder = folder
        self.runs = runs
        self.ancestor = ancestor
        self.rows: list[Row] = []

    def task(self, name: str) -> dict[str, Any]:
        """One task in a fresh process."""
        return _json([sys.executable, "-m", "benchmarks.worker", name, str(self.folder)])

    def medians(self, *names: str) -> list[dict[str, float]]:
        """The tasks in turn, several times; the median of each figure."""
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(self.runs):
            for name in names:
                results[name].append(self.task(name))
        return [
            {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]} for runs in results.values()
        ]

    def old(self, name: str) -> dict[str, Any] | None:
        """The ancestor's figures, one run."""
        if self.ancestor is None:
            return None
        return _json([self.ancestor, str(ROOT / "benchmarks" / "ancestor.py"), name, str(self.folder)])

    def row(self, what: str, measured: str, bar: str, met: bool) -> None:
        """Add a line to the table, and show it now."""
        self.rows.append((what, measured, bar, met))
        print(f"{'ok  ' if met else 'MISS'} {what}: {measured} (at most {bar})", flush=True)


def _json(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT) if command[0] == sys.executable else ""}
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT if "-m" in command else "/", env=environment
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr}")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def imports(bench: Bench) -> None:
    """import modelstore, above a bare interpreter, in turns."""
    times: dict[str, list[float]] = {
        code: [] for code in ("pass", "import modelstore", "from modelstore import ModelStore")
    }
    runner = (
        "import subprocess,sys,time\ns=time.perf_counter()\n"
        "subprocess.run([sys.executable,'-c',sys.argv[1]],check=True)\nprint(time.perf_counter()-s)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(15):
        for code, found in times.items():
            ended = subprocess.run(
                [sys.executable, "-c", runner, code], capture_output=True, text=True, check=True, env=environment
            )
            found.append(float(ended.stdout))
    bare, light, full = (statistics.median(found) for found in times.values())
    bench.row(
        "`import modelstore`, above a bare interpreter", f"{(light - bare) * MS:.0f} ms", "80 ms", light - bare < 0.08
    )
    bench.row("`from modelstore import ModelStore`", f"{(full - bare) * MS:.0f} ms", "80 ms", full - bare < 0.08)


def small(bench: Bench) -> None:
    """Upload of a small classifier."""
    (found,) = bench.medians("small_upload")
    above = found["ours"] - found["hand"] - found["fsync"]
    old = bench.old("small")
    beside = (
        f"; the ancestor {(old['ours'] - found['hand']) * MS:+.0f} ms, first {old['first'] * MS:.0f} ms" if old else ""
    )
    bench.row(
        "upload of a small classifier, second call on",
        f"{above * MS:.0f} ms above by hand and {found['fsyncs']:.0f} fsyncs ({found['fsync'] * MS:.0f} ms); "
        f"first call {found['first'] * MS:.0f} ms{beside}",
        "30 ms",
        above < 0.03,
    )


def torch(bench: Bench) -> None:
    """1 GB of PyTorch weights."""
    ours, hand = bench.medians("torch_upload_ours", "torch_upload_hand")
    old = bench.old("big")
    ratio = ours["seconds"] / hand["seconds"]
    beside = f"; the ancestor {old['upload'] / hand['seconds']:.1f} ×" if old else ""
    bench.row("upload of a 1 GB PyTorch model", f"{ratio:.2f} × by hand{beside}", "0.7 ×", ratio <= 0.7)
    peak = ours["peak"] / 1e6
    bench.row("peak memory of that upload, above the model", f"{peak:.0f} MB", "300 MB", peak <= 300)
    ours, plain = bench.medians("torch_load_ours", "torch_load_plain")
    ratio = ours["first"] / plain["first"]
    beside = f"; the ancestor {old['load'] / plain['first']:.1f} ×" if old else ""
    bench.row("first load of it, every digest checked", f"{ratio:.2f} × `torch.load`{beside}", "1.2 ×", ratio <= 1.2)
    above = ours["again"] - plain["again"]
    bench.row("load of it again", f"{above * MS:.1f} ms above `torch.load(mmap=True)`", "20 ms", above <= 0.02)


def forest(bench: Bench) -> None:
    """A random forest of about 240 MB."""
    size = bench.task("forest_make")["bytes"]
    ours, hand = bench.medians("forest_ours", "forest_hand")
    up, down = ours["upload"] / hand["upload"], ours["load"] / hand["load"]
    skops_up, skops_down = ours["skops_upload"] / hand["upload"], ours["skops_load"] / hand["load"]
    what = f"a {size / 1e6:.0f} MB random forest"
    bench.row(f"upload of {what}", f"{up:.1f} × by hand (skops alone {skops_up:.1f} ×)", "5.0 ×", up <= 5)
    bench.row(f"first load of {what}", f"{down:.1f} × by hand (skops alone {skops_down:.1f} ×)", "2.5 ×", down <= 2.5)
    share = ours["bytes"] / size
    bench.row(f"bytes of {what}", f"{share:.2f} of by hand", "0.3", share <= 0.3)


def many(bench: Bench) -> None:
    """10,000 models."""
    bench.task("many_make")
    (fresh,) = bench.medians("many_fresh")
    bench.task("many_warm")
    (warm,) = bench.medians("many_warm")
    bench.row(
        "`list_models` of 10,000, warm index", f"{warm['seconds'] * MS:.0f} ms (first call of a process)", "50 ms",
        warm["seconds"] <= 0.05,
    )  # fmt: skip
    bench.row("`list_models` of 10,000, fresh machine", f"{fresh['seconds']:.2f} s", "1.5 s", fresh["seconds"] <= 1.5)
    bench.row("object reads of that", f"{fresh['reads']:.0f}", "250", fresh["reads"] <= 250)


def state(bench: Bench) -> None:
    """Load by state."""
    (found,) = bench.medians("state_load")
    above = found["ours"] - found["framework"]
    bench.row(
        "`load` by state, archive cached", f"{above * MS:.1f} ms above the framework's own load", "20 ms", above <= 0.02
    )


PARTS: dict[str, Callable[[Bench], None]] = {
    part.__name__: part for part in (imports, small, torch, forest, many, state)
}


def main() -> int:
    """Run the parts and print the table; the exit code says whether every bar was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes for each figure")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--ancestor", help="the Python of an environment with modelstore==0.0.82")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    try:
        bench = Bench(folder, options.runs, options.ancestor)
        for name in options.only:
            PARTS[name](bench)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n| what | measured | at most | |\n| --- | --- | --- | --- |")
    for what, measured, bar, met in bench.rows:
        print(f"| {what} | {measured} | {bar} | {'met' if met else '**missed**'} |")
    return 0 if all(row[3] for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
