"""scikit-learn: what is stored loads elsewhere, equal, and without pickle wherever skops can hold it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skops")

import numpy as np
import scipy.sparse
from sklearn import (
    compose,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    model_selection,
    neighbors,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.base import BaseEstimator, TransformerMixin

from modelstore.contracts.manager import Case
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.sklearn import SklearnManager
from tests.managers.contract import BuiltinContract

from . import sklearn_samples as samples

X, Y = samples.NUMBERS, samples.LABELS
STRICT = PicklePolicy(allow_pickle=False)


class Shift(TransformerMixin, BaseEstimator):
    """A transformer of an importable module that is no part of scikit-learn."""

    def __init__(self, by: float = 1.0) -> None:
        self.by = by

    def fit(self, X: Any, y: Any = None) -> Shift:
        """Learn nothing."""
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        """Add `by`."""
        return X + self.by


class Outer:
    """Holds a class whose name alone finds nothing."""

    class Inner(Shift):
        """Nested."""


def nothing(value: Any) -> Any:
    """A function of a module, for FunctionTransformer."""
    return value


def observe(model: Any) -> Any:
    """What a model answers for rows that it has not seen."""
    seen = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in ("predict", "predict_proba", "decision_function", "transform"):
            answer = getattr(model, method, None)
            if answer is not None:
                value = answer(np.abs(X[:20] + 0.01))
                seen[method] = value.toarray() if scipy.sparse.issparse(value) else value
    return seen


def observe_words(model: Any) -> Any:
    """What a model of texts answers."""
    return model.predict_proba(samples.TEXTS)


def observe_state(model: Any) -> Any:
    """The numbers that come next."""
    state = model.random_state
    return state.random(5) if hasattr(state, "random") else state.random_sample(5)


def observe_parameters(model: Any) -> Any:
    """The parameters themselves, as text, so that types of dict keys show."""
    return repr(model.get_params())


class TestEveryEstimator(BuiltinContract):
    """All of `all_estimators()`, without an exception."""

    manager = SklearnManager()

    def cases(self) -> Mapping[str, Case]:
        """One case an estimator."""
        return {
            name: Case(functools.partial(_build, functools.partial(samples.fitted, name)), samples.observe)
            for name in samples.names()
        }

    def test_all_but_one_need_no_pickle(self, tmp_path_factory: Any) -> None:
        """Of scikit-learn's own estimators, only Birch (a cyclic structure) is pickled."""
        outcomes = self._outcomes(tmp_path_factory)
        assert [name for name, outcome in outcomes.items() if outcome.saved.pickled] == ["Birch"]


class TestCompositions(BuiltinContract):
    """Estimators made of others, and parameters that are no plain values."""

    manager = SklearnManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            **{name: Case(functools.partial(_build, build), observe) for name, build in _compositions().items()},
            "texts": Case(functools.partial(_build, _text_pipeline), observe_words),
            "random state": Case(functools.partial(_build, _with_random_state), observe_state),
            "random generator": Case(functools.partial(_build, _with_generator), observe_state),
            "keys of dicts": Case(functools.partial(_build, _with_keys), observe_parameters),
            "keys that are bools": Case(functools.partial(_build, _with_bool_keys), observe_parameters),
            "complex parameter": Case(functools.partial(_build, lambda: Shift(1 + 2j)), observe_parameters),
            "frozenset parameter": Case(functools.partial(_build, lambda: Shift(frozenset({"a"}))), observe_parameters),
            "bound method": Case(functools.partial(_build, lambda: Shift(Shift(3).fit_transform)), _class_of_owner),
            "method of a builtin": Case(functools.partial(_build, lambda: Shift("ab".upper)), observe_call),
            "object arrays": Case(functools.partial(_build, _with_object_arrays), observe_arrays),
            "unfitted": Case(functools.partial(_build, svm.SVC), observe_parameters),
            "two at once": Case(_two, lambda_free_pair),
        }


def _class_of_owner(model: Any) -> str:
    return str(model.by.__self__.by)


def lambda_free_pair(models: Mapping[str, Any]) -> Any:
    """Both objects of one upload."""
    return [models["model"].predict(X), models["preprocessor"].transform(X)]


def observe_call(model: Any) -> Any:
    """What the parameter gives when it is called."""
    return model.by()


def observe_arrays(model: Any) -> Any:
    """Shapes and items of the parameter's arrays."""
    return [(array.shape, array.tolist()) for array in model.by]


def _with_object_arrays() -> Any:
    pair = np.empty((1, 2), dtype=object)
    pair[0, 0], pair[0, 1] = [1, 2], [3, 4]
    return Shift((pair, np.array({"a"}, dtype=object), np.empty((0, 3), dtype=object)))


def _build(build: Any) -> dict[str, Any]:
    return {"model": build()}


def _two() -> dict[str, Any]:
    return {"model": svm.SVC().fit(X, Y), "preprocessor": preprocessing.StandardScaler().fit(X)}


