"""statsmodels: results predict the same in another process, formulas with the names that they use included."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("statsmodels")

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
import statsmodels.tsa.api as tsa
from statsmodels.base.model import Model, Results
from statsmodels.base.wrapper import ResultsWrapper
from statsmodels.gam.api import BSplines, GLMGam
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.othermod.betareg import BetaModel
from statsmodels.regression.rolling import RollingOLS
from statsmodels.tsa.forecasting.theta import ThetaModel
from statsmodels.tsa.seasonal import MSTL

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import PickleNotAllowedError
from modelstore.managers.statsmodels import StatsmodelsManager
from tests.managers.contract import BuiltinContract

_RANDOM = np.random.RandomState(0)
ROWS = 80
X = _RANDOM.normal(size=(ROWS, 2))
EXOG = sm.add_constant(X)
Y = 1 + X @ [1.0, -0.5] + 0.3 * _RANDOM.normal(size=ROWS)
BINARY = (Y + _RANDOM.normal(size=ROWS) > 1).astype(int)
COUNTS = _RANDOM.poisson(np.exp(0.3 * X[:, 0] + 0.5))
CODES = np.digitize(Y + _RANDOM.normal(size=ROWS), [0.5, 1.5])
SHARES = 1 / (1 + np.exp(-Y / 2))
GROUPS = np.repeat(np.arange(10), 8)
FRAME = pd.DataFrame(
    {
        "y": Y,
        "size": np.abs(X[:, 0]) + 0.5,
        "age": X[:, 1],
        "group": np.array(list("abcd"))[GROUPS % 4],
        "clinic": GROUPS,
    }
)
_DAYS = pd.date_range("2024-01-31", periods=ROWS, freq="ME")
SERIES = pd.Series(10 + np.cumsum(0.3 * Y) / 4 + np.sin(np.arange(ROWS) * np.pi / 6), index=_DAYS, name="sales")
PAIR = pd.DataFrame({"a": np.diff(SERIES, prepend=9.0), "b": 0.5 * Y}, index=_DAYS)


def halved(values: Any) -> Any:
    """A function that a formula calls."""
    return values / 2


def observe(found: Any) -> Any:
    """Estimates, their errors, and predictions for rows or steps that were not there."""
    seen: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("params", "bse", "llf", "fittedvalues", "random_effects", "scale", "nobs"):
            seen[name] = _try(getattr, found, name)
        formula = isinstance(getattr(getattr(found, "model", None), "formula", None), str)
        new: Any = FRAME[:4] if formula else EXOG[:4]
        for name, arguments in (("predict", (new,)), ("predict", ()), ("forecast", (3,)), ("get_forecast", (2,))):
            method = getattr(found, name, None)
            if method is not None:
                seen[f"{name}{len(arguments)}"] = _try(lambda m=method, a=arguments: m(*a))
        for name in ("trend", "seasonal", "factors", "loadings", "density", "x", "surv_prob"):
            if name in vars(found):
                seen[name] = _try(getattr, found, name)
    assert any(value is not None for value in seen.values())
    return seen


def observe_model(model: Any) -> Any:
    """What it is fitted to later on: its data."""
    return [type(model).__name__, _try(getattr, model, "endog"), _try(getattr, model, "exog"), model.endog_names]


def observe_called(found: Any) -> Any:
    """A function of the data."""
    return found(np.linspace(-1, 1, 5))


def _try(call: Any, *arguments: Any) -> Any:
    # Not every kind of result has every method, and each says so in a way of its own.
    try:
        value = call(*arguments)
        value = value() if callable(value) else getattr(value, "predicted_values", value)
    except Exception as error:
        return type(error).__name__
    if hasattr(value, "predicted_mean"):
        value = [value.predicted_mean, value.conf_int()]
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (pd.Series, pd.DataFrame)):
        return [
            value.to_numpy(),
            [str(name) for name in value.index],
            [str(name) for name in getattr(value, "columns", ())],
        ]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _linear() -> Mapping[str, Any]:
    autoregressive = sm.families
    return {
        "OLS": lambda: sm.OLS(Y, EXOG).fit(),
        "OLS robust": lambda: sm.OLS(Y, EXOG).fit(cov_type="HC1"),
        "OLS regularized": lambda: sm.OLS(Y, EXOG).fit_regularized(alpha=0.1),
        "OLS without data": lambda: _without_data(sm.OLS(Y, EXOG).fit()),
        "WLS": lambda: sm.WLS(Y, EXOG, weights=FRAME["size"].to_numpy()).fit(),
        "GLS": lambda: sm.GLS(Y, EXOG, sigma=FRAME["size"].to_numpy()).fit(),
        "GLSAR": lambda: sm.GLSAR(Y, EXOG, rho=1).iterative_fit(2),
        "RecursiveLS": lambda: sm.RecursiveLS(Y, EXOG).fit(),
        "RLM": lambda: sm.RLM(Y, EXOG, M=sm.robust.norms.HuberT()).fit(),
        "QuantReg": lambda: sm.QuantReg(Y, EXOG).fit(q=0.4),
        "GLM": lambda: sm.GLM(COUNTS, EXOG, family=autoregressive.Poisson()).fit(),
        "GLM binomial": lambda: sm.GLM(BINARY, EXOG, family=autoregressive.Binomial()).fit(),
        "GLM gamma": lambda: sm.GLM(np.exp(Y), EXOG, autoregressive.Gamma(autoregressive.links.Log())).fit(),
        "GLMGam": lambda: GLMGam(Y, EXOG, smoother=BSplines(X, df=[5, 5], degree=[3, 3])).fit(),
        "GEE": lambda: sm.GEE(BINARY, EXOG, GROUPS, family=autoregressive.Binomial()).fit(),
        "NominalGEE": lambda: sm.NominalGEE(CODES, EXOG, GROUPS).fit(maxiter=2),
        "OrdinalGEE": lambda: sm.OrdinalGEE(CODES, X, GROUPS).fit(maxiter=2),
        "MixedLM": lambda: sm.MixedLM(Y, EXOG, GROUPS).fit(),
        "MultivariateLS": lambda: sm.MultivariateLS(np.c_[Y, SHARES], EXOG).fit(),
        "QIF": lambda: sm.QIF(Y, EXOG, GROUPS).fit(),
        "PHReg": lambda: sm.PHReg(np.exp(Y), X, status=BINARY).fit(),
        "RollingOLS": lambda: RollingOLS(Y, EXOG, window=20).fit(),
        "BinomialBayesMixedGLM": lambda: sm.BinomialBayesMixedGLM(
            BINARY, EXOG, np.eye(10)[GROUPS], np.zeros(10, dtype=int)
        ).fit_map(),
        "PoissonBayesMixedGLM": lambda: sm.PoissonBayesMixedGLM(
            COUNTS, EXOG, np.eye(10)[GROUPS], np.zeros(10, dtype=int)
        ).fit_map(),
        "BetaModel": lambda: BetaModel(SHARES, EXOG).fit(disp=0),
    }


def _discrete() -> Mapping[str, Any]:
    few: Mapping[str, Any] = {"disp": 0, "maxiter": 30}
    counts = (
        sm.Poisson, sm.NegativeBinomial, sm.NegativeBinomialP, sm.GeneralizedPoisson,
        sm.ZeroInflatedPoisson, sm.ZeroInflatedNegativeBinomialP, sm.ZeroInflatedGeneralizedPoisson,
    )  # fmt: skip
    return {
        **{cls.__name__: lambda cls=cls: cls(COUNTS, EXOG).fit(**few) for cls in counts},
        "HurdleCountModel": lambda: sm.HurdleCountModel(COUNTS, EXOG).fit(**few),
        "TruncatedLFPoisson": lambda: sm.TruncatedLFPoisson(COUNTS + 1, EXOG, truncation=0).fit(**few),
        "TruncatedLFNegativeBinomialP": lambda: sm.TruncatedLFNegativeBinomialP(COUNTS + 1, EXOG).fit(**few),
        "Logit": lambda: sm.Logit(BINARY, EXOG).fit(**few),
        "Logit regularized": lambda: sm.Logit(BINARY, EXOG).fit_regularized(alpha=0.5, disp=0),
        "Probit": lambda: sm.Probit(BINARY, EXOG).fit(**few),
        "MNLogit": lambda: sm.MNLogit(CODES, EXOG).fit(**few),
        "ConditionalLogit": lambda: sm.ConditionalLogit(BINARY, X, groups=GROUPS).fit(**few),
        "ConditionalMNLogit": lambda: sm.ConditionalMNLogit(CODES[:24], X[:24], groups=np.repeat(range(8), 3)).fit(
            maxiter=3
        ),
        "ConditionalPoisson": lambda: sm.ConditionalPoisson(COUNTS, X, groups=GROUPS).fit(**few),
        "OrderedModel": lambda: OrderedModel(CODES, X, distr="logit").fit(method="bfgs", disp=0),
    }


def _formulas() -> Mapping[str, Any]:
    return {
        "formula": lambda: smf.ols("y ~ size + C(group)", FRAME).fit(),
        "formula with a module": lambda: smf.ols("np.exp(y) ~ np.log(size) * age", FRAME).fit(),
        "formula with a function": lambda: smf.ols("y ~ halved(size) + age", FRAME).fit(),
        "formula with a state": lambda: smf.ols("y ~ bs(age, df=4) + center(size)", FRAME).fit(),
        "formula without data": lambda: _without_data(smf.ols("y ~ np.log(size) + C(group)", FRAME).fit()),
        "formula of GLM": lambda: smf.glm("I(y > 1) ~ np.log(size)", FRAME, family=sm.families.Binomial()).fit(),
        "formula of MixedLM": lambda: smf.mixedlm("y ~ np.log(size)", FRAME, groups="clinic").fit(),
        "formula of GEE": lambda: smf.gee("y ~ size", "clinic", FRAME).fit(),
        "formula of quantiles": lambda: smf.quantreg("y ~ np.sqrt(size)", FRAME).fit(),
        "formula by formulaic": _by_formulaic,
        "MANOVA": lambda: sm.MANOVA.from_formula("y + age ~ size", FRAME),
    }


def _by_formulaic() -> Any:
    import statsmodels.formula as of_formulas

    kept = of_formulas.options.formula_engine
    of_formulas.options.formula_engine = "formulaic"
    try:
        return smf.ols("y ~ size + C(group)", FRAME).fit()
    finally:
        of_formulas.options.formula_engine = kept


def _series() -> Mapping[str, Any]:
    few: Mapping[str, Any] = {"disp": 0, "maxiter": 5}
    return {
        "ARIMA": lambda: tsa.ARIMA(SERIES, order=(1, 1, 1), trend="t").fit(method_kwargs={"maxiter": 5}),
        "SARIMAX": lambda: tsa.SARIMAX(SERIES, order=(1, 0, 0), seasonal_order=(1, 0, 0, 12)).fit(**few),
        "AutoReg": lambda: tsa.AutoReg(SERIES, 2, seasonal=True, period=12).fit(),
        "ARDL": lambda: tsa.ARDL(SERIES, 2, PAIR[["b"]], {"b": 1}).fit(),
        "UECM": lambda: tsa.UECM(SERIES, 2, PAIR[["b"]], {"b": 1}).fit(),
        "ETSModel": lambda: tsa.ETSModel(SERIES, trend="add", initialization_method="heuristic").fit(
            disp=0, maxiter=20
        ),
        "ExponentialSmoothing": lambda: tsa.ExponentialSmoothing(SERIES, trend="add").fit(),
        "Holt": lambda: tsa.Holt(SERIES, initialization_method="estimated").fit(),
        "SimpleExpSmoothing": lambda: tsa.SimpleExpSmoothing(SERIES, initialization_method="estimated").fit(),
        "UnobservedComponents": lambda: tsa.UnobservedComponents(SERIES, "local linear trend").fit(**few),
        "DynamicFactor": lambda: tsa.DynamicFactor(PAIR, k_factors=1, factor_order=1).fit(**few),
        "DynamicFactorMQ": lambda: tsa.DynamicFactorMQ(PAIR.to_period("M"), factors=1, factor_orders=1).fit(
            disp=0, maxiter=3
        ),
        "VARMAX": lambda: tsa.VARMAX(PAIR, order=(1, 0)).fit(**few),
        "VAR": lambda: _forecasting(tsa.VAR(PAIR).fit(2)),
        "VECM": lambda: tsa.VECM(PAIR.cumsum(), k_ar_diff=1).fit(),
        "MarkovRegression": lambda: tsa.MarkovRegression(SERIES.diff()[1:], k_regimes=2).fit(**few),
        "MarkovAutoregression": lambda: tsa.MarkovAutoregression(SERIES.diff()[1:], k_regimes=2, order=1).fit(**few),
        "STLForecast": lambda: tsa.STLForecast(SERIES, tsa.ARIMA, model_kwargs={"order": (1, 0, 0)}).fit(),
        "ThetaModel": lambda: ThetaModel(SERIES, period=12).fit(),
        "STL": lambda: tsa.STL(SERIES).fit(),
        "MSTL": lambda: MSTL(SERIES, periods=(6, 12)).fit(),
        "decomposition": lambda: tsa.seasonal_decompose(SERIES),
    }


def _forecasting(found: Any) -> Any:
    assert found.forecast(PAIR.to_numpy()[-2:], 3).shape == (3, 2)
    return found


def _others() -> Mapping[str, Any]:
    return {
        "PCA": lambda: sm.PCA(X, ncomp=1),
        "Factor": lambda: sm.Factor(np.c_[X, Y, SHARES, COUNTS], n_factor=1).fit(),
        "SurvfuncRight": lambda: sm.SurvfuncRight(np.exp(Y), BINARY),
        "KDEUnivariate": lambda: _fit(sm.nonparametric.KDEUnivariate(Y)),
        "ECDF": lambda: sm.distributions.ECDF(Y),
    }


def _fit(model: Any) -> Any:
    model.fit()
    return model


def _without_data(found: Any) -> Any:
    found.remove_data()
    return found


def _models() -> Mapping[str, Any]:
    return {
        "model OLS": lambda: sm.OLS(Y, EXOG),
        "model of a formula": lambda: smf.logit("I((y > 1) * 1) ~ np.log(size)", FRAME),
        "model ARIMA": lambda: tsa.ARIMA(SERIES, order=(1, 0, 0)),
        "model VAR": lambda: tsa.VAR(PAIR),
        "SVAR": lambda: tsa.SVAR(PAIR, svar_type="A", A=np.array([["1", "0"], ["E", "1"]])),
    }


def _built(build: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"model": build()}


class TestStatsmodels(BuiltinContract):
    """Results of every public model, and models that are not fitted yet."""

    manager = StatsmodelsManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        groups: tuple[tuple[Mapping[str, Any], Any], ...] = (
            ({**_linear(), **_discrete(), **_formulas(), **_series(), **_others()}, observe),
            (_models(), observe_model),
        )
        cases = {
            name: Case(functools.partial(_built, build), observe_called if name == "ECDF" else probe)
            for group, probe in groups
            for name, build in group.items()
        }
        return cases

    def test_arrays_are_kept_once(self, tmp_path_factory: Any) -> None:
        """The data of a formula, which is made anew, shares its arrays with the model as before."""
        outcome = self._outcomes(tmp_path_factory)["formula with a module"]
        size = (outcome.folder / "model.pkl").stat().st_size
        import pickle

        assert size < 1.2 * len(pickle.dumps(outcome.objects["model"]))


def test_every_public_model_is_tried() -> None:
    """The models that statsmodels' own lists name are those of the cases."""
    public = {
        name
        for api in (sm, tsa)
        for name in dir(api)
        if isinstance(getattr(api, name), type) and issubclass(getattr(api, name), Model)
    }
    tried = {
        name.partition(" ")[0]
        for group in (_linear(), _discrete(), _formulas(), _series(), _models())
        for name in group
    }
    assert public - tried <= {"MICE", "Factor"}
    assert len(public) > 40


