"""StatsForecast: every model, alone and over many series, forecasts the same after a load."""

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("statsforecast")
pytest.importorskip("sklearn")

import numpy as np
import pandas as pd
import statsforecast.models
from sklearn.linear_model import LinearRegression
from statsforecast import StatsForecast
from statsforecast.utils import ConformalIntervals

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError, PickleNotAllowedError, UnsupportedObjectError
from modelstore.managers.base import LoadRequest
from modelstore.managers.pickled import PICKLE
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.statsforecast import StatsForecastManager
from tests.managers.contract import BuiltinContract

_TIME = np.arange(40)
Y = 10 + 3 * np.sin(_TIME * np.pi / 2) + 0.1 * _TIME + np.random.RandomState(0).normal(size=40) * 0.3
EXOGENOUS = np.column_stack([np.cos(_TIME), _TIME % 4])
SERIES = pd.DataFrame(
    {"unique_id": np.repeat(["a", "b"], 40), "ds": [*pd.date_range("2024-01-01", periods=40)] * 2, "y": [*Y, *(Y * 2)]}
)

SETTINGS: dict[str, dict[str, Any]] = {
    "season_length": {"season_length": 4},
    "alpha": {"alpha": 0.3},
    "alpha_d": {"alpha_d": 0.2},
    "alpha_p": {"alpha_p": 0.2},
    "window_size": {"window_size": 2},
    "lags": {"lags": 2},
    "constant": {"constant": 2.0},
    "test_size": {"test_size": 8, "n_windows": 1},
    "model": {"model": LinearRegression()},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "AutoARIMA": {"max_p": 1, "max_q": 1, "max_P": 0, "max_Q": 0, "max_d": 1, "max_D": 0},
    "AutoTBATS": {"use_boxcox": False, "use_trend": False, "use_damped_trend": False, "use_arma_errors": False},
    "TBATS": {"use_boxcox": False, "use_trend": False, "use_damped_trend": False, "use_arma_errors": False},
    "AutoMFLES": {"config": {"seasonality_weights": [False], "max_rounds": [2]}},
    "MFLES": {"max_rounds": 3},
}
"""What keeps a search small."""


class Own(statsforecast.models.Naive):
    """A user's class in an importable module."""

    def predict(self, h: int, X: Any = None, level: Any = None) -> Any:
        """One more."""
        return {name: value + 1 for name, value in super().predict(h, X, level).items()}


def _make(name: str) -> Any:
    cls = getattr(statsforecast.models, name)
    settings: dict[str, Any] = dict(SEARCHES.get(name, {}))
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.name == "season_length" or parameter.default is parameter.empty:
            settings |= SETTINGS.get(parameter.name, {})
    return cls(**settings)


def _fit(model: Any) -> dict[str, Any]:
    exogenous = EXOGENOUS if type(model).__name__ == "SklearnModel" else None
    return {"model": model.fit(Y, exogenous)}


def observe(model: Any) -> Any:
    """Forecasts of a fitted model."""
    exogenous = EXOGENOUS[:5] if type(model).__name__ == "SklearnModel" else None
    return {name: np.asarray(value) for name, value in model.predict(5, exogenous).items()}


def observe_intervals(model: Any) -> Any:
    """Forecasts with prediction intervals."""
    return {name: np.asarray(value) for name, value in model.predict(3, level=[80]).items()}


def observe_unfitted(model: Any) -> Any:
    """What an unfitted model forecasts when it is fitted then."""
    return observe(_fit(model)["model"])


def observe_many(model: Any) -> Any:
    """A table of forecasts for all series, and what was fitted."""
    table = model.predict(h=4)
    return (
        {name: table[name].to_numpy() for name in table.columns if table[name].dtype == "float64"},
        table["unique_id"].tolist(),
        table["ds"].astype(str).tolist(),
        model.fitted_.shape,
    )


def observe_forecast(model: Any) -> Any:
    """Forecasts with the fallback, and the fitted values that were kept."""
    return [observe_table(model.forecast(df=SERIES, h=2, fitted=True)), observe_table(model.forecast_fitted_values())]


def observe_table(table: Any) -> Any:
    """A table's numbers by column."""
    return {name: table[name].to_numpy() for name in table.columns if table[name].dtype == "float64"}


def observe_prophet(model: Any) -> Any:
    """Forecasts of Prophet's stand-in."""
    return model.predict(pd.DataFrame({"ds": pd.date_range("2024-02-20", periods=3)}))["yhat"].to_numpy()


def _many() -> dict[str, Any]:
    from statsforecast.models import AutoETS, Naive, SeasonalNaive

    model = StatsForecast([AutoETS(4), Naive(), SeasonalNaive(4, alias="seasons")], freq="D")
    return {"model": model.fit(SERIES)}


