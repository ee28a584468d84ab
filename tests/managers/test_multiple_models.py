"""Objects of several libraries in one upload: recorded by library, and given back as a mapping."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("shap")
pytest.importorskip("skops")
pytest.importorskip("statsmodels")
pytest.importorskip("xgboost")

import numpy as np
import shap
import statsmodels.api as sm
import xgboost
from sklearn.preprocessing import StandardScaler

from modelstore import ModelStore
from modelstore.exceptions import PickleNotAllowedError

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(60, 3))
Y = X[:, 0] - X[:, 1] ** 2

READER = """
    import json, sys
    from modelstore import ModelStore

    loaded = ModelStore.from_file_system(sys.argv[1]).load("prices")
    import numpy as np
    rows = loaded["sklearn"].transform(np.load(sys.argv[2]))
    print(json.dumps([
        loaded["xgboost"].predict(rows).tolist(), loaded["shap"].shap_values(rows).tolist(), sorted(loaded)
    ]))
"""


def _objects() -> dict[str, Any]:
    scaler = StandardScaler().fit(X)
    model = xgboost.XGBRegressor(n_estimators=4, max_depth=2, n_jobs=1).fit(scaler.transform(X), Y)
    return {"model": model, "preprocessor": scaler, "explainer": shap.TreeExplainer(model)}


def test_three_libraries_in_one_upload(store: ModelStore, tmp_path: Path) -> None:
    """The record has the ancestor's shape, with parameters by library, and another process gets all three, equal."""
    objects = _objects()
    info = store.upload("prices", **objects)
    assert info["model"]["model_type"] == {
        "library": "multiple-models",
        "type": None,
        "models": [
            {"library": "shap", "type": "TreeExplainer", "models": None},
            {"library": "sklearn", "type": "StandardScaler", "models": None},
            {"library": "xgboost", "type": "XGBRegressor", "models": None},
        ],
    }
    assert sorted(info["model"]["parameters"]) == ["shap", "sklearn", "xgboost"]
    assert info["model"]["parameters"]["xgboost"]["n_estimators"] == 4
    assert not any(part["pickled"] for part in info["model"]["managers"])
    np.save(tmp_path / "rows.npy", X)
    rows = objects["preprocessor"].transform(X)
    expected = [
        objects["model"].predict(rows).tolist(),
        objects["explainer"].shap_values(rows).tolist(),
        ["shap", "sklearn", "xgboost"],
    ]
    assert json.loads(_run(READER, tmp_path / "service.py", tmp_path / "store", tmp_path / "rows.npy")) == expected


def test_a_pickle_among_them_is_refused_as_a_whole(store: ModelStore) -> None:
    """Where pickles are not allowed, a pickled part refuses the load, and the error names it."""
    store.upload("prices", model=sm.OLS(Y, X).fit(), preprocessor=StandardScaler().fit(X))
    assert sorted(store.load("prices")) == ["sklearn", "statsmodels"]
    with pytest.raises(PickleNotAllowedError, match="statsmodels"):
        store.load("prices", allow_pickle=False)


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
