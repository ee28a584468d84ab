"""XGBoost, up and back: `python examples/frameworks/with_xgboost.py [FOLDER]`.

The trees lie in XGBoost's own `.ubj` file, and what early stopping has found comes back with them.
"""

from __future__ import annotations

import sys

import numpy as np
import xgboost as xgb
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    data = load_breast_cancer(as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(data.data, data.target, random_state=0)
    model = xgb.XGBClassifier(n_estimators=100, max_depth=3, early_stopping_rounds=5, random_state=0)
    model.fit(X_train, y_train, eval_set=[(X_test, y_test)], verbose=False)

    store = ModelStore.from_file_system(folder, create_directory=True)
    score = roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])
    info = store.upload("tumours", model=model, metrics={"roc auc": score})

    loaded = store.load("tumours", info.model_id, allow_pickle=False)
    if not np.array_equal(loaded.predict_proba(X_test), model.predict_proba(X_test)):
        raise SystemExit("the loaded model predicts something else")
    print(
        f"{info.library}: {info.model_id} stopped after round {loaded.best_iteration} and loads with equal predictions"
    )


if __name__ == "__main__":
    main(*sys.argv[1:2])
