"""CatBoost, up and back: `python examples/frameworks/with_catboost.py [FOLDER]`.

Trained on columns of text without any preparation; categories and labels lie in CatBoost's own `.cbm` file.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier
from sklearn.model_selection import train_test_split

from modelstore import ModelStore


def visits(number: int = 600) -> tuple[pd.DataFrame, pd.Series]:
    """Visits to a shop, and whether the visitor bought something."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "device": random.choice(["phone", "laptop", "tablet"], number),
            "country": random.choice(["DE", "FR", "IN", "US"], number),
            "minutes": random.gamma(2, 3, number).round(1),
        }
    )
    interest = table["minutes"] / 5 + (table["device"] == "laptop") - (table["country"] == "FR")
    return table, (interest + random.normal(scale=0.5, size=number) > 1.5).map({True: "buys", False: "leaves"})


def main(folder: str = "models") -> None:
    X_train, X_test, y_train, y_test = train_test_split(*visits(), random_state=0)
    model = CatBoostClassifier(iterations=60, depth=4, random_seed=0, verbose=False, allow_writing_files=False)
    model.fit(X_train, y_train, cat_features=["device", "country"])

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("visits", model=model, metrics={"accuracy": model.score(X_test, y_test)})

    loaded = store.load("visits", info.model_id, allow_pickle=False)
    if not np.array_equal(loaded.predict_proba(X_test), model.predict_proba(X_test)):
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} knows {', '.join(loaded.classes_)} and loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
