"""CausalML: learners, trees and forests come back with equal effects; most learners without a pickle."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("causalml")

import causalml.features as features
import causalml.inference.meta as meta
import causalml.inference.tree as trees
import causalml.propensity as propensity
import numpy as np
import pandas as pd
from causalml.inference.iv import BaseDRIVRegressor, IVRegressor, XGBDRIVRegressor
from causalml.match import NearestNeighborMatch
from causalml.optimize import CounterfactualUnitSelector, PolicyLearner
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.managers.causalml import CausalMLManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
ROWS = 160
X = _RANDOM.normal(size=(ROWS, 3))
TREATED = _RANDOM.randint(0, 2, ROWS)
Y = X[:, 0] + TREATED * X[:, 1] + 0.1 * _RANDOM.normal(size=ROWS)
WON = (Y > 0).astype(int)
GROUPS = np.array(["control", "mail", "call"])[TREATED * (1 + (np.arange(ROWS) % 2))]
HALF = np.full(ROWS, 0.5)
ASSIGNED = _RANDOM.randint(0, 2, ROWS)
FRAME = pd.DataFrame({"town": np.array(list("abc"))[np.arange(ROWS) % 3], "shop": np.arange(ROWS) % 2})
_XGB: Mapping[str, Any] = {"n_estimators": 3, "max_depth": 2, "n_jobs": 1}
_TREE: Mapping[str, Any] = {"min_samples_leaf": 5, "random_state": 0}


class Own(meta.BaseTRegressor):
    """A user's learner in an importable module."""


def observe(learner: Any) -> Any:
    """Effects, probabilities or whatever it predicts, and what it knows about its fit."""
    seen: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(learner, IVRegressor):
            seen["predict"] = learner.predict()
        elif isinstance(learner, meta.TMLELearner):
            seen["ate"] = learner.estimate_ate(X, GROUPS[:] != "control", Y, p=HALF)
        elif isinstance(learner, (features.LabelEncoder, features.OneHotEncoder)):
            seen["transform"] = (
                np.asarray(learner.transform(FRAME.copy()).astype(float).todense())
                if isinstance(learner, features.OneHotEncoder)
                else learner.transform(FRAME.copy()).to_numpy()
            )
        elif isinstance(learner, PolicyLearner):
            seen["predict"] = [learner.predict(X), learner.predict_proba(X)]
        else:
            needs = isinstance(learner, (meta.BaseXLearner, meta.BaseRLearner, meta.BaseDRLearner))
            seen["predict"] = learner.predict(X, p=HALF) if needs and not _by_group(learner) else learner.predict(X)
    for name in ("_classes", "t_groups", "ate_alpha", "control_name", "classes_", "feature_importances_"):
        if hasattr(learner, name):
            value = getattr(learner, name)
            seen[name] = {str(key): int(at) for key, at in value.items()} if isinstance(value, dict) else value
    return seen


def _by_group(learner: Any) -> bool:
    return len(getattr(learner, "t_groups", ())) > 1


def observe_unfitted(learner: Any) -> Any:
    """What its constructor was given, as text."""
    return sorted((name, str(value)) for name, value in vars(learner).items() if isinstance(value, (str, int, float)))


