"""river's public classes: how to make one of each, and what it learns from."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib
import inspect
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SAMPLED = "linear_model.LogisticRegression(), {True: 0.5, False: 0.5}, seed=1"
MAKERS: dict[str, str] = {
    "compose.FuncTransformer": "compose.FuncTransformer(absolutes)",
    "compose.Grouper": "compose.Grouper(preprocessing.StandardScaler(), by='a')",
    "compose.Pipeline": "compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())",
    "compose.Prefixer": "compose.Prefixer('x_')",
    "compose.Renamer": "compose.Renamer({'a': 'c'})",
    "compose.Suffixer": "compose.Suffixer('_x')",
    "compose.TargetTransformRegressor": "compose.TargetTransformRegressor(linear_model.LinearRegression(), abs, abs)",
    "compose.TransformerProduct": "preprocessing.StandardScaler() * preprocessing.MinMaxScaler()",
    "compose.TransformerUnion": "preprocessing.StandardScaler() + preprocessing.MinMaxScaler()",
    "covariance.EmpiricalCovariance": "covariance.EmpiricalCovariance()",
    "covariance.EmpiricalPrecision": "covariance.EmpiricalPrecision()",
    "drift.DummyDriftDetector": "drift.DummyDriftDetector(t_0=20, seed=1)",
    "feature_extraction.Agg": "feature_extraction.Agg(on='a', by=['b'], how=stats.Mean())",
    "feature_extraction.TargetAgg": "feature_extraction.TargetAgg(by=['party'], how=stats.Mean())",
    "feature_selection.PoissonInclusion": "feature_selection.PoissonInclusion(p=0.3, seed=1)",
    "imblearn.RandomOverSampler": f"imblearn.RandomOverSampler({SAMPLED})",
    "imblearn.RandomSampler": f"imblearn.RandomSampler({SAMPLED})",
    "imblearn.RandomUnderSampler": f"imblearn.RandomUnderSampler({SAMPLED})",
    "metrics.MultiFBeta": "metrics.MultiFBeta(betas={0: 0.25, 1: 1}, weights={0: 1, 1: 2})",
    "misc.SDFT": "misc.SDFT(window_size=4)",
    "misc.Skyline": "misc.Skyline(minimize=['a'], maximize=['b'])",
    "model_selection.SuccessiveHalvingClassifier": "model_selection.SuccessiveHalvingClassifier("
    "[linear_model.LogisticRegression(optim.SGD(rate)) for rate in (0.1, 0.2)], metrics.Accuracy(), budget=20)",
    "preprocessing.TargetMinMaxScaler": "preprocessing.TargetMinMaxScaler(linear_model.LinearRegression())",
    "preprocessing.TargetStandardScaler": "preprocessing.TargetStandardScaler(linear_model.LinearRegression())",
    "time_series.HorizonAggMetric": "time_series.HorizonAggMetric(metrics.MAE(), sum)",
    "utils.Rolling": "utils.Rolling(stats.Mean, window_size=3)",
    "utils.TimeRolling": "utils.TimeRolling(stats.Mean, period=__import__('datetime').timedelta(days=2))",
}
"""Those of which river itself does not say how to make one."""

ROWS = 30
PEOPLE = ["Alice", "Bob", "Carol"]
FILMS = ["Superman", "Terminator", "Harry Potter", "Notting Hill"]


def absolutes(x: dict[str, Any]) -> dict[str, Any]:
    """A function of the user's, in an importable module."""
    return {name: abs(value) for name, value in x.items() if isinstance(value, (int, float))}


@functools.cache
def public() -> dict[str, type]:
    """All public classes below river's `Base` that are not abstract, by package and name; and the further ones."""
    from river import api, base

    found: dict[str, type] = {}
    for package in api.__all__:
        module = importlib.import_module(f"river.{package}")
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, base.Base) and not inspect.isabstract(cls) and cls not in found.values():
                found[f"{package}.{name}"] = cls
    for further in MAKERS:
        package, _, name = further.partition(".")
        found[further] = getattr(importlib.import_module(f"river.{package}"), name)
    return found


def make(name: str) -> Any:
    """One object of a public class; what it has learnt is up to the caller.

    Raises:
        TypeError: nobody says how.
    """
    import river.api

    if name in MAKERS:
        return eval(MAKERS[name], {**vars(river.api), "absolutes": absolutes})
    cls: Any = public()[name]
    try:
        obj = cls(**next(iter(cls._unit_test_params())))
    except TypeError:
        obj = cls(**_arguments(cls))
    # So that it draws its numbers from itself, where its class lets one say so.
    if "seed" in inspect.signature(cls.__init__).parameters and obj._get_params().get("seed") is None:
        obj = obj.clone({"seed": 1})
    return obj


