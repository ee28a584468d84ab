"""Storages over a network: `python -m benchmarks.network [--runs N] [--ancestor PYTHON] [--size MB]`.

Measures what docs/performance.md states of S3, against Ceph's RADOS gateway and nginx on this machine, in turns with
plain boto3 and obstore. Every run is a fresh process. Needs what `tests/servers/install.sh ceph nginx` installs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.run import ROOT, Row, _json
from tests.servers import ceph, nginx

UPLOADS = ("upload_ours", "upload_boto3", "upload_obstore")
DOWNLOADS = ("download_ours", "download_boto3", "download_obstore")
READS = ("read_ours", "download_boto3", "download_obstore")


class Bench:
    """Runs tasks in fresh processes against one server."""

    def __init__(self, folder: Path, runs: int, size: int) -> None:
        self.folder = folder
        self.runs = runs
        self.size = size
        self.rows: list[Row] = []

    def medians(self, names: Sequence[str], rounds: Iterable[dict[str, str]]) -> dict[str, dict[str, float]]:
        """The tasks in turn, once for each round's settings; the median of each figure."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for number, settings in enumerate(rounds):
            for name in _turned(names, number):
                found[name].append(self.task(name, settings))
        return {
            name: {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}
            for name, runs in found.items()
        }

    def task(self, name: str, settings: dict[str, str]) -> dict[str, Any]:
        """One task in a fresh process."""
        command = [sys.executable, "-m", "benchmarks.network_worker", name, str(self.folder)]
        environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        if ended.returncode:
            raise SystemExit(f"{name} failed:\n{ended.stderr}")
        result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return result

    def row(self, what: str, measured: str, bar: str, met: bool) -> None:
        """Add a line to the table, and show it now."""
        self.rows.append((what, measured, bar, met))
        print(f"{'ok  ' if met else 'MISS'} {what}: {measured} ({bar})", flush=True)


def _turned(names: Sequence[str], number: int) -> list[str]:
    """Uploads before downloads, and within them nobody always first."""
    groups = [[name for name in names if name.startswith("upload") == uploads] for uploads in (True, False)]
    return [name for group in groups if group for name in group[number % len(group) :] + group[: number % len(group)]]


def gateways(bench: Bench) -> Iterator[dict[str, str]]:
    """A gateway anew for each run: its objects lie in memory, and deleted ones do for a while."""
    for number in range(bench.runs):
        folder = bench.folder / f"ceph-{number}"
        folder.mkdir()
        with ceph.serve(folder) as server:
            settings = _settings(server.endpoint, server.bucket(), server.access_key, server.secret_key)
            bench.task("warm_up", settings)
            yield settings


def gateway(bench: Bench, ancestor: str | None) -> None:
    """A store on Ceph's RADOS gateway: uploads, and first loads."""
    found = bench.medians((*UPLOADS, *DOWNLOADS), gateways(bench))
    ours, boto3, obstore = (found[name]["seconds"] for name in UPLOADS)
    best = min(boto3, obstore)
    bench.row(
        f"upload of {bench.size} MB to the gateway",
        f"{boto3 / ours:.2f} × the speed of boto3's upload_file, {obstore / ours:.2f} × obstore's",
        "at least 1.0 × the faster",
        best >= ours,
    )
    _peak(bench, "peak memory of that upload", found["upload_ours"], found["upload_boto3"])
    ours, boto3, obstore = (found[name]["seconds"] for name in DOWNLOADS)
    bench.row(
        "download of it, every digest checked",
        f"{boto3 / ours:.2f} × the speed of boto3's download_file, {obstore / ours:.2f} × obstore's",
        "at least 1.5 ×",
        boto3 >= 1.5 * ours,
    )
    _peak(bench, "peak memory of that download", found["download_ours"], found["download_boto3"])
    if ancestor is not None:
        command = [ancestor, str(ROOT / "benchmarks" / "ancestor.py"), "s3", str(bench.folder)]
        with contextlib.closing(gateways(bench)) as servers:
            os.environ.update(next(servers))
            old = _json(command)
        up, down = old["upload"] / found["upload_ours"]["seconds"], old["load"] / found["download_ours"]["seconds"]
        print(f"     the ancestor, one run: upload {up:.1f} × as long as ours, load {down:.1f} ×")


def reading(bench: Bench, server: Any) -> None:
    """An archive that nginx serves: the limit of a client that reads."""
    settings = _settings(server.endpoint, nginx.BUCKET, "test", "test")
    bench.task("place_archive", {**settings, "BENCH_OBJECTS": str(server.objects / nginx.BUCKET)})
    found = bench.medians(READS, [settings] * bench.runs)
    ours, boto3, obstore = (found[name]["seconds"] for name in READS)
    bench.row(
        f"{bench.size} MB from nginx into the cache, every digest checked",
        f"{boto3 / ours:.2f} × the speed of boto3's download_file, {obstore / ours:.2f} × obstore's",
        "at least 1.5 ×",
        boto3 >= 1.5 * ours,
    )
    _peak(bench, "peak memory of that", found["read_ours"], found["download_boto3"])


def _peak(bench: Bench, what: str, ours: dict[str, float], boto3: dict[str, float]) -> None:
    peak = ours["peak"] / 1e6
    bench.row(what, f"{peak:.0f} MB (boto3 {boto3['peak'] / 1e6:.0f} MB)", "at most 400 MB", peak <= 400)


def _settings(endpoint: str, bucket: str, access_key: str, secret_key: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MODEL_STORE_AWS_BUCKET": bucket,
    }


def main() -> int:
    """Run both parts and print the table; the exit code says whether every bar was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes for each figure")
    parser.add_argument("--size", type=int, default=1000, help="MB of weights")
    parser.add_argument("--only", nargs="*", choices=["gateway", "nginx"], default=["gateway", "nginx"])
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--ancestor", help="the Python of an environment with modelstore==0.0.82 and boto3")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    try:
        bench = Bench(folder, options.runs, options.size)
        bench.task("make", {"BENCH_SIZE": str(options.size)})
        if "gateway" in options.only:
            gateway(bench, options.ancestor)
        if "nginx" in options.only:
            (folder / "nginx").mkdir()
            folder.chmod(0o755)
            with nginx.serve(folder / "nginx") as web:
                reading(bench, web)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n| what | measured | bar | |\n| --- | --- | --- | --- |")
    for what, measured, bar, met in bench.rows:
        print(f"| {what} | {measured} | {bar} | {'met' if met else '**missed**'} |")
    return 0 if all(row[3] for row in bench.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
