"""river: every public class goes on learning after a load as if there had been none."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("river")
pytest.importorskip("sklearn")

from river import compose, covariance, drift, feature_extraction, linear_model, preprocessing

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError, PickleNotAllowedError
from modelstore.managers.base import LoadRequest
from modelstore.managers.pickled import PICKLE
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.river import RiverManager
from tests.managers import river_cases
from tests.managers.contract import BuiltinContract

LEARNT = 14
CANNOT_BE_MADE = {"misc.ZstdClassifier"}  # on Python before 3.14
NOT_TAUGHT = {
    "anomaly.PredictiveAnomalyDetection",
    "base.Base",
    "base.Estimator",
    "cluster.STREAMKMeans",
    "metrics.ClassificationReport",
    "metrics.ConfusionMatrix",
    "metrics.Silhouette",
    "neighbors.SWINN",
    "optim.Optimizer",
    "sketch.NUnique",
    "time_series.HorizonAggMetric",
    "time_series.HorizonMetric",
}
"""Abstract ones, and those that learn from what fits no other class; they are stored as they were made."""


class Own(linear_model.LinearRegression):
    """A user's class in an importable module."""

    def predict_one(self, x: Any) -> Any:
        """Twice as much."""
        return 2 * super().predict_one(x)


def plain(value: Any) -> Any:
    """What can be compared after the way through another process."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


@functools.cache
def names() -> dict[type, str]:
    """The public name of each class."""
    return {cls: name for name, cls in river_cases.public().items()}


def observe(obj: Any) -> Any:
    """What it says while it learns the rest of its stream, and how it looks afterwards."""
    further = river_cases.teach(names()[type(obj)], obj, LEARNT, river_cases.ROWS)
    return [plain(further), str(obj)]


def observe_own(obj: Any) -> Any:
    """Predictions of a model that gets numbers, before and after it has learnt from each."""
    seen = []
    for x, y in river_cases.rows("numbers")[LEARNT:]:
        seen.append(obj.predict_one(x))
        obj.learn_one(x, y)
    return plain(seen), type(obj).__name__


def observe_mean(obj: Any) -> Any:
    """The mean, before and after one more number."""
    before = obj.get()
    obj.update(10.0)
    return before, obj.get()


def _made(name: str, taught: bool) -> dict[str, Any]:
    obj = river_cases.make(name)
    if taught:
        river_cases.teach(name, obj, 0, LEARNT)
    return {"model": obj}


def observe_embedding(model: Any) -> Any:
    """Features of a pipeline that embeds by random trees."""
    return plain([model.transform_one({"x": 0.1 * at, "y": 0.5}) for at in range(10)])


def _embedding() -> dict[str, Any]:
    embedding = feature_extraction.RandomTreesEmbedding(n_trees=3, height=2, seed=1)
    model = compose.Pipeline(preprocessing.MinMaxScaler(), embedding)
    for at in range(10):
        model.learn_one({"x": at / 3, "y": 1.0 - at})
    return {"model": model}


def _own() -> dict[str, Any]:
    model = compose.Pipeline(compose.FuncTransformer(river_cases.absolutes), preprocessing.StandardScaler(), Own())
    for x, y in river_cases.rows("numbers")[:LEARNT]:
        model.learn_one(x, y)
    return {"model": model}


class TestRiver(BuiltinContract):
    """One object of every public class, after it has learnt a part of its stream."""

    manager = RiverManager()

    def cases(self) -> Mapping[str, Case]:
        """By public name."""
        every = [name for name in river_cases.public() if name not in CANNOT_BE_MADE]
        return {
            **{name: Case(functools.partial(_made, name, True), observe) for name in every},
            "untaught": Case(functools.partial(_made, "tree.HoeffdingTreeClassifier", False), observe),
            "function and class of the user's": Case(_own, observe_own),
            "embedding in a pipeline": Case(_embedding, observe_embedding),
            "rolling": Case(functools.partial(_made, "utils.Rolling", True), observe_mean),
        }

    def test_nearly_all_classes_have_learnt_something(self) -> None:
        """But for a named few, every public class was taught, so that a load in the middle of it was tried."""
        every = {name for name in river_cases.public() if name not in CANNOT_BE_MADE}
        assert len(every) > 250
        assert {name for name in every if river_cases._way(name) is None} == NOT_TAUGHT


def test_parameters_tell_nested_models() -> None:
    """The record has the arguments of a pipeline's steps, by class and name."""
    model = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(l2=0.5))
    told = RiverManager().object_parameters(model)
    assert json.loads(json.dumps(told)) == told
    assert told["LogisticRegression"]["l2"] == 0.5
    assert told["LogisticRegression"]["optimizer"]["class"] == "SGD"
    assert RiverManager().object_parameters(covariance.EmpiricalCovariance()) == {}


def test_end_to_end(store: ModelStore) -> None:
    """A pipeline and a detector of drift are stored in one upload and come back by keyword."""
    model = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LinearRegression())
    detector = drift.ADWIN()
    for x, y in river_cases.rows("numbers"):
        model.learn_one(x, y)
        detector.update(y)
    info = store.upload("trump", model=model, explainer=detector)
    assert info.library == "river"
    assert [entry["format"] for entry in info["model"]["managers"]] == ["pickle"]
    loaded = store.load("trump", info.model_id)
    x, _ = river_cases.rows("numbers")[0]
    assert loaded["model"].predict_one(x) == model.predict_one(x)
    assert loaded["explainer"].estimation == detector.estimation
    with pytest.raises(PickleNotAllowedError, match="river"):
        store.load("trump", info.model_id, allow_pickle=False)


def test_damage_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A file that is gone or cut is reported as damage."""
    request = LoadRequest(tmp_path, {"embeddings": False}, ("model",), PicklePolicy(True))
    with pytest.raises(IntegrityError, match=PICKLE):
        RiverManager().load(request)
    (tmp_path / PICKLE).write_bytes(b"\x80\x05\x95")
    with pytest.raises(IntegrityError, match=PICKLE):
        RiverManager().load(request)


SCRIPT = """
    import sys
    from modelstore import ModelStore
    from river import stats

    class Doubled(stats.Mean):
        def get(self):
            return 2 * super().get()

    mean = Doubled()
    mean.update(1.5)
    store = ModelStore.from_file_system(sys.argv[1], create_directory=True)
    print(store.upload("d", model=mean, model_id="m")["model"]["managers"][0]["python"])
"""

READER = """
    import sys
    from modelstore import ModelStore
    mean = ModelStore.from_file_system(sys.argv[1]).load("d", "m")
    mean.update(2.5)
    print(mean.get())
"""


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A statistic from `__main__` goes in by value, and learns on in a process that has another `__main__`."""
    store = tmp_path / "store"
    assert _run(SCRIPT, tmp_path / "notebook.py", store) == f"{sys.version_info.major}.{sys.version_info.minor}\n"
    assert _run(READER, tmp_path / "service.py", store) == "4.0\n"


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "", "HOME": str(script.parent)}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