def _with_fallback() -> dict[str, Any]:
    from statsforecast.models import HistoricAverage, Naive

    return {"model": StatsForecast([Naive()], freq="D", fallback_model=HistoricAverage())}


def _intervals() -> dict[str, Any]:
    model = statsforecast.models.SeasonalNaive(4, prediction_intervals=ConformalIntervals(h=3, n_windows=2))
    return _fit(model)


def _prophet() -> dict[str, Any]:
    from statsforecast.adapters.prophet import AutoARIMAProphet

    model = AutoARIMAProphet(max_p=1, max_q=1, n_changepoints=2)
    table = SERIES[SERIES["unique_id"] == "a"][["ds", "y"]].reset_index(drop=True)
    return {"model": model.fit(table, disable_seasonal_features=False)}


class TestStatsForecast(BuiltinContract):
    """Every model that the package lists, unfitted and fitted."""

    manager = StatsForecastManager()

    def cases(self) -> Mapping[str, Case]:
        """By name."""
        cases = {}
        for name in statsforecast.models.__all__:
            cases[name] = Case(functools.partial(_fitted, name), observe)
            if name not in SEARCHES:
                cases[f"unfitted {name}"] = Case(functools.partial(_unfitted, name), observe_unfitted)
        cases["many series"] = Case(_many, observe_many)
        cases["not fitted, with a fallback"] = Case(_with_fallback, observe_forecast)
        cases["intervals"] = Case(_intervals, observe_intervals)
        cases["class of the user's"] = Case(lambda: _fit(Own()), observe)
        return cases


def _fitted(name: str) -> dict[str, Any]:
    return _fit(_make(name))


def _unfitted(name: str) -> dict[str, Any]:
    return {"model": _make(name)}


def test_prophets_stand_in_is_not_prophets(store: ModelStore) -> None:
    """`AutoARIMAProphet` derives from Prophet and is no Prophet model: it is stored here, and forecasts the same."""
    pytest.importorskip("prophet")
    model = _prophet()["model"]
    info = store.upload("d", model=model)
    assert info.library == "statsforecast"
    assert observe_prophet(store.load("d", info.model_id)).tolist() == observe_prophet(model).tolist()


def test_parameters_are_the_models_settings() -> None:
    """The record has each model's settings by its name, and no fitted arrays."""
    told = StatsForecastManager().object_parameters(_many()["model"])
    assert json.loads(json.dumps(told)) == told
    assert told["freq"] == "D"
    assert told["models"]["seasons"] == {
        "class": "SeasonalNaive",
        "season_length": 4,
        "alias": "seasons",
        "prediction_intervals": None,
    }
    assert len(json.dumps(told)) < 2000


def test_end_to_end(store: ModelStore) -> None:
    """Up and back with one line each; a reader who allows no pickles is refused."""
    model = _many()["model"]
    info = store.upload("series", model=model)
    assert info.library == "statsforecast"
    loaded = store.load("series", info.model_id)
    pd.testing.assert_frame_equal(loaded.predict(h=6), model.predict(h=6), check_exact=True)
    with pytest.raises(PickleNotAllowedError, match="statsforecast"):
        store.load("series", info.model_id, allow_pickle=False)


def test_what_cannot_be_pickled_is_refused(store: ModelStore, tmp_path: Path) -> None:
    """A model that holds an open file is refused, and the error says why."""
    model = statsforecast.models.Naive()
    with open(tmp_path / "file", "w") as model.log, pytest.raises(UnsupportedObjectError, match="cannot be pickled"):
        store.upload("d", model=model)
    assert store.list_domains() == []


def test_damage_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A file that is gone or cut is reported as damage."""
    request = LoadRequest(tmp_path, {}, ("model",), PicklePolicy(True))
    with pytest.raises(IntegrityError, match=PICKLE):
        StatsForecastManager().load(request)
    (tmp_path / PICKLE).write_bytes(b"\x80\x05\x95")
    with pytest.raises(IntegrityError, match=PICKLE):
        StatsForecastManager().load(request)


SCRIPT = """
    import sys
    import numpy as np
    from modelstore import ModelStore
    from statsforecast.models import Naive

    class Doubled(Naive):
        def predict(self, h, X=None, level=None):
            return {"mean": 2 * super().predict(h)["mean"]}

    model = Doubled().fit(np.arange(5.0))
    ModelStore.from_file_system(sys.argv[1], create_directory=True).upload("d", model=model, model_id="m")
"""

READER = """
    import sys
    from modelstore import ModelStore
    print(ModelStore.from_file_system(sys.argv[1]).load("d", "m").predict(2)["mean"].tolist())
"""


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A model class from `__main__` goes in by value."""
    store = tmp_path / "store"
    _run(SCRIPT, tmp_path / "notebook.py", store)
    assert _run(READER, tmp_path / "service.py", store) == "[8.0, 8.0]\n"


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "", "HOME": str(script.parent)}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
