"""Annoy: a built index as the file that `save` writes, which loads by mapping it read-only.

The file holds neither the vectors' length nor the metric, and the object tells its length only. So the metric is found
out: an index of the same metric measures the same distances between a few of the items.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers import pickling
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.notices import warn

MODEL = "model.ann"
CUSTOM = "custom.pkl"
METRICS = ("angular", "dot", "euclidean", "hamming", "manhattan")

_SAMPLE = 24
"""How many items tell the metric. Equal or orthogonal ones may tell nothing, so a few more than two."""

_BASE = "annoy.AnnoyIndex"


class AnnoyManager(ObjectManager):
    """Stores `AnnoyIndex`. `num_trees=` builds an index that is not built yet, in place."""

    name = "annoy"
    title = "Annoy"
    claims = ("annoy:Annoy", "annoy.annoylib:Annoy")
    options = ("metric", "num_trees")
    distributions = ("annoy", "cloudpickle")
    extra = "annoy"
    exactness = "the same neighbours and distances"
    limits = (
        "an index that is not built is refused, unless `num_trees=` says with how many trees to build it, in place",
        "after an upload the index in memory is a mapping of the saved file, which Annoy's `save` makes it: it answers "
        "as before, and takes no further items",
        "an index that was built on disk is refused, as Annoy does not write it a second time: `load` its file first",
        "an index of which a few items do not tell the metric, such as one of equal items, needs `metric=`",
        "the file is an image of memory that Annoy does not check: load it from a store that you trust",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.ann`.

        Raises:
            UnsupportedObjectError: it is not built, or its metric cannot be told.
            InvalidArgumentError: `metric=` or `num_trees=` contradicts the index.
        """
        _check(options)
        _build(obj, options.get("num_trees"))
        fitting = _fitting(obj)
        path = folder.path(MODEL)
        obj.save(str(path))
        if not path.exists():
            raise UnsupportedObjectError(
                "Annoy does not write an index a second time that was built on disk: make another AnnoyIndex "
                "that loads the file, and upload that",
                class_name(obj),
            )
        metric = _metric(obj, _readable(obj, fitting, path), options.get("metric"))
        saved = Saved("ann", {"f": obj.f, "metric": metric, "items": obj.get_n_items(), "trees": obj.get_n_trees()})
        if not _is_plain(obj):
            saved.merge(_save_class(obj, folder))
            saved.state["pickle_because"] = ["class"]
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Map the file, which nobody writes to: Annoy opens it read-only, and such an index takes no items.

        Raises:
            PickleNotAllowedError: its class is the user's.
        """
        from annoy import AnnoyIndex

        cls, attributes = AnnoyIndex, {}
        if (folder / CUSTOM).exists():
            with open(folder / CUSTOM, "rb") as file:
                cls, attributes = pickling.load(file, f"the index's class in {CUSTOM}", request.policy, _base)
        try:
            index = cls.__new__(cls, state["f"], state["metric"])
            index.load(str(folder / MODEL))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise IntegrityError("the Annoy index", MODEL, f"it cannot be loaded: {error}") from error
        found = {"items": index.get_n_items(), "trees": index.get_n_trees()}
        if any(state.get(name) != number for name, number in found.items()):
            raise IntegrityError("the Annoy index", MODEL, f"it has {json.dumps(found)}, and its record says {state}")
        if cls is not AnnoyIndex:
            vars(index).update(attributes)
        return index

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The vectors' length and the numbers of items and trees; the metric, if the items tell it."""
        told = {"num_dimensions": obj.f, "num_items": obj.get_n_items(), "num_trees": obj.get_n_trees()}
        fitting = _fitting(obj)
        return {**told, "metric": fitting[0]} if len(fitting) == 1 else told


def _is_plain(obj: Any) -> bool:
    from annoy import AnnoyIndex

    return type(obj) is AnnoyIndex


