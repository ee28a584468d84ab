"""sktime: every estimator that can be made here comes back, and one of each kind predicts the same."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sktime")

import numpy as np
import pandas as pd

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError, PickleNotAllowedError
from modelstore.managers.base import LoadRequest
from modelstore.managers.detection import all_managers
from modelstore.managers.pickled import PICKLE
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.sktime import SktimeManager
from tests.managers.contract import BuiltinContract

SERIES = pd.Series(
    10 + np.sin(np.arange(36) * np.pi / 6) + 0.1 * np.arange(36), index=pd.period_range("2020-01", periods=36, freq="M")
)
PANEL = np.random.RandomState(0).normal(size=(12, 1, 20))
LABELS = np.array(["a", "b", "c"] * 4)

FITTED = {
    "aligner": "AlignerNaive",
    "classifier": "SummaryClassifier",
    "clusterer": "TimeSeriesKMeans",
    "detector": "ThresholdDetector",
    "forecaster": "ExponentialSmoothing",
    "param_est": "AcorrLjungbox",
    "regressor": "DummyRegressor",
    "transformer": "BoxCoxTransformer",
    "transformer-pairwise": "ScipyDist",
    "transformer-pairwise-panel": "AggrDist",
}
"""One of each kind of estimator that is fitted, chosen to be quick; the others are stored as they were made."""


@functools.cache
def every() -> dict[str, Any]:
    """All classes that sktime lists and whose dependencies are installed."""
    from sktime.registry import all_estimators
    from sktime.utils.dependencies import _check_estimator_deps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        listed = all_estimators(return_names=True)
        return {name: cls for name, cls in listed if _check_estimator_deps(cls, severity="none")}


def kind_of(cls: Any) -> str:
    """sktime's name of what kind of object this is."""
    kind = cls.get_class_tag("object_type")
    return kind if isinstance(kind, str) else (kind or [""])[0]


def observe(obj: Any) -> Any:
    """What kind of object it is, whether it is fitted, and its parameters."""
    return [
        type(obj).__name__,
        bool(getattr(obj, "is_fitted", False)),
        sorted(obj.get_params(deep=True)),
        sorted(name for name in vars(obj) if not name.startswith("__")),
    ]


def observe_fitted(obj: Any) -> Any:
    """What a fitted object gives for the data of its kind."""
    name = type(obj).__name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind_of(type(obj)) == "forecaster":
            return obj.predict(fh=[1, 2, 5]).to_numpy(), str(obj.cutoff), _values(obj.update(SERIES).predict(fh=[1]))
        if name == "SummaryClassifier":
            return obj.predict_proba(PANEL), obj.predict(PANEL).tolist(), obj.classes_.tolist()
        return _values(_scenario(obj).run(obj, method_sequence=[_method(obj)]))


def _method(obj: Any) -> str:
    return next(name for name in ("predict", "transform", "get_fitted_params") if hasattr(obj, name))


def _scenario(obj: Any) -> Any:
    from sktime.utils._testing.scenarios_getter import retrieve_scenarios

    return retrieve_scenarios(obj)[0]


