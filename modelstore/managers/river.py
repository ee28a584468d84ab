"""river: models that learn from streams, detectors, pipelines, metrics and statistics.

river has no format of its own and recommends pickle. What was learnt, random state included, is in it, so that learning
goes on after a load as if there had been none.
"""

from __future__ import annotations

from typing import Any

from modelstore.managers.pickled import PickledManager

_LONGEST = 300  # characters of a nested model or a function, in the record


class RiverManager(PickledManager):
    """Stores whatever derives from river's `Base`, and its few classes that do not but learn from streams too."""

    name = "river"
    title = "river"
    claims = (
        "river.base.base:Base",
        "river.covariance.emp:SymmetricMatrix",
        "river.utils.rolling:BaseRolling",
    )
    distributions = ("river", "numpy", "scipy", "narwhals", "cloudpickle")
    extra = "river"
    exactness = "bit for bit, and so is what it learns after the load"
    limits = (
        "data sets and streams of `river.datasets` and `river.stream`: they are data, pass what they hold as files",
        "river writes no file of its own, so that everything is a pickle; another release of river may not read it",
    )

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The arguments that the object was made with; nested objects by class and arguments."""
        parameters: dict[str, Any] = getattr(obj, "_get_params", dict)()
        return {str(name): _plain(value) for name, value in parameters.items()}


def _plain(value: Any) -> Any:
    # river writes a nested object as a pair of its class and arguments.
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], type) and isinstance(value[1], dict):
        return {"class": value[0].__name__, **{str(name): _plain(each) for name, each in value[1].items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value[:100]]
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
