"""shap: explainers give equal values after a load, and those of trees and linear models need no pickle."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("shap")

import numpy as np
import pandas as pd
import shap
from sklearn import ensemble, linear_model, tree

from modelstore import ModelStore
from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.shap import ShapManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(80, 3))
TARGET = X[:, 0] + X[:, 1] ** 2
LABELS = (TARGET > 0.5).astype(int)
FRAME = pd.DataFrame(X, columns=["size", "weight", "age"])
SMALL: Mapping[str, Any] = {"n_estimators": 3, "max_depth": 3, "random_state": 0}


def observe(explainer: Any) -> Any:
    """Values and expected values, as the explainer's call and its older methods give them."""
    rows = FRAME[:5] if getattr(explainer, "data_feature_names", None) else X[:5]
    expected = explainer.expected_value if hasattr(explainer, "expected_value") else None
    seen: dict[str, Any] = {"expected": expected(1) if callable(expected) else expected}
    seen["link"] = str(getattr(explainer, "link", None)).partition(" at ")[0]
    seen["masker"] = type(getattr(explainer, "masker", None)).__name__
    names = getattr(getattr(explainer, "masker", None), "feature_names", None)
    seen["columns"] = f"{type(names).__name__} {list(names)}" if isinstance(names, pd.Index) else None
    np.random.seed(0)  # permutations come from the global state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if callable(expected):
            seen["values"] = explainer.shap_values(rows, LABELS[:5])
        else:
            seen["values"] = _of(explainer(rows))
        if hasattr(explainer, "shap_interaction_values") and getattr(explainer, "data", None) is None:
            seen["interactions"] = explainer.shap_interaction_values(X[:5])
    return seen


def observe_old(explainer: Any) -> Any:
    """The values of explainers that sample, which take their numbers from numpy's global state."""
    np.random.seed(0)
    return {"expected": explainer.expected_value, "values": explainer.shap_values(X[:3], silent=True)}


def observe_attributions(explainer: Any) -> Any:
    """The values of the explainers that shap has for comparison."""
    np.random.seed(0)
    return np.asarray(explainer.attributions(X[:5])) if hasattr(explainer, "attributions") else _of(explainer(X[:5]))


def observe_explanation(explanation: Any) -> Any:
    """All that it holds, and what slicing it gives."""
    part = explanation[1:3]
    return [_of(explanation), _of(part), _of(explanation.abs.mean(0)) if explanation.values.ndim == 2 else None]


def _of(explanation: Any) -> Any:
    names = ("values", "base_values", "data", "feature_names", "output_names")
    found = {name: getattr(explanation, name) for name in names}
    return {name: value if value is None or name == "values" else np.asarray(value) for name, value in found.items()}


def answer(rows: Any) -> Any:
    """A model that is a function."""
    return rows[:, 0] * 2 + rows[:, 1] * rows[:, 2]


def answer_frame(rows: Any) -> Any:
    """A model with two outputs, for frames and arrays."""
    return np.c_[answer(np.asarray(rows)), np.asarray(rows)[:, 2]]


def _made(build: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"explainer": build()}


def _trees() -> Mapping[str, Any]:
    forest = functools.partial(ensemble.RandomForestClassifier, **SMALL)
    boosted = functools.partial(ensemble.GradientBoostingClassifier, **SMALL)
    explain = shap.TreeExplainer
    return {
        "forest": lambda: explain(forest().fit(X, LABELS)),
        "forest by Explainer": lambda: shap.Explainer(forest().fit(X, LABELS)),
        "forest and background": lambda: explain(forest().fit(X, LABELS), X[:20]),
        "forest and frame": lambda: explain(forest().fit(FRAME, LABELS), FRAME[:20]),
        "forest of the regressor's": lambda: explain(ensemble.RandomForestRegressor(**SMALL).fit(X, TARGET)),
        "probabilities": lambda: explain(boosted().fit(X, LABELS), X[:20], model_output="probability"),
        "names": lambda: explain(forest().fit(X, LABELS), feature_names=["a", "b", "c"]),
        "boosted": lambda: explain(ensemble.GradientBoostingRegressor(**SMALL).fit(X, TARGET)),
        "boosted on bins": lambda: explain(ensemble.HistGradientBoostingRegressor(max_iter=3).fit(X, TARGET)),
        "one tree": lambda: explain(tree.DecisionTreeRegressor(max_depth=3).fit(X, TARGET)),
        "extra trees": lambda: explain(ensemble.ExtraTreesRegressor(**SMALL).fit(X, TARGET)),
        "isolation forest": lambda: explain(ensemble.IsolationForest(n_estimators=3, random_state=0).fit(X)),
    }


