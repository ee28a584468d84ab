"""StatsForecast: the object that fits many models to many series, and each model by itself.

Its own `save` is a pickle too.
"""

from __future__ import annotations

from typing import Any

from modelstore.managers.pickled import PickledManager

_LONGEST = 300  # characters of a value, in the record


class StatsForecastManager(PickledManager):
    """Stores `StatsForecast`, its models, and its stand-in for Prophet; fitted or not."""

    name = "statsforecast"
    title = "StatsForecast"
    claims = (
        "statsforecast.core:_StatsForecast",
        "statsforecast.models:_TS",
        "statsforecast.ucm:UCM",
        "statsforecast.adapters.prophet:AutoARIMAProphet",
    )
    distributions = (
        "statsforecast",
        "numpy",
        "pandas",
        "scipy",
        "statsmodels",
        "utilsforecast",
        "coreforecast",
        "fugue",
        "cloudpickle",
    )
    extra = "statsforecast"
    limits = (
        "everything is a pickle, as is what `StatsForecast.save` writes; another release may not read it",
        "the training data lie in a fitted `StatsForecast`, and so in the archive",
    )

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """A model's settings; of `StatsForecast`, its frequency and the settings of each model by its name."""
        if not hasattr(obj, "models"):
            return {"class": type(obj).__name__, **_settings(obj)}
        return {
            "freq": _plain(obj.freq),
            "models": {repr(model): self.object_parameters(model) for model in obj.models},
        }


def _settings(model: Any) -> dict[str, Any]:
    # Those of training end with an underscore, or are called `model_`.
    own = {name: value for name, value in vars(model).items() if not name.startswith("_") and not name.endswith("_")}
    return {name: _plain(value) for name, value in own.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
