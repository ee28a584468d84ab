"""One measurement of `benchmarks.network` in a fresh process: TASK FOLDER, the result as JSON on stdout.

The storage is that of the environment: `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …, `MODEL_STORE_AWS_BUCKET`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.worker import Peak, settle

OBJECT = "by-hand/weights.bin"
PLACED = "archives/placed/artifacts.tar"


def measured(folder: Path, function: Callable[[], object]) -> dict[str, Any]:
    peak = Peak()
    settle(folder)
    peak.start()
    start = time.perf_counter()
    function()
    return {"seconds": time.perf_counter() - start, "peak": peak.stop()}


def bucket() -> str:
    return os.environ["MODEL_STORE_AWS_BUCKET"]


def client() -> Any:
    import boto3
    from botocore.config import Config

    made = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    return made


def obstore_bucket() -> Any:
    from obstore.store import S3Store

    return S3Store(
        bucket(),
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def store(folder: Path, cache: str) -> Any:
    from modelstore import ModelStore

    return ModelStore.from_aws_s3(root_prefix="store", cache_directory=folder / cache)


def weights(folder: Path) -> Path:
    return folder / "weights.bin"


# -- tasks ------------------------------------------------------------------------------------------------------------


def make(folder: Path) -> dict[str, Any]:
    import numpy as np

    count = int(os.environ["BENCH_SIZE"]) * 1_000_000 // 4
    np.random.default_rng(0).standard_normal(count, dtype=np.float32).tofile(weights(folder))
    (folder / "small.bin").write_bytes(b"small")
    return {}


def upload_ours(folder: Path) -> dict[str, Any]:
    target = store(folder, f"cache-{os.getpid()}")
    target.upload("warm", model=str(folder / "small.bin"))
    return measured(folder, lambda: target.upload("big", model=str(weights(folder))))


def upload_boto3(folder: Path) -> dict[str, Any]:
    s3 = client()
    s3.upload_file(str(folder / "small.bin"), bucket(), "by-hand/small.bin")
    return measured(folder, lambda: s3.upload_file(str(weights(folder)), bucket(), OBJECT))


def upload_obstore(folder: Path) -> dict[str, Any]:
    import obstore

    target = obstore_bucket()
    obstore.put(target, "by-hand/small.bin", folder / "small.bin")
    return measured(folder, lambda: obstore.put(target, OBJECT + "2", weights(folder)))


def download_ours(folder: Path) -> dict[str, Any]:
    target, goal = store(folder, f"cache-{os.getpid()}"), folder / f"ours-{os.getpid()}"
    target.download(goal / "warm", "warm")
    found = measured(folder, lambda: target.download(goal / "big", "big"))
    shutil.rmtree(goal)
    return found


def warm_up(folder: Path) -> dict[str, Any]:
    """Have the server touch the memory that three objects take, for which the first ones would pay."""
    s3 = client()
    for number in range(3):
        s3.upload_file(str(weights(folder)), bucket(), f"warm/{number}")
    for number in range(3):
        s3.delete_object(Bucket=bucket(), Key=f"warm/{number}")
    time.sleep(15)  # until the gateway's collector has freed them
    return {}


def download_boto3(folder: Path) -> dict[str, Any]:
    s3, goal = client(), folder / f"boto3-{os.getpid()}"
    s3.head_object(Bucket=bucket(), Key=OBJECT)
    found = measured(folder, lambda: s3.download_file(bucket(), OBJECT, str(goal)))
    goal.unlink()
    return found


def download_obstore(folder: Path) -> dict[str, Any]:
    import obstore

    target, goal = obstore_bucket(), folder / f"obstore-{os.getpid()}"
    obstore.head(target, OBJECT)

    def fetch() -> None:
        with open(goal, "wb") as file:
            for part in obstore.get(target, OBJECT).stream(min_chunk_size=8 << 20):
                file.write(part)

    found = measured(folder, fetch)
    goal.unlink()
    return found


def place_archive(folder: Path) -> dict[str, Any]:
    """An archive, and the same bytes as one plain object, where nginx serves them."""
    from modelstore import ModelStore

    objects = Path(os.environ["BENCH_OBJECTS"])
    local = ModelStore.from_file_system(folder / "local", create_directory=True)
    record = local.upload("big", model=str(weights(folder)))
    archive = record["storage"]["archive"]
    for key, source in ((PLACED, folder / "local" / archive["key"]), (OBJECT, weights(folder))):
        (objects / key).parent.mkdir(parents=True)
        shutil.copyfile(source, objects / key)
    for path in objects.rglob("*"):
        path.chmod(0o755)
    (folder / "archive.json").write_text(json.dumps(archive))
    return {}


def read_ours(folder: Path) -> dict[str, Any]:
    """Into the cache, as a first load does; nginx lists nothing, so there is no store to ask."""
    from modelstore.archive import Archive, ArchiveInfo, Cache
    from modelstore.storage.objects import ObjectSource
    from modelstore.storage.s3 import S3Storage

    root = folder / f"cache-{os.getpid()}"
    info = ArchiveInfo.from_dict(json.loads((folder / "archive.json").read_text()))
    storage = S3Storage(bucket())
    source = ObjectSource(storage, PLACED)
    source.read(0, 1)

    def fill(goal: Path, journal: Path | None) -> Any:
        return Archive.open(source, "it", info).extract(goal, journal=journal, threads=storage.streams)

    def load() -> None:
        with Cache(root).open(info.archive_digest, fill):
            pass

    found = measured(folder, load)
    _remove(root)
    return found


def _remove(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        os.chmod(parent, 0o755)  # the cache is read-only
    shutil.rmtree(folder)


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    task.__name__: task
    for task in (
        make, upload_ours, upload_boto3, upload_obstore, download_ours, download_boto3, download_obstore, place_archive,
        read_ours, warm_up,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](Path(sys.argv[2]))))