def _boosters() -> Mapping[str, Any]:
    def xgboost(*background: Any) -> Any:
        import xgboost as xgb

        return shap.TreeExplainer(xgb.XGBRegressor(n_estimators=3, max_depth=2, n_jobs=1).fit(X, TARGET), *background)

    def lightgbm(*background: Any) -> Any:
        import lightgbm as lgb

        model = lgb.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(X, LABELS)
        return shap.TreeExplainer(model, *background)

    def catboost() -> Any:
        import catboost as cb

        model = cb.CatBoostRegressor(iterations=3, verbose=0, allow_writing_files=False, thread_count=1)
        return shap.TreeExplainer(model.fit(X, TARGET))

    def loss() -> Any:
        import xgboost as xgb

        model = xgb.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(X, LABELS)
        return shap.TreeExplainer(model, X[:20], model_output="log_loss")

    return {
        "loss": loss,
        "xgboost": xgboost,
        "xgboost and background": functools.partial(xgboost, X[:20]),
        "lightgbm": lightgbm,
        "lightgbm and background": functools.partial(lightgbm, X[:20]),
        "catboost": catboost,
    }


def _linear() -> Mapping[str, Any]:
    ridge, logistic = linear_model.Ridge().fit(X, TARGET), linear_model.LogisticRegression().fit(X, LABELS)
    return {
        "ridge": lambda: shap.LinearExplainer(ridge, X[:20]),
        "logistic by Explainer": lambda: shap.Explainer(logistic, X[:20]),
        "logit": lambda: shap.LinearExplainer(logistic, X[:20], link=shap.links.logit),
        "correlated": lambda: shap.LinearExplainer(ridge, shap.maskers.Impute(X[:20]), nsamples=20),
        "coefficients": lambda: shap.LinearExplainer((ridge.coef_, ridge.intercept_), X[:20]),
    }


def _functions() -> Mapping[str, Any]:
    logistic = linear_model.LogisticRegression().fit(X, LABELS)
    return {
        "permutation": lambda: shap.PermutationExplainer(answer, X[:10], seed=0),
        "exact": lambda: shap.ExactExplainer(logistic.predict_proba, X[:10]),
        "exact of a lambda": lambda: shap.ExactExplainer(lambda rows: rows[:, 0] * 3, X[:10]),
        "partition": lambda: shap.PartitionExplainer(answer, shap.maskers.Partition(X[:10])),
        "additive": lambda: shap.AdditiveExplainer(_Additive().predict, X[:10]),
        "coalition": lambda: shap.CoalitionExplainer(
            answer_frame,
            shap.maskers.Partition(FRAME[:10]),
            partition_tree={"both": ["size", "weight"], "one": ["age"]},
        ),
    }


class _Additive:
    def predict(self, rows: Any) -> Any:
        return rows[:, 0] * 2 + np.abs(rows[:, 1])


def _others() -> Mapping[str, Any]:
    ridge = linear_model.Ridge().fit(X, TARGET)
    other = shap.explainers.other
    return {
        "coefficient": lambda: other.Coefficient(ridge),
        "random": lambda: other.Random(answer, X[:10]),
        "maple": lambda: other.Maple(answer, X),
    }


def _explanations() -> Mapping[str, Any]:
    made = _trees()
    return {
        "explanation": lambda: made["boosted"]()(X[:5]),
        "explanation of a frame": lambda: made["forest and frame"]()(FRAME[:5]),
        "explanation of one row": lambda: shap.Explanation(X[0], 0.5, X[1], feature_names=["a", "b", "c"])[0:3],
    }


