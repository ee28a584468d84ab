"""Models of three libraries in one upload: `python examples/frameworks/with_multiple_models.py [FOLDER]`.

A preprocessor of scikit-learn, a classifier of XGBoost and an explainer of SHAP belong together: they are stored
together, and come back as a mapping by library.
"""

from __future__ import annotations

import sys

import numpy as np
import shap
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    data = load_breast_cancer()
    scaler = StandardScaler().fit(data.data)
    rows = scaler.transform(data.data)
    model = XGBClassifier(n_estimators=20, max_depth=3).fit(rows, data.target)
    explainer = shap.TreeExplainer(model)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("tumours", model=model, preprocessor=scaler, explainer=explainer)

    loaded = store.load("tumours", info.model_id, allow_pickle=False)
    again = loaded["sklearn"].transform(data.data)
    if not np.array_equal(loaded["xgboost"].predict_proba(again), model.predict_proba(rows)):
        raise SystemExit("the loaded model predicts something else")
    if not np.array_equal(loaded["shap"].shap_values(again[:10]), explainer.shap_values(rows[:10])):
        raise SystemExit("the loaded explainer explains otherwise")
    print(f"{info.library}: {', '.join(sorted(loaded))} load with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
