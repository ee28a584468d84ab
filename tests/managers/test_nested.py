"""Compositions of scikit-learn around models of other libraries: equal after a load, and without a pickle."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("skops")
pytest.importorskip("xgboost")
pytest.importorskip("lightgbm")
pytest.importorskip("catboost")
pytest.importorskip("imblearn")

import catboost
import imblearn.over_sampling
import imblearn.pipeline
import lightgbm
import numpy as np
import xgboost
from sklearn import calibration, compose, ensemble, feature_selection, model_selection, multioutput, pipeline
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import PickleNotAllowedError
from modelstore.folder import ModelFolder
from modelstore.managers.imblearn import ImblearnManager
from modelstore.managers.sklearn import SklearnManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(80, 4))
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(int)
PAIRS = np.c_[Y, X[:, 2] > 0].astype(int)


class Shift(TransformerMixin, BaseEstimator):
    """A user's transformer in an importable module."""

    def __init__(self, by: Any = 1.0) -> None:
        self.by = by

    def fit(self, X: Any, y: Any = None) -> Any:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        return X + 1.0


def observe(model: Any) -> Any:
    """All that it answers."""
    seen = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in ("predict", "predict_proba", "transform"):
            if hasattr(model, method):
                seen[method] = getattr(model, method)(X[:20])
    return seen


BOOSTERS: Mapping[str, Any] = {
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1),
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1, min_child_samples=5),
    "catboost": lambda: catboost.CatBoostClassifier(
        iterations=3, depth=2, verbose=0, allow_writing_files=False, thread_count=1
    ),
}


def _compositions(booster: Any) -> Mapping[str, Any]:
    line = LogisticRegression
    scaled = pipeline.Pipeline([("scale", StandardScaler()), ("clf", booster())])
    columns = compose.ColumnTransformer([("scaled", StandardScaler(), [0, 1])], remainder="passthrough")
    chosen = feature_selection.SelectFromModel(booster(), threshold=-1.0)
    return {
        "pipeline": lambda: scaled.fit(X, Y),
        "columns": lambda: pipeline.make_pipeline(columns, Shift(), booster()).fit(X, Y),
        "union": lambda: pipeline.FeatureUnion([("chosen", chosen), ("scaled", StandardScaler())]).fit(X, Y),
        "stacking": lambda: ensemble.StackingClassifier([("b", booster()), ("l", line())], cv=2).fit(X, Y),
        "voting": lambda: ensemble.VotingClassifier([("b", booster()), ("l", line())], voting="soft").fit(X, Y),
        "search": lambda: model_selection.GridSearchCV(scaled, {"scale__with_mean": [True, False]}, cv=2).fit(X, Y),
        "calibrated": lambda: calibration.CalibratedClassifierCV(booster(), cv=2).fit(X, Y),
        "bagging": lambda: ensemble.BaggingClassifier(booster(), n_estimators=2, random_state=0).fit(X, Y),
        "several outputs": lambda: multioutput.MultiOutputClassifier(booster()).fit(X, PAIRS),
    }


def _built(build: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"model": build()}


class TestNested(BuiltinContract):
    """Each composition around each library's booster."""

    manager = SklearnManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            f"{name} of {library}": Case(functools.partial(_built, build), observe)
            for library, booster in BOOSTERS.items()
            for name, build in _compositions(booster).items()
            # CatBoost's own state forgets how many features it was fitted on, which the selector in it asks for.
            if (library, name) != ("catboost", "union")
        }

    def test_only_classes_of_the_users_ask_for_trust(self, tmp_path_factory: Any) -> None:
        """Boosters lie in the skops file, which names the user's own transformer and nothing else as foreign."""
        for name, outcome in self._outcomes(tmp_path_factory).items():
            own = [f"{__name__}.Shift"] if name.startswith("columns") else []
            assert outcome.saved.format == "skops", (name, outcome.saved.state)
            assert outcome.saved.state["foreign"] == own, name


def _with_samples(booster: Any) -> Any:
    sampler = imblearn.over_sampling.SMOTE(random_state=0)
    return imblearn.pipeline.Pipeline([("sample", sampler), ("scale", StandardScaler()), ("clf", booster())]).fit(X, Y)


class TestNestedInSamplers(BuiltinContract):
    """Pipelines of imbalanced-learn around the same."""

    manager = ImblearnManager()

    def cases(self) -> Mapping[str, Case]:
        """One a library."""
        return {
            library: Case(functools.partial(_built, functools.partial(_with_samples, booster)), observe)
            for library, booster in BOOSTERS.items()
        }