def _compositions() -> dict[str, Any]:
    ridge, logistic = linear_model.Ridge, linear_model.LogisticRegression
    forest = functools.partial(ensemble.RandomForestClassifier, n_estimators=3, random_state=0)
    scaled = functools.partial(pipeline.make_pipeline, preprocessing.StandardScaler())
    columns = functools.partial(
        compose.ColumnTransformer,
        [("a", preprocessing.StandardScaler(), [0, 1]), ("b", preprocessing.KBinsDiscretizer(3), [2])],
        remainder="passthrough",
    )
    return {
        "pipeline": lambda: scaled(logistic()).fit(X, Y),
        "nested pipeline": lambda: scaled(scaled(columns(), forest())).fit(X, Y),
        "grid search over a pipeline": lambda: model_selection.GridSearchCV(
            scaled(svm.SVC(random_state=0)),
            {"svc__C": [0.5, 1.0]},
            scoring={"a": "roc_auc", "b": "f1"},
            refit="a",
            cv=2,
        ).fit(X, Y),
        "random search with a distribution": lambda: model_selection.RandomizedSearchCV(
            logistic(), {"C": __import__("scipy.stats").stats.uniform(0.1, 2)}, n_iter=2, cv=2, random_state=0
        ).fit(X, Y),
        "union": lambda: pipeline.FeatureUnion([("a", preprocessing.MinMaxScaler()), ("b", Shift(2.5))]).fit(X),
        "stacking": lambda: ensemble.StackingClassifier([("f", forest()), ("l", logistic())], cv=2).fit(X, Y),
        "voting": lambda: ensemble.VotingRegressor([("a", ridge()), ("b", tree.DecisionTreeRegressor())]).fit(X, Y),
        "calibrated": lambda: (
            __import__("sklearn.calibration")
            .calibration.CalibratedClassifierCV(forest(), method="isotonic", cv=2)
            .fit(X, Y)
        ),
        "gaussian process": lambda: gaussian_process.GaussianProcessRegressor(
            1.0 * gaussian_process.kernels.Matern() + gaussian_process.kernels.WhiteKernel()
        ).fit(X, Y),
        "ball tree": lambda: neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="manhattan").fit(X, Y),
        "boosted trees with categories": lambda: ensemble.HistGradientBoostingClassifier(
            max_iter=3, categorical_features=[0]
        ).fit(np.c_[np.arange(60) % 5, X[:, 1:]], Y),
        "selection by a function": lambda: feature_selection.SelectKBest(feature_selection.f_classif, k=2).fit(X, Y),
        "imputer": lambda: impute.SimpleImputer(strategy="median").fit(np.where(X > 1, np.nan, X)),
        "function of numpy": lambda: preprocessing.FunctionTransformer(np.log1p).fit(X),
        "dispatched function of numpy": lambda: preprocessing.FunctionTransformer(np.nan_to_num).fit(X),
        "function of a module": lambda: preprocessing.FunctionTransformer(nothing).fit(X),
        "partial": lambda: preprocessing.FunctionTransformer(functools.partial(np.clip, a_min=0, a_max=1)).fit(X),
        "lambda": lambda: scaled(preprocessing.FunctionTransformer(lambda value: value * 3)).fit(X),
        "local function": lambda: preprocessing.FunctionTransformer(_local_function()).fit(X),
        "builtin function": lambda: preprocessing.FunctionTransformer(abs).fit(X),
        "class of a module": lambda: scaled(Shift(0.25)).fit(X),
        "nested class": lambda: Outer.Inner(4.0).fit(X),
        "local class": lambda: _local_class()().fit(X),
        "sparse": lambda: linear_model.SGDClassifier(random_state=0).fit(scipy.sparse.csr_matrix(X), Y).sparsify(),
    }


def _local_function() -> Any:
    def nothing(value: Any) -> Any:  # the name that the module gives to another function
        return value * 7

    return nothing


def _local_class() -> Any:
    class Shift(TransformerMixin, BaseEstimator):  # likewise
        def fit(self, X: Any, y: Any = None) -> Any:
            return self

        def transform(self, X: Any) -> Any:
            return X * 9

    return Shift


def _text_pipeline() -> Any:
    words = feature_extraction.text.TfidfVectorizer(ngram_range=(1, 2))
    return pipeline.make_pipeline(words, linear_model.LogisticRegression()).fit(samples.TEXTS, Y)


def _with_random_state() -> Any:
    state = np.random.RandomState(3)
    state.normal(size=3)
    return ensemble.RandomForestClassifier(2, random_state=state).fit(X, Y)


def _with_generator() -> Any:
    return _with(svm.SVC(), np.random.Generator(np.random.PCG64(5)))


def _with(model: Any, state: Any) -> Any:
    return model.set_params(random_state=state)


def _with_keys() -> Any:
    return svm.SVC(class_weight={0: 1.0, 1: 2.5, 7: 1})


def _with_bool_keys() -> Any:
    return svm.SVC(class_weight={True: 2.0, False: 1.0})
