"""One model of each framework, with the framework's own way to a file or folder and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODELS: dict[str, Own] = {}


@dataclass(frozen=True)
class Own:
    """How one does it without a store."""

    build: Callable[[], Any]
    save: Callable[[Any, Path], object]
    """Writes to a path that does not exist yet: a file, or a folder."""
    load: Callable[[Path], object]
    given: Callable[[Any], dict[str, Any]] = lambda model: {"model": model}
    """The keywords of `upload`."""


def entry(name: str, save: Callable[[Any, Path], object], load: Callable[[Path], object], **further: Any) -> Any:
    """Register what builds a model, under its manager's name."""

    def register(build: Callable[[], Any]) -> Callable[[], Any]:
        MODELS[name] = Own(build, save, load, **further)
        return build

    return register


def data(rows: int = 2000, columns: int = 20) -> tuple[Any, Any]:
    """Numbers, and which half each row is of."""
    import numpy as np

    X = np.random.RandomState(0).normal(size=(rows, columns))
    return X, (X[:, 0] + X[:, 1] ** 2 > 1).astype(int)


def by_joblib(model: Any, path: Path) -> None:
    import joblib

    joblib.dump(model, path)


def from_joblib(path: Path) -> Any:
    import joblib

    return joblib.load(path)


def by_pickle(model: Any, path: Path) -> None:
    import cloudpickle

    path.write_bytes(cloudpickle.dumps(model))


def from_pickle(path: Path) -> Any:
    import pickle

    return pickle.loads(path.read_bytes())


@entry("sklearn", by_joblib, from_joblib)
def sklearn() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=50, random_state=0).fit(*data())


@entry("imblearn", by_joblib, from_joblib)
def imblearn() -> Any:
    from imblearn.ensemble import BalancedRandomForestClassifier

    return BalancedRandomForestClassifier(n_estimators=50, random_state=0).fit(*data())


@entry("sksurv", by_joblib, from_joblib)
def sksurv() -> Any:
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    X, y = data(300, 5)
    return CoxPHSurvivalAnalysis().fit(X, Surv.from_arrays(y.astype(bool), abs(X[:, 2]) + 1))


@entry("interpret", by_joblib, from_joblib)
def interpret() -> Any:
    from interpret.glassbox import ExplainableBoostingClassifier

    return ExplainableBoostingClassifier(n_jobs=1, max_rounds=50, outer_bags=2).fit(*data(500, 5))


@entry("causalml", by_joblib, from_joblib)
def causalml() -> Any:
    from causalml.inference.meta import BaseTRegressor
    from sklearn.linear_model import LinearRegression

    X, y = data()
    learner = BaseTRegressor(learner=LinearRegression())
    learner.fit(X=X, treatment=y, y=X[:, 2])
    return learner


def _xgboost_load(path: Path) -> Any:
    import xgboost

    model = xgboost.XGBClassifier()
    model.load_model(path.with_suffix(".ubj"))
    return model


@entry("xgboost", lambda model, path: model.save_model(path.with_suffix(".ubj")), _xgboost_load)
def xgboost() -> Any:
    import xgboost

    return xgboost.XGBClassifier(n_estimators=200, n_jobs=1).fit(*data())


def _lightgbm_load(path: Path) -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=str(path))


@entry("lightgbm", lambda model, path: model.booster_.save_model(path), _lightgbm_load)
def lightgbm() -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=200, n_jobs=1, verbose=-1).fit(*data())


def _catboost_load(path: Path) -> Any:
    import catboost

    return catboost.CatBoostClassifier().load_model(str(path))


@entry("catboost", lambda model, path: model.save_model(str(path)), _catboost_load)
def catboost() -> Any:
    import catboost

    return catboost.CatBoostClassifier(iterations=200, verbose=False, allow_writing_files=False).fit(*data())


def _annoy_load(path: Path) -> Any:
    from annoy import AnnoyIndex

    index = AnnoyIndex(40, "angular")
    index.load(str(path))
    return index


