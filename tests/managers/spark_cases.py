"""Every class of Spark's pipelines, fitted where it is a model, and a small frame for all of them."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

# Little jobs by the hundred: one partition, no generated code, a compiler that does not optimise. For this process and
# for those that it starts.
_SETTINGS = {
    "spark.master": "local[1]",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.driver.memory": "1g",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.showConsoleProgress": "false",
}
os.environ["PYSPARK_SUBMIT_ARGS"] = " ".join(
    [*(f"--conf {name}={value}" for name, value in _SETTINGS.items()), "pyspark-shell"]
)

MODULES = ("feature", "classification", "regression", "clustering", "recommendation", "fpm", "tuning", "evaluation")

_FEW: Mapping[str, Any] = {"maxIter": 1}
_TREES: Mapping[str, Any] = {"maxDepth": 1, "seed": 3}
FITS: dict[str, Mapping[str, Any]] = {
    "BucketedRandomProjectionLSH": {"inputCol": "features", "outputCol": "out", "bucketLength": 2.0, "seed": 3},
    "ChiSqSelector": {"featuresCol": "features", "outputCol": "out", "numTopFeatures": 1},
    "CountVectorizer": {"inputCol": "words", "outputCol": "out"},
    "IDF": {"inputCol": "features", "outputCol": "out"},
    "Imputer": {"inputCols": ["x"], "outputCols": ["out"]},
    "MaxAbsScaler": {"inputCol": "features", "outputCol": "out"},
    "MinHashLSH": {"inputCol": "features", "outputCol": "out", "seed": 3},
    "MinMaxScaler": {"inputCol": "features", "outputCol": "out"},
    "OneHotEncoder": {"inputCols": ["label"], "outputCols": ["out"]},
    "PCA": {"inputCol": "features", "outputCol": "out", "k": 1},
    "QuantileDiscretizer": {"inputCol": "x", "outputCol": "out", "numBuckets": 2},
    "RFormula": {"formula": "label ~ x + text", "featuresCol": "out", "labelCol": "target"},
    "RobustScaler": {"inputCol": "features", "outputCol": "out"},
    "StandardScaler": {"inputCol": "features", "outputCol": "out"},
    "StringIndexer": {"inputCol": "text", "outputCol": "out"},
    "TargetEncoder": {"inputCols": ["label"], "outputCols": ["out"], "labelCol": "label"},
    "UnivariateFeatureSelector": {
        "featuresCol": "features",
        "outputCol": "out",
        "featureType": "continuous",
        "labelType": "categorical",
    },
    "VarianceThresholdSelector": {"featuresCol": "features", "outputCol": "out"},
    "VectorIndexer": {"inputCol": "features", "outputCol": "out"},
    "Word2Vec": {"inputCol": "words", "outputCol": "out", "vectorSize": 2, "minCount": 1, "seed": 3, **_FEW},
    "LinearSVC": _FEW,
    "LogisticRegression": _FEW,
    "DecisionTreeClassifier": _TREES,
    "GBTClassifier": {**_TREES, **_FEW},
    "RandomForestClassifier": {**_TREES, "numTrees": 2},
    "NaiveBayes": {},
    "MultilayerPerceptronClassifier": {"layers": [2, 2, 2], "seed": 3, **_FEW},
    "FMClassifier": {"factorSize": 1, "seed": 3, **_FEW},
    "AFTSurvivalRegression": {"labelCol": "y", "quantileProbabilities": [0.5], **_FEW},
    "DecisionTreeRegressor": _TREES,
    "GBTRegressor": {**_TREES, **_FEW},
    "GeneralizedLinearRegression": _FEW,
    "IsotonicRegression": {},
    "LinearRegression": _FEW,
    "RandomForestRegressor": {**_TREES, "numTrees": 2},
    "FMRegressor": {"factorSize": 1, "seed": 3, **_FEW},
    "BisectingKMeans": {"k": 2, "seed": 3, **_FEW},
    "KMeans": {"k": 2, "seed": 3, **_FEW},
    "GaussianMixture": {"k": 2, "seed": 3, **_FEW},
    "LDA": {"k": 2, "seed": 3, "optimizer": "online", **_FEW},
    "ALS": {"rank": 2, "seed": 3, "numUserBlocks": 1, "numItemBlocks": 1, **_FEW},
    "FPGrowth": {"itemsCol": "words", "minSupport": 0.4, "minConfidence": 0.3},
}
"""Settings under which each estimator fits."""

TRANSFORMERS: dict[str, Mapping[str, Any]] = {
    "Binarizer": {"inputCol": "x", "outputCol": "out", "threshold": 0.5},
    "Bucketizer": {"inputCol": "x", "outputCol": "out", "splits": [float("-inf"), 0.5, float("inf")]},
    "DCT": {"inputCol": "features", "outputCol": "out"},
    "FeatureHasher": {"inputCols": ["x", "text"], "outputCol": "out", "numFeatures": 8},
    "HashingTF": {"inputCol": "words", "outputCol": "out", "numFeatures": 8},
    "IndexToString": {"inputCol": "label", "outputCol": "out", "labels": ["no", "yes"]},
    "Interaction": {"inputCols": ["x", "y"], "outputCol": "out"},
    "NGram": {"inputCol": "words", "outputCol": "out"},
    "Normalizer": {"inputCol": "features", "outputCol": "out"},
    "PolynomialExpansion": {"inputCol": "features", "outputCol": "out"},
    "RegexTokenizer": {"inputCol": "text", "outputCol": "out"},
    "SQLTransformer": {"statement": "SELECT *, x * 2 AS out FROM __THIS__"},
    "StopWordsRemover": {"inputCol": "words", "outputCol": "out"},
    "Tokenizer": {"inputCol": "text", "outputCol": "out"},
    "VectorAssembler": {"inputCols": ["x", "features"], "outputCol": "out"},
    "VectorSizeHint": {"inputCol": "features", "size": 2},
    "VectorSlicer": {"inputCol": "features", "outputCol": "out", "indices": [1]},
}
"""Settings under which each transformer that is not fitted works; `ElementwiseProduct` takes a vector."""


def session() -> Any:
    """The session of this process, which is quiet."""
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


def frame() -> Any:
    """Six rows, with a column for every taste."""
    from pyspark.ml.linalg import Vectors

    if "frame" not in _MADE or _MADE["session"] is not session():
        rows = [
            (float(at % 2), Vectors.dense(1.0 + at % 3, at * 0.5 + 1), at / 7, 1.5 + at, ["a", "bc", f"w{at % 2}"],
             f"text {at % 2}", at % 3, at % 2, 1.0 + at, 1.0)
            for at in range(6)
        ]  # fmt: skip
        columns = ["label", "features", "x", "y", "words", "text", "user", "item", "rating", "censor"]
        _MADE.update(session=session(), frame=session().createDataFrame(rows, columns).coalesce(1).cache())
    return _MADE["frame"]


_MADE: dict[str, Any] = {}


def classes() -> dict[str, Any]:
    """All public classes of Spark's pipelines that can write themselves, by name."""
    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.param import Params
    from pyspark.ml.util import MLWritable

    found: dict[str, Any] = {"Pipeline": Pipeline, "PipelineModel": PipelineModel}
    for name in MODULES:
        module = importlib.import_module(f"pyspark.ml.{name}")
        for public in module.__all__:
            cls = getattr(module, public)
            if inspect.isclass(cls) and issubclass(cls, Params) and issubclass(cls, MLWritable):
                found[public] = cls
    return found


