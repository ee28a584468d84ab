"""Train a classifier, store it, find it again, load it back.

    python examples/quickstart.py [FOLDER]

The store is made in FOLDER (default: ./models) and stays there to be looked at; run it twice, and it holds two models.
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    data = load_breast_cancer()
    X_train, X_test, y_train, y_test = train_test_split(data.data, data.target, random_state=0)
    classifier = RandomForestClassifier(random_state=0).fit(X_train, y_train)
    auc = float(roc_auc_score(y_test, classifier.predict_proba(X_test)[:, 1]))
    print(f"trained     {type(classifier).__name__} on {len(X_train)} samples, AUC {auc:.3f} on {len(X_test)} others")

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("breast-cancer", model=classifier, metrics={"auc": auc}, X_train=X_train, y_train=y_train)
    print(f"uploaded    {info.model_id} to {folder}")
    print(f"domains     {store.list_domains()}")
    print(f"models      {store.list_models('breast-cancer')}, newest first")
    for file in store.files("breast-cancer", info.model_id):
        print(f"file        {file.name}, {file.size:,} bytes")

    loaded = store.load("breast-cancer", info.model_id)
    print(f"loaded      {type(loaded).__module__}.{type(loaded).__qualname__}")
    if not np.array_equal(loaded.predict_proba(X_test), classifier.predict_proba(X_test)):
        raise SystemExit("the loaded model predicts something else")
    print(f"predictions of both are equal, bit for bit, on all {len(X_test)} samples")


if __name__ == "__main__":
    main(*sys.argv[1:2])
