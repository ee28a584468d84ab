"""Every estimator of scikit-learn, fitted on a few rows that suit it, and what can be observed of it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

# Whoever imports these adds estimators to scikit-learn's own list; other libraries do, and the tests of all share it.
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators, get_tags

_RANDOM = np.random.RandomState(0)
NUMBERS = _RANDOM.normal(size=(60, 4))
LABELS = (NUMBERS[:, 0] + 0.3 * NUMBERS[:, 1] > 0).astype(int)
TARGET = np.abs(NUMBERS[:, 0] * 2 + NUMBERS[:, 1]) + 0.5
TEXTS = ["a cat sat", "a dog ran far", "the cat ran", "dogs and cats"] * 15
IMAGES = _RANDOM.rand(3, 8, 8)

_REQUIRED: dict[str, Callable[[str], Any]] = {
    "estimator": lambda name: Ridge() if name.endswith("Regressor") else _classifier(),
    "base_estimator": lambda name: _classifier(),
    "estimators": lambda name: (
        [("a", Ridge()), ("b", Ridge(alpha=2))]
        if "Regressor" in name
        else [("a", _classifier()), ("b", DecisionTreeClassifier(max_depth=2))]
    ),
    "transformers": lambda name: [("s", StandardScaler(), [0, 1]), ("m", MinMaxScaler(), [2])],
    "transformer_list": lambda name: [("s", StandardScaler()), ("m", MinMaxScaler())],
    "steps": lambda name: [("s", StandardScaler()), ("c", _classifier())],
    "param_grid": lambda name: {"C": [0.1, 1.0]},
    "param_distributions": lambda name: {"C": [0.1, 1.0]},
    "dictionary": lambda name: np.eye(4),
}
_SPECIAL: dict[str, dict[str, Any]] = {
    "ClassifierChain": {"estimator": LogisticRegression()},
    "RegressorChain": {"estimator": Ridge()},
    "GaussianRandomProjection": {"n_components": 2},
    "SparseRandomProjection": {"n_components": 2},
    "PatchExtractor": {"patch_size": (2, 2)},
    "SelfTrainingClassifier": {"estimator": LogisticRegression()},
    "TSNE": {"max_iter": 250},
}
_PAIRED = ("CCA", "PLSCanonical", "PLSRegression", "PLSSVD", "MultiOutputRegressor", "RegressorChain")


def names() -> list[str]:
    """The names of all estimators."""
    return [name for name, _ in all_estimators()]


def fitted(name: str) -> Any:
    """The estimator of this name, small and fitted."""
    cls = dict(all_estimators())[name]
    needed = [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if cls is FrozenEstimator:
        return FrozenEstimator(_classifier().fit(NUMBERS, LABELS))
    estimator = cls(**{**{word: _REQUIRED[word](name) for word in needed}, **_SPECIAL.get(name, {})})
    parameters = estimator.get_params(deep=False)
    small = {"random_state": 0, "n_estimators": 4}
    estimator.set_params(**{word: value for word, value in small.items() if word in parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs, target = data_for(estimator)
        return estimator.fit(inputs) if target is None else estimator.fit(inputs, target)


def data_for(estimator: Any) -> tuple[Any, Any]:
    """Inputs that suit an estimator, and its target (None if it takes none); new arrays at each call."""
    name, tags = type(estimator).__name__, get_tags(estimator)
    if name in ("LabelBinarizer", "LabelEncoder"):
        return LABELS.copy(), None
    if name == "MultiLabelBinarizer":
        return [(1, 2), (3,), (1,)], None
    if name == "PatchExtractor":
        return IMAGES.copy(), None
    wants = tags.input_tags
    inputs: Any = NUMBERS.copy()
    if wants.positive_only or name == "SkewedChi2Sampler":
        inputs = np.abs(inputs)
    if wants.one_d_array:
        inputs = np.abs(inputs[:, 0])
    elif wants.string and not wants.two_d_array:
        inputs = list(TEXTS)
    elif wants.dict:
        inputs = [{"a": float(row[0]), "b": "x"} for row in NUMBERS]
    if wants.pairwise:
        inputs = inputs @ inputs.T
    return inputs, _target(name, tags)


def _target(name: str, tags: Any) -> Any:
    if name in ("MultiOutputClassifier", "ClassifierChain"):
        return np.c_[LABELS, 1 - LABELS, NUMBERS[:, 2] > 0].astype(int)
    if name in _PAIRED or name.startswith("MultiTask"):
        return np.c_[TARGET, 2 * TARGET + NUMBERS[:, 2]]
    return TARGET.copy() if tags.estimator_type == "regressor" else LABELS.copy()


def observe(estimator: Any) -> dict[str, Any]:
    """What an estimator answers for its data: the outputs of all of its methods that give some."""
    # New arrays: BLAS rounds X @ X.T otherwise when the model holds the very X.
    inputs, _ = data_for(estimator)
    seen: dict[str, Any] = {"features": getattr(estimator, "n_features_in_", None)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in ("predict", "predict_proba", "decision_function", "transform", "score_samples", "kneighbors"):
            answer = getattr(estimator, method, None)
            if answer is not None:
                seen[method] = _plain(answer(inputs))
    for name in ("labels_", "embedding_", "cv_results_", "classes_"):
        if hasattr(estimator, name):
            seen[name] = _plain(getattr(estimator, name))
    return seen


def _plain(answer: Any) -> Any:
    if hasattr(answer, "toarray"):
        return answer.toarray()
    if isinstance(answer, np.ma.MaskedArray):
        return [answer.mask.tolist(), answer.data.tolist()]
    if isinstance(answer, dict):
        return {key: _plain(value) for key, value in answer.items()}
    return [_plain(part) for part in answer] if isinstance(answer, (list, tuple)) else answer


def _classifier() -> LogisticRegression:
    return LogisticRegression()
