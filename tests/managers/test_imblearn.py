"""imbalanced-learn: every estimator comes back from skops, and goes on with the same random numbers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("imblearn")

import numpy as np
from imblearn import FunctionSampler, ensemble, over_sampling, pipeline, under_sampling
from imblearn.utils.testing import all_estimators
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.managers.imblearn import ImblearnManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(120, 4))
Y = (X[:, 0] > 0.9).astype(int)
CODES = np.round(X).astype(int) + 5
MIXED = np.c_[np.arange(120) % 3, X[:, 1:]]
NAMES = [name for name, _ in all_estimators()]
_INPUTS = {"SMOTENC": MIXED, "SMOTEN": CODES, "ValueDifferenceMetric": CODES}
_NEEDED: Mapping[str, Any] = {
    "Pipeline": lambda: {"steps": [("sample", over_sampling.SMOTE(random_state=0)), ("model", LogisticRegression())]},
    "SMOTENC": lambda: {"categorical_features": [0]},
    "KMeansSMOTE": lambda: {"cluster_balance_threshold": 0.01},
}
_SMALL = {"random_state": 0, "n_estimators": 3}


class Halver(under_sampling.base.BaseUnderSampler):
    """A sampler of the user's, of a module."""

    def __init__(self, *, sampling_strategy: Any = "auto", step: int = 2) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.step = step

    def _fit_resample(self, X: Any, y: Any, **parameters: Any) -> Any:
        return X[:: self.step], y[:: self.step]


def every_second(X: Any, y: Any) -> Any:
    """A function that samples."""
    return X[::2], y[::2]


def observe(model: Any) -> Any:
    """What it samples and answers; it samples twice, so that its random numbers show."""
    inputs = _INPUTS.get(type(model).__name__, X)
    seen: dict[str, Any] = {"features": getattr(model, "n_features_in_", None)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(model, "fit_resample") and not hasattr(model, "predict"):
            seen["samples"] = [model.fit_resample(inputs.copy(), Y.copy()) for _ in range(2)]
        for method in ("predict_proba", "pairwise"):
            if hasattr(model, method):
                seen[method] = getattr(model, method)(inputs.copy())
    for name in ("sampling_strategy_", "sample_indices_", "classes_", "feature_importances_"):
        if hasattr(model, name):
            seen[name] = getattr(model, name)
    return seen


def observe_unfitted(model: Any) -> Any:
    """Its parameters, as text."""
    return repr(model.get_params())


def _estimator(name: str, *, fit: bool) -> Any:
    model = dict(all_estimators())[name](**_NEEDED.get(name, dict)())
    model.set_params(**{word: value for word, value in _SMALL.items() if word in model.get_params()})
    return {"model": _fit(model) if fit else model}


def _fit(model: Any) -> Any:
    inputs = _INPUTS.get(type(model).__name__, X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(model, "fit_resample") and not hasattr(model, "predict"):
            model.fit_resample(inputs, Y)
        else:
            model.fit(inputs, Y)
    return model


class TestEveryEstimator(BuiltinContract):
    """All that the library lists, fitted and not, and what users make of it."""

    manager = ImblearnManager()

    def cases(self) -> Mapping[str, Case]:
        """One case an estimator and state, then compositions."""
        fitted = {name: Case(functools.partial(_estimator, name, fit=True), observe) for name in NAMES}
        unfitted = {
            f"unfitted {name}": Case(functools.partial(_estimator, name, fit=False), observe_unfitted) for name in NAMES
        }
        others = {name: Case(functools.partial(_build, build), observe) for name, build in _others().items()}
        return {**fitted, **unfitted, **others}

    def test_only_what_is_the_users_needs_a_pickle(self, tmp_path_factory: Any) -> None:
        """Every estimator of the library loads where pickles are refused."""
        outcomes = self._outcomes(tmp_path_factory)
        pickled = {name for name, outcome in outcomes.items() if outcome.saved.pickled}
        assert pickled == {"sampler of the user's", "function of the user's"}
        assert {outcome.saved.format for outcome in outcomes.values()} == {"skops"}


def _build(build: Any) -> Any:
    return {"model": _fit(build())}


def _others() -> Mapping[str, Any]:
    tree_pipeline = functools.partial(pipeline.make_pipeline, StandardScaler(), over_sampling.SMOTE(random_state=0))
    return {
        "random state object": lambda: over_sampling.RandomOverSampler(random_state=np.random.RandomState(3)),
        "ratios by class": lambda: under_sampling.RandomUnderSampler(sampling_strategy={0: 20, 1: 10}, random_state=0),
        "balanced pipeline in an ensemble": lambda: ensemble.BalancedBaggingClassifier(
            tree_pipeline(LogisticRegression()), n_estimators=2, random_state=0
        ),
        "pipeline of a sampler and a pipeline": lambda: pipeline.Pipeline(
            [("s", under_sampling.TomekLinks()), ("p", tree_pipeline(ensemble.RUSBoostClassifier(n_estimators=2)))]
        ),
        "sampler of the user's": Halver,
        "function of the user's": lambda: FunctionSampler(func=every_second),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_class_is_claimed(name: str) -> None:
    """Whatever the library lists belongs to its manager, and so does a subclass of it."""
    from modelstore.managers.detection import all_managers

    cls = dict(all_estimators())[name]
    for each in (cls, type("Own", (cls,), {})):
        found = all_managers().find(each.__new__(each))
        assert found is not None
        assert found.name == "imblearn"


def test_a_pipeline_of_scikit_learn_stays_its_own() -> None:
    """scikit-learn's Pipeline goes to scikit-learn, even with an ensemble of imbalanced-learn in it."""
    from modelstore.managers.detection import all_managers

    model = Pipeline([("model", ensemble.BalancedRandomForestClassifier())])
    found = all_managers().find(model)
    assert found is not None
    assert found.name == "sklearn"


def test_up_and_back(store: ModelStore) -> None:
    """Through a store, with the record's library and without a pickle."""
    model = _fit(pipeline.make_pipeline(over_sampling.SMOTE(random_state=0), LogisticRegression()))
    info = store.upload("rare", model=model)
    assert info["model"]["model_type"] == {"library": "imblearn", "type": "Pipeline", "models": None}
    loaded = store.load("rare", info.model_id, allow_pickle=False)
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
