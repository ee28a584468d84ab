"""Prophet: forecasts and intervals come back to the last bit, and so does what its own JSON forgets."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prophet")

import numpy as np
import pandas as pd
from prophet import Prophet
from prophet.serialize import model_from_json

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.managers.attributes import ATTRIBUTES
from modelstore.managers.exact_json import encode
from modelstore.managers.prophet import MODEL, ProphetManager
from tests.managers.contract import BuiltinContract
from tests.managers.helpers import get, put

logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
logging.getLogger("prophet").setLevel(logging.ERROR)


class Own(Prophet):  # type: ignore[misc]
    """A user's class in an importable module."""


def history(**columns: Any) -> pd.DataFrame:
    """Days that do not start at midnight, and values with all their digits."""
    random = np.random.RandomState(0)
    days = pd.date_range("2021-03-04 05:06:07.123456", periods=70, freq="D")
    values = 5 + np.sin(np.arange(70) / 7 * 2 * np.pi) + random.normal(scale=0.1, size=70)
    return pd.DataFrame({"ds": days, "y": values, "heat": random.normal(size=70), **columns})


def observe(model: Any) -> Any:
    """The forecast with its intervals, and every attribute."""
    future = model.make_future_dataframe(9)
    for name in set(model.extra_regressors) | ({"cap", "floor"} if model.growth == "logistic" else set()):
        future[name] = {"cap": 9.0, "floor": 1.5}.get(name, 0.25)
    np.random.seed(3)
    forecast = model.predict(future)
    return {
        "columns": list(forecast.columns),
        **{name: forecast[name].to_numpy(dtype="float64") for name in forecast.columns if name != "ds"},
        "ds": forecast["ds"].astype("int64").to_numpy(),
        "samples": model.predictive_samples(future.head(3))["yhat"],
        **attributes(model),
    }


def attributes(model: Any) -> Any:
    """Every attribute, to its type."""
    found = {}
    for name, value in sorted(vars(model).items()):
        if name == "extra_regressors":
            value = {
                regressor: {key: item for key, item in properties.items() if key != "predictor"}
                for regressor, properties in value.items()
            }
        if name not in ("stan_fit", "stan_backend"):
            found[f"attribute {name}"] = repr(encode(value))
    return {**found, "backend": model.stan_backend.get_type()}


def _fit(cls: Any = Prophet, regressor: bool | None = None, country: str = "", **parameters: Any) -> Any:
    model = cls(**{"uncertainty_samples": 8, "n_changepoints": 3, **parameters})
    data = history()
    if model.growth == "logistic":
        data = history(cap=9.0, floor=1.5)
    if regressor is not None:
        model.add_regressor("heat", prior_scale=0.5, mode="multiplicative")
        model.add_seasonality("monthly", period=30.5, fourier_order=2, prior_scale=3)
    if country:
        model.add_country_holidays(country)
    model.fit(data)
    return {"model": model}


def _holidays() -> Any:
    days = pd.to_datetime(["2021-03-10", "2021-04-10"])
    return pd.DataFrame({"holiday": "market", "ds": days, "lower_window": 0, "upper_window": 1, "prior_scale": 4.5})


def _own() -> Any:
    found = _fit(Own, growth="flat")
    found["model"].note = (1, {"a": np.float32(0.1)})
    return found


def _forecast_regressor() -> Any:
    model = Prophet(uncertainty_samples=8, n_changepoints=2)
    model.add_regressor("heat", regressor_predictor={"growth": "flat", "uncertainty_samples": 8})
    return {"model": model.fit(history())}


def _untrained() -> Any:
    model = Prophet(holidays=_holidays(), changepoints=["2021-03-20"], seasonality_mode="multiplicative")
    model.add_regressor("heat")
    return {"model": model}


