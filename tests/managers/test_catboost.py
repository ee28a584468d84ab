"""CatBoost: every class comes back as itself, with the parameters as they were given."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("catboost")

import catboost as cb
import numpy as np
import pandas as pd

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError
from modelstore.managers.catboost import MODEL, CatBoostManager
from tests.managers.contract import BuiltinContract
from tests.managers.helpers import from_a_notebook, get, put

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(80, 4))
CLASSES = np.digitize(X[:, 0] + 0.2 * X[:, 1], [-0.5, 0.5])
LABELS = np.array(["rot", "grün", "blau"])[CLASSES]
TARGET = X[:, 0] * 2 + X[:, 1]
GROUPS = np.repeat(np.arange(8), 10)
FRAME = pd.DataFrame({"size": X[:, 0], "colour": LABELS, "note": [f"it is {label} or not" for label in LABELS]})
QUIET = {"iterations": 4, "depth": 3, "thread_count": 1, "verbose": False, "allow_writing_files": False}


class Squared:
    """An objective of the user's."""

    def calc_ders_range(self, approxes: Any, targets: Any, weights: Any) -> Any:
        """First and second derivatives."""
        return [(targets[at] - approxes[at], -1.0) for at in range(len(targets))]  # numba compiles it


class Own(cb.CatBoostClassifier):
    """A user's class in an importable module."""


def observe(model: Any) -> Any:
    """Every kind of prediction, and what is known beside the trees."""
    rows = FRAME[model.feature_names_] if "colour" in model.feature_names_ else X
    kinds = ["RawFormulaVal"]
    if isinstance(model, cb.CatBoostClassifier):
        kinds += ["Class", "Probability", "LogProbability"]
    predictions = {kind: cb.CatBoost.predict(model, rows, prediction_type=kind) for kind in kinds}
    seen = {
        **{kind: _plain(found) for kind, found in predictions.items()},
        "predict": _plain(model.predict(rows)),
        "names": model.feature_names_,
        "classes": _plain(model.classes_),
        "label type": str(model.classes_.dtype),
        "evaluations": _digits(model.evals_result_),
        "best": [model.best_iteration_, _digits(model.best_score_), model.tree_count_],
        "rates": [model.learning_rate_, model.random_seed_, model.n_features_in_],
        "leaves": model.get_leaf_values(),
        "features": [model.get_cat_feature_indices(), model.get_text_feature_indices()],
        "all parameters": {name: _short(value) for name, value in model.get_all_params().items() if name[:4] != "text"},
        "given": _given(model),
        "attributes": sorted(vars(model)),
        "own": repr(getattr(model, "note", None)),
    }
    if rows is X:
        seen["importance"] = model.get_feature_importance(type="PredictionValuesChange")
        seen["contributions"] = model.get_feature_importance(cb.Pool(X), type="ShapValues")
    if isinstance(model, cb.CatBoostClassifier):
        seen["threshold"] = model.get_probability_threshold() if len(model.classes_) == 2 else None
    return seen


def observe_untrained(model: Any) -> Any:
    """Parameters and attributes of an untrained model."""
    return _given(model), sorted(vars(model)), model.is_fitted(), repr(sorted(model.get_params().items()))


def _given(model: Any) -> Any:
    parameters = model.get_params()
    return {
        name: type(value).__name__ if "Squared" in repr(value) else repr(value) for name, value in parameters.items()
    }


def _digits(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _digits(value) for name, value in found.items()}
    return [_digits(value) for value in found] if isinstance(found, list) else f"{found:.14g}"


def _short(value: Any) -> str:
    # CatBoost prints what was a float32 in C++ with another number of digits after a load.
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _plain(found: Any) -> Any:
    return found.tolist() if getattr(getattr(found, "dtype", None), "kind", "") == "O" else found


def _model(cls: Any, target: Any = TARGET, rows: Any = X, fit: Mapping[str, Any] | None = None, **further: Any) -> Any:
    return {"model": cls(**QUIET, **further).fit(rows, target, **(fit or {}))}


def _base(**further: Any) -> Any:
    return {"model": cb.CatBoost({**QUIET, **further}).fit(X, TARGET)}


def _own() -> Any:
    found = _model(Own, LABELS)
    found["model"].note = (1, 2.5, np.float32(0.1), float("nan"))
    return found


def _threshold() -> Any:
    found = _model(cb.CatBoostClassifier, CLASSES > 0)
    found["model"].set_probability_threshold(0.25)
    return found


