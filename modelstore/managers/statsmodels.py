"""statsmodels: models, and above all their results. Pickle is the only format that it has.

The design of a formula (`y ~ np.log(x) + C(group)`) cannot be pickled, so statsmodels evaluates the formula again when
it unpickles one, in whatever frames happen to call it. In a service there is no `np` and no function of the user's in
those, and the load fails. Here the names that a formula uses lie in the pickle beside it, for it to be evaluated with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved, class_name
from modelstore.managers.pickled import PICKLE, PickledManager, load_pickle, save_pickle

_DESCRIBED = ("formula", "endog_names", "exog_names", "nobs", "order", "seasonal_order", "trend", "k_ar", "alpha")
_LONGEST_NAMES = 200
_TRANSFORMED = "_transparams"
"""The state of a negative binomial model that its own unpickling resets, with another likelihood as the result."""


class StatsmodelsManager(PickledManager):
    """Stores results and models with all of their data, as `results.save` would."""

    name = "statsmodels"
    title = "statsmodels"
    claims = (
        "statsmodels.base.wrapper:ResultsWrapper",
        "statsmodels.base.model:Model",
        "statsmodels.base.model:Results",
        # Models and results that derive from none of these.
        "statsmodels.base.distributed_estimation:DistributedModel",
        "statsmodels.distributions.copula.copulas:CopulaDistribution",
        "statsmodels.distributions.empirical_distribution:StepFunction",
        "statsmodels.duration.survfunc:CumIncidenceRight",
        "statsmodels.duration.survfunc:SurvfuncRight",
        "statsmodels.genmod.bayes_mixed_glm:BayesMixedGLMResults",
        "statsmodels.imputation.mice:MICE",
        "statsmodels.imputation.mice:MICEData",
        "statsmodels.multivariate.factor:FactorResults",
        "statsmodels.multivariate.pca:PCA",
        "statsmodels.nonparametric._kernel_base:GenericKDE",
        "statsmodels.nonparametric.kde:KDEUnivariate",
        "statsmodels.regression.rolling:RollingRegressionResults",
        "statsmodels.regression.rolling:RollingWLS",
        "statsmodels.tsa.arima_process:ArmaProcess",
        "statsmodels.tsa.deterministic:DeterministicProcess",
        "statsmodels.tsa.forecasting.stl:STLForecast",
        "statsmodels.tsa.forecasting.stl:STLForecastResults",
        "statsmodels.tsa.forecasting.theta:ThetaModel",
        "statsmodels.tsa.forecasting.theta:ThetaModelResults",
        "statsmodels.tsa.seasonal:DecomposeResult",
        "statsmodels.tsa.seasonal._seasonal:DecomposeResult",
        "statsmodels.tsa.stl._stl:STL",
        "statsmodels.tsa.stl.mstl:MSTL",
        "statsmodels.tsa.vector_ar.var_model:VARProcess",
        "statsmodels.tsa.vector_ar.vecm:VECMResults",
    )
    distributions = (
        "statsmodels",
        "patsy",
        "formulaic",
        "pandas",
        "numpy",
        "scipy",
        "packaging",
        "cloudpickle",
    )
    extra = "statsmodels"
    limits = (
        "Results hold the data that they were fitted on, and are as large; `results.remove_data()` before the upload "
        "leaves out what predictions do not need.",
        "The pickle of a result with a formula is read by modelstore alone, not by `statsmodels.api.load`.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.pkl`."""
        refusal = f"this {class_name(obj)} cannot be pickled"
        saved = save_pickle(obj, folder, PICKLE, refusal, persistent_id=_Taker())
        if (transformed := vars(getattr(obj, "model", obj)).get(_TRANSFORMED)) is not None:
            saved.state["transformed"] = bool(transformed)
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read `model.pkl`.

        Raises:
            PickleNotAllowedError: the policy refuses.
        """
        obj = load_pickle(folder / PICKLE, "the statsmodels model", request.policy, _Giver())
        if "transformed" in state:
            setattr(getattr(obj, "model", obj), _TRANSFORMED, state["transformed"])
        return obj

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The kind of model, its formula or the names of its data, and its order."""
        model = getattr(obj, "model", obj)
        found: dict[str, Any] = {"model": type(model).__name__}
        for name in _DESCRIBED:
            try:
                value = getattr(model, name, None)
            except Exception:  # properties of a model whose data was removed
                continue
            if value is not None and not (isinstance(value, list) and len(value) > _LONGEST_NAMES):
                found[name] = value
        return found


class _Taker:
    """For the pickler: a formula's data as what it is made of, in the same pickle, which keeps shared arrays shared."""

    def __init__(self) -> None:
        self._taken: dict[int, tuple[Any, ...]] = {}

    def __call__(self, obj: Any) -> Any:
        if type(obj).__name__ == "flatiter":  # which conditional models hold, and no pickle takes
            return ("flat", obj.base)
        design = getattr(obj, "model_spec", None) if type(obj).__module__ == "statsmodels.base.data" else None
        if design is None:
            return None
        if id(obj) not in self._taken:
            state = {name: value for name, value in vars(obj).items() if name != "model_spec"}
            if type(design).__module__.startswith("patsy."):
                made: tuple[Any, ...] = ("patsy", _right_side(obj.formula), _names(design, state))
            else:
                made = ("kept", design, {})
            self._taken[id(obj)] = (type(obj), state, *made)
        return self._taken[id(obj)]


class _Giver:
    """For the unpickler: makes it again, once each."""

    def __init__(self) -> None:
        self._given: dict[int, tuple[Any, Any]] = {}

    def __call__(self, parts: tuple[Any, ...]) -> Any:
        if parts[0] == "flat":
            return parts[1].flat
        if id(parts) not in self._given:
            cls, state, kind, design, names = parts
            obj = cls.__new__(cls)
            vars(obj).update(state)
            obj.model_spec = _design(design, state, names) if kind == "patsy" else design
            self._given[id(parts)] = (obj, parts)  # kept alive, as its id must stay its own
        return self._given[id(parts)][0]


def _right_side(formula: Any) -> str:
    return str(formula).partition("~")[2] if "~" in str(formula) else str(formula)


def _names(design: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """The functions and modules that the formula calls, by the names that it has for them."""
    # A column goes before a variable that the caller happened to call the same.
    columns = set(getattr(state.get("frame"), "columns", ()))
    found: dict[str, Any] = {}
    for factor in design.factor_infos.values():
        environment = factor.state.get("eval_env") if isinstance(factor.state, dict) else None
        for namespace in getattr(environment, "_namespaces", ()):
            found.update({name: value for name, value in namespace.items() if name not in columns})
    return found


def _design(formula: str, state: Mapping[str, Any], names: Mapping[str, Any]) -> Any:
    import patsy

    data = state["frame"] if state.get("frame") is not None else state["orig_endog"].join(state["orig_exog"])
    environment = patsy.eval.EvalEnvironment([dict(names)])
    return patsy.dmatrix(formula, data, eval_env=environment, return_type="dataframe").design_info