def test_roots_cover_all_results() -> None:
    """All wrappers, results and models derive from the claimed roots, in whatever module they lie."""
    for root in (ResultsWrapper, Results, Model):
        assert f"{root.__module__}:{root.__qualname__}" in StatsmodelsManager.claims


def test_up_and_back(store: ModelStore) -> None:
    """Through a store: the library of the record, parameters, the pickle that is named and may be refused."""
    found = smf.ols("y ~ np.log(size) + C(group)", FRAME).fit()
    info = store.upload("prices", model=found, metrics={"r2": found.rsquared})
    assert info["model"]["model_type"]["library"] == "statsmodels"
    assert info["model"]["parameters"]["formula"] == "y ~ np.log(size) + C(group)"
    loaded = store.load("prices", info.model_id)
    assert type(loaded) is type(found)
    assert loaded.predict(FRAME).tolist() == found.predict(FRAME).tolist()
    assert str(loaded.summary().tables[1]) == str(found.summary().tables[1])
    with pytest.raises(PickleNotAllowedError):
        store.load("prices", info.model_id, allow_pickle=False)


def test_a_model_without_results_can_be_fitted_later(store: ModelStore) -> None:
    """A model comes back with its data, and fits to the same."""
    model = smf.logit("I((y > 1) * 1) ~ np.log(size)", FRAME)
    store.upload("later", model=model)
    again = store.load("later")
    assert again.fit(disp=0).params.tolist() == model.fit(disp=0).params.tolist()


