"""LightGBM: every class comes back as itself, with what the text of the trees leaves out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightgbm")
pytest.importorskip("sklearn")
pytest.importorskip("pandas")

import lightgbm as lgb
import numpy as np
import pandas as pd

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError
from modelstore.managers.lightgbm import _LIVE, MODEL, LightGBMManager
from tests.managers.contract import BuiltinContract
from tests.managers.helpers import from_a_notebook, get, put

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(120, 4))
CLASSES = np.digitize(X[:, 0] + 0.2 * X[:, 1], [-0.5, 0.5])
LABELS = np.array(["rot", "grün", "blau"])[CLASSES]
TARGET = X[:, 0] * 2 + X[:, 1]
GROUPS = np.repeat(10, 12)
FRAME = pd.DataFrame({"size": X[:, 0], "colour": pd.Categorical(LABELS), "number": pd.Categorical(CLASSES)})
HOLES = np.where(X > 1, np.nan, X)


def squared(true: Any, predicted: Any) -> tuple[Any, Any]:
    """An objective of the user's."""
    return predicted - true, np.ones_like(predicted)


def worst(true: Any, predicted: Any) -> tuple[str, float, bool]:
    """A metric of the user's."""
    return "worst", float(np.abs(true - predicted).max()), False


class Own(lgb.LGBMClassifier):
    """A user's class in an importable module."""


class OwnBooster(lgb.Booster):
    """A user's booster in an importable module."""


def observe(model: Any) -> Any:
    """Every kind of prediction, and what is known beside the trees."""
    booster = model if isinstance(model, lgb.Booster) else model.booster_
    rows = FRAME if booster.feature_name()[0] == "size" else HOLES
    linear = "leaf_const=" in booster.model_to_string(num_iteration=-1)
    kinds = ["raw_score", "pred_leaf"] if linear else ["raw_score", "pred_leaf", "pred_contrib"]
    seen = {
        "text": booster.model_to_string(num_iteration=-1),
        "best text": booster.model_to_string(),
        "names": booster.feature_name(),
        "categories": booster.pandas_categorical,
        "params": {name: value if not callable(value) else value.__name__ for name, value in booster.params.items()},
        "best": [booster.best_iteration, repr(booster.best_score), booster.num_trees()],
        "gain": booster.feature_importance("gain"),
        "attributes": sorted(set(vars(booster)) - _LIVE),
        **{kind: booster.predict(rows, **{kind: True}) for kind in kinds},
        "predict": model.predict(rows),
        "all trees": booster.predict(rows, num_iteration=-1),
    }
    if booster is model:
        return seen
    seen["known"] = sorted(vars(model))
    seen["evaluations"] = repr(model.evals_result_)
    for name in (
        "classes_",
        "n_classes_",
        "n_features_in_",
        "feature_names_in_",
        "feature_importances_",
        "best_score_",
    ):
        if hasattr(model, name):
            value = getattr(model, name)
            seen[name] = value if isinstance(value, np.ndarray) else repr(value)
    if hasattr(model, "predict_proba"):
        seen["probabilities"] = model.predict_proba(rows)
        seen["labels"] = model._le.transform(model.classes_)
        seen["map"] = repr(model._class_map)
    seen["own"] = repr(getattr(model, "note", None))
    seen["random"] = model.random_state.randint(1 << 30, size=3) if hasattr(model.random_state, "randint") else None
    return seen


def observe_kept(booster: Any) -> Any:
    """The same of a booster that has not been through the text yet, whose gains have more digits than it prints."""
    return {**observe(booster), "gain": [f"{gain:.5g}" for gain in booster.feature_importance("gain")]}


def observe_empty(booster: Any) -> Any:
    """The same of a booster without trees, of which LightGBM itself reads no parameters back."""
    return {name: value for name, value in observe(booster).items() if "text" not in name}


def observe_untrained(model: Any) -> Any:
    """Parameters and attributes of an untrained model."""
    return repr(model.get_params()), repr(sorted(vars(model).items())), model.__sklearn_is_fitted__()


def _model(cls: Any, target: Any = TARGET, rows: Any = X, fit: Mapping[str, Any] | None = None, **further: Any) -> Any:
    parameters = {"n_estimators": 5, "num_leaves": 5, "min_child_samples": 5, "n_jobs": 1, "verbose": -1, **further}
    return {"model": cls(**parameters).fit(rows, target, **(fit or {}))}


def _watched() -> Any:
    fit = {
        "eval_set": [(X, LABELS), (X[::3], LABELS[::3])],
        "eval_metric": "multi_error",
        "callbacks": [lgb.early_stopping(2, verbose=False)],
    }
    return _model(lgb.LGBMClassifier, LABELS, fit=fit, n_estimators=30, learning_rate=0.8)


def _own() -> Any:
    found = _model(Own, LABELS)
    found["model"].note = (1, 2.5, np.float32(0.1), float("nan"))
    return found


