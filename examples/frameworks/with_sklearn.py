"""scikit-learn, up and back: `python examples/frameworks/with_sklearn.py [FOLDER]`.

The model is stored with skops, which holds no code: it loads where pickles are refused.
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    data = load_diabetes()
    X_train, X_test, y_train, y_test = train_test_split(data.data, data.target, random_state=0)
    model = make_pipeline(StandardScaler(), GradientBoostingRegressor(random_state=0)).fit(X_train, y_train)

    store = ModelStore.from_file_system(folder, create_directory=True)
    error = mean_absolute_error(y_test, model.predict(X_test))
    info = store.upload("diabetes", model=model, metrics={"mean absolute error": error})

    loaded = store.load("diabetes", info.model_id, allow_pickle=False)
    if not np.array_equal(loaded.predict(X_test), model.predict(X_test)):
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
