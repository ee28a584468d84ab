"""H2O, up and back: `python examples/frameworks/with_h2o.py [FOLDER]`.

The model travels between the server and the store by way of this process. It can be loaded by a server of the same
version only, and reading it can run code there, so it takes `allow_pickle`, which stores of your own have by default.
"""

from __future__ import annotations

import sys

import h2o
import numpy as np
import pandas as pd
from h2o.estimators import H2OGradientBoostingEstimator

from modelstore import ModelStore


def houses(rows: int = 300) -> pd.DataFrame:
    """What houses of a made-up town cost."""
    random = np.random.RandomState(0)
    town = pd.DataFrame({"area": random.uniform(40, 200, rows), "rooms": random.randint(1, 8, rows)})
    town["quarter"] = random.choice(["harbour", "hill", "station"], rows)
    dear = town["quarter"].map({"harbour": 1.2, "hill": 1.5, "station": 0.9})
    town["price"] = (town["area"] * 3 + town["rooms"] * 10) * dear + random.normal(0, 5, rows)
    return town


def main(folder: str = "models") -> None:
    h2o.init(nthreads=1, max_mem_size="1G", verbose=False)
    h2o.no_progress()
    train, test = h2o.H2OFrame(houses(), column_types={"quarter": "enum"}).split_frame([0.7], seed=1)
    model = H2OGradientBoostingEstimator(ntrees=20, max_depth=3, seed=1)
    model.train(x=["area", "rooms", "quarter"], y="price", training_frame=train)

    store = ModelStore.from_file_system(folder, create_directory=True)
    error = model.model_performance(test).mae()
    info = store.upload("houses", model=model, metrics={"mean absolute error": error})

    before = h2o.as_list(model.predict(test), use_pandas=False)
    h2o.remove(model.model_id)  # as on a server that has never seen it
    loaded = store.load("houses", info.model_id)
    if h2o.as_list(loaded.predict(test), use_pandas=False) != before:
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")
    h2o.cluster().shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:2])
