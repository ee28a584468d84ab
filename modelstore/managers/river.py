"""river: models that learn from streams, detectors, pipelines, metrics and statistics.

river has no format of its own and recommends pickle. What was learnt, random state included, is in it, so that learning
goes on after a load as if there had been none.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickled import PickledManager

_LONGEST = 300  # characters of a nested model or a function, in the record
_EMBEDDINGS = "river.feature_extraction.kernel_approx"


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
        "everything is a pickle, since river writes no file of its own; another release of river may not read it",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.pkl`."""
        saved = super().save_object(obj, folder, options)
        saved.state["embeddings"] = _EMBEDDINGS in saved.modules
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read `model.pkl`.

        Raises:
            PickleNotAllowedError: the policy refuses.
        """
        obj = super().load_object(folder, state, request)
        if state["embeddings"]:
            _number_leaves(obj)
        return obj

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The arguments that the object was made with; nested objects by class and arguments."""
        parameters: dict[str, Any] = getattr(obj, "_get_params", dict)()
        return {str(name): _plain(value) for name, value in parameters.items()}


def _number_leaves(obj: Any) -> None:
    """Give the leaves of random tree embeddings their numbers again: river knows them by their addresses in memory."""
    from river.feature_extraction import RandomTreesEmbedding

    for part in _parts(obj):
        if issubclass(type(part), RandomTreesEmbedding):  # isinstance() of a pipeline asks its last step
            part._leaf_indices = [{id(leaf): at for at, leaf in enumerate(tree.iter_leaves())} for tree in part.trees]


def _parts(obj: Any) -> Iterator[Any]:
    """An object and all that it holds, however deep; no code."""
    seen, found = {id(obj)}, [obj]
    while found:
        part = found.pop()
        yield part
        for held in gc.get_referents(part):
            if id(held) not in seen and not isinstance(held, (type, types.ModuleType, types.FunctionType)):
                seen.add(id(held))
                found.append(held)


def _plain(value: Any) -> Any:
    # river writes a nested object as a pair of its class and arguments.
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], type) and isinstance(value[1], dict):
        return {"class": value[0].__name__, **{str(name): _plain(each) for name, each in value[1].items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict) and len(value) <= 100:
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value[:100]]
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