def _with_columns(name: str, cls: Any, settings: Mapping[str, Any]) -> Any:
    """An object of the class whose output goes to columns of its own, so that many can follow each other."""
    made = cls()._set(**settings)  # not all of them take all of theirs as arguments
    for param in ("outputCol", "predictionCol", "probabilityCol", "rawPredictionCol", "topicDistributionCol"):
        if made.hasParam(param) and not (param == "outputCol" and "outputCols" in settings):
            made._set(**{param: f"{name} {param}"})
    if made.hasParam("outputCols") and "outputCols" in settings:
        made._set(outputCols=[f"{name} outputCols"])
    return made


def fitted(module: str) -> Any:
    """A pipeline of a model of every estimator of a module."""
    from pyspark.ml import PipelineModel

    names = [name for name, cls in classes().items() if name in FITS and cls.__module__ == f"pyspark.ml.{module}"]
    return PipelineModel([_with_columns(name, classes()[name], FITS[name]).fit(frame()) for name in names])


def transformers() -> Any:
    """A pipeline of every transformer that is not fitted."""
    from pyspark.ml import PipelineModel
    from pyspark.ml.linalg import Vectors

    settings = {**TRANSFORMERS, "ElementwiseProduct": {"inputCol": "features", "scalingVec": Vectors.dense(2.0, 3.0)}}
    return PipelineModel([_with_columns(name, classes()[name], each) for name, each in settings.items()])