def _save_class(obj: Any, folder: ModelFolder) -> Saved:
    from annoy import AnnoyIndex

    def refer(part: Any) -> Any:
        # By its own name, `annoy.Annoy`, no import finds it, and cloudpickle would make an empty class of it.
        return _BASE if part is AnnoyIndex else None

    try:
        data, pickled = pickling.dumps((type(obj), vars(obj)), refer)
    except Exception as error:  # the attributes' own methods raise whatever they like
        raise UnsupportedObjectError(
            f"the class or attributes of this {class_name(obj)} cannot be pickled ({error})", class_name(obj)
        ) from error
    folder.add_bytes(CUSTOM, data)
    return Saved("pickle", pickled=[CUSTOM], modules=pickled.modules, by_value=pickled.by_value)


def _base(name: Any) -> Any:
    from annoy import AnnoyIndex

    if name != _BASE:
        raise IntegrityError("the Annoy index", CUSTOM, f"it refers to {name!r}")
    return AnnoyIndex


def _check(options: Mapping[str, Any]) -> None:
    metric, trees = options.get("metric"), options.get("num_trees")
    if metric is not None and metric not in METRICS:
        raise InvalidArgumentError("metric", f"{metric!r} is no metric of Annoy: there are {', '.join(METRICS)}")
    if trees is not None and (not isinstance(trees, int) or isinstance(trees, bool) or (trees < 1 and trees != -1)):
        raise InvalidArgumentError("num_trees", f"{trees!r} is no number of trees; -1 lets Annoy choose it")


def _build(obj: Any, trees: int | None) -> None:
    built = obj.get_n_trees()
    if built and trees not in (None, -1, built):
        warn(f"num_trees={trees} changes nothing: this index is built already, with {built} trees")
    if built:
        return
    if trees is None:
        raise UnsupportedObjectError(
            "this Annoy index is not built, and no other can be saved: call its build(), or pass num_trees=",
            class_name(obj),
        )
    if not obj.get_n_items():
        raise UnsupportedObjectError("this Annoy index holds no items: there is nothing to store", class_name(obj))
    obj.build(trees)


def _metric(obj: Any, fitting: list[str], given: str | None) -> str:
    if given is not None:
        if fitting and given not in fitting:
            raise InvalidArgumentError(
                "metric",
                f"this index does not measure distances by {given!r}, but by {' or '.join(map(repr, fitting))}",
            )
        return given
    if len(fitting) != 1:
        raise UnsupportedObjectError(
            "the items of this Annoy index do not tell its metric, which its file does not hold: pass metric= "
            f"({', '.join(fitting or METRICS)})",
            class_name(obj),
        )
    return fitting[0]


def _fitting(obj: Any) -> list[str]:
    """The metrics by which a few of its items are as far from each other as the index says."""
    sample = _some(obj)
    vectors = [obj.get_item_vector(item) for item in sample]
    pairs = [(a, b) for a in range(len(sample)) for b in range(a)]
    distances = [obj.get_distance(sample[a], sample[b]) for a, b in pairs]
    return [metric for metric in METRICS if _measures(metric, obj.f, vectors, pairs, distances)]


def _readable(obj: Any, fitting: list[str], path: Path) -> list[str]:
    """Of the metrics that fit, those whose files look like this one: between zeros and ones, Hamming distances are
    Manhattan's too, but the file holds them as bits.
    """
    if len(fitting) == 1 or "hamming" not in fitting:
        return fitting
    return [metric for metric in fitting if _reads(obj, metric, path)]


def _reads(obj: Any, metric: str, path: Path) -> bool:
    from annoy import AnnoyIndex

    index = AnnoyIndex(obj.f, metric)
    try:
        index.load(str(path))
    except OSError:
        return False
    if (index.get_n_items(), index.get_n_trees()) != (obj.get_n_items(), obj.get_n_trees()):
        return False
    return all(index.get_item_vector(item) == obj.get_item_vector(item) for item in _some(obj))


def _some(obj: Any) -> list[int]:
    number = obj.get_n_items()
    return sorted({at * (number - 1) // (_SAMPLE - 1) for at in range(_SAMPLE)}) if number else []


def _measures(metric: str, f: int, vectors: list[Any], pairs: list[tuple[int, int]], distances: list[float]) -> bool:
    from annoy import AnnoyIndex

    index = AnnoyIndex(f, metric)
    for item, vector in enumerate(vectors):
        index.add_item(item, vector)
    same = all(index.get_item_vector(item) == vector for item, vector in enumerate(vectors))
    return same and [index.get_distance(a, b) for a, b in pairs] == distances
