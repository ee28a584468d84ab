"""A server of H2O's, a frame in it, and how to train each of its estimators within a second."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

os.environ["DO_NOT_TRACK"] = "1"  # the client would report to its makers

import h2o
import h2o.estimators as estimators
import numpy as np
import pandas as pd

_RANDOM = np.random.RandomState(0)
ROWS = pd.DataFrame(_RANDOM.normal(size=(120, 3)), columns=["a", "b", "c"])
ROWS["amount"] = (ROWS["a"] * 2 + ROWS["b"]).round(3)
ROWS["answer"] = np.where(ROWS["a"] + ROWS["b"] > 0, "yes", "no")
ROWS["treated"] = np.where(_RANDOM.rand(120) > 0.5, "1", "0")
ROWS["colour"] = np.array(["red", "green", "blue"])[_RANDOM.randint(0, 3, 120)]
ROWS["stop"] = np.arange(1, 121)
ROWS["event"] = (np.arange(120) % 2).astype(str)
FACTORS = ["answer", "treated", "colour", "event"]

X = ["a", "b", "c"]


def connect(port: int) -> None:
    """Start a small server of this process's own."""
    h2o.init(
        port=port, nthreads=1, max_mem_size="1G", verbose=False, jvm_custom_args=["-XX:TieredStopAtLevel=1"]
    )  # fmt: skip
    h2o.no_progress()


def frame() -> Any:
    """The rows, in the server that is connected."""
    url = h2o.connection().base_url
    if url not in _FRAMES:
        h2o.no_progress()
        made = h2o.H2OFrame(ROWS, column_types=dict.fromkeys(FACTORS, "enum"))
        _FRAMES[url] = made
    return _FRAMES[url]


_FRAMES: dict[str, Any] = {}


def _train(name: str, settings: dict[str, Any], **fit: Any) -> Any:
    model = getattr(estimators, name)(**settings)
    model.train(training_frame=frame(), **fit)
    return model


def _ensemble() -> Any:
    folds = {"nfolds": 2, "keep_cross_validation_predictions": True, "seed": 1, "fold_assignment": "modulo"}
    base = [
        _train("H2OGradientBoostingEstimator", {"ntrees": 2, "max_depth": 2, **folds}, x=X, y="answer"),
        _train("H2OGeneralizedLinearEstimator", {"family": "binomial", **folds}, x=X, y="answer"),
    ]
    return _train("H2OStackedEnsembleEstimator", {"base_models": base}, x=X, y="answer")


def _words() -> Any:
    words = h2o.H2OFrame(pd.DataFrame({"word": ["one", "two", "three", "two"] * 20}), column_types=["string"])
    model = estimators.H2OWord2vecEstimator(epochs=1, vec_size=3, min_word_freq=1)
    model.train(training_frame=words)
    return model


_SEED = {"seed": 1}
_TREES = {"ntrees": 2, "max_depth": 2, **_SEED}
_BY_ANSWER = {"x": X, "y": "answer"}
_BY_AMOUNT = {"x": X, "y": "amount"}


