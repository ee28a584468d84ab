"""A model and its explainer, up and back together: `python examples/frameworks/with_shap.py [FOLDER]`.

They are of two libraries, so a load gives both by the library's name. Neither needs a pickle.
"""

from __future__ import annotations

import sys

import numpy as np
import shap
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    data = load_diabetes()
    model = RandomForestRegressor(n_estimators=20, max_depth=5, random_state=0).fit(data.data, data.target)
    explainer = shap.TreeExplainer(model)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("diabetes", model=model, explainer=explainer)

    loaded = store.load("diabetes", info.model_id, allow_pickle=False)
    patients = data.data[:20]
    if not np.array_equal(loaded["sklearn"].predict(patients), model.predict(patients)):
        raise SystemExit("the loaded model predicts something else")
    values = loaded["shap"].shap_values(patients)
    if not np.array_equal(values, explainer.shap_values(patients)):
        raise SystemExit("the loaded explainer explains otherwise")
    first = data.feature_names[int(np.abs(values).mean(axis=0).argmax())]
    print(f"{info.library}: {info.model_id} loads with equal predictions; most depends on {first}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
