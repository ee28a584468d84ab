"""scikit-survival: every estimator of the library comes back from skops with equal curves and risks."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("sksurv")

import numpy as np
import pandas as pd
import sksurv
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv import ensemble, kernels, linear_model, meta, metrics, nonparametric, preprocessing, svm, tree
from sksurv.meta.ensemble_selection import EnsembleAverage, MeanEstimator, MeanRankEstimator
from sksurv.util import Surv

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.managers.sksurv import SksurvManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(60, 3))
TIMES = np.exp(X[:, 0] + 0.1 * _RANDOM.normal(size=60))
EVENTS = _RANDOM.rand(60) < 0.7
Y = Surv.from_arrays(EVENTS, TIMES)
LONG = Surv.from_arrays(EVENTS, TIMES + 1)  # times whose logarithm is positive
FRAME = pd.DataFrame({"age": X[:, 0], "stage": pd.Categorical(np.array(list("abc"))[np.arange(60) % 3], ordered=True)})
LATER = np.quantile(TIMES, [0.3, 0.5, 0.6])
_METHODS = ("predict", "predict_survival_function", "predict_cumulative_hazard_function", "predict_proba", "transform")


def observe(model: Any) -> Any:
    """Risks, curves and probabilities for the rows that it knows."""
    rows = FRAME if isinstance(model, (kernels.ClinicalKernelTransform, preprocessing.OneHotEncoder)) else X
    seen: dict[str, Any] = {"names": getattr(model, "feature_names_in_", None)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Of the boosted losses only Cox's gives curves, and trees that save memory give none.
        curves = getattr(model, "loss", "coxph") == "coxph" and not getattr(model, "low_memory", False)
        methods = _METHODS if curves else ("predict",)
        for method in (name for name in methods if hasattr(model, name)):
            of_times = isinstance(model, nonparametric.SurvivalFunctionEstimator)
            seen[method] = _plain(getattr(model, method)(LATER if of_times else rows[:5]))
        if isinstance(model, nonparametric.CensoringDistributionEstimator):
            seen["weights"] = model.predict_ipcw(Y)
        elif hasattr(model, "score"):
            seen["score"] = model.score(X, Y)
    for name in ("coef_", "event_times_", "unique_times_", "alphas_", "feature_importances_", "scores_", "n_iter_"):
        if name in vars(model):
            seen[name] = getattr(model, name)
    return seen


def _plain(answer: Any) -> Any:
    if isinstance(answer, np.ndarray) and answer.dtype == object:
        return [[function.x, function.y, function.a, function.b, function.domain] for function in answer]
    return answer.to_dict("list") if isinstance(answer, pd.DataFrame) else answer


def observe_unfitted(model: Any) -> Any:
    """Its parameters, as text."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(model.get_params(deep=False)))


def risk_score(model: Any, X: Any, y: Any) -> float:
    """A scorer of the user's."""
    return float(model.score(X, y))


def _cox(**parameters: Any) -> Any:
    return linear_model.CoxPHSurvivalAnalysis(**parameters)


def _pair() -> Any:
    return [("a", _cox(alpha=0.1)), ("b", linear_model.IPCRidge())]


def _models() -> Mapping[str, Any]:
    small = {"n_estimators": 3, "random_state": 0}
    return {
        "ComponentwiseGradientBoostingSurvivalAnalysis": lambda: ensemble.ComponentwiseGradientBoostingSurvivalAnalysis(
            **small
        ),
        **{
            f"GradientBoostingSurvivalAnalysis {loss}": functools.partial(
                ensemble.GradientBoostingSurvivalAnalysis, loss=loss, **small
            )
            for loss in ("coxph", "squared", "ipcwls")
        },
        "GradientBoostingSurvivalAnalysis dropout": lambda: ensemble.GradientBoostingSurvivalAnalysis(
            dropout_rate=0.5, subsample=0.8, **small
        ),
        "RandomSurvivalForest": lambda: ensemble.RandomSurvivalForest(**small),
        "RandomSurvivalForest low_memory": lambda: ensemble.RandomSurvivalForest(low_memory=True, **small),
        "ExtraSurvivalTrees": lambda: ensemble.ExtraSurvivalTrees(**small),
        "SurvivalTree": lambda: tree.SurvivalTree(random_state=0),
        "ExtraSurvivalTree": lambda: tree.ExtraSurvivalTree(random_state=0),
        "ClinicalKernelTransform": lambda: kernels.ClinicalKernelTransform(),
        "IPCRidge": lambda: linear_model.IPCRidge(),
        "CoxnetSurvivalAnalysis": lambda: linear_model.CoxnetSurvivalAnalysis(fit_baseline_model=True, n_alphas=5),
        "CoxPHSurvivalAnalysis": _cox,
        "CoxPHSurvivalAnalysis efron": lambda: _cox(ties="efron"),
        "Stacking": lambda: meta.Stacking(_cox(alpha=1.0), _pair()),
        "EnsembleSelection": lambda: meta.EnsembleSelection(_pair(), scorer=risk_score, cv=2, n_jobs=1),
        "EnsembleSelectionRegressor": lambda: meta.EnsembleSelectionRegressor(_pair(), scorer=risk_score, cv=2),
        "as_concordance_index_ipcw_scorer": lambda: metrics.as_concordance_index_ipcw_scorer(_cox(), tau=LATER[-1]),
        "as_cumulative_dynamic_auc_scorer": lambda: metrics.as_cumulative_dynamic_auc_scorer(_cox(), times=LATER),
        "as_integrated_brier_score_scorer": lambda: metrics.as_integrated_brier_score_scorer(_cox(), times=LATER),
        "SurvivalFunctionEstimator": lambda: nonparametric.SurvivalFunctionEstimator(),
        "CensoringDistributionEstimator": lambda: nonparametric.CensoringDistributionEstimator(),
        "OneHotEncoder": lambda: preprocessing.OneHotEncoder(),
        "MinlipSurvivalAnalysis": lambda: svm.MinlipSurvivalAnalysis(),
        "HingeLossSurvivalSVM": lambda: svm.HingeLossSurvivalSVM(solver="osqp"),
        "NaiveSurvivalSVM": lambda: svm.NaiveSurvivalSVM(random_state=0),
        "FastSurvivalSVM": lambda: svm.FastSurvivalSVM(random_state=0, max_iter=10, optimizer="rbtree"),
        "FastSurvivalSVM regression": lambda: svm.FastSurvivalSVM(
            rank_ratio=0.5, fit_intercept=True, random_state=np.random.RandomState(1), max_iter=10
        ),
        "FastKernelSurvivalSVM": lambda: svm.FastKernelSurvivalSVM(kernel="rbf", random_state=0, max_iter=10),
    }