def estimators() -> Any:
    """A pipeline of every estimator that Spark writes by itself, not fitted."""
    from pyspark.ml import Pipeline

    return Pipeline(stages=[classes()[name]()._set(**settings) for name, settings in FITS.items()])


def pipeline() -> Any:
    """Two stages, not fitted; the first names its output by its identifier."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import StandardScaler

    scaler = StandardScaler(inputCol="features")
    return Pipeline(stages=[scaler, LogisticRegression(featuresCol=scaler.getOutputCol(), maxIter=1)])


def search(name: str, **settings: Any) -> Any:
    """A search for a parameter."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.ml.tuning import ParamGridBuilder

    logistic = LogisticRegression(maxIter=1)
    grid = ParamGridBuilder().addGrid(logistic.regParam, [0.1]).build()
    evaluator = BinaryClassificationEvaluator()
    return classes()[name](estimator=logistic, estimatorParamMaps=grid, evaluator=evaluator, seed=3, **settings)


def one_against_rest() -> Any:
    """A classifier made of others."""
    from pyspark.ml.classification import LogisticRegression

    return classes()["OneVsRest"](classifier=LogisticRegression(maxIter=1))


def topics() -> Any:
    """The one model that keeps its training data, in a graph."""
    return classes()["LDA"](k=2, seed=3, maxIter=1, optimizer="em").fit(frame())


def builders() -> dict[str, Callable[[], Any]]:
    """What to store: together, all public classes."""
    made: dict[str, Callable[[], Any]] = {
        "transformers": transformers,
        "estimators": estimators,
        "pipeline": pipeline,
        "fitted pipeline": lambda: pipeline().fit(frame()),
        "one against rest": one_against_rest,
        "one against rest, fitted": lambda: one_against_rest().fit(frame()),
        "cross-validation": lambda: search("CrossValidator", numFolds=2),
        "cross-validation, fitted": lambda: search("CrossValidator", numFolds=2, collectSubModels=True).fit(frame()),
        "split": lambda: search("TrainValidationSplit"),
        "split, fitted": lambda: search("TrainValidationSplit").fit(frame()),
        "topics in a graph": topics,
        "power iteration": classes()["PowerIterationClustering"],
    }
    for module in ("feature", "classification", "regression", "clustering", "recommendation", "fpm"):
        made[f"models of {module}"] = functools.partial(fitted, module)
    for name, cls in classes().items():
        if name.endswith("Evaluator"):
            made[name] = cls
    return made


def observe(obj: Any) -> Any:
    """Identifiers and parameters of all parts, and what it makes of the frame if it makes anything of one."""
    from modelstore.managers._pyspark.own_classes import parts_of

    seen: dict[str, Any] = {
        "parts": sorted((part.uid, type(part).__name__, *sorted(param.name for param in part.params))
                        for part in parts_of(obj)),
        "defaults": sorted((part.uid, param.name, repr(value)) for part in parts_of(obj)
                           for param, value in part._defaultParamMap.items() if param.name == "outputCol"),
    }  # fmt: skip
    if hasattr(obj, "transform"):
        seen["rows"] = [repr(row) for row in obj.transform(frame()).collect()]
    for part in parts_of(obj):
        for name in ("coefficients", "intercept", "vocabulary"):
            value = getattr(part, name, None)
            if value is not None:
                seen[f"{part.uid} {name}"] = repr(value)
        for name in ("avgMetrics", "stdMetrics", "validationMetrics"):
            # Once loaded, they are Python's own numbers instead of numpy's.
            seen[f"{part.uid} {name}"] = [float(value) for value in getattr(part, name, None) or ()]
    return seen
