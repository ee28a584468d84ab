"""Spark ML: every class through Spark's own files; nothing imported unseen; clusters' file systems."""

from __future__ import annotations

import json
import os
import shutil
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("pyspark")

from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    MissingDependencyError,
    PickleNotAllowedError,
    UnsupportedObjectError,
)
from modelstore.folder import ModelFolder
from modelstore.managers._pyspark import metadata, sessions
from modelstore.managers._pyspark.own_classes import parts_of
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.pyspark import CLASSES, MODEL, PySparkManager
from tests.managers import spark_cases
from tests.managers.contract import BuiltinContract
from tests.managers.spark_cases import classes, frame, observe, pipeline

if TYPE_CHECKING:
    from modelstore import ModelStore


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    """One session for all tests, which ends with them."""
    session = spark_cases.session()
    yield session
    session.stop()


NOTEBOOK = """
from pyspark import keyword_only
from pyspark.ml import Transformer
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable

class Doubled(Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable):
    @keyword_only
    def __init__(self, *, inputCol=None, outputCol=None):
        super().__init__()
        self._set(**self._input_kwargs)

    def _transform(self, dataset):
        return dataset.withColumn(self.getOutputCol(), dataset[self.getInputCol()] * 2)
"""


def doubled() -> Any:
    """A transformer of a class of `__main__`, which no other process finds."""
    if "class" not in _MADE:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(NOTEBOOK, namespace)  # as a notebook's cell does
        _MADE["class"] = namespace["Doubled"]
    return _MADE["class"](inputCol="x", outputCol="twice")


_MADE: dict[str, Any] = {}


def _mixed() -> Any:
    """A fitted pipeline of the user's transformer and Spark's own."""
    from pyspark.ml import Pipeline
    from pyspark.ml.feature import VectorAssembler

    return Pipeline(stages=[doubled(), VectorAssembler(inputCols=["twice", "y"], outputCol="both")]).fit(frame())


@pytest.mark.timeout(900)
class TestSpark(BuiltinContract):
    """All public classes, most of them as stages of pipelines."""

    manager = PySparkManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        own = {"user's transformer": doubled, "user's transformer in a pipeline": _mixed}
        return {name: Case(_model(build), observe) for name, build in {**spark_cases.builders(), **own}.items()}

    def test_every_public_class_is_there(self, tmp_path_factory: Any) -> None:
        """Whatever Spark lists and can write was stored and loaded."""
        assert set(classes()) - {"LDAModel"} <= {name.rpartition(".")[2] for name in self._counted(tmp_path_factory)}

    def test_only_the_users_classes_are_pickled(self, tmp_path_factory: Any) -> None:
        """Spark's own classes load where pickles are refused."""
        outcomes = self._outcomes(tmp_path_factory)
        pickled = {name: outcome.saved.pickled for name, outcome in outcomes.items() if outcome.saved.pickled}
        assert pickled == {"user's transformer": [CLASSES], "user's transformer in a pipeline": [CLASSES]}
        assert all(outcomes[name].saved.by_value for name in pickled)

    def test_what_reads_its_folder_later_is_told_from_the_rest(self, tmp_path_factory: Any) -> None:
        """The models whose files are copied before a load are those that are known to need them."""
        lazy = set()
        for name, outcome in self._outcomes(tmp_path_factory).items():
            named, _ = metadata.classes_in(outcome.folder / MODEL)
            if any(each.rpartition(".")[2] in metadata.LAZY for each in named):
                lazy.add(name)
        assert lazy == {"models of recommendation", "models of fpm", "topics in a graph"}

    def _counted(self, tmp_path_factory: Any) -> Counter[str]:
        return Counter(
            f"{type(part).__module__}.{type(part).__qualname__}"
            for outcome in self._outcomes(tmp_path_factory).values()
            for part in parts_of(outcome.objects["model"])
            if type(part).__module__.startswith("pyspark.")
        )

    def _tried(self, tmp_path_factory: Any) -> dict[str, Any]:
        found = super()._tried(tmp_path_factory)
        for name, count in self._counted(tmp_path_factory).items():
            found["classes"].setdefault(name, {"cases": 0, "pickled": 0, "formats": ["spark"]})["cases"] = count
        return found