def _because(model: Any) -> str:
    with ModelFolder() as files:
        saved = SklearnManager().save({"model": model}, files, {})
    assert saved.pickled == ["model.pkl"]
    return str(saved.state["pickle_because"])


def test_the_record_names_the_step() -> None:
    """What skops cannot hold is named by its parameter: the step, or the step's own parameter."""
    step = FunctionTransformer(lambda rows: rows)
    assert _because(pipeline.Pipeline([("shift", step), ("clf", LogisticRegression())])).startswith(
        "parameter 'shift__func': "
    )
    held = Shift({"deep": [object.__new__(_Slotted)]})
    assert _because(pipeline.Pipeline([("own", held)])).startswith("parameter 'own__by': ")
    search = model_selection.GridSearchCV(pipeline.Pipeline([("own", held), ("clf", LogisticRegression())]), {}, cv=2)
    assert _because(search.fit(X, Y)).startswith("parameter 'estimator__own__by': ")


def test_the_record_names_a_fitted_part() -> None:
    """A culprit that no parameter holds is named by the attributes that lead to it."""
    model = calibration.CalibratedClassifierCV(LogisticRegression(), cv=2).fit(X, Y)
    model.calibrated_classifiers_[1].estimator.note = object.__new__(_Slotted)
    assert _because(model).startswith("attribute 'calibrated_classifiers_[1].estimator.note': ")
    stack = ensemble.StackingClassifier([("l", LogisticRegression())], cv=2).fit(X, Y)
    stack.estimators_[0].note = lambda: None
    assert _because(stack).startswith("attribute 'estimators_[0].note': ")


class _Slotted:
    __slots__ = ("word",)

    def __init__(self) -> None:
        self.word = 1


READER = """
    import sys
    sys.modules["lightgbm"] = None
    from modelstore import ModelStore
    from modelstore.exceptions import MissingDependencyError

    try:
        ModelStore.from_file_system(sys.argv[1]).load("churn")
    except MissingDependencyError as error:
        print(error)
"""


def test_a_missing_library_of_a_step_is_named(store: ModelStore, tmp_path: Path) -> None:
    """Where LightGBM is missing, the error says so, and how to install the version that the step was made with."""
    store.upload("churn", model=_compositions(BOOSTERS["lightgbm"])["pipeline"]())
    said = _run(READER, tmp_path / "service.py", tmp_path / "store")
    assert "needs the package 'lightgbm'" in said
    assert "pip install" in said
    assert f"'lightgbm=={lightgbm.__version__}'" in said


WRITER = """
    import sys
    import numpy as np, xgboost
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.pipeline import make_pipeline
    from modelstore import ModelStore
    import helpers

    class Doubled(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return 2 * X

    X = np.random.RandomState(0).normal(size=(40, 3))
    model = make_pipeline(Doubled(), helpers.Tripled(), xgboost.XGBClassifier(n_estimators=2)).fit(X, X[:, 0] > 0)
    info = ModelStore.from_file_system(sys.argv[1], create_directory=True).upload("churn", model=model)
    print(model.predict_proba(X)[:3].tolist())
"""

HELPERS = """
    from sklearn.base import BaseEstimator, TransformerMixin

    class Tripled(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return 3 * X
"""

SERVICE = """
    import sys
    import numpy as np
    from modelstore import ModelStore

    model = ModelStore.from_file_system(sys.argv[1]).load("churn")
    X = np.random.RandomState(0).normal(size=(40, 3))
    print(model.predict_proba(X)[:3].tolist())
"""


def test_transformers_of_a_notebook_and_of_a_file_beside_it(tmp_path: Path) -> None:
    """One of `__main__` travels with the model; one of a module that is not installed is found where that module is."""
    (tmp_path / "helpers.py").write_text(textwrap.dedent(HELPERS))
    written = _run(WRITER, tmp_path / "notebook.py", tmp_path / "store")
    assert _run(SERVICE, tmp_path / "service.py", tmp_path / "store") == written
    info = ModelStore.from_file_system(tmp_path / "store").get_model_info("churn", _only(tmp_path / "store"))
    (part,) = info["model"]["managers"]
    assert part["state"]["pickle_because"].startswith("parameter 'doubled': __main__.Doubled")
    with pytest.raises(PickleNotAllowedError):
        ModelStore.from_file_system(tmp_path / "store").load("churn", allow_pickle=False)


def _only(folder: Path) -> str:
    (model_id,) = ModelStore.from_file_system(folder).list_models("churn")
    return str(model_id)


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
