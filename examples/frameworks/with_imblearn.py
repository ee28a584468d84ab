"""imbalanced-learn, up and back: `python examples/frameworks/with_imblearn.py [FOLDER]`.

A pipeline that makes up for a rare class. It is stored with skops, sampler and all, and needs no pickle.
"""

from __future__ import annotations

import sys

import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    X, y = make_classification(n_samples=1000, weights=[0.95], random_state=0)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    model = make_pipeline(SMOTE(random_state=0), LogisticRegression()).fit(X_train, y_train)

    store = ModelStore.from_file_system(folder, create_directory=True)
    accuracy = balanced_accuracy_score(y_test, model.predict(X_test))
    info = store.upload("frauds", model=model, metrics={"balanced accuracy": accuracy})

    loaded = store.load("frauds", info.model_id, allow_pickle=False)
    if not np.array_equal(loaded.predict_proba(X_test), model.predict_proba(X_test)):
        raise SystemExit("the loaded pipeline predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