class TestShap(BuiltinContract):
    """Every public explainer that needs no network, and explanations."""

    manager = ShapManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        groups = ((_trees(), observe), (_boosters(), observe), (_linear(), observe), (_functions(), observe))
        cases = {
            name: Case(functools.partial(_made, build), probe)
            for group, probe in groups
            for name, build in group.items()
        }
        old = {
            "kernel": lambda: shap.KernelExplainer(answer, X[:10], link="identity"),
            "sampling": lambda: shap.SamplingExplainer(answer, X[:10]),
        }
        for group, probe in (
            (old, observe_old),
            (_others(), observe_attributions),
            (_explanations(), observe_explanation),
        ):
            cases |= {name: Case(functools.partial(_made, build), probe) for name, build in group.items()}
        return cases

    def test_trees_and_linear_models_need_no_pickle(self, tmp_path_factory: Any) -> None:
        """Explainers of a model that skops can hold, and explanations, load where pickles are refused."""
        outcomes = self._outcomes(tmp_path_factory)
        pickled = {name: outcome.saved.state for name, outcome in outcomes.items() if outcome.saved.pickled}
        assert pickled.keys() == {*_functions(), "kernel", "sampling", "random", "maple"}
        for name, state in pickled.items():
            assert state.get("pickle_because") or state.get("foreign"), name


def test_every_public_explainer_is_tried() -> None:
    """The library's explainers are those of the cases, but for those that need a network, a GPU or another package."""
    tried = {type(build()).__name__ for group in (_trees(), _linear(), _functions()) for build in group.values()}
    tried |= {"KernelExplainer", "SamplingExplainer"}
    untried = {"DeepExplainer", "GradientExplainer", "GPUTreeExplainer"}
    public = {name for name in shap.explainers.__all__ if name.endswith("Explainer")}
    assert public == tried | untried


def test_model_and_explainer_together(store: ModelStore) -> None:
    """One upload takes both; they come back by library, and nothing asks for a pickle."""
    model = ensemble.RandomForestClassifier(**SMALL).fit(X, LABELS)
    explainer = shap.TreeExplainer(model)
    info = store.upload("churn", model=model, explainer=explainer)
    kinds = info["model"]["model_type"]
    assert kinds["library"] == "multiple-models"
    assert [each["type"] for each in kinds["models"]] == ["TreeExplainer", "RandomForestClassifier"] or [
        each["library"] for each in kinds["models"]
    ] == ["shap", "sklearn"]
    models = store.load("churn", info.model_id, allow_pickle=False)
    assert sorted(models) == ["shap", "sklearn"]
    assert models["sklearn"].predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    assert models["shap"].shap_values(X).tobytes() == explainer.shap_values(X).tobytes()


def test_an_explainer_alone(store: ModelStore) -> None:
    """`model=` takes an explainer as well as `explainer=` does."""
    explainer = shap.TreeExplainer(ensemble.RandomForestRegressor(**SMALL).fit(X, TARGET))
    for keyword in ("model", "explainer"):
        info = store.upload("churn", **{keyword: explainer})
        assert info["model"]["model_type"] == {"library": "shap", "type": "TreeExplainer", "models": None}
        loaded = store.load("churn", info.model_id)
        assert loaded.shap_values(X).tobytes() == explainer.shap_values(X).tobytes()


def _store(explainer: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = ShapManager().save({"explainer": explainer}, files, {})
        write_folder(files.contents(), folder)
    return saved


def test_saving_leaves_the_explainer_alone(tmp_path: Path) -> None:
    """What is taken out for the file is taken out of a copy."""
    explainer = _trees()["forest and frame"]()
    kept = dict(vars(explainer))
    _store(explainer, tmp_path)
    assert vars(explainer).keys() == kept.keys()
    assert all(vars(explainer)[name] is value for name, value in kept.items())
    assert isinstance(explainer.masker.feature_names, pd.Index)


@pytest.mark.parametrize("name", ["__class__", "system", "", 3])
def test_a_record_cannot_name_another_function(name: Any, tmp_path: Path) -> None:
    """The link function of a record is one of shap's two."""
    saved = _store(_trees()["forest"](), tmp_path)
    assert saved.state["taken"] == {"link": "identity"}
    request = LoadRequest(tmp_path, {**saved.state, "taken": {"link": name}}, ("explainer",), PicklePolicy(False))
    with pytest.raises(IntegrityError, match="no link function"):
        ShapManager().load(request)


def test_importing_the_manager_imports_no_shap() -> None:
    """The module of the manager is light."""
    code = "import sys, modelstore.managers.shap; print('shap' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