def _values(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {str(key): repr(value) for key, value in sorted(found.items())}
    if hasattr(found, "to_numpy"):
        values = found.to_numpy()
        return values if values.dtype != object else [repr(each) for each in values.ravel()]
    return found


@functools.cache
def _make(name: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"model": every()[name].create_test_instance()}


def _fit(name: str) -> dict[str, Any]:
    model = _make(name)["model"].clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind_of(type(model)) == "forecaster":
            model.fit(SERIES)
        elif name == "SummaryClassifier":
            from sklearn.ensemble import RandomForestClassifier

            model = type(model)(estimator=RandomForestClassifier(3, random_state=0)).fit(PANEL, LABELS)
        else:
            _scenario(model).run(model, method_sequence=["fit"])
    return {"model": model}


def _pipeline() -> dict[str, Any]:
    from sktime.forecasting.compose import MultiplexForecaster, TransformedTargetForecaster
    from sktime.forecasting.naive import NaiveForecaster
    from sktime.forecasting.trend import PolynomialTrendForecaster
    from sktime.transformations.series.detrend import Deseasonalizer
    from sktime.transformations.series.func_transform import FunctionTransformer

    choice = MultiplexForecaster([("naive", NaiveForecaster("drift")), ("trend", PolynomialTrendForecaster())])
    choice.set_params(selected_forecaster="trend")
    steps = [("log", FunctionTransformer(np.log, np.exp)), ("season", Deseasonalizer(sp=12)), ("forecast", choice)]
    return {"model": TransformedTargetForecaster(steps).fit(SERIES)}


def _forest() -> dict[str, Any]:
    from sktime.classification.ensemble import ComposableTimeSeriesForestClassifier

    return {"model": ComposableTimeSeriesForestClassifier(n_estimators=2, random_state=0)}


class TestSktime(BuiltinContract):
    """All estimators as they are made for sktime's own tests; one of each kind, and a pipeline, fitted."""

    manager = SktimeManager()

    def cases(self) -> Mapping[str, Case]:
        """By name."""
        made = {name: Case(functools.partial(_make, name), observe) for name in every() if _can_be_made(name)}
        fitted = {f"fitted {name}": Case(functools.partial(_fit, name), observe_fitted) for name in FITTED.values()}
        forest = {"two base classes": Case(_forest, observe)}
        return {**made, **fitted, **forest, "fitted pipeline": Case(_pipeline, observe_fitted)}

    def test_most_estimators_are_tried(self) -> None:
        """Hundreds of classes can be made here, and each kind that is fitted has one that was."""
        assert sum(map(_can_be_made, every())) > 300
        assert {kind_of(every()[name]) for name in FITTED.values()} == set(FITTED)


@functools.cache
def _can_be_made(name: str) -> bool:
    try:
        return _make(name) is not None
    except Exception:
        return False


def test_the_forests_that_are_scikit_learns_too_belong_here() -> None:
    """Classes below both sktime's and scikit-learn's base are this manager's, and no contradiction."""
    module = importlib.import_module("sktime.classification.ensemble")
    assert all_managers().find(module.ComposableTimeSeriesForestClassifier()).name == "sktime"  # type: ignore[union-attr]


def test_end_to_end(store: ModelStore) -> None:
    """Up and back with one line each; the record has the parameters of nested estimators."""
    model = _pipeline()["model"]
    info = store.upload("sales", model=model)
    assert info.library == "sktime"
    assert info["model"]["parameters"]["season__sp"] == 12
    loaded = store.load("sales", info.model_id)
    pd.testing.assert_series_equal(loaded.predict(fh=[1, 2, 3]), model.predict(fh=[1, 2, 3]), check_exact=True)
    with pytest.raises(PickleNotAllowedError, match="sktime"):
        store.load("sales", info.model_id, allow_pickle=False)


def test_damage_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A file that is gone or cut is reported as damage."""
    request = LoadRequest(tmp_path, {}, ("model",), PicklePolicy(True))
    with pytest.raises(IntegrityError, match=PICKLE):
        SktimeManager().load(request)
    (tmp_path / PICKLE).write_bytes(b"\x80\x05\x95")
    with pytest.raises(IntegrityError, match=PICKLE):
        SktimeManager().load(request)


SCRIPT = """
    import sys
    import pandas as pd
    from modelstore import ModelStore
    from sktime.forecasting.naive import NaiveForecaster

    class Doubled(NaiveForecaster):
        def _predict(self, fh=None, X=None):
            return 2 * super()._predict(fh, X)

    model = Doubled().fit(pd.Series([1.0, 2.0, 3.0]))
    ModelStore.from_file_system(sys.argv[1], create_directory=True).upload("d", model=model, model_id="m")
"""

READER = """
    import sys
    from modelstore import ModelStore
    print(ModelStore.from_file_system(sys.argv[1]).load("d", "m").predict(fh=[1]).tolist())
"""


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A forecaster class from `__main__` goes in by value."""
    store = tmp_path / "store"
    _run(SCRIPT, tmp_path / "notebook.py", store)
    assert _run(READER, tmp_path / "service.py", store) == "[6.0]\n"


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "", "HOME": str(script.parent)}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
