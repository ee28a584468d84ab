"""Spark ML: pipelines, models, estimators, transformers and evaluators, as the folders that Spark itself writes.

Spark's format holds JSON and Parquet. It names classes, which Spark's reader imports, so what it names is looked over
first. Classes that are not Spark's own are pickled beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from modelstore.exceptions import IntegrityError, ModelStoreError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._pyspark import metadata, sessions
from modelstore.managers._pyspark.own_classes import lent, own_classes, parts_of
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.classes import framework_class
from modelstore.managers.pickled import load_pickle, save_pickle

MODEL = "model"
CLASSES = "classes.pkl"

_LONGEST = 50
"""Of longer lists and texts in parameters the record tells the length alone."""
_DEPTH = 6

_OUTPUT = "__output"
"""How the default name of an output column ends."""


class PySparkManager(ObjectManager):
    """Stores whatever has `pyspark.ml.param.Params` among its parents and can write itself."""

    name: ClassVar[str] = "pyspark"
    title: ClassVar[str] = "Spark ML (PySpark)"
    claims: ClassVar[tuple[str, ...]] = (metadata.PARAMS,)
    distributions: ClassVar[tuple[str, ...]] = ("pyspark", "numpy", "cloudpickle")
    extra: ClassVar[str | None] = "pyspark"
    exactness: ClassVar[str] = "bit for bit, on the same version of Spark; a later version reads the files too"
    limits: ClassVar[tuple[str, ...]] = (
        "Training summaries are not kept: Spark's own files leave them out.",
        "Loading takes Java, and starts a Spark session with Spark's own settings if none is active.",
        "Executors on other machines do not see the driver's files: the model then goes through the cluster's default "
        "file system, or through the folder that `spark.modelstore.staging` names in the session's configuration.",
        "With Spark Connect there is no JVM in this process to write the files: save the model on the server and "
        "upload its folder. The classes of `pyspark.ml.connect`, deprecated by Spark, are refused as well.",
        "Classes that are not Spark's own (your transformers, other packages' models) are pickled, by value if no "
        "import finds them, and have to be writable (`DefaultParamsWritable`).",
        "Spark names files at random and notes the time, so two uploads of one model have different digests.",
        "Models of the older `pyspark.mllib` are not objects of Spark's pipelines and not stored; upload the folder "
        "that their `save` writes.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Let Spark write the folder `model`, and pickle the classes that are not Spark's."""
        _refuse(obj)
        spark = sessions.running_session()
        if spark is None:
            raise UnsupportedObjectError(
                "there is no Spark session, without which Spark writes nothing; upload before you stop it",
                class_name(obj),
            )
        target = folder.path(MODEL)
        try:
            with sessions.written(spark, target) as uri:
                obj.write().overwrite().save(uri)
            metadata.classes_in(target)
        except ModelStoreError:
            raise
        except Exception as error:  # Py4JJavaError, and whatever the stages' own writers raise
            raise UnsupportedObjectError(
                f"Spark cannot write this {class_name(obj)}: {_first_line(error)}", class_name(obj)
            ) from error
        saved = Saved("spark", {"class": class_name(obj), "version": spark.version})
        deviations = {part.uid: part.stdMetrics for part in parts_of(obj) if getattr(part, "stdMetrics", None)}
        if deviations:  # the JVM's writer, which writes for most searches, leaves them out
            saved.state["stdMetrics"] = {uid: [float(each) for each in found] for uid, found in deviations.items()}
        own = own_classes(obj)
        if own:
            refusal = f"the classes {', '.join(sorted(own))} of this {class_name(obj)} cannot be pickled"
            saved.merge(save_pickle(own, folder, CLASSES, refusal))
            saved.state["own"] = sorted(own)
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Let Spark read the folder `model`, once all that its metadata name is known.

        Raises:
            PickleNotAllowedError: it names classes that are not Spark's.
            IntegrityError: a file is missing or damaged, or names what is no class of a pipeline.
        """
        import pyspark  # noqa: F401  (its absence is to be reported before anything about files)

        named, foreign = metadata.classes_in(folder / MODEL)
        classes: dict[str, Any] = {}
        if foreign:
            request.policy.require(f"the Spark model in {MODEL}", sorted(foreign))
        if state.get("own"):
            classes = load_pickle(folder / CLASSES, "the classes of the Spark model", request.policy)
        module, _, qualname = str(state.get("class")).partition(":")
        own = classes.get(f"{module}.{qualname.rpartition('.')[2]}")  # as metadata have it, without outer names
        cls = own or framework_class(state.get("class"), "pyspark", (metadata.PARAMS,))
        spark = sessions.session()
        lasting = bool(foreign) or any(name.rpartition(".")[2] in metadata.LAZY for name in named)
        try:
            with lent(classes), sessions.readable(spark, folder / MODEL, lasting) as uri:
                model = _with_own_names(_with_sub_models(cls.load(uri), uri, spark), folder / MODEL)
        except ModelStoreError:
            raise
        except Exception as error:
            raise IntegrityError("the Spark model", MODEL, f"Spark cannot read it: {_first_line(error)}") from error
        for part in parts_of(model):
            if part.uid in state.get("stdMetrics", {}) and hasattr(part, "stdMetrics"):
                part.stdMetrics = list(state["stdMetrics"][part.uid])
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The parameters by name, those of stages and nested estimators in them."""
        return _described(obj, 0)