class TestCatBoost(BuiltinContract):
    """Every class, kind of label and kind of feature."""

    manager = CatBoostManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        evaluation = {"eval_set": [(X[:40], LABELS[:40]), (X[40:], LABELS[40:])]}
        classifier = functools.partial(_model, cb.CatBoostClassifier)
        regressor = functools.partial(_model, cb.CatBoostRegressor)
        fitted = {
            "classes of text": functools.partial(classifier, LABELS),
            "classes of objects": functools.partial(classifier, LABELS.astype(object)),
            "classes of numbers": functools.partial(classifier, CLASSES),
            "classes of floats": functools.partial(classifier, CLASSES + 0.5),
            "two classes": functools.partial(classifier, np.where(CLASSES > 0, "ja", "nein")),
            "boolean classes": functools.partial(classifier, CLASSES > 0),
            "threshold": _threshold,
            "named classes": functools.partial(classifier, LABELS, class_names=["blau", "rot", "grün"]),
            "class weights": functools.partial(classifier, LABELS, class_weights={"rot": 2, "blau": 1, "grün": 1}),
            "many labels": functools.partial(
                classifier, np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int), loss_function="MultiLogloss"
            ),
            "evaluation": functools.partial(
                classifier, LABELS, fit=evaluation, custom_metric=["Accuracy"], early_stopping_rounds=2, learning_rate=1
            ),
            "categories": functools.partial(classifier, LABELS, FRAME[["size", "colour"]], cat_features=["colour"]),
            "texts": functools.partial(classifier, LABELS, FRAME, cat_features=[1], text_features=["note"]),
            "regressor": regressor,
            "many targets": functools.partial(regressor, X[:, :2], loss_function="MultiRMSE"),
            "uncertainty": functools.partial(regressor, loss_function="RMSEWithUncertainty"),
            "quantile": functools.partial(regressor, loss_function="Quantile:alpha=0.3", random_seed=7),
            "trees that are not symmetric": functools.partial(regressor, grow_policy="Lossguide", max_leaves=5),
            "numpy parameters": functools.partial(regressor, learning_rate=np.float64(0.3), l2_leaf_reg=np.float32(2)),
            "objective of the user's": functools.partial(regressor, loss_function=Squared(), eval_metric="RMSE"),
            "ranker": functools.partial(_model, cb.CatBoostRanker, CLASSES, fit={"group_id": GROUPS}),
            "base class": _base,
            "class of the user's": _own,
        }
        untrained = {cls: {**QUIET, "cat_features": [1]} for cls in (cb.CatBoostClassifier, cb.CatBoostRegressor)}
        return {
            **{name: Case(build, observe) for name, build in fitted.items()},
            **{
                f"untrained {cls.__name__}": Case(functools.partial(_untrained, cls, parameters), observe_untrained)
                for cls, parameters in (*untrained.items(), (cb.CatBoostRanker, QUIET))
            },
            "untrained base class": Case(lambda: {"model": cb.CatBoost({"eta": 0.5})}, observe_untrained),
            "untrained without parameters": Case(lambda: {"model": cb.CatBoost()}, observe_untrained),
        }

    def test_every_model_class_is_among_the_cases(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """No class that CatBoost exports as a model is left out."""
        public = {cls for cls in vars(cb).values() if inspect.isclass(cls) and issubclass(cls, cb.CatBoost)}
        tried = {type(outcome.objects["model"]) for outcome in self._outcomes(tmp_path_factory).values()}
        assert len(public) == 4
        assert public <= tried

    def test_only_objects_and_own_classes_are_pickled(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Nothing else asks for a pickle, and the record names the parameter that did."""
        pickled = {
            name: outcome.saved.state["pickle_because"]
            for name, outcome in self._outcomes(tmp_path_factory).items()
            if outcome.saved.pickled
        }
        assert pickled == {
            "objective of the user's": ["parameter loss_function"],
            "class of the user's": ["class"],
        }


def _untrained(cls: Any, parameters: Mapping[str, Any]) -> Any:
    return {"model": cls(**parameters)}


def test_the_file_is_what_catboost_itself_reads(tmp_path: Path) -> None:
    """`model.cbm` opens with CatBoost alone and predicts the same."""
    model = _model(cb.CatBoostRegressor)["model"]
    put(CatBoostManager(), model, tmp_path)
    by_hand = cb.CatBoostRegressor().load_model(tmp_path / MODEL)
    assert by_hand.predict(X).tobytes() == model.predict(X).tobytes()


def test_training_goes_on_after_a_load(tmp_path: Path) -> None:
    """A loaded model takes up training by `init_model=` with the same trees as after CatBoost's own `copy`."""
    model = _model(cb.CatBoostRegressor)["model"]
    loaded = get(CatBoostManager(), put(CatBoostManager(), model, tmp_path), tmp_path)
    # From the very object that was trained CatBoost goes on otherwise, but only the first time that it is asked.
    further = [cb.CatBoostRegressor(**QUIET).fit(X, TARGET, init_model=start) for start in (model.copy(), loaded)]
    assert further[0].tree_count_ == 8
    assert further[0].predict(X).tobytes() == further[1].predict(X).tobytes()
    assert loaded == model


def test_a_loaded_untrained_model_trains_as_the_original(tmp_path: Path) -> None:
    """Parameters and seed are those that were given."""
    model = cb.CatBoostClassifier(**QUIET, random_seed=5, bootstrap_type="Bernoulli", subsample=0.5)
    loaded = get(CatBoostManager(), put(CatBoostManager(), model, tmp_path), tmp_path)
    predictions = [each.fit(X, LABELS).predict_proba(X).tobytes() for each in (model, loaded)]
    assert predictions[0] == predictions[1]


def test_nothing_is_written_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an upload nor a load nor training what was loaded leaves a `catboost_info` behind."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = _model(cb.CatBoostRegressor)["model"]
    loaded = get(CatBoostManager(), put(CatBoostManager(), model, tmp_path / "model"), tmp_path / "model")
    assert loaded.get_params()["allow_writing_files"] is False
    loaded.fit(X, TARGET)
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("name", ["os:system", "catboost.core:Pool", "catboost.core:nothing", "catboost"])
def test_a_record_cannot_name_another_class(name: str, tmp_path: Path) -> None:
    """The class of a record is taken from CatBoost's model classes, and from nowhere else."""
    saved = put(CatBoostManager(), _base()["model"], tmp_path)
    with pytest.raises(IntegrityError, match="no model class of catboost|holds no nothing|names no class"):
        get(CatBoostManager(), saved, tmp_path, allow_pickle=True, state={**saved.state, "class": name})


@pytest.mark.parametrize("damage", [None, b"", b"CBM1", b"x" * 1000])
def test_a_damaged_file_is_an_error_of_the_store(damage: bytes | None, tmp_path: Path) -> None:
    """Missing, empty, cut and foreign files are reported as damage."""
    saved = put(CatBoostManager(), _base()["model"], tmp_path)
    (tmp_path / MODEL).unlink()
    if damage is not None:
        (tmp_path / MODEL).write_bytes(damage)
    with pytest.raises(IntegrityError, match=r"model\.cbm"):
        get(CatBoostManager(), saved, tmp_path)


def test_a_class_and_an_objective_of_a_notebook_load_elsewhere(tmp_path: Path) -> None:
    """A subclass and a loss from `__main__` are stored by value, and the trees stay in `model.cbm`."""
    build = """
        import catboost
        class Squared:
            def calc_ders_range(self, approxes, targets, weights):
                return [(target - approx, -1.0) for approx, target in zip(approxes, targets)]
        class Doubled(catboost.CatBoostRegressor):
            def predict(self, X, **further):
                return 2 * super().predict(X, **further)
        X = np.random.RandomState(0).normal(size=(50, 3))
        model = Doubled(
            iterations=3, verbose=False, allow_writing_files=False, loss_function=Squared(), eval_metric="RMSE"
        ).fit(X, X[:, 0])
    """
    observe = "model.predict(np.random.RandomState(0).normal(size=(50, 3))).tobytes()"
    because, cls = from_a_notebook(CatBoostManager(), build, observe, tmp_path)
    assert because == '["parameter loss_function", "class"]'
    assert cls == "__main__:Doubled"


def test_through_the_store(store: ModelStore) -> None:
    """One line up, one line back, without a pickle; the record names the library and its parameters."""
    model = _model(cb.CatBoostClassifier, LABELS)["model"]
    info = store.upload("colours", model=model)
    assert info.library == "catboost"
    assert info["model"]["parameters"]["depth"] == 3
    loaded = store.load("colours", allow_pickle=False)
    assert loaded.predict(X).tolist() == model.predict(X).tolist()