def _booster(cls: Any = lgb.Booster, rows: Any = X, keep: bool = False, **parameters: Any) -> Any:
    data = lgb.Dataset(rows, TARGET)
    train = {"objective": "regression", "verbose": -1, "num_threads": 1, "num_leaves": 5, **parameters}
    further = {"valid_sets": [lgb.Dataset(rows, TARGET, reference=data)], "keep_training_booster": keep}
    booster = lgb.train(train, data, 6, callbacks=[lgb.early_stopping(3, verbose=False)], **further)
    if cls is not lgb.Booster:
        other = cls(model_str=booster.model_to_string(num_iteration=-1))
        other.note = "mine"
        return {"model": other}
    return {"model": booster}


class TestLightGBM(BuiltinContract):
    """Every class, objective and kind of tree, and what the text forgets."""

    manager = LightGBMManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        two = np.where(CLASSES > 0, "ja", "nein").astype(object)
        fitted = {
            "classifier": functools.partial(_model, lgb.LGBMClassifier, LABELS),
            "two classes, as objects": functools.partial(_model, lgb.LGBMClassifier, two),
            "class weights": functools.partial(_model, lgb.LGBMClassifier, LABELS, class_weight={"rot": 2.0}),
            "boolean classes": functools.partial(_model, lgb.LGBMClassifier, CLASSES > 0),
            "series of classes": functools.partial(_model, lgb.LGBMClassifier, pd.Series(LABELS)),
            "regressor": functools.partial(_model, lgb.LGBMRegressor),
            "ranker": functools.partial(_model, lgb.LGBMRanker, CLASSES, fit={"group": GROUPS, "eval_at": (1, 3)}),
            "base class": functools.partial(_model, lgb.LGBMModel, objective="mae"),
            "quantile": functools.partial(_model, lgb.LGBMRegressor, objective="quantile", alpha=np.float64(0.1)),
            "linear trees": functools.partial(_model, lgb.LGBMRegressor, linear_tree=True),
            "dart": functools.partial(_model, lgb.LGBMRegressor, boosting_type="dart"),
            "forest": functools.partial(
                _model, lgb.LGBMClassifier, LABELS, boosting_type="rf", subsample=0.5, subsample_freq=1
            ),
            "extra trees": functools.partial(
                _model, lgb.LGBMRegressor, extra_trees=True, monotone_constraints=[1, 0, 0, 0]
            ),
            "early stopping": _watched,
            "categories of a frame": functools.partial(_model, lgb.LGBMClassifier, LABELS, rows=FRAME),
            "holes": functools.partial(_model, lgb.LGBMRegressor, rows=HOLES),
            "objective of the user's": functools.partial(_model, lgb.LGBMRegressor, objective=squared),
            "metric of the user's": functools.partial(
                _model, lgb.LGBMRegressor, fit={"eval_set": [(X, TARGET)], "eval_metric": worst}
            ),
            "random state object": lambda: _model(lgb.LGBMRegressor, random_state=np.random.RandomState(3)),
            "class of the user's": _own,
            "booster": _booster,
            "booster of the user's": functools.partial(_booster, OwnBooster),
            "booster of a frame": functools.partial(_booster, rows=FRAME),
        }
        untrained = (lgb.LGBMClassifier, lgb.LGBMRegressor, lgb.LGBMRanker, lgb.LGBMModel)
        dask = (lgb.DaskLGBMClassifier, lgb.DaskLGBMRegressor, lgb.DaskLGBMRanker)
        return {
            **{name: Case(build, observe) for name, build in fitted.items()},
            "booster with its data": Case(functools.partial(_booster, keep=True), observe_kept),
            "booster without trees": Case(_empty_booster, observe_empty),
            **{
                f"untrained {cls.__name__}": Case(functools.partial(_untrained, cls), observe_untrained)
                for cls in (*untrained, *dask)
            },
        }

    def test_every_model_class_is_among_the_cases(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """No class that LightGBM exports as a model is left out."""
        public = {
            cls
            for cls in vars(lgb).values()
            if inspect.isclass(cls) and issubclass(cls, (lgb.LGBMModel, lgb.Booster)) and cls.__name__[0] != "_"
        }
        tried = {type(outcome.objects["model"]) for outcome in self._outcomes(tmp_path_factory).values()}
        assert public <= tried

    def test_only_callables_objects_and_own_classes_are_pickled(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Nothing else asks for a pickle, and the record names what did."""
        pickled = {
            name: outcome.saved.state["pickle_because"]
            for name, outcome in self._outcomes(tmp_path_factory).items()
            if outcome.saved.pickled
        }
        assert pickled == {
            "objective of the user's": ["_objective", "objective"],
            "random state object": ["random_state"],
            "class of the user's": ["class"],
            "booster of the user's": ["class"],
        }


def _empty_booster() -> Any:
    return {"model": lgb.Booster({"verbose": -1}, lgb.Dataset(X, TARGET))}


def _untrained(cls: Any) -> Any:
    return {"model": cls(num_leaves=9, learning_rate=np.float64(0.5), random_state=7, lambda_l1=1.5)}


def test_the_text_is_what_lightgbm_itself_reads(tmp_path: Path) -> None:
    """`model.txt` opens with LightGBM alone and predicts the same."""
    model = _model(lgb.LGBMRegressor)["model"]
    put(LightGBMManager(), model, tmp_path)
    assert lgb.Booster(model_file=tmp_path / MODEL).predict(X).tobytes() == model.predict(X).tobytes()


def test_the_trees_after_the_best_iteration_are_kept(tmp_path: Path) -> None:
    """LightGBM's own `save_model` leaves them out unless it is asked; a load gives them back."""
    booster = _booster(keep=True)["model"]
    booster.best_iteration = 2
    loaded = get(LightGBMManager(), put(LightGBMManager(), booster, tmp_path), tmp_path)
    assert (loaded.num_trees(), loaded.best_iteration) == (6, 2)


@pytest.mark.parametrize("build", [functools.partial(_model, lgb.LGBMRegressor), _booster])
def test_training_goes_on_after_a_load(build: Any, tmp_path: Path) -> None:
    """A loaded model takes up training by `init_model=` where the original would, with the same trees."""
    model = build()["model"]
    loaded = get(LightGBMManager(), put(LightGBMManager(), model, tmp_path), tmp_path)
    further = [
        lgb.LGBMRegressor(n_estimators=3, n_jobs=1, verbose=-1).fit(X, TARGET, init_model=start).booster_
        for start in (model, loaded)
    ]
    assert further[0].num_trees() > 5
    assert further[0].model_to_string() == further[1].model_to_string()


def test_a_client_of_dask_stays_behind(tmp_path: Path) -> None:
    """A Dask estimator is stored without its connection, and the caller's keeps it."""
    client = object()
    model = lgb.DaskLGBMRegressor(num_leaves=9)
    model.set_params(client=client)
    saved = put(LightGBMManager(), model, tmp_path)
    loaded = get(LightGBMManager(), saved, tmp_path)
    assert loaded.client is None
    assert loaded.num_leaves == 9
    assert model.client is client
    assert model._other_params["client"] is client
    assert "client" not in LightGBMManager().parameters({"model": model})


@pytest.mark.parametrize("name", ["os:system", "lightgbm.basic:Dataset", "lightgbm.basic:nothing", "lightgbm"])
def test_a_record_cannot_name_another_class(name: str, tmp_path: Path) -> None:
    """The class of a record is taken from LightGBM's model classes, and from nowhere else."""
    saved = put(LightGBMManager(), _model(lgb.LGBMRegressor)["model"], tmp_path)
    with pytest.raises(IntegrityError, match="no model class of lightgbm|holds no nothing|names no class"):
        get(LightGBMManager(), saved, tmp_path, allow_pickle=True, state={**saved.state, "class": name})


@pytest.mark.parametrize("damage", [None, b"", b"tree\nversion=v4\n", b"\xff\xfe", b"x" * 100])
def test_a_damaged_text_is_an_error_of_the_store(damage: bytes | None, tmp_path: Path) -> None:
    """Missing, empty, cut and foreign files are reported as damage."""
    saved = put(LightGBMManager(), _booster()["model"], tmp_path)
    (tmp_path / MODEL).unlink()
    if damage is not None:
        (tmp_path / MODEL).write_bytes(damage)
    with pytest.raises(IntegrityError, match=r"model\.txt"):
        get(LightGBMManager(), saved, tmp_path)


def test_a_class_and_an_objective_of_a_notebook_load_elsewhere(tmp_path: Path) -> None:
    """A subclass and a function from `__main__` are stored by value, and the trees stay in `model.txt`."""
    build = """
        import lightgbm
        class Doubled(lightgbm.LGBMRegressor):
            def predict(self, X, **further):
                return 2 * super().predict(X, **further)
        def squared(true, predicted):
            return predicted - true, np.ones_like(predicted)
        X = np.random.RandomState(0).normal(size=(50, 3))
        model = Doubled(n_estimators=3, objective=squared, verbose=-1).fit(X, X[:, 0])
    """
    observe = "model.predict(np.random.RandomState(0).normal(size=(50, 3))).tobytes()"
    because, cls = from_a_notebook(LightGBMManager(), build, observe, tmp_path)
    assert because == '["_objective", "objective", "class"]'
    assert cls == "__main__:Doubled"


def test_through_the_store(store: ModelStore) -> None:
    """One line up, one line back, without a pickle; the record names the library and its parameters."""
    model = _model(lgb.LGBMClassifier, LABELS)["model"]
    info = store.upload("colours", model=model)
    assert info.library == "lightgbm"
    assert info["model"]["parameters"]["num_leaves"] == 5
    loaded = store.load("colours", allow_pickle=False)
    assert loaded.predict(X).tolist() == model.predict(X).tolist()
