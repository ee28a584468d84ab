"""pmdarima: models, searches and pipelines forecast the same in another process, and learn on from there."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("pmdarima")

import numpy as np
import pandas as pd
import pmdarima
from pmdarima import arima, pipeline, preprocessing

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import PickleNotAllowedError
from modelstore.managers.pmdarima import PmdarimaManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
SALES = 20 + np.sin(np.arange(60) * np.pi / 6) + 0.2 * _RANDOM.normal(size=60).cumsum()
EXTRA = _RANDOM.normal(size=(60, 1))
SERIES = pd.Series(SALES, index=pd.date_range("2024-01-31", periods=60, freq="ME"))
_FEW: Mapping[str, Any] = {"maxiter": 5, "suppress_warnings": True}


class Own(arima.ARIMA):
    """A user's class in an importable module."""


def observe(model: Any) -> Any:
    """Forecasts, their intervals, and forecasts after further observations."""
    holds_extra = "extra" in str(getattr(model, "note", ""))
    further: dict[str, Any] = {"X": EXTRA[:3]} if holds_extra else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = [model.predict(3, **further), model.predict(3, return_conf_int=True, **further)]
        model.update(SALES[:2], **({"X": EXTRA[:2]} if holds_extra else {}))
        return [*map(_plain, seen), _plain(model.predict(3, **further))]


def observe_transformed(transformer: Any) -> Any:
    """What it makes of a series."""
    return [_plain(part) for part in transformer.transform(SALES, EXTRA) if part is not None]


def observe_unfitted(model: Any) -> Any:
    """Its parameters, as text."""
    return repr(model.get_params())


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return np.asarray(value)


def _fitted(build: Any, y: Any = SALES, **further: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build().fit(y, **further)
    if further:
        model.note = "extra"
    return {"model": model}


def _unfitted(build: Any) -> Any:
    return {"model": build()}


def _search() -> Any:
    return arima.AutoARIMA(start_p=0, start_q=0, max_p=1, max_q=1, max_order=2, error_action="ignore", **_FEW)


class TestPmdarima(BuiltinContract):
    """Every public estimator, pipeline and transformer."""

    manager = PmdarimaManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        plain = functools.partial(arima.ARIMA, order=(1, 0, 1), **_FEW)
        logged = [("log", preprocessing.LogEndogTransformer()), ("model", plain())]
        fourier = [("fourier", preprocessing.FourierFeaturizer(12, k=2)), ("model", plain())]
        fitted = {
            "ARIMA": functools.partial(_fitted, plain),
            "ARIMA of a series": functools.partial(_fitted, plain, SERIES),
            "ARIMA with seasons": functools.partial(
                _fitted, functools.partial(arima.ARIMA, (1, 0, 0), seasonal_order=(1, 0, 0, 12), **_FEW)
            ),
            "ARIMA with other data": functools.partial(_fitted, plain, X=EXTRA),
            "ARIMA scored out of sample": functools.partial(
                _fitted, functools.partial(plain, out_of_sample_size=5, scoring="mae")
            ),
            "AutoARIMA": functools.partial(_fitted, _search),
            "Pipeline": functools.partial(_fitted, lambda: pipeline.Pipeline(logged)),
            "Pipeline with features": functools.partial(_fitted, lambda: pipeline.Pipeline(fourier)),
            "class of the user's": functools.partial(_fitted, functools.partial(Own, order=(1, 0, 0), **_FEW)),
        }
        transformers = {
            "LogEndogTransformer": preprocessing.LogEndogTransformer,
            "BoxCoxEndogTransformer": preprocessing.BoxCoxEndogTransformer,
        }
        return {
            **{name: Case(build, observe) for name, build in fitted.items()},
            **{
                name: Case(functools.partial(_fitted, build), observe_transformed)
                for name, build in transformers.items()
            },
            "unfitted ARIMA": Case(functools.partial(_unfitted, plain), observe_unfitted),
            "unfitted AutoARIMA": Case(functools.partial(_unfitted, _search), observe_unfitted),
            "unfitted DateFeaturizer": Case(
                functools.partial(_unfitted, functools.partial(preprocessing.DateFeaturizer, "day")), observe_unfitted
            ),
        }


def test_up_and_back(store: ModelStore) -> None:
    """What `auto_arima` found, through a store; its pickle is named and may be refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = pmdarima.auto_arima(SALES, start_p=0, start_q=0, max_p=1, max_q=0, max_order=1, **_FEW)
    info = store.upload("sales", model=model)
    assert info["model"]["model_type"] == {"library": "pmdarima", "type": "ARIMA", "models": None}
    assert info["model"]["parameters"]["order"] == list(model.order)
    assert np.array_equal(store.load("sales", info.model_id).predict(6), model.predict(6))
    with pytest.raises(PickleNotAllowedError):
        store.load("sales", info.model_id, allow_pickle=False)