@entry(
    "annoy",
    lambda model, path: model.save(str(path)),
    _annoy_load,
    given=lambda model: {"model": model, "metric": "angular", "num_trees": 10},
)
def annoy() -> Any:
    from annoy import AnnoyIndex

    index = AnnoyIndex(40, "angular")
    for at, row in enumerate(data(5000, 40)[0]):
        index.add_item(at, row)
    index.build(10)
    return index


def _prophet_load(path: Path) -> Any:
    from prophet.serialize import model_from_json

    return model_from_json(path.read_text())


def _prophet_save(model: Any, path: Path) -> None:
    from prophet.serialize import model_to_json

    path.write_text(model_to_json(model))


@entry("prophet", _prophet_save, _prophet_load)
def prophet() -> Any:
    import logging

    import pandas as pd
    from prophet import Prophet

    logging.getLogger("cmdstanpy").disabled = True
    days = pd.date_range("2025-01-01", periods=400)
    return Prophet().fit(pd.DataFrame({"ds": days, "y": data(400)[0][:, 0]}))


def _gensim_load(path: Path) -> Any:
    from gensim.models import Word2Vec

    return Word2Vec.load(str(path / "model"))


def _gensim_save(model: Any, path: Path) -> None:
    path.mkdir()
    model.save(str(path / "model"))


@entry("gensim", _gensim_save, _gensim_load)
def gensim() -> Any:
    from gensim.models import Word2Vec

    sentences = [[f"w{(at * step) % 997}" for at in range(20)] for step in range(1, 500)]
    return Word2Vec(sentences, vector_size=100, min_count=1, workers=1)


def _onnx_load(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def _onnx_save(model: Any, path: Path) -> None:
    import onnx

    onnx.save(model, path)


@entry("onnx", _onnx_save, _onnx_load)
def onnx() -> Any:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((1024, 1024), "float32"), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1024]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    return helper.make_model(graph)


@entry("shap", by_joblib, from_joblib, given=lambda model: {"explainer": model})
def shap() -> Any:
    import shap

    return shap.TreeExplainer(sklearn())


@entry("statsmodels", lambda model, path: model.save(str(path)), from_pickle)
def statsmodels() -> Any:
    import statsmodels.api as sm

    X, _ = data()
    return sm.OLS(X[:, 0], sm.add_constant(X[:, 1:])).fit()


@entry("pmdarima", by_joblib, from_joblib)
def pmdarima() -> Any:
    import pmdarima

    return pmdarima.ARIMA((1, 0, 0)).fit(data(200)[0][:, 0])


@entry("river", by_pickle, from_pickle)
def river() -> Any:
    from river import linear_model, preprocessing

    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for row, label in zip(*data(200, 5), strict=True):
        model.learn_one(dict(enumerate(row)), bool(label))
    return model


@entry("sktime", by_pickle, from_pickle)
def sktime() -> Any:
    import pandas as pd
    from sktime.forecasting.naive import NaiveForecaster

    return NaiveForecaster(sp=7).fit(pd.Series(data(200)[0][:, 0]))


@entry("statsforecast", by_pickle, from_pickle)
def statsforecast() -> Any:
    import pandas as pd
    from statsforecast import StatsForecast
    from statsforecast.models import SeasonalNaive

    frame = pd.DataFrame({"unique_id": 1, "ds": pd.date_range("2025-01-01", periods=200), "y": data(200)[0][:, 0]})
    return StatsForecast(models=[SeasonalNaive(7)], freq="D").fit(frame)


def _spacy_load(path: Path) -> Any:
    import spacy

    return spacy.load(path)


@entry("spacy", lambda model, path: model.to_disk(path), _spacy_load)
def spacy() -> Any:
    import spacy

    nlp = spacy.blank("en")
    textcat = nlp.add_pipe("textcat")
    textcat.add_label("good")
    textcat.add_label("bad")
    nlp.initialize()
    return nlp
