"""fastai, up and back: `python examples/frameworks/with_fastai.py [FOLDER]`.

A learner comes back with its transforms, so that it takes raw rows, and without the data that it was trained on.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from fastai.tabular.all import Categorify, FillMissing, Normalize, TabularDataLoaders, accuracy, tabular_learner
from fastai.torch_core import set_seed

from modelstore import ModelStore


def customers(count: int) -> pd.DataFrame:
    """Who stays with a phone company, and who leaves."""
    random = np.random.default_rng(0)
    months = random.integers(1, 60, count)
    plan = random.choice(["small", "medium", "large"], count)
    bill = np.select([plan == "small", plan == "medium"], [10.0, 25.0], 40.0) + random.normal(0, 3, count)
    leaves = random.random(count) < 1 / (1 + np.exp(months / 12 - bill / 20))
    bill[random.random(count) < 0.05] = np.nan
    return pd.DataFrame({"months": months, "plan": plan, "bill": bill, "leaves": np.where(leaves, "yes", "no")})


def main(folder: str = "models") -> None:
    set_seed(0)
    table = customers(500)
    dls = TabularDataLoaders.from_df(
        table, procs=[Categorify, FillMissing, Normalize], cat_names=["plan"], cont_names=["months", "bill"],
        y_names="leaves", bs=64, num_workers=0,
    )  # fmt: skip
    learner = tabular_learner(dls, layers=[32, 16], metrics=accuracy)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(3, 0.01)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("churn", learner=learner, metrics={"accuracy": float(learner.recorder.values[-1][-1])})

    loaded = store.load("churn", info.model_id)
    for at in range(5):
        with learner.no_bar(), learner.no_logging(), loaded.no_bar(), loaded.no_logging():
            _, _, before = learner.predict(table.iloc[at])
            _, _, after = loaded.predict(table.iloc[at])
        if not bool((before == after).all()):
            raise SystemExit("the loaded learner predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
