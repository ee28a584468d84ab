"""pmdarima: ARIMA models, with or without a search, and pipelines around them. Pickle is the only format there is."""

from __future__ import annotations

from typing import Any

from modelstore.managers.pickled import PickledManager


class PmdarimaManager(PickledManager):
    """Stores estimators, pipelines and transformers with the results of statsmodels that they hold."""

    name = "pmdarima"
    title = "pmdarima"
    claims = (
        "pmdarima.base:BaseARIMA",
        "pmdarima.pipeline:Pipeline",
        "pmdarima.preprocessing.base:BaseTransformer",
    )
    distributions = (
        "pmdarima",
        "statsmodels",
        "scikit-learn",
        "pandas",
        "numpy",
        "scipy",
        "joblib",
        "cloudpickle",
    )
    extra = "pmdarima"

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """`get_params()`: for a pipeline those of its steps, by `step__name`."""
        return dict(obj.get_params())
