"""Shapes and label counts of whatever people train on."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from modelstore.insight.data import describe

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
sparse = pytest.importorskip("scipy.sparse")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A warning that a test does not expect is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Tensor:
    """What of a torch tensor is used: `shape`, `detach`, `cpu`, slices and `tolist`."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self.shape = (len(values),)

    def detach(self) -> Tensor:
        return self

    cpu = detach

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, part: slice) -> Tensor:
        return type(self)(self._values[part])

    def tolist(self) -> list[Any]:
        return self._values


class LazyTensor(Tensor):
    """What of a TensorFlow tensor is used: `shape` and `numpy`."""

    detach = cpu = tolist = property()  # type: ignore[assignment]

    def numpy(self) -> Any:
        return np.array(self._values)


@pytest.mark.parametrize(
    ("features", "shape"),
    [
        (np.zeros((3, 4)), [3, 4]),
        (np.zeros((2, 3, 4, 5), dtype="uint8"), [2, 3, 4, 5]),
        (np.zeros((0, 7)), [0, 7]),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), [2, 2]),
        (pd.Series([1, 2, 3]), [3]),
        (sparse.csr_matrix((10, 20)), [10, 20]),
        (Tensor([1, 2]), [2]),
        ([[1, 2, 3], [4, 5, 6]], [2, 3]),
        (((1, 2), (3, 4), (5, 6)), [3, 2]),
        ([[[1], [2]], [[3], [4]]], [2, 2, 1]),
        ([[1, 2], [3]], [2]),
        ([np.zeros(5), np.zeros(5)], [2, 5]),
        ([np.zeros(5), np.zeros(6)], [2]),
        (["a text", "another"], [2]),
        ([{"a": 1}, {"a": 2}], [2]),
        ([{1}, {2}], [2]),
        ([], [0]),
        (range(7), [7]),
    ],
)
def test_shapes(features: Any, shape: list[int]) -> None:
    """Everything that has a shape, or is a list, is described by it, in plain JSON."""
    described = describe(features, None)
    assert described == {"features": {"shape": shape}}
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (np.array([1, 0, 1, 1]), {"0": 1, "1": 3}),
        (np.array([0.5, 1.0, 0.5]), {"0.5": 2, "1.0": 1}),
        (np.array([True, False, True]), {"false": 1, "true": 2}),
        (np.array(["cat", "dog", "cat"]), {"cat": 2, "dog": 1}),
        (np.array([b"cat", b"dog"]), {"cat": 1, "dog": 1}),
        (np.array([1.0, float("nan"), float("nan")]), {"1.0": 1, "NaN": 2}),
        (np.array([1, "a", None], dtype=object), {"1": 1, "null": 1, "a": 1}),
        (np.array([1, 1], dtype="float16"), {"1.0": 2}),
        (pd.Series([3, 3, 5], index=[7, 8, 9]), {"3": 2, "5": 1}),
        (pd.Series(["x", "y", "x"], dtype="category"), {"x": 2, "y": 1}),
        (pd.Series([1, None, 1], dtype="Int64"), {"1": 2, "NaN": 1}),
        (pd.Series(pd.to_datetime(["2024-01-01", None])).dt.date, {"2024-01-01": 1, "NaN": 1}),
        (Tensor([2, 2, 0]), {"0": 1, "2": 2}),
        (LazyTensor([2, 2, 0]), {"0": 1, "2": 2}),
        (["b", "a", "b"], {"a": 1, "b": 2}),
        ((1, 2, 2), {"1": 1, "2": 2}),
        ([np.int64(4), np.int64(4)], {"4": 2}),
        ([], {}),
    ],
)
def test_label_counts(labels: Any, values: dict[str, int]) -> None:
    """One-dimensional labels are counted, by keys that JSON would write."""
    described = describe(None, labels)
    assert described == {"labels": {"shape": [len(labels)], "values": values}}
    assert json.loads(json.dumps(described, allow_nan=False)) == described


def test_counts_do_not_depend_on_slices() -> None:
    """Labels of more than one slice are counted as a whole."""
    labels = np.arange(200_001) % 3
    assert describe(None, labels) == {"labels": {"shape": [200_001], "values": {"0": 66_667, "1": 66_667, "2": 66_667}}}


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((3, 1)),
        np.eye(4),
        pd.DataFrame({"label": [1, 2]}),
        np.arange(1001),
        [f"{number:050}" for number in range(900)],
        [["a"], ["b", "c"]],
        [{"a": 1}],
    ],
    ids=["column", "one-hot", "frame", "too many", "too long", "ragged", "mappings"],
)
def test_labels_that_are_not_counted(labels: Any) -> None:
    """Tables, numbers that are no classes, long texts and structures are described by their shape only."""
    described = describe(None, labels)
    assert described is not None
    assert set(described["labels"]) == {"shape"}


def test_a_thousand_labels_are_counted() -> None:
    """The limit is 1000 distinct labels."""
    described = describe(None, np.arange(2000) // 2)
    assert described is not None
    assert len(described["labels"]["values"]) == 1000


def test_nothing_given() -> None:
    """Without data there is nothing, and of one without the other only that one."""
    assert describe(None, None) is None
    assert describe(np.zeros((1, 2)), [1]) == {
        "features": {"shape": [1, 2]},
        "labels": {"shape": [1], "values": {"1": 1}},
    }


class _Hostile:
    @property
    def shape(self) -> Any:
        raise RuntimeError("computed lazily")


class _Unknown:
    shape = (float("nan"), 3)


@pytest.mark.parametrize("odd", [_Hostile(), _Unknown(), object(), {"a": [1]}, "text", iter([1]), 7])
def test_odd_data_is_a_warning(odd: Any) -> None:
    """What has no shape, or fails to tell it, is a warning and a missing field, and the rest is described."""
    with pytest.warns(UserWarning, match="X_train is not described"):
        assert describe(odd, [1]) == {"labels": {"shape": [1], "values": {"1": 1}}}
    with pytest.warns(UserWarning, match="y_train is not described"):
        assert describe(None, odd) is None


def test_labels_that_fail_to_be_read_are_a_warning() -> None:
    """Labels whose shape is known and whose values cannot be had are described by their shape, with a warning."""

    class Remote(Tensor):
        def tolist(self) -> list[Any]:
            raise ConnectionError("the cluster is gone")

    with pytest.warns(UserWarning, match="not counted: ConnectionError"):
        assert describe(None, Remote([1, 2])) == {"labels": {"shape": [2]}}


def test_lazy_labels_are_not_computed() -> None:
    """Labels that would have to be computed (dask) are described by their shape, and not computed."""

    class Lazy:
        shape = (3,)

        def compute(self) -> Any:
            pytest.fail("was computed")

    assert describe(None, Lazy()) == {"labels": {"shape": [3]}}


def test_nothing_is_imported() -> None:
    """Describing lists imports neither numpy nor pandas."""
    code = (
        "import sys; from modelstore.insight.data import describe; describe([[1, 2]], [1]); "
        "sys.exit(bool({'numpy', 'pandas', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
