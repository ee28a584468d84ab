"""Annoy: an index of every metric comes back with the metric that its file does not hold."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("annoy")

import numpy as np
from annoy import AnnoyIndex

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.managers.annoy import METRICS, MODEL, AnnoyManager
from tests.managers.contract import BuiltinContract
from tests.managers.helpers import from_a_notebook, get, put

DIMENSIONS = 8


class Own(AnnoyIndex):  # type: ignore[misc]
    """A user's index in an importable module, whose constructor takes something else."""

    def __new__(cls, *arguments: Any) -> Any:
        """Fixed to this module's length and metric, unless told otherwise."""
        return super().__new__(cls, *(arguments or (DIMENSIONS, "angular")))

    def __init__(self, *arguments: Any) -> None:
        super().__init__(DIMENSIONS, "angular")


def vectors(number: int, binary: bool = False) -> Any:
    """What the indices hold."""
    random = np.random.RandomState(0)
    return random.randint(0, 2, (number, DIMENSIONS)) if binary else random.normal(size=(number, DIMENSIONS))


def index(
    metric: str = "angular",
    number: int = 60,
    trees: int = 4,
    binary: bool = False,
    cls: Any = AnnoyIndex,
    step: int = 1,
) -> Any:
    """A built index; one that is not, without trees."""
    made = cls(DIMENSIONS, metric)
    made.set_seed(7)
    for at, vector in enumerate(vectors(number, binary)):
        made.add_item(at * step, vector)
    if trees:
        made.build(trees)
    return made


def observe(found: Any) -> Any:
    """Neighbours of items and of other vectors, distances, and the items themselves."""
    number = found.get_n_items()
    items = range(0, number, 7)
    return {
        "sizes": [found.f, number, found.get_n_trees()],
        "neighbours": [found.get_nns_by_item(item, 5, include_distances=True) for item in items],
        "of vectors": [found.get_nns_by_vector(list(map(float, vector)), 5, 20, True) for vector in vectors(9)[5:]],
        "distances": [found.get_distance(0, item) for item in items],
        "items": [found.get_item_vector(item) for item in items],
        "own": getattr(found, "note", None),
    }


def _own() -> Any:
    made = index(cls=Own)
    made.note = [1, (2.5,)]
    return {"model": made}


class TestAnnoy(BuiltinContract):
    """Every metric, with and without being told which it is."""

    manager = AnnoyManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            **{metric: Case(functools.partial(_built, metric=metric), observe) for metric in METRICS},
            **{
                f"{metric} as the ancestor asked": Case(
                    functools.partial(_built, metric=metric), observe, {"metric": metric, "num_trees": 4}
                )
                for metric in METRICS
            },
            **{
                f"{metric}, zeros and ones": Case(functools.partial(_built, metric=metric, binary=True), observe)
                for metric in METRICS
            },
            "not built": Case(functools.partial(_built, trees=0), observe, {"num_trees": 3}),
            "number of trees left to Annoy": Case(functools.partial(_built, trees=0), observe, {"num_trees": -1}),
            "holes between items": Case(functools.partial(_built, metric="euclidean", step=7), observe),
            "one item": Case(functools.partial(_built, number=1), observe, {"metric": "angular"}),
            "two items": Case(functools.partial(_built, number=2), observe),
            "class of the user's": Case(_own, observe),
        }


def _built(**how: Any) -> Any:
    return {"model": index(**how)}


def test_the_file_is_what_annoy_itself_reads(tmp_path: Path) -> None:
    """`model.ann` loads with Annoy alone, given length and metric."""
    made = index("manhattan")
    put(AnnoyManager(), made, tmp_path)
    by_hand = AnnoyIndex(DIMENSIONS, "manhattan")
    by_hand.load(str(tmp_path / MODEL))
    assert observe(by_hand) == observe(made)


def test_the_uploaded_index_answers_as_before(tmp_path: Path) -> None:
    """Annoy makes it a mapping of a file, which is gone after the upload, and it does not notice."""
    made = index()
    before = observe(made)
    put(AnnoyManager(), made, tmp_path)
    assert observe(made) == before
    put(AnnoyManager(), made, tmp_path / "again")
    assert (tmp_path / "again" / MODEL).read_bytes() == (tmp_path / MODEL).read_bytes()


def test_a_loaded_index_can_be_uploaded_again(tmp_path: Path) -> None:
    """It gives the same file, and the file it is mapped from stays as it is."""
    saved = put(AnnoyManager(), index(), tmp_path / "one")
    os.chmod(tmp_path / "one" / MODEL, 0o400)
    os.chmod(tmp_path / "one", 0o500)
    try:
        put(AnnoyManager(), get(AnnoyManager(), saved, tmp_path / "one"), tmp_path / "two")
        assert (tmp_path / "one" / MODEL).read_bytes() == (tmp_path / "two" / MODEL).read_bytes()
    finally:
        os.chmod(tmp_path / "one", 0o700)


def test_hamming_is_told_from_manhattan_by_the_file(tmp_path: Path) -> None:
    """Distances between zeros and ones fit both, the file does not."""
    for metric in ("hamming", "manhattan"):
        assert put(AnnoyManager(), index(metric, binary=True), tmp_path / metric).state["metric"] == metric
    with pytest.raises(InvalidArgumentError, match="does not measure distances by 'manhattan', but by 'hamming'"):
        put(AnnoyManager(), index("hamming", binary=True), tmp_path / "wrong", metric="manhattan")


