"""sktime: forecasters, classifiers, transformers, detectors, pipelines of them, and its metrics and splitters.

What sktime's own `save` writes is a zip file with a pickle in it; here it is the pickle.
"""

from __future__ import annotations

from typing import Any

from modelstore.managers.pickled import PickledManager

_LONGEST = 300  # characters of a value, in the record


class SktimeManager(PickledManager):
    """Stores whatever derives from sktime's `BaseObject`; fitted or not."""

    name = "sktime"
    title = "sktime"
    claims = (
        "sktime.base._base:BaseObject",
        # Of two of its classes, scikit-learn's base is a parent too; this is theirs.
        "sktime.base._panel.forest._composable:BaseTimeSeriesForest",
    )
    distributions = ("sktime", "scikit-base", "scikit-learn", "numpy", "pandas", "scipy", "joblib", "cloudpickle")
    extra = "sktime"
    limits = (
        "everything is a pickle, as is what lies in the zip file of `save`; another release may not read it",
        "estimators on top of PyTorch or TensorFlow were not tried; what those cannot pickle is refused",
    )

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """`get_params(deep=True)`, with text for what is long or an object."""
        return {name: _plain(value) for name, value in obj.get_params(deep=True).items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
