"""XGBoost: every class comes back as itself, with what `save_model` leaves out."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xgboost")
pytest.importorskip("skops")

import numpy as np
import pandas as pd
import xgboost as xgb
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.sklearn import SklearnManager
from modelstore.managers.xgboost import MODEL, XGBoostManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(80, 4)).astype("float32")
CLASSES = np.digitize(X[:, 0] + 0.2 * X[:, 1], [-0.5, 0.5])
TARGET = X[:, 0] * 2 + X[:, 1]
GROUPS = np.repeat(np.arange(8), 10)
FRAME = pd.DataFrame({"size": X[:, 0], "colour": pd.Categorical(np.array(list("rgb"))[CLASSES])})
MISSING = np.where(X > 1, -999.0, X)


def squared(true: Any, predicted: Any) -> tuple[Any, Any]:
    """An objective of the user's."""
    return predicted - true, np.ones_like(predicted)


class Own(xgb.XGBClassifier):
    """A user's class in an importable module."""


def observe(model: Any) -> Any:
    """Predictions and what is known beside the trees."""
    booster = model if isinstance(model, xgb.Booster) else model.get_booster()
    seen = {
        "names": booster.feature_names,
        "types": booster.feature_types,
        "attributes": booster.attributes(),
        "config": booster.save_config(),
        "trees": booster.get_dump(),
    }
    if isinstance(model, xgb.Booster):
        return {**seen, "predict": model.predict(xgb.DMatrix(X, feature_names=model.feature_names))}
    rows = FRAME if booster.feature_names else (MISSING if model.missing == -999.0 else X)
    seen["predict"] = model.predict(rows)
    seen["best"] = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
    seen["evaluations"] = getattr(model, "evals_result_", None)
    seen["own"] = getattr(model, "note", None)
    for name in ("predict_proba", "classes_", "n_classes_", "n_features_in_", "feature_importances_"):
        if hasattr(model, name):
            value = getattr(model, name)
            seen[name] = value(rows) if callable(value) else value
    return seen


def observe_parameters(model: Any) -> Any:
    """An untrained model's parameters, as text."""
    return repr(model.get_params()), vars(model).keys() == type(model)().__dict__.keys()


def _model(cls: Any, target: Any = None, rows: Any = X, fit: Mapping[str, Any] | None = None, **parameters: Any) -> Any:
    model = cls(n_estimators=6, max_depth=3, n_jobs=1, **parameters)
    return {"model": model.fit(rows, CLASSES if target is None else target, **(fit or {}))}


def _booster(**parameters: Any) -> Any:
    names = [f"f{at}" for at in range(4)]
    booster = xgb.train({"max_depth": 2, "nthread": 1, **parameters}, xgb.DMatrix(X, TARGET, feature_names=names), 5)
    booster.set_attr(origin="test", best_iteration="3")
    return {"model": booster}


def _watched() -> Any:
    parameters = {"early_stopping_rounds": 2, "eval_metric": ["mlogloss", "merror"], "learning_rate": 1.5}
    return _model(
        xgb.XGBClassifier, fit={"eval_set": [(X, CLASSES), (X[::3], CLASSES[::3])], "verbose": False}, **parameters
    )


def _own_class() -> Any:
    found = _model(Own)
    found["model"].note = (1, 2.5, np.float32(0.1), float("nan"))
    return found


class TestXGBoost(BuiltinContract):
    """Every class and the parameters that the model file forgets."""

    manager = XGBoostManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        fitted = {
            "classifier": functools.partial(_model, xgb.XGBClassifier),
            "two classes": functools.partial(_model, xgb.XGBClassifier, (CLASSES > 0).astype(int)),
            "regressor": functools.partial(_model, xgb.XGBRegressor, TARGET),
            "forest classifier": functools.partial(_model, xgb.XGBRFClassifier),
            "forest regressor": functools.partial(_model, xgb.XGBRFRegressor, TARGET),
            "ranker": functools.partial(_model, xgb.XGBRanker, fit={"qid": GROUPS}),
            "base class": functools.partial(_model, xgb.XGBModel, TARGET, objective="reg:absoluteerror"),
            "linear": functools.partial(_model, xgb.XGBRegressor, TARGET, booster="gblinear"),
            "dart": functools.partial(_model, xgb.XGBRegressor, TARGET, booster="dart", rate_drop=0.3),
            "early stopping": _watched,
            "categories of a frame": functools.partial(
                _model, xgb.XGBClassifier, rows=FRAME, enable_categorical=True, tree_method="hist"
            ),
            "missing value": functools.partial(_model, xgb.XGBClassifier, rows=MISSING, missing=-999.0),
            "constraints": functools.partial(
                _model, xgb.XGBRegressor, TARGET, monotone_constraints=(1, 0, 0, -1), feature_weights=np.ones(4)
            ),
            "objective of the user's": functools.partial(_model, xgb.XGBRegressor, TARGET, objective=squared),
            "callbacks": functools.partial(
                _model, xgb.XGBRegressor, TARGET, callbacks=[xgb.callback.LearningRateScheduler([0.1] * 6)]
            ),
            "random state object": functools.partial(
                _model, xgb.XGBRegressor, TARGET, base_score=0.5, random_state=7, importance_type="weight"
            ),
            "class of the user's": _own_class,
            "booster": _booster,
            "multi-output booster": functools.partial(_booster, multi_strategy="one_output_per_tree"),
        }
        untrained = {
            cls.__name__: functools.partial(_untrained, cls)
            for cls in (xgb.XGBClassifier, xgb.XGBRegressor, xgb.XGBRanker, xgb.XGBRFClassifier, xgb.XGBRFRegressor)
        }
        return {
            **{name: Case(build, observe) for name, build in fitted.items()},
            **{f"untrained {name}": Case(build, observe_parameters) for name, build in untrained.items()},
        }

    def test_only_callables_and_own_classes_are_pickled(self, tmp_path_factory: Any) -> None:
        """Nothing else asks for a pickle, and the record names what did."""
        pickled = {
            name: outcome.saved.state["pickle_because"]
            for name, outcome in self._outcomes(tmp_path_factory).items()
            if outcome.saved.pickled
        }
        assert pickled == {
            "objective of the user's": ["objective"],
            "callbacks": ["callbacks"],
            "class of the user's": ["class"],
        }