def test_a_wrong_metric_is_refused(tmp_path: Path) -> None:
    """A metric that the distances contradict would load an index of nonsense."""
    with pytest.raises(InvalidArgumentError, match="does not measure distances by 'dot', but by 'angular'"):
        put(AnnoyManager(), index("angular"), tmp_path, metric="dot")
    with pytest.raises(InvalidArgumentError, match="'cosine' is no metric of Annoy"):
        put(AnnoyManager(), index("angular"), tmp_path, metric="cosine")


def test_a_metric_that_cannot_be_told_has_to_be_given(tmp_path: Path) -> None:
    """One item has no distances, and the error says what to pass."""
    with pytest.raises(UnsupportedObjectError, match=r"pass metric= \(angular, dot, euclidean, manhattan\)"):
        put(AnnoyManager(), index(number=1), tmp_path)


def test_an_index_that_is_not_built_is_refused(tmp_path: Path) -> None:
    """Without `num_trees=` nothing says how to build it; the error offers both ways out."""
    with pytest.raises(UnsupportedObjectError, match=r"call its build\(\), or pass num_trees="):
        put(AnnoyManager(), index(trees=0), tmp_path)
    with pytest.raises(UnsupportedObjectError, match="holds no items"):
        put(AnnoyManager(), index(number=0, trees=0), tmp_path, num_trees=3)


@pytest.mark.parametrize("trees", [0, -2, 2.0, True, "3"])
def test_a_number_of_trees_is_checked(trees: Any, tmp_path: Path) -> None:
    """Only a positive integer, or -1 as Annoy has it."""
    with pytest.raises(InvalidArgumentError, match="no number of trees"):
        put(AnnoyManager(), index(), tmp_path, num_trees=trees)


def test_another_number_of_trees_than_it_has_is_a_warning(tmp_path: Path) -> None:
    """A built index stays as it is built."""
    with pytest.warns(UserWarning, match="num_trees=9 changes nothing: this index is built already, with 4 trees"):
        assert put(AnnoyManager(), index(), tmp_path, num_trees=9).state["trees"] == 4


def test_an_index_built_on_disk_is_refused_until_it_is_loaded(tmp_path: Path) -> None:
    """Annoy says that it has saved such an index, and writes nothing."""
    made = AnnoyIndex(DIMENSIONS, "angular")
    made.on_disk_build(str(tmp_path / "disk.ann"))
    for at, vector in enumerate(vectors(60)):
        made.add_item(at, vector)
    made.build(4)
    with pytest.raises(UnsupportedObjectError, match="built on disk"):
        put(AnnoyManager(), made, tmp_path / "refused")
    again = AnnoyIndex(DIMENSIONS, "angular")
    again.load(str(tmp_path / "disk.ann"))
    saved = put(AnnoyManager(), again, tmp_path / "taken")
    assert observe(get(AnnoyManager(), saved, tmp_path / "taken")) == observe(made)


@pytest.mark.parametrize("damage", [None, b"", b"x" * 10, b"\0" * 480])
def test_a_damaged_file_is_an_error_of_the_store(damage: bytes | None, tmp_path: Path) -> None:
    """Missing, empty and cut files are reported as damage, and so is one of another index."""
    saved = put(AnnoyManager(), index(), tmp_path)
    (tmp_path / MODEL).unlink()
    if damage is not None:
        (tmp_path / MODEL).write_bytes(damage)
    with pytest.raises(IntegrityError, match=r"model\.ann"):
        get(AnnoyManager(), saved, tmp_path)


@pytest.mark.parametrize("wrong", [{"metric": "x"}, {"f": "8"}, {"f": 9}, {"f": None}])
def test_a_forged_record_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    """Length and metric of a record are checked before the file is used."""
    saved = put(AnnoyManager(), index(), tmp_path)
    with pytest.raises(IntegrityError):
        get(AnnoyManager(), saved, tmp_path, state={**saved.state, **wrong})


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A subclass from `__main__` is stored by value beside the file."""
    build = """
        from annoy import AnnoyIndex
        class Named(AnnoyIndex):
            def nearest(self, item):
                return [self.names[at] for at in self.get_nns_by_item(item, 3)]
        model = Named(3, "euclidean")
        for at, vector in enumerate(np.random.RandomState(0).normal(size=(20, 3))):
            model.add_item(at, vector)
        model.names = [f"item {at}" for at in range(20)]
        model.build(2)
    """
    because, cls = from_a_notebook(AnnoyManager(), build, "model.nearest(4)", tmp_path)
    assert because == '["class"]'
    assert cls == "__main__:Named"


def test_through_the_store(store: ModelStore) -> None:
    """With the ancestor's three keywords, and with the model alone; the record names the library and the metric."""
    made = index(trees=0)
    info = store.upload("colours", model=made, metric="angular", num_trees=5)
    assert info.library == "annoy"
    assert info["model"]["parameters"] == {
        "metric": "angular", "num_dimensions": DIMENSIONS, "num_items": 60, "num_trees": 5
    }  # fmt: skip
    assert observe(store.load("colours", allow_pickle=False)) == observe(made)
    store.upload("colours", model=store.load("colours"))
    assert observe(store.load("colours", allow_pickle=False)) == observe(made)