class TestProphet(BuiltinContract):
    """Every growth, holidays, seasonalities, regressors and samples."""

    manager = ProphetManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            "linear": Case(_fit, observe),
            "logistic with cap and floor": Case(functools.partial(_fit, growth="logistic", scaling="minmax"), observe),
            "regressor, seasonality and holidays": Case(
                functools.partial(_fit, regressor=True, holidays=_holidays(), country="DE"), observe
            ),
            "regressor that is forecast": Case(_forecast_regressor, observe),
            "samples of Stan's": Case(functools.partial(_fit, mcmc_samples=20), observe),
            "no intervals": Case(functools.partial(_fit, uncertainty_samples=0), observe_without_samples),
            "class of the user's": Case(_own, observe),
            "untrained": Case(_untrained, attributes),
            "untrained, as it comes": Case(lambda: {"model": Prophet()}, attributes),
        }

    def test_only_own_classes_are_pickled(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Tables, times and parameters need no pickle."""
        pickled = {name for name, outcome in self._outcomes(tmp_path_factory).items() if outcome.saved.pickled}
        assert pickled == {"class of the user's"}

    def test_the_file_is_what_prophet_itself_reads(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """`model.json` opens with Prophet alone and forecasts the same, to the digits that Prophet writes."""
        outcome = self._outcomes(tmp_path_factory)["linear"]
        by_hand = model_from_json((outcome.folder / MODEL).read_text())
        future = by_hand.make_future_dataframe(5)
        forecasts = [model.predict(future)["yhat"] for model in (by_hand, outcome.objects["model"])]
        np.testing.assert_allclose(*forecasts, rtol=1e-9)

    @pytest.mark.parametrize("name", ["os:system", "prophet.models:StanBackendEnum", "prophet"])
    def test_a_record_cannot_name_another_class(self, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        """The class of a record is taken from Prophet's model classes, and from nowhere else."""
        outcome = self._outcomes(tmp_path_factory)["linear"]
        state = {**outcome.saved.state, "class": name}
        with pytest.raises(IntegrityError, match="no model class of prophet|names no class"):
            get(self.manager, outcome.saved, outcome.folder, allow_pickle=True, state=state)

    def test_through_the_store(self, store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> None:
        """One line up, one line back, without a pickle; the record names the library and its parameters."""
        model = self._outcomes(tmp_path_factory)["regressor, seasonality and holidays"].objects["model"]
        info = store.upload("sales", model=model)
        assert info.library == "prophet"
        assert info["model"]["parameters"]["holidays"] == ["market"]
        assert info["model"]["parameters"]["regressors"]["heat"]["prior_scale"] == 0.5
        loaded = store.load("sales", allow_pickle=False)
        assert observe(loaded)["yhat"].tobytes() == observe(model)["yhat"].tobytes()


def observe_without_samples(model: Any) -> Any:
    """The forecast alone."""
    forecast = model.predict(model.make_future_dataframe(3))
    return [forecast["yhat"].to_numpy(), list(forecast.columns), attributes(model)]


def test_a_loaded_untrained_model_is_fitted_as_the_original(tmp_path: Path) -> None:
    """Stan is at hand, and the holidays and regressors take part."""
    model = _untrained()["model"]
    loaded = get(ProphetManager(), put(ProphetManager(), model, tmp_path), tmp_path)
    fitted = [each.fit(history(), seed=1).params["k"] for each in (model, loaded)]
    np.testing.assert_array_equal(*fitted)


@pytest.mark.parametrize("file", [MODEL, ATTRIBUTES])
@pytest.mark.parametrize("damage", [None, b"", b"[1]", b'{"growth": {}}', b"\xff"])
def test_a_damaged_file_is_an_error_of_the_store(file: str, damage: bytes | None, tmp_path: Path) -> None:
    """Missing, empty and foreign files are reported as damage."""
    saved = put(ProphetManager(), _stub(), tmp_path)
    (tmp_path / file).unlink()
    if damage is not None:
        (tmp_path / file).write_bytes(damage)
    with pytest.raises(IntegrityError):
        get(ProphetManager(), saved, tmp_path)


@functools.cache
def _stub() -> Any:
    return _fit(uncertainty_samples=0, growth="flat", weekly_seasonality=False)["model"]


def test_a_model_whose_fit_broke_off_is_refused(tmp_path: Path) -> None:
    """It has a history and no parameters; the error says what may have happened."""
    model = Prophet()
    model.history = history()
    with pytest.raises(UnsupportedObjectError, match="was its fit interrupted"):
        put(ProphetManager(), model, tmp_path)