def builders() -> dict[str, Callable[[], Any]]:
    """How to train a model of each kind, by name."""

    def of(name: str, settings: dict[str, Any], **fit: Any) -> Callable[[], Any]:
        return functools.partial(_train, name, settings, **fit)

    network = {"hidden": [3], "epochs": 1, "reproducible": True, **_SEED}
    return {
        "AdaBoost": of("H2OAdaBoostEstimator", {"nlearners": 2, **_SEED}, **_BY_ANSWER),
        "Aggregator": of("H2OAggregatorEstimator", {"target_num_exemplars": 10}, x=X),
        "ANOVA GLM": of("H2OANOVAGLMEstimator", {"family": "gaussian", **_SEED}, x=["a", "b"], y="amount"),
        "autoencoder": of("H2OAutoEncoderEstimator", network, x=X),
        "Cox": of("H2OCoxProportionalHazardsEstimator", {"stop_column": "stop"}, x=["a", "b"], y="event"),
        "decision tree": of("H2ODecisionTreeEstimator", {"max_depth": 2, **_SEED}, **_BY_ANSWER),
        "deep learning": of("H2ODeepLearningEstimator", network, **_BY_ANSWER),
        "extended isolation forest": of("H2OExtendedIsolationForestEstimator",
                                        {"ntrees": 2, "sample_size": 50, **_SEED}, x=X),
        "GAM": of("H2OGeneralizedAdditiveEstimator", {"gam_columns": ["a"], "num_knots": [4], **_SEED}, **_BY_AMOUNT),
        "GLM": of("H2OGeneralizedLinearEstimator", {"family": "binomial", **_SEED}, **_BY_ANSWER),
        "GLM, many classes": of("H2OGeneralizedLinearEstimator", {"family": "multinomial", **_SEED}, x=X, y="colour"),
        "GLRM": of("H2OGeneralizedLowRankEstimator", {"k": 2, "max_iterations": 3, **_SEED}, x=X),
        "GBM": of("H2OGradientBoostingEstimator", {"model_id": "my_gbm", **_TREES}, **_BY_ANSWER),
        "GBM, regression": of("H2OGradientBoostingEstimator", _TREES, x=[*X, "colour"], y="amount"),
        "infogram": of("H2OInfogram", _SEED, **_BY_ANSWER),
        "isolation forest": of("H2OIsolationForestEstimator", _TREES, x=X),
        "isotonic": of("H2OIsotonicRegressionEstimator", {}, x=["a"], y="amount"),
        "k-means": of("H2OKMeansEstimator", {"k": 2, **_SEED}, x=X),
        "model selection": of("H2OModelSelectionEstimator", {"mode": "maxr", "max_predictor_number": 2}, **_BY_AMOUNT),
        "naive Bayes": of("H2ONaiveBayesEstimator", _SEED, **_BY_ANSWER),
        "PCA": of("H2OPrincipalComponentAnalysisEstimator", {"k": 2, **_SEED}, x=X),
        "random forest": of("H2ORandomForestEstimator", _TREES, x=X, y="colour"),
        "rule fit": of("H2ORuleFitEstimator", {"max_num_rules": 5, "min_rule_length": 1, "max_rule_length": 2, **_SEED},
                       **_BY_ANSWER),
        "SVD": of("H2OSingularValueDecompositionEstimator", {"nv": 2, **_SEED}, x=X),
        "stacked ensemble": _ensemble,
        "SVM": of("H2OSupportVectorMachineEstimator", {"disable_training_metrics": False, **_SEED}, **_BY_ANSWER),
        "uplift": of("H2OUpliftRandomForestEstimator", {"treatment_column": "treated", **_TREES}, **_BY_ANSWER),
        "word2vec": _words,
        **({"XGBoost": of("H2OXGBoostEstimator", _TREES, **_BY_ANSWER)}
           if estimators.H2OXGBoostEstimator.available() else {}),
    }  # fmt: skip


def encoder() -> Any:
    """One of the two kinds that are refused."""
    return _train("H2OTargetEncoderEstimator", _SEED, x=["colour"], y="answer")


def hierarchical() -> Any:
    """The other."""
    settings = {"group_column": "colour", "random_columns": ["b"], "max_iterations": 2, **_SEED}
    return _train("H2OHGLMEstimator", settings, **_BY_AMOUNT)


def classes() -> set[str]:
    """The estimators that H2O lists, by class name."""
    found = {name for name, cls in vars(estimators).items() if inspect.isclass(cls) and name.startswith("H2O")}
    return found - {"H2OEstimator"}


def observe(model: Any) -> Any:
    """Predictions, and what is known of the training."""
    seen: dict[str, Any] = {
        "id": model.model_id,
        "parameters": {name: repr(value) for name, value in model.actual_params.items() if "frame" not in name},
        "given": {name: repr(value) for name, value in model._parms.items() if "frame" not in name},
        "kind": model._estimator_type,
        "category": model._model_json["output"]["model_category"],
    }
    if model.algo == "word2vec":
        seen["synonyms"] = sorted(model.find_synonyms("one", 2).items())
    elif model.algo == "glrm":  # what it makes of new rows depends on the server's threads
        seen["rows"] = model.archetypes()
    else:
        try:
            seen["rows"] = h2o.as_list(model.predict(frame()), use_pandas=False)
        except Exception as error:  # some kinds cannot predict
            seen["rows"] = type(error).__name__
    return seen