def _refuse(obj: Any) -> None:
    from pyspark.ml.util import MLWritable

    if any(base.__module__.startswith("pyspark.ml.connect") for base in type(obj).__mro__):
        raise UnsupportedObjectError(
            f"{class_name(obj)} belongs to pyspark.ml.connect, which Spark has deprecated; use the class of the same "
            "name in pyspark.ml, or upload the folder that its saveToLocal() writes",
            class_name(obj),
        )
    if not isinstance(obj, MLWritable):
        raise UnsupportedObjectError(
            f"{class_name(obj)} cannot write itself; a transformer of your own can once it derives from "
            "pyspark.ml.util.DefaultParamsWritable and DefaultParamsReadable too",
            class_name(obj),
        )
    if sessions.is_connect():
        raise UnsupportedObjectError(
            "this process uses Spark Connect, whose server writes models to its own files; save it there by "
            "model.write().save(…) and upload that folder, model='FOLDER'",
            class_name(obj),
        )


def _with_sub_models(obj: Any, uri: str, spark: Any) -> Any:
    """Give each fold of a cross-validation its own models: Spark's reader gives all folds those of the last."""
    folds = getattr(obj, "subModels", None)
    if type(obj).__name__ == "CrossValidatorModel" and folds:
        from pyspark.ml.util import DefaultParamsReader

        obj.subModels = [
            [
                DefaultParamsReader.loadParamsInstance(f"{uri}/subModels/fold{fold}/{number}", spark)
                for number in range(len(models))
            ]
            for fold, models in enumerate(folds)
        ]
    return obj


def _with_own_names(obj: Any, folder: Path) -> Any:
    """Name output columns as they were by default.

    Spark's reader builds each stage with an identifier drawn anew, takes the default from that, and then puts the
    stored identifier in its place.
    """
    stored = metadata.default_outputs(folder)
    for part in parts_of(obj):
        param = part.getParam("outputCol") if part.hasParam("outputCol") else None
        if param is not None and part.hasDefault(param) and str(part._defaultParamMap[param]).endswith(_OUTPUT):
            part._setDefault(outputCol=stored.get(part.uid, part.uid + _OUTPUT))
    return obj


def _described(obj: Any, depth: int) -> dict[str, Any]:
    found = {param.name: _plain(value, depth) for param, value in obj.extractParamMap().items()}
    # The stages of a fitted pipeline, and what a search found, are no parameters.
    for name in ("stages", "bestModel", "models"):
        value = vars(obj).get(name)
        if value is not None and name not in found:
            found[name] = _plain(value, depth)
    return found


def _plain(value: Any, depth: int) -> Any:
    if hasattr(value, "extractParamMap"):
        inside = _described(value, depth + 1) if depth < _DEPTH else {}
        return {"class": class_name(value), **inside}
    if hasattr(value, "parent") and hasattr(value, "doc"):
        return str(value)
    if isinstance(value, Mapping):
        return {str(_plain(key, depth)): _plain(item, depth) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > _LONGEST:
            return f"{len(value)} values"
        return [_plain(item, depth) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST * 20 else f"{len(text)} characters"


def _first_line(error: Exception) -> str:
    """Of an error of the JVM, what was wrong instead of which call it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("An error occurred while calling"):
        return lines[1].lstrip(": ")
    return lines[0] if lines else type(error).__name__
