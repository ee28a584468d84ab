"""The logs as other engines read them: the queries of docs/analytics.md, as they stand there."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.registry import keys, removal
from modelstore.registry.registry import Registry
from modelstore.storage.local import FileSystemStorage
from tests.registry.helpers import add, write_log

PAGE = Path(__file__).parents[1] / "docs" / "analytics.md"
Rows = list[tuple[str, str, float | None]]


def example(language: str, heading: str) -> str:
    """The query below a heading of the page."""
    part = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.search(rf"```{language}\n(.*?)```", part, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of 140 events in one domain and a few in another, written by commits."""
    root = tmp_path_factory.mktemp("analytics")
    registry = Registry(FileSystemStorage(root / "store", create=True), None)
    auc = {number: (number * 37 % 211) / 211 for number in range(135) if number % 9}  # no two alike
    for number in range(135):
        metrics = {"auc": auc[number]} if number in auc else {}
        add(registry, "Größe", f"m{number}", metrics=metrics, parameters={"depth": number, "kernel": "rbf"})
    for number in sorted(auc, key=lambda number: auc[number])[-4:-1]:  # which would be found otherwise
        removal.delete(registry, "Größe", f"m{number}")
    for number in range(3):
        add(registry, "few", f"f{number}", metrics={"auc": 0.995 + number / 1000})
    assert len(list(registry.storage.list(keys.compact_prefix("Größe")))) == 2
    return root


@pytest.fixture
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page names the store by a relative path."""
    monkeypatch.chdir(root)
    return root


def expected(root: Path) -> Rows:
    """What the library itself says."""
    found = ModelStore.from_file_system(root / "store").search(order_by="-metrics.auc", limit=10)
    return [(model["domain"], model["model_id"], model["metrics.auc"]) for model in found.rows()]


def test_duckdb(here: Path) -> None:
    """DuckDB finds the same best models as a search, those of unfinished segments among them."""
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        assert connection.execute(example("sql", "DuckDB")).fetchall() == expected(here)


def test_polars(here: Path) -> None:
    """Polars finds the same best models as a search."""
    pytest.importorskip("polars")
    names: dict[str, Any] = {}
    exec(example("python", "Polars"), names)
    assert names["best"].rows() == expected(here)


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """Spark, in this process alone."""
    sql = pytest.importorskip("pyspark.sql")
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    session = builder.config("spark.sql.shuffle.partitions", "1").getOrCreate()
    yield session
    session.stop()


def test_spark(spark: Any, here: Path) -> None:
    """Spark finds the same best models as a search."""
    names: dict[str, Any] = {}
    source = example("python", "Spark").replace('"store/', f'"{here}/store/')  # its own idea of where it is
    exec(source, names)
    assert [tuple(row) for row in names["best"].collect()] == expected(here)


# -- files of many gzip members ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The joined file of a full block: 64 gzip members, one after the other."""
    storage = FileSystemStorage(tmp_path_factory.mktemp("block"), create=True)
    write_log(storage, "d", keys.BLOCK)
    (path,) = (path for path in Path(storage.location("")["root"]).rglob(f"*-{keys.BLOCK:012d}.ndjson.gz")
               if path.name.startswith(f"{1:012d}-"))  # fmt: skip
    assert path.read_bytes().count(gzip.compress(b"")[:4]) >= keys.SEGMENT
    return path


def test_duckdb_reads_blocks_whole(block: Path) -> None:
    """DuckDB reads every member of a file of a full block."""
    duckdb = pytest.importorskip("duckdb")
    query = "SELECT COUNT(*), MAX((json->>'$.number')::INT) FROM read_ndjson_objects(?, compression = 'gzip')"
    with duckdb.connect() as connection:
        assert connection.execute(query, [str(block)]).fetchall() == [(keys.BLOCK, keys.BLOCK)]


def test_polars_reads_blocks_whole(block: Path) -> None:
    """So does Polars."""
    polars = pytest.importorskip("polars")
    numbers = polars.scan_ndjson(block, schema={"number": polars.Int64}).collect()["number"]
    assert numbers.to_list() == list(range(1, keys.BLOCK + 1))


def test_spark_reads_blocks_whole(spark: Any, block: Path) -> None:
    """So does Spark."""
    rows = spark.read.schema("number long").json(str(block)).agg({"number": "max", "*": "count"}).collect()
    assert sorted(rows[0]) == [keys.BLOCK, keys.BLOCK]