SCRIPT = """
    import sys, numpy as wonderful, pandas
    import statsmodels.formula.api as smf
    from modelstore import ModelStore

    def doubled(values):
        return 2 * wonderful.asarray(values)

    frame = pandas.DataFrame({"x": [1.0, 2.0, 4.0, 3.0], "y": [1.0, 2.5, 4.0, 3.5]})
    found = smf.ols("y ~ doubled(x) + wonderful.log(x)", frame).fit()
    store = ModelStore.from_file_system(sys.argv[1], create_directory=True)
    print(store.upload("it", model=found).model_id, found.predict(frame).tolist())
"""

READER = """
    import sys
    from modelstore import ModelStore

    loaded = ModelStore.from_file_system(sys.argv[1]).load("it")
    import pandas
    print(loaded.predict(pandas.DataFrame({"x": [1.0, 2.0, 4.0, 3.0]})).tolist())
"""


def test_a_formula_of_a_notebook_predicts_elsewhere(tmp_path: Path) -> None:
    """Functions and modules by the names that a notebook gave them travel with the formula that calls them."""
    written = _run(SCRIPT, tmp_path / "notebook.py", tmp_path / "store")
    read = _run(READER, tmp_path / "service.py", tmp_path / "store")
    assert written.partition(" ")[2] == read


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