def _model(build: Any) -> Any:
    return lambda: {"model": build()}


def _store(model: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = PySparkManager().save({"model": model}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _load(folder: Path, saved: Saved, pickle: bool = False) -> Any:
    return PySparkManager().load(LoadRequest(folder, saved.state, ("model",), PicklePolicy(pickle)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: Any) -> tuple[Path, Saved]:
    """A pipeline that is not fitted, stored: what Spark writes fastest."""
    folder = tmp_path_factory.mktemp("stored") / "pipeline"
    return folder, _store(pipeline(), folder)


@pytest.fixture
def copied(stored: tuple[Path, Saved], tmp_path: Path) -> tuple[Path, Saved]:
    """A copy of it to be damaged."""
    shutil.copytree(stored[0], tmp_path / "copy")
    return tmp_path / "copy", stored[1]


def test_the_folder_is_what_spark_itself_reads_and_writes(stored: tuple[Path, Saved]) -> None:
    """`model` opens with the class's own load, and holds Spark's checksums and its mark of success."""
    from pyspark.ml import Pipeline

    folder, _ = stored
    assert len(Pipeline.load(f"file://{folder / MODEL}").getStages()) == 2
    names = {path.name for path in (folder / MODEL / "metadata").iterdir()}
    assert {"_SUCCESS", "._SUCCESS.crc"} <= names


def test_models_that_read_later_survive_their_folder(tmp_path: Path) -> None:
    """A recommendation is made after the folder that the model was loaded from has gone."""
    model = spark_cases.fitted("recommendation").stages[0]
    saved = _store(model, tmp_path / "als")
    loaded = _load(tmp_path / "als", saved)
    shutil.rmtree(tmp_path / "als")
    assert observe(loaded) == observe(model)


def test_files_go_through_the_file_system_of_a_cluster(spark: Any, tmp_path: Path) -> None:
    """With `spark.modelstore.staging` at another file system, saving and loading go through it and leave nothing there.

    The other file system is Hadoop's own view of folders, which Spark knows by another scheme than `file`.
    """
    stage = tmp_path / "stage"
    stage.mkdir()
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.viewfs.mounttable.cluster.link./stage", f"file://{stage}")
    spark.conf.set(sessions.STAGING, "viewfs://cluster/stage")
    try:
        model = pipeline()
        saved = _store(model, tmp_path / "m")
        assert not list(stage.iterdir())
        with sessions.readable(spark, tmp_path / "m" / MODEL, lasting=False) as uri:
            assert uri.startswith("viewfs://cluster/stage/modelstore-")
            assert len(list(stage.iterdir())) == 1
        assert observe(_load(tmp_path / "m", saved)) == observe(model)
        assert not list(stage.iterdir())
    finally:
        spark.conf.unset(sessions.STAGING)


def _cluster(scheme: str) -> Any:
    """What `sessions` asks of a session on a cluster, without the cluster."""
    system = types.SimpleNamespace(
        getUri=lambda: types.SimpleNamespace(getScheme=lambda: scheme),
        getHomeDirectory=lambda: types.SimpleNamespace(toString=lambda: "hdfs://home/me"),
    )
    path = types.SimpleNamespace(getFileSystem=lambda hadoop: "the cluster's")
    made: list[str] = []
    fs = types.SimpleNamespace(
        FileSystem=types.SimpleNamespace(get=lambda hadoop: system), Path=lambda uri: made.append(uri) or path
    )
    java = types.SimpleNamespace(sc=lambda: types.SimpleNamespace(isLocal=lambda: False), hadoopConfiguration=lambda: 0)
    jvm = types.SimpleNamespace(
        org=types.SimpleNamespace(apache=types.SimpleNamespace(hadoop=types.SimpleNamespace(fs=fs)))
    )
    context = types.SimpleNamespace(_jvm=jvm, _jsc=java, master="spark://far:7077")
    return types.SimpleNamespace(sparkContext=context, conf={}, made=made)


def test_a_cluster_without_a_file_system_of_its_own_is_refused() -> None:
    """Executors elsewhere and a default file system of this machine's: the error says what to set."""
    with pytest.raises(InvalidArgumentError, match=r"spark\.modelstore\.staging"):
        sessions._staging(_cluster("file"))


def test_a_cluster_stages_in_its_home_by_default() -> None:
    """Where the default file system is the cluster's, files go to the user's home there."""
    cluster = _cluster("hdfs")
    system, _ = sessions._staging(cluster) or (None, None)
    assert system == "the cluster's"
    assert cluster.made[0].startswith("hdfs://home/me/modelstore-")


def test_the_users_settings_and_folder_stay(spark: Any, tmp_path: Path) -> None:
    """Neither saving nor loading changes the session's configuration, the working directory or `__main__`."""
    before = dict(spark.conf.getAll), os.getcwd(), set(vars(__import__("__main__")))
    saved = _store(doubled(), tmp_path)
    _load(tmp_path, saved, pickle=True)
    assert (dict(spark.conf.getAll), os.getcwd(), set(vars(__import__("__main__")))) == before


def _change(folder: Path, **changes: Any) -> None:
    (path,) = (folder / MODEL / "metadata").glob("part-*")
    described = json.loads(path.read_text())
    for name, value in changes.items():
        if name == "stageUids":
            described["paramMap"]["stageUids"] = value
        else:
            described[name if name != "cls" else "class"] = value
    path.write_text(json.dumps(described) + "\n")


@pytest.mark.parametrize("name", ["os.system", "shutil.rmtree", "com.example.Evil", "org.apache.spark.sql.Evil", "x"])
def test_metadata_name_no_class_but_sparks(name: str, copied: tuple[Path, Saved]) -> None:
    """A class of anybody else's asks for the reader's policy, whatever the record says, and is not imported before."""
    folder, saved = copied
    _change(folder, cls=name)
    with pytest.raises(PickleNotAllowedError, match=name.replace(".", r"\.")):
        _load(folder, saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"cls": "pyspark.ml.util._jvm"},
        {"cls": "pyspark.ml.linalg.DenseVector"},
        {"cls": 3},
        {"uid": "a/../../b"},
        {"stageUids": ["x/../../../../elsewhere", "y"]},
    ],
)
def test_metadata_that_lead_elsewhere_are_damage(changes: dict[str, Any], copied: tuple[Path, Saved]) -> None:
    """What is no class of a pipeline, and identifiers that would become paths to elsewhere, are refused."""
    folder, saved = copied
    _change(folder, **changes)
    with pytest.raises(IntegrityError):
        _load(folder, saved, pickle=True)


@pytest.mark.parametrize("damage", ["gone", "no metadata", "cut", "packed", "a file", "twice", "stage gone"])
def test_damage_is_named(damage: str, copied: tuple[Path, Saved]) -> None:
    """Missing, cut and disguised files are errors of integrity."""
    folder, saved = copied
    at = folder / MODEL / "metadata"
    (part,) = at.glob("part-*")
    if damage == "gone":
        shutil.rmtree(folder / MODEL)
    elif damage == "no metadata":
        part.unlink()
    elif damage == "cut":
        part.write_bytes(part.read_bytes()[:40])
    elif damage == "packed":
        part.rename(at / "part-00000.gz")
    elif damage == "a file":
        data = part.read_bytes()
        shutil.rmtree(at)
        at.write_bytes(data)
    elif damage == "twice":
        part.write_text('{"class": "pyspark.ml.Pipeline", "class": "os.system"}\n')
    else:
        shutil.rmtree(next((folder / MODEL / "stages").iterdir()))
    with pytest.raises(IntegrityError):
        _load(folder, saved, pickle=True)


@pytest.mark.parametrize("name", ["os:system", "pyspark.ml.linalg:DenseVector", "pyspark.sql:SparkSession", None])
def test_a_record_cannot_name_another_class(name: Any, stored: tuple[Path, Saved]) -> None:
    """The class of a record is taken from Spark's pipelines, and from nowhere else."""
    folder, saved = stored
    with pytest.raises(IntegrityError, match="no model class of pyspark"):
        _load(folder, Saved("spark", {**saved.state, "class": name}))


def _without_a_writer() -> Any:
    from pyspark.ml import Transformer

    class Bare(Transformer):
        def _transform(self, dataset: Any) -> Any:
            return dataset

    return Bare()


def _with_a_value_that_is_no_json() -> Any:
    made = doubled()
    made._paramMap[made.inputCol] = {1, 2}
    return made


def _prefixes() -> Any:
    from pyspark.ml.fpm import PrefixSpan

    return PrefixSpan()


def _of_connect() -> Any:
    from pyspark.ml.param import Params

    return type("StandardScaler", (Params,), {"__module__": "pyspark.ml.connect.feature"})()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (_of_connect, "deprecated"),
        (_without_a_writer, "DefaultParamsWritable"),
        (_with_a_value_that_is_no_json, "Spark cannot write this"),
        (_prefixes, "cannot write itself"),
    ],
)
def test_what_cannot_be_stored_is_refused(build: Any, says: str, tmp_path: Path) -> None:
    """The error says what is wrong and what to do."""
    with pytest.raises(UnsupportedObjectError, match=says):
        _store(build(), tmp_path)


