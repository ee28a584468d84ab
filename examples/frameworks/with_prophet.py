"""Prophet, up and back: `python examples/frameworks/with_prophet.py [FOLDER]`.

A shop's sales with a weekly rhythm, market days and the weather, forecast for the next two weeks.
"""

from __future__ import annotations

import logging
import sys

import numpy as np
import pandas as pd
from prophet import Prophet

from modelstore import ModelStore

MARKETS = pd.DataFrame(
    {"holiday": "market", "ds": pd.to_datetime(["2024-03-16", "2024-04-20", "2024-05-18", "2024-06-15"])}
)


def sales(days: int = 150) -> pd.DataFrame:
    """What was sold, day by day, and how warm it was."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"ds": pd.date_range("2024-01-15", periods=days, freq="D")})
    table["warmth"] = 10 + np.arange(days) / 15 + random.normal(scale=3, size=days)
    weekend = (table["ds"].dt.dayofweek >= 5) * 20
    market = table["ds"].isin(MARKETS["ds"]) * 50
    return table.assign(y=100 + weekend + market + 2 * table["warmth"] + random.normal(scale=4, size=days))


def forecast(model: Prophet, future: pd.DataFrame) -> pd.DataFrame:
    """The forecast and its interval, which is drawn from numpy's global generator."""
    np.random.seed(0)
    return model.predict(future)[["ds", "yhat", "yhat_lower", "yhat_upper"]]


def main(folder: str = "models") -> None:
    table = sales()
    train, future = table[:-14], table[-14:]
    model = Prophet(holidays=MARKETS, uncertainty_samples=200)
    model.add_regressor("warmth")
    logging.getLogger("cmdstanpy").setLevel(logging.WARNING)
    model.fit(train)

    store = ModelStore.from_file_system(folder, create_directory=True)
    expected = forecast(model, future)
    error = float(np.abs(expected["yhat"].to_numpy() - future["y"].to_numpy()).mean())
    info = store.upload("sales", model=model, metrics={"mean absolute error": error})

    loaded = store.load("sales", info.model_id, allow_pickle=False)
    if not forecast(loaded, future).equals(expected):
        raise SystemExit("the loaded model forecasts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions and intervals")


if __name__ == "__main__":
    main(*sys.argv[1:2])
