"""The session, and a place for files that the driver and the executors both see.

With a local master that is a folder of this machine. On a cluster it is a folder of the cluster's file system, to and
from which files go through Hadoop's own interface; `spark.modelstore.staging` in the session's configuration names it,
else it is the user's home there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelstore.exceptions import InvalidArgumentError, MissingDependencyError

STAGING = "spark.modelstore.staging"

_GLOB = frozenset("*?[]{}\\")


def running_session() -> Any:
    """The session there is; None if there is none."""
    from pyspark import SparkContext

    return session() if SparkContext._active_spark_context is not None else None


def session() -> Any:
    """The active session, or the one that Spark makes with its own settings.

    Raises:
        InvalidArgumentError: it is one of Spark Connect, which has no JVM here.
        MissingDependencyError: there is no Java.
    """
    from pyspark.sql import SparkSession

    if is_connect():
        raise InvalidArgumentError(
            "session",
            "models are loaded into a classic Spark session, and this process uses Spark Connect; download the model, "
            "put its folder where the server sees it, and load it there by the class's own load()",
        )
    try:
        return SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    except Exception as error:
        if "JAVA" in str(error).upper():
            command = "install a Java runtime, such as openjdk-17-jre-headless, and let JAVA_HOME name it"
            raise MissingDependencyError("java", "starting Spark", command) from error
        raise


def is_connect() -> bool:
    """Whether sessions of this process are those of Spark Connect."""
    try:
        from pyspark.sql.utils import is_remote
    except ImportError:  # before Spark 3.4 there was none
        return False
    return bool(is_remote())


@contextmanager
def written(spark: Any, target: Path) -> Iterator[str]:
    """A URI for Spark to write to; what lies there at the end is what lies in the folder `target`.

    Raises:
        InvalidArgumentError: see `_staging`.
    """
    staging = _staging(spark)
    if staging is None:
        yield _uri(target)
        return
    system, path = staging
    try:
        yield path.toString()
        # Raw: without checksum files of the copy's own.
        system.copyToLocalFile(False, path, _java_path(spark, _uri(target)), True)
    finally:
        system.delete(path, True)


@contextmanager
def readable(spark: Any, source: Path, lasting: bool) -> Iterator[str]:
    """A URI from which Spark reads what lies in the folder `source`.

    Args:
        spark: the session.
        source: where the files lie.
        lasting: whether the model goes on reading from there. A copy is made then, which goes when the JVM ends.

    Raises:
        InvalidArgumentError: see `_staging`.
    """
    staging = _staging(spark)
    if staging is None and not lasting and not _GLOB & set(str(source)):
        yield _uri(source)
        return
    system, path = staging or _temporary(spark)
    system.copyFromLocalFile(False, True, _java_path(spark, _uri(source)), path)
    try:
        yield path.toString()
    finally:
        system.deleteOnExit(path) if lasting else system.delete(path, True)


def _staging(spark: Any) -> tuple[Any, Any] | None:
    """A file system of Hadoop's and a new path in it; None where this machine's own files will do.

    Raises:
        InvalidArgumentError: the executors run elsewhere, and the cluster has no file system that all of them see.
    """
    jvm, hadoop = spark.sparkContext._jvm, spark.sparkContext._jsc.hadoopConfiguration()
    wanted = spark.conf.get(STAGING, None)
    if wanted is None and spark.sparkContext._jsc.sc().isLocal():
        return None
    if wanted is None:
        system = jvm.org.apache.hadoop.fs.FileSystem.get(hadoop)
        if system.getUri().getScheme() == "file":
            raise InvalidArgumentError(
                STAGING,
                f"the executors of {spark.sparkContext.master} may run on other machines, and the default file system "
                f"is this machine's own; name a folder that all of them see: spark.conf.set({STAGING!r}, 'hdfs://…')",
            )
        wanted = system.getHomeDirectory().toString()
    return _within(spark, wanted)


def _temporary(spark: Any) -> tuple[Any, Any]:
    folder = spark.sparkContext._jvm.java.lang.System.getProperty("java.io.tmpdir")
    return _within(spark, _uri(Path(folder)))


def _within(spark: Any, folder: str) -> tuple[Any, Any]:
    path = _java_path(spark, f"{folder.rstrip('/')}/modelstore-{uuid.uuid4().hex}")
    return path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()), path


def _java_path(spark: Any, uri: str) -> Any:
    return spark.sparkContext._jvm.org.apache.hadoop.fs.Path(uri)


def _uri(path: Path) -> str:
    # Not as_uri(): Hadoop does not take percent signs for an encoding.
    return "file:///" + path.absolute().as_posix().lstrip("/")