def test_spark_connect_is_refused_both_ways(
    stored: tuple[Path, Saved], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where sessions are Spark Connect's, saving and loading say what to do on the server."""
    model = pipeline()
    monkeypatch.setattr(sessions, "is_connect", lambda: True)
    with pytest.raises(UnsupportedObjectError, match="Spark Connect"):
        _store(model, tmp_path)
    with pytest.raises(InvalidArgumentError, match="Spark Connect"):
        _load(*stored)


def test_without_java_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that cannot be started for want of Java is a missing dependency."""
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    class Builder:
        def getOrCreate(self) -> None:
            raise PySparkRuntimeError(errorClass="JAVA_GATEWAY_EXITED", messageParameters={})

    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setattr(SparkSession, "builder", Builder())
    with pytest.raises(MissingDependencyError, match="JAVA_HOME"):
        sessions.session()


def test_nothing_is_saved_without_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving starts no session of its own."""
    model = doubled()
    monkeypatch.setattr(sessions, "running_session", lambda: None)
    with pytest.raises(UnsupportedObjectError, match="no Spark session"):
        _store(model, tmp_path)


def test_the_record_tells_the_parameters_and_no_long_lists() -> None:
    """Stages are described with their parameters; a list of stop words is its length."""
    from pyspark.ml.feature import StopWordsRemover

    found = PySparkManager().parameters({"model": pipeline()})
    assert [stage["class"].rpartition(":")[2] for stage in found["stages"]] == ["StandardScaler", "LogisticRegression"]
    assert found["stages"][1]["maxIter"] == 1
    words = PySparkManager().parameters({"model": StopWordsRemover(inputCol="a")})["stopWords"]
    assert words.endswith(" values")


def test_end_to_end(store: ModelStore) -> None:
    """The ancestor's keyword: a fitted pipeline goes up, comes back without pickles and predicts the same."""
    model = pipeline().fit(frame())
    info = store.upload("domain", model=model)
    assert info["model"]["model_type"] == {"library": "pyspark", "type": "PipelineModel", "models": None}
    assert observe(store.load("domain", info.model_id, allow_pickle=False)) == observe(model)