def _arguments(cls: type) -> dict[str, Any]:
    from river import metrics, stats

    known: dict[str, Any] = {
        "beta": 2, "lag": 1, "window_size": 3, "q": 0.5, "value": 1, "learning_rate": 0.1, "prior": 0,
        "prior_weight": 1, "metric": metrics.MAE(),
        "left": stats.Mean(), "right": stats.Max(), "metrics": [metrics.MAE()], "lr": 0.1,
    }  # fmt: skip
    wanted = [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    missing = [name for name in wanted if name not in known]
    if missing:
        raise TypeError(f"{cls}: {missing}")
    return {name: known[name] for name in wanted}


@functools.cache
def rows(kind: str) -> list[tuple[Any, Any]]:
    """A stream of features and targets."""
    from river import datasets

    if kind == "classes":
        return list(itertools.islice(datasets.Phishing(), ROWS))
    chosen = random.Random(0)
    if kind == "labels":
        return [(x, {"one": y > 50, "two": y > 45}) for x, y in rows("numbers")]
    if kind == "targets":
        return [({k: float(v) for k, v in x.items() if k != "party"}, {"a": y, "b": -y}) for x, y in rows("numbers")]
    if kind == "ratings":
        pairs = [({"user": chosen.choice(PEOPLE), "item": chosen.choice(FILMS)}, chosen.random()) for _ in range(ROWS)]
        return pairs
    stream = itertools.islice(datasets.TrumpApproval(), ROWS)
    if kind == "text":
        return [(chosen.choice(PEOPLE) + " sees " + chosen.choice(FILMS), y) for _, y in stream]
    if kind == "counts":
        return [({"a": chosen.randrange(5), "b": chosen.randrange(5)}, y) for _, y in stream]
    return [({**x, "party": chosen.choice("RD")} if kind == "mixed" else x, y) for x, y in stream]


def attempts(obj: Any) -> Iterator[tuple[str, Callable[[Any, Any, int], Any]]]:
    """Ways to look at an object and then to teach it, with what from; the first one that works is right."""
    from river import bandit, optim, reco

    when = datetime.datetime(2026, 1, 1)
    if isinstance(obj, reco.base.Ranker):
        yield "ratings", lambda x, y, at: (obj.predict_one(**x), obj.learn_one(**x, y=y), None)[0]
    if isinstance(obj, bandit.base.Policy):
        arms = [0, 1, 2]
        yield "classes", lambda x, y, at: (obj.pull(arms), obj.update(at % 3, float(y)))[0]
        yield "classes", lambda x, y, at: (obj.pull(arms, context=x), obj.update(at % 3, x, float(y)))[0]
    if isinstance(obj, optim.base.Optimizer):
        weights = {"a": 0.5, "b": -0.25}
        yield "numbers", lambda x, y, at: dict(obj.step(dict(weights), {"a": y / 100, "b": 0.5}))
    if hasattr(obj, "forecast"):
        yield "numbers", lambda x, y, at: (obj.forecast(horizon=2) if at > 24 else None, obj.learn_one(y))[0]
        yield "numbers", lambda x, y, at: (obj.forecast(horizon=2) if at > 24 else None, obj.learn_one(y, x))[0]
    if hasattr(obj, "learn_one"):
        for kind in ("classes", "numbers", "labels", "targets", "mixed", "counts", "text"):
            yield kind, lambda x, y, at: (_seen(obj, x), obj.learn_one(x, y), None)[0]
            yield kind, lambda x, y, at: (_seen(obj, x), obj.learn_one(x), None)[0]
            yield kind, lambda x, y, at: (obj.score_one(x, y), obj.learn_one(x, y), None)[0]
    if hasattr(obj, "update"):
        for kind in ("numbers", "counts", "classes", "labels", "targets"):
            yield kind, lambda x, y, at: (_state(obj), obj.update(y), None)[0]
            yield kind, lambda x, y, at: (_state(obj), obj.update(y, y), None)[0]
            yield kind, lambda x, y, at: (_state(obj), obj.update(y > 50), None)[0]
            yield kind, lambda x, y, at: (_state(obj), obj.update(y, {y: 0.75, not y: 0.25}), None)[0]
            yield kind, lambda x, y, at: (_state(obj), obj.update(y, t=when + datetime.timedelta(days=at)), None)[0]
            yield kind, lambda x, y, at: (_state(obj), obj.update(at % 3, at % 2), None)[0]
            yield kind, lambda x, y, at: (_state(obj), obj.update(x), None)[0]
            yield kind, lambda x, y, at: (_state(obj), obj.update(x, at % 3), None)[0]


def _seen(obj: Any, x: Any) -> Any:
    seen = []
    for name in ("transform_one", "predict_proba_one", "predict_one", "score_one"):
        with contextlib.suppress(NotImplementedError, AttributeError):
            seen.append(getattr(obj, name)(x))
    return seen


def _state(obj: Any) -> Any:
    names = ("drift_detected", "warning_detected", "n_detections", "estimation", "state", "n")
    seen = [getattr(obj, name) for name in names if hasattr(obj, name)]
    with contextlib.suppress(ValueError, AttributeError, ZeroDivisionError):  # nothing has been seen yet
        seen.append(obj.get() if hasattr(obj, "get") else str(obj))
    return seen


def teach(name: str, obj: Any, start: int, stop: int) -> list[Any] | None:
    """Teach an object part of its stream; what it says before each example, None if nothing can be taught."""
    chosen = _way(name)
    if chosen is None:
        return None
    kind, way = [*attempts(obj)][chosen]
    random.seed(start)
    np.random.seed(start)
    return [way(x, y, at) for at, (x, y) in [*enumerate(rows(kind))][start:stop]]


@functools.cache
def _way(name: str) -> int | None:
    for at in range(len([*attempts(make(name))])):
        kind, way = [*attempts(make(name))][at]
        try:
            for number, (x, y) in enumerate(rows(kind)):
                way(x, y, number)
        except Exception:
            continue
        return at
    return None
