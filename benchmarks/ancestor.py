"""The same jobs with operatorai/modelstore 0.0.82, run by the Python of an environment that has it.

`python benchmarks/ancestor.py TASK FOLDER`; prints JSON. It imports nothing of this project.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def store_in(folder):
    from modelstore import ModelStore

    return ModelStore.from_file_system(root_directory=str(folder / "ancestor"), create_directory=True)


def small(folder):
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    clf = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    store = store_in(folder)
    first = timed(lambda: store.upload("small", model=clf))
    later = sorted(timed(lambda: store.upload("small", model=clf)) for _ in range(15))
    return {"first": first, "ours": later[7]}


def big(folder):
    import torch

    torch.manual_seed(0)
    layers = int(os.environ.get("BENCH_LAYERS", "16"))
    model = torch.nn.Sequential(*[torch.nn.Linear(4096, 4096, bias=False) for _ in range(layers)])
    store = store_in(folder)
    model_id = []
    up = timed(lambda: model_id.append(store.upload("big", model=model)["model"]["model_id"]))
    return {"upload": up, "load": timed(lambda: store.load("big", model_id[0]))}


def s3(folder):
    from modelstore import ModelStore

    store = ModelStore.from_aws_s3(root_prefix="ancestor")
    model_id = []
    up = timed(lambda: model_id.append(store.upload("big", model=str(folder / "weights.bin"))["model"]["model_id"]))
    target = folder / "ancestor-out"
    target.mkdir()
    return {"upload": up, "load": timed(lambda: store.download(str(target), "big", model_id[0]))}


if __name__ == "__main__":
    print(json.dumps({"small": small, "big": big, "s3": s3}[sys.argv[1]](Path(sys.argv[2]))))
