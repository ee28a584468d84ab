"""InterpretML: boosting machines come back from skops, linear models and trees from a pickle, with equal answers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("interpret")

import numpy as np
import pandas as pd
from interpret import glassbox, privacy
from interpret.glassbox._ebm._ebm import EBMModel

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.managers.interpret import InterpretManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(150, 4))
TARGET = X[:, 0] + X[:, 1] ** 2
LABELS = (TARGET > 0.5).astype(int)
FRAME = pd.DataFrame({"size": X[:, 0], "weight": X[:, 1], "colour": np.array(list("rgb"))[np.arange(150) % 3]})
HOLES = np.where(X > 1.2, np.nan, X)
_SMALL: Mapping[str, Any] = {"max_rounds": 6, "outer_bags": 2, "n_jobs": 1, "interactions": 1, "random_state": 1}
_PRIVATE: Mapping[str, Any] = {
    "max_rounds": 5, "outer_bags": 1, "n_jobs": 1, "random_state": 1,
    "privacy_bounds": np.array([[-3.0, 3.0]] * 4), "composition": "classic",
}  # fmt: skip


class Own(glassbox.ExplainableBoostingRegressor):
    """A user's class in an importable module."""


def observe(model: Any) -> Any:
    """Predictions, what each feature adds to them, and what the explanation shows."""
    names = list(getattr(model, "feature_names_in_", ()))
    rows: Any = FRAME if "colour" in names else HOLES if getattr(model, "note", "") == "holes" else X
    seen: dict[str, Any] = {"names": names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen |= {
            name: getattr(model, name)(rows)
            for name in ("predict", "predict_proba", "decision_function", "eval_terms")
            if hasattr(model, name)
        }
        seen["importances"] = model.term_importances() if hasattr(model, "term_importances") else None
        seen["global"] = str(model.explain_global().data().get("names"))
        seen["local"] = str(model.explain_local(rows[:2]).data(0))
    for name in ("classes_", "term_names_", "feature_types_in_", "bag_weights_", "standard_deviations_"):
        if hasattr(model, name):
            seen[name] = getattr(model, name)
    return seen


def observe_unfitted(model: Any) -> Any:
    """Its parameters, as text."""
    return sorted(map(str, vars(model).items()))


def _fitted(build: Any, rows: Any, target: Any, **attributes: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build().fit(rows, target)
    vars(model).update(attributes)
    return {"model": model}


def _merged() -> Any:
    parts = [glassbox.ExplainableBoostingClassifier(**_SMALL).fit(X[at::2], LABELS[at::2]) for at in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"model": glassbox.merge_ebms(parts)}


def _scaled() -> Any:
    model = _fitted(functools.partial(glassbox.ExplainableBoostingRegressor, **_SMALL), X, TARGET)["model"]
    model.scale(0, 0.5)
    model.remove_terms([1])
    return {"model": model}


def _cases() -> Mapping[str, Any]:
    classifier = functools.partial(glassbox.ExplainableBoostingClassifier, **_SMALL)
    regressor = functools.partial(glassbox.ExplainableBoostingRegressor, **_SMALL)
    private = functools.partial(privacy.DPExplainableBoostingRegressor, privacy_target_min=-4, privacy_target_max=9)
    words = np.array(["no", "yes"])[LABELS]
    return {
        "classifier": functools.partial(_fitted, classifier, X, LABELS),
        "classes that are texts": functools.partial(_fitted, classifier, X, words),
        "three classes": functools.partial(
            _fitted, functools.partial(classifier, interactions=0), X, np.digitize(TARGET, [0, 1])
        ),
        "regressor": functools.partial(_fitted, regressor, X, TARGET),
        "counts": functools.partial(
            _fitted, functools.partial(regressor, objective="poisson_deviance"), X, np.round(np.abs(TARGET))
        ),
        "frame with categories": functools.partial(_fitted, classifier, FRAME, LABELS),
        "missing values": functools.partial(_fitted, regressor, HOLES, TARGET, note="holes"),
        "monotone": functools.partial(
            _fitted, functools.partial(regressor, monotone_constraints=[1, 0, 0, 0]), X, TARGET
        ),
        "private classifier": functools.partial(
            _fitted, functools.partial(privacy.DPExplainableBoostingClassifier, **_PRIVATE), X, LABELS
        ),
        "private regressor": functools.partial(_fitted, functools.partial(private, **_PRIVATE), X, TARGET),
        "merged": _merged,
        "edited": _scaled,
        "class of the user's": functools.partial(_fitted, functools.partial(Own, **_SMALL), X, TARGET),
        "linear regression": functools.partial(_fitted, glassbox.LinearRegression, X, TARGET),
        "logistic regression": functools.partial(
            _fitted, functools.partial(glassbox.LogisticRegression, C=0.5), X, LABELS
        ),
        "classification tree": functools.partial(
            _fitted, functools.partial(glassbox.ClassificationTree, random_state=0), X, LABELS
        ),
        "regression tree": functools.partial(
            _fitted, functools.partial(glassbox.RegressionTree, max_depth=2, random_state=0), X, TARGET
        ),
    }


def _unfitted(cls: Any) -> Any:
    return {"model": cls()}


UNFITTED = (
    glassbox.ExplainableBoostingClassifier,
    glassbox.ExplainableBoostingRegressor,
    privacy.DPExplainableBoostingClassifier,
    privacy.DPExplainableBoostingRegressor,
    glassbox.LinearRegression,
    glassbox.LogisticRegression,
    glassbox.ClassificationTree,
    glassbox.RegressionTree,
)


class TestInterpret(BuiltinContract):
    """Every model that the package implements by itself."""

    manager = InterpretManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            **{name: Case(build, observe) for name, build in _cases().items()},
            **{
                f"unfitted {cls.__name__}": Case(functools.partial(_unfitted, cls), observe_unfitted)
                for cls in UNFITTED
            },
        }

    def test_boosting_machines_need_no_pickle(self, tmp_path_factory: Any) -> None:
        """They lie in a skops file, where a user's class asks for trust; frames in the other models take a pickle."""
        for name, outcome in self._outcomes(tmp_path_factory).items():
            boosted = isinstance(outcome.objects["model"], EBMModel)
            assert outcome.saved.format == ("skops" if boosted or name.startswith("unfitted") else "pickle"), name
            if boosted:
                assert outcome.saved.state["foreign"] == ([f"{__name__}.Own"] if "user" in name else []), name


def test_every_class_that_needs_no_other_package_is_tried() -> None:
    """The public models of the package are the classes of the cases, but for those that other packages implement."""
    public = {name for name in (*dir(glassbox), *dir(privacy)) if name[0].isupper()}
    others = {"APLRClassifier", "APLRRegressor", "DecisionListClassifier"}
    assert public - others == {cls.__name__ for cls in UNFITTED}
    from modelstore.managers.detection import all_managers

    for cls in UNFITTED:
        found = all_managers().find(cls())
        assert found is not None
        assert found.name == "interpret"


def test_up_and_back(store: ModelStore) -> None:
    """Through a store, with the record's library and without a pickle."""
    model = _cases()["frame with categories"]()["model"]
    info = store.upload("colours", model=model)
    assert info["model"]["model_type"]["library"] == "interpret"
    assert info["model"]["parameters"]["outer_bags"] == 2
    loaded = store.load("colours", info.model_id, allow_pickle=False)
    assert loaded.predict_proba(FRAME).tobytes() == model.predict_proba(FRAME).tobytes()