def _unfitted() -> Mapping[str, Any]:
    return {
        **_models(),
        "MeanEstimator": MeanEstimator,
        "MeanRankEstimator": MeanRankEstimator,
        "EnsembleAverage": lambda: EnsembleAverage([_cox()], name="both"),
    }


def _fitted(build: Any) -> Any:
    model = build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(model, nonparametric.SurvivalFunctionEstimator):
            model.fit(Y)
        elif isinstance(model, (kernels.ClinicalKernelTransform, preprocessing.OneHotEncoder)):
            model.fit(FRAME)
        else:
            model.fit(X, LONG if getattr(model, "loss", "") == "ipcwls" else Y)
    return {"model": model}


def _as_it_is(build: Any) -> Any:
    return {"model": build()}


class TestEveryEstimator(BuiltinContract):
    """All estimators, fitted and not."""

    manager = SksurvManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        fitted = {name: Case(functools.partial(_fitted, build), observe) for name, build in _models().items()}
        unfitted = {
            f"unfitted {name}": Case(functools.partial(_as_it_is, build), observe_unfitted)
            for name, build in _unfitted().items()
        }
        return {**fitted, **unfitted}

    def test_what_needs_a_pickle(self, tmp_path_factory: Any) -> None:
        """Only what holds a type of frame library or a function needs one, and the record says so."""
        outcomes = self._outcomes(tmp_path_factory)
        because = {
            name: str(outcome.saved.state.get("pickle_because", outcome.saved.state.get("foreign")))
            for name, outcome in outcomes.items()
            if outcome.saved.pickled
        }
        assert because.keys() == {
            "ClinicalKernelTransform",
            "OneHotEncoder",
            "EnsembleSelection",
            "EnsembleSelectionRegressor",
            "unfitted EnsembleSelection",
            "unfitted EnsembleSelectionRegressor",
        }
        assert "narwhals" in because["OneHotEncoder"]
        assert "lambda" in because["EnsembleSelection"]
        assert f"{__name__}.risk_score" in because["unfitted EnsembleSelection"]


def _estimators() -> list[type]:
    """All classes of the library that derive from scikit-learn's base, private and abstract ones left out."""
    found: set[type] = set()
    for module in pkgutil.walk_packages(sksurv.__path__, "sksurv."):
        for cls in vars(importlib.import_module(module.name)).values():
            own = inspect.isclass(cls) and cls.__module__.startswith("sksurv.") and issubclass(cls, BaseEstimator)
            if own and not cls.__name__.startswith(("_", "Base")):
                found.add(cls)
    return sorted(found, key=lambda cls: cls.__name__)


def test_every_class_is_claimed_and_tried() -> None:
    """The library's own list of estimators is the list of the cases, and each belongs to its manager."""
    from modelstore.managers.detection import all_managers

    assert {cls.__name__ for cls in _estimators()} == {name.partition(" ")[0] for name in _unfitted()}
    for cls in _estimators():
        for each in (cls, type("Own", (cls,), {})):
            found = all_managers().find(each.__new__(each))
            assert found is not None
            assert found.name == "sksurv", cls


def test_in_a_pipeline_and_a_search(store: ModelStore) -> None:
    """A search over a pipeline that ends in a survival model is scikit-learn's, and takes no pickle either."""
    search = GridSearchCV(make_pipeline(StandardScaler(), _cox()), {"coxphsurvivalanalysis__alpha": [0.1, 1.0]}, cv=2)
    search.fit(X, Y)
    info = store.upload("survival", model=search)
    assert info.library == "sklearn"
    loaded = store.load("survival", info.model_id, allow_pickle=False)
    assert loaded.predict(X).tobytes() == search.predict(X).tobytes()


def test_up_and_back(store: ModelStore) -> None:
    """Through a store, with the record's library and without a pickle."""
    model = ensemble.RandomSurvivalForest(n_estimators=3, random_state=0).fit(X, Y)
    info = store.upload("survival", model=model)
    assert info["model"]["model_type"] == {"library": "sksurv", "type": "RandomSurvivalForest", "models": None}
    loaded = store.load("survival", info.model_id, allow_pickle=False)
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