def _untrained(cls: Any) -> Any:
    return {"model": cls(max_depth=9, missing=-1.0, gamma=np.float64(0.5))}


def _store(model: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = XGBoostManager().save({"model": model}, files, {})
        write_folder(files.contents(), folder)
    return saved


def test_the_model_file_is_what_xgboost_itself_reads(tmp_path: Path) -> None:
    """`model.ubj` opens with XGBoost alone."""
    model = _model(xgb.XGBRegressor, TARGET)["model"]
    _store(model, tmp_path)
    by_hand = xgb.XGBRegressor()
    by_hand.load_model(tmp_path / MODEL)
    assert by_hand.predict(X).tobytes() == model.predict(X).tobytes()


@pytest.mark.parametrize("cls", [xgb.XGBClassifier, xgb.XGBRFClassifier])
def test_as_a_step_of_a_pipeline_it_needs_no_pickle(cls: Any, tmp_path: Path) -> None:
    """Boosted trees in a scikit-learn pipeline lie in its skops file and predict the same."""
    model = make_pipeline(StandardScaler(), cls(n_estimators=3)).fit(X, CLASSES)
    with ModelFolder() as files:
        saved = SklearnManager().save({"model": model}, files, {})
        write_folder(files.contents(), tmp_path)
    assert saved.pickled == []
    loaded = SklearnManager().load(LoadRequest(tmp_path, saved.state, ("model",), PicklePolicy(False)))
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()


def test_an_untrained_booster_is_refused(tmp_path: Path) -> None:
    """There is nothing to store in a Booster that was never trained, and the error says so."""
    with pytest.raises(UnsupportedObjectError, match="was it trained"):
        _store(xgb.Booster({"max_depth": 2}), tmp_path)


@pytest.mark.parametrize("name", ["os:system", "xgboost.core:DMatrix", "xgboost.core:nothing", "xgboost"])
def test_a_record_cannot_name_another_class(name: str, tmp_path: Path) -> None:
    """The class of a record is taken from XGBoost's model classes, and from nowhere else."""
    saved = _store(_model(xgb.XGBRegressor, TARGET)["model"], tmp_path)
    request = LoadRequest(tmp_path, {**saved.state, "class": name}, ("model",), PicklePolicy(True))
    with pytest.raises(IntegrityError, match="no model class of xgboost|holds no nothing|names no class"):
        XGBoostManager().load(request)


def test_training_goes_on_after_a_load(tmp_path: Path) -> None:
    """A loaded model takes up training where the original would, with the same trees."""
    model = _model(xgb.XGBRegressor, TARGET)["model"]
    saved = _store(model, tmp_path)
    loaded = XGBoostManager().load(LoadRequest(tmp_path, saved.state, ("model",), PicklePolicy(False)))
    further = [m.fit(X, TARGET, xgb_model=m.get_booster()).get_booster().get_dump() for m in (model, loaded)]
    assert further[0] == further[1]


SCRIPT = """
    import json, pathlib, sys
    import numpy as np, xgboost
    from modelstore.contracts.manager import write_folder
    from modelstore.folder import ModelFolder
    from modelstore.managers.bundle import Bundle
    from modelstore.managers.detection import Managers
    from modelstore.managers.xgboost import XGBoostManager

    class Doubled(xgboost.XGBRegressor):
        def predict(self, X, **further):
            return 2 * super().predict(X, **further)

    X = np.random.RandomState(0).normal(size=(50, 3))
    model = Doubled(n_estimators=3).fit(X, X[:, 0])
    target = pathlib.Path(sys.argv[1])
    with ModelFolder() as files:
        entries, _ = Bundle.of(Managers([XGBoostManager()]), {"model": model}).save(files)
        write_folder(files.contents(), target)
    (target / "entries.json").write_text(json.dumps(entries))
    np.save(target / "expected.npy", model.predict(X))
"""

READER = """
    import json, pathlib, sys
    from modelstore.managers.bundle import load_bundle
    from modelstore.managers.detection import Managers
    from modelstore.managers.pickling import PicklePolicy
    from modelstore.managers.xgboost import XGBoostManager

    target = pathlib.Path(sys.argv[1])
    entries = json.loads((target / "entries.json").read_text())
    model = load_bundle(Managers([XGBoostManager()]), entries, target, PicklePolicy(True), subject="it")
    import numpy as np
    X = np.random.RandomState(0).normal(size=(50, 3))
    assert model.predict(X).tobytes() == np.load(target / "expected.npy").tobytes()
    print(type(model).__name__)
"""


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A subclass from `__main__` is stored by value, and only the class: the trees stay in `model.ubj`."""
    folder = tmp_path / "model"
    _run(SCRIPT, tmp_path / "notebook.py", folder)
    (entry,) = json.loads((folder / "entries.json").read_text())
    assert entry["state"]["pickle_because"] == ["class"]
    assert "python" in entry
    assert _run(READER, tmp_path / "service.py", folder) == "Doubled\n"


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
