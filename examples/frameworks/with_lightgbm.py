"""LightGBM, up and back: `python examples/frameworks/with_lightgbm.py [FOLDER]`.

The trees lie in LightGBM's own text file. What that forgets comes back all the same: the class, its labels, and the
categories of a table's columns.
"""

from __future__ import annotations

import sys

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    data = load_wine(as_frame=True)
    table = data.data.assign(strength=pd.cut(data.data["alcohol"], 3, labels=["light", "medium", "strong"]))
    grapes = data.target.map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    X_train, X_test, y_train, y_test = train_test_split(table, grapes, random_state=0)
    model = lgb.LGBMClassifier(n_estimators=30, min_child_samples=5, verbose=-1, random_state=0).fit(X_train, y_train)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("wines", model=model, metrics={"accuracy": model.score(X_test, y_test)})

    loaded = store.load("wines", info.model_id, allow_pickle=False)
    if not np.array_equal(loaded.predict(X_test), model.predict(X_test)):
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} tells {', '.join(loaded.classes_)} apart with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