def _fit(learner: Any, *arguments: Any, **further: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.fit(*arguments, **further)  # not all return themselves
    return {"model": learner}


def _learners() -> Mapping[str, Any]:
    line, odds = LinearRegression, LogisticRegression
    both: Mapping[str, Any] = {"control_outcome_learner": odds(), "treatment_outcome_learner": odds()}
    known: Mapping[str, Any] = {"propensity_learner": odds(), "n_fold": 2, "random_state": 0}
    return {
        "BaseSLearner": lambda: _fit(meta.BaseSLearner(line()), X, TREATED, Y),
        "BaseSRegressor": lambda: _fit(meta.BaseSRegressor(line()), X, TREATED, Y),
        "BaseSClassifier": lambda: _fit(meta.BaseSClassifier(odds()), X, TREATED, WON),
        "LRSRegressor": lambda: _fit(meta.LRSRegressor(), X, TREATED, Y),
        "BaseTLearner": lambda: _fit(meta.BaseTLearner(line()), X, TREATED, Y),
        "BaseTRegressor": lambda: _fit(meta.BaseTRegressor(line()), X, TREATED, Y),
        "BaseTRegressor of groups": lambda: _fit(meta.BaseTRegressor(line(), control_name="control"), X, GROUPS, Y),
        "BaseTClassifier": lambda: _fit(meta.BaseTClassifier(odds()), X, TREATED, WON),
        "MLPTRegressor": lambda: _fit(
            meta.MLPTRegressor(hidden_layer_sizes=(3,), max_iter=20, random_state=0), X, TREATED, Y
        ),
        "XGBTRegressor": lambda: _fit(meta.XGBTRegressor(**_XGB), X, TREATED, Y),
        "XGBTClassifier": lambda: _fit(meta.XGBTClassifier(xgb_kwargs=dict(_XGB)), X, TREATED, WON),
        "BaseXLearner": lambda: _fit(meta.BaseXLearner(line()), X, TREATED, Y, p=HALF),
        "BaseXRegressor": lambda: _fit(meta.BaseXRegressor(line()), X, TREATED, Y, p=HALF),
        "BaseXRegressor with propensities": lambda: _fit(
            meta.BaseXRegressor(line(), control_name="control"), X, GROUPS, Y
        ),
        "BaseXClassifier": lambda: _fit(
            meta.BaseXClassifier(outcome_learner=odds(), effect_learner=line()), X, TREATED, WON, p=HALF
        ),
        "BaseRLearner": lambda: _fit(
            meta.BaseRLearner(line(), cv_n_jobs=1, **known), X, TREATED, Y, p=HALF, verbose=False
        ),
        "BaseRRegressor": lambda: _fit(meta.BaseRRegressor(line(), **known), X, TREATED, Y, p=HALF, verbose=False),
        "BaseRClassifier": lambda: _fit(
            meta.BaseRClassifier(outcome_learner=odds(), effect_learner=line(), **known),
            X, TREATED, WON, p=HALF, verbose=False,
        ),
        "XGBRRegressor": lambda: _fit(
            meta.XGBRRegressor(effect_learner_n_estimators=3, n_fold=2, xgb_kwargs={"n_jobs": 1, "max_depth": 2}),
            X, TREATED, Y, p=HALF, verbose=False,
        ),
        "XGBRClassifier": lambda: _fit(
            meta.XGBRClassifier(outcome_xgb_kwargs=dict(_XGB), effect_xgb_kwargs=dict(_XGB), **known),
            X, TREATED, WON, p=HALF, verbose=False,
        ),
        "BaseDRLearner": lambda: _fit(meta.BaseDRLearner(line()), X, TREATED, Y, p=HALF, seed=1),
        "BaseDRRegressor": lambda: _fit(meta.BaseDRRegressor(line()), X, TREATED, Y, p=HALF, seed=1),
        "BaseDRClassifier": lambda: _fit(
            meta.BaseDRClassifier(treatment_effect_learner=line(), **both), X, TREATED, WON, p=HALF, seed=1
        ),
        "XGBDRRegressor": lambda: _fit(meta.XGBDRRegressor(**_XGB), X, TREATED, Y, p=HALF, seed=1),
        "TMLELearner": lambda: {"model": meta.TMLELearner(line())},
        "learner of the user's": lambda: _fit(Own(line()), X, TREATED, Y),
    }  # fmt: skip


def _instruments() -> Mapping[str, Any]:
    pair = ({1: HALF}, {1: HALF})
    return {
        "BaseDRIVRegressor": lambda: _fit(
            BaseDRIVRegressor(LinearRegression()), X, ASSIGNED, TREATED, Y, p=pair, pZ=HALF, seed=1, calibrate=False
        ),
        "XGBDRIVRegressor": lambda: _fit(
            XGBDRIVRegressor(**_XGB), X, ASSIGNED, TREATED, Y, p=pair, pZ=HALF, seed=1, calibrate=False
        ),
        "IVRegressor": lambda: _fit(IVRegressor(), X, TREATED, Y, ASSIGNED),
    }


def _trees() -> Mapping[str, Any]:
    uplift: Mapping[str, Any] = {"min_samples_treatment": 2, **_TREE}
    causal: Mapping[str, Any] = {"min_group_samples": 2, **_TREE}
    return {
        **{
            f"UpliftTreeClassifier {function}": lambda function=function: _fit(
                trees.UpliftTreeClassifier("control", evaluationFunction=function, **uplift), X, GROUPS, WON
            )
            for function in ("KL", "ED")
        },
        "UpliftRandomForestClassifier": lambda: _fit(
            trees.UpliftRandomForestClassifier("control", n_estimators=2, n_jobs=1, **uplift), X, GROUPS, WON
        ),
        "CausalTreeRegressor": lambda: _fit(trees.CausalTreeRegressor(**causal), X, TREATED, Y),
        "CausalRandomForestRegressor": lambda: _fit(
            trees.CausalRandomForestRegressor(n_estimators=2, n_jobs=1, **causal), X, TREATED, Y
        ),
    }


def _others() -> Mapping[str, Any]:
    policy = functools.partial(
        PolicyLearner,
        LinearRegression(),
        LogisticRegression(),
        DecisionTreeClassifier(max_depth=2),
        n_fold=2,
        random_state=0,
    )
    return {
        "ElasticNetPropensityModel": lambda: _fit(propensity.ElasticNetPropensityModel(n_fold=2), X, TREATED),
        "LogisticRegressionPropensityModel": lambda: _fit(
            propensity.LogisticRegressionPropensityModel(Cs=2), X, TREATED
        ),
        "GradientBoostedPropensityModel": lambda: _fit(
            propensity.GradientBoostedPropensityModel(n_estimators=3), X, TREATED
        ),
        "PolicyLearner": lambda: _fit(policy(), X, TREATED, Y),
        "LabelEncoder": lambda: _fit(features.LabelEncoder(min_obs=2), FRAME.copy()),
        "OneHotEncoder": lambda: _fit(features.OneHotEncoder(min_obs=2), FRAME.copy()),
    }


def _unfitted() -> Mapping[str, Any]:
    return {
        "BaseTRegressor": lambda: meta.BaseTRegressor(LinearRegression()),
        "MLPTRegressor": lambda: meta.MLPTRegressor(max_iter=3),
        "UpliftRandomForestClassifier": lambda: trees.UpliftRandomForestClassifier("control"),
        "CausalTreeRegressor": lambda: trees.CausalTreeRegressor(),
        "NearestNeighborMatch": lambda: NearestNeighborMatch(random_state=1),
        "CounterfactualUnitSelector": lambda: CounterfactualUnitSelector(LogisticRegression(), 0, 1, 2, 3),
    }


def _model(build: Any) -> Any:
    return {"model": build()}


class TestCausalML(BuiltinContract):
    """Every public learner, tree, forest and propensity model that needs no neural network."""

    manager = CausalMLManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        fitted = {**_learners(), **_instruments(), **_trees(), **_others()}
        return {
            **{name: Case(build, observe) for name, build in fitted.items()},
            **{
                f"unfitted {name}": Case(functools.partial(_model, build), observe_unfitted)
                for name, build in _unfitted().items()
            },
        }

    def test_what_needs_a_pickle(self, tmp_path_factory: Any) -> None:
        """Trees, and what holds a result of statsmodels or a class of the user's; the others load without one."""
        outcomes = self._outcomes(tmp_path_factory)
        pickled = {name: outcome.saved for name, outcome in outcomes.items() if outcome.saved.pickled}
        assert pickled.keys() - {"LabelEncoder", "OneHotEncoder"} - {f"unfitted {name}" for name in _unfitted()} == {
            *_trees(),
            "LRSRegressor",
            "IVRegressor",
            "learner of the user's",
        }
        for name, saved in pickled.items():
            assert saved.state.get("pickle_because") or saved.state.get("foreign"), name


def test_every_public_class_is_tried() -> None:
    """The public learners, trees and propensity models are the classes of the cases."""
    public = {
        name
        for module in (meta, trees)
        for name in dir(module)
        if isinstance(getattr(module, name), type) and hasattr(getattr(module, name), "predict")
    }
    tried = {name.partition(" ")[0] for group in (_learners(), _trees()) for name in group}
    assert public <= tried
    models = {
        cls.__name__
        for cls in vars(propensity).values()
        if isinstance(cls, type) and cls.__module__ == "causalml.propensity"
    }
    assert models - {"PropensityModel"} <= set(_others())


def test_up_and_back(store: ModelStore) -> None:
    """Through a store, with the ancestor's name for the library: a learner without a pickle, a forest with one."""
    learner = _learners()["XGBTRegressor"]()["model"]
    info = store.upload("mailing", model=learner)
    assert info["model"]["model_type"] == {"library": "causalml", "type": "XGBTRegressor", "models": None}
    loaded = store.load("mailing", info.model_id, allow_pickle=False)
    assert loaded.predict(X).tobytes() == learner.predict(X).tobytes()
    forest = _trees()["UpliftRandomForestClassifier"]()["model"]
    info = store.upload("mailing", model=forest)
    assert np.array_equal(store.load("mailing", info.model_id).predict(X), forest.predict(X))
