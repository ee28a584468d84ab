"""Prophet: fitted or not, with holidays, seasonalities and regressors.

`model.json` is what `prophet.serialize` writes of a fitted model. It prints tables with ten digits, loses some types
and holds no model that is not fitted. So each attribute that would not come back from it as it is lies beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.attributes import load_attributes, save_attributes
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.exact_json import encode

MODEL = "model.json"
_PREDICTOR = "predictor"

_LIVE = frozenset({"stan_fit", "stan_backend"})
"""Handles of Stan's programs and of its temporary files."""

_PARAMETERS = (
    *("growth", "n_changepoints", "changepoint_range", "specified_changepoints", "changepoint_prior_scale"),
    *("yearly_seasonality", "weekly_seasonality", "daily_seasonality", "seasonality_mode", "seasonality_prior_scale"),
    *("holidays_mode", "holidays_prior_scale", "country_holidays", "scaling"),
    *("mcmc_samples", "interval_width", "uncertainty_samples"),
)


class ProphetManager(ObjectManager):
    """Stores `Prophet`."""

    name = "prophet"
    title = "Prophet"
    claims = ("prophet.forecaster:Prophet",)
    distributions = ("prophet", "cmdstanpy", "holidays", "numpy", "pandas", "cloudpickle")
    extra = "prophet"
    exactness = "bit for bit; intervals too, as they are drawn from numpy's global generator, if it is seeded alike"
    limits = (
        "what Stan left behind (`stan_fit`), which Prophet's own format leaves out too and forecasts do not need",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write Prophet's own JSON of a fitted model, and the attributes that it lacks."""
        import prophet

        backend = getattr(obj.stan_backend, "get_type", None)
        saved = Saved("json", {"version": prophet.__version__, "backend": backend() if backend else None})
        saved.state["fitted"] = obj.history is not None
        kept = _write(obj, folder) if saved.state["fitted"] else {}
        attributes = {name: value for name, value in vars(obj).items() if name not in _LIVE}
        attributes["extra_regressors"] = self._save_predictors(obj, folder, saved)
        part = save_attributes(obj, folder, "prophet", kept, attributes)
        saved.merge(part)
        saved.state |= part.state
        return saved

    def _save_predictors(self, obj: Any, folder: ModelFolder, saved: Saved) -> Any:
        """The regressors without the models that forecast some of them, which get a folder each."""
        regressors = type(obj.extra_regressors)()
        saved.state["predictors"] = {}
        for at, (name, properties) in enumerate(obj.extra_regressors.items()):
            regressors[name] = dict(properties)
            if properties.get(_PREDICTOR) is not None:
                regressors[name][_PREDICTOR] = None
                part = self.save_object(properties[_PREDICTOR], folder.sub(f"{_PREDICTOR}-{at}"), {})
                saved.merge(part, f"{_PREDICTOR}-{at}/")
                saved.state["predictors"][name] = {"at": at, "state": part.state}
        return regressors

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the model anew and fill it.

        Raises:
            PickleNotAllowedError: its class or one of its attributes is the user's.
        """
        from prophet.serialize import model_from_json

        cls, attributes = load_attributes(folder, state, request.policy, "prophet", self.claims)
        model = cls.__new__(cls)
        if state["fitted"]:
            try:
                vars(model).update(vars(model_from_json((folder / MODEL).read_text(encoding="utf-8"))))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise IntegrityError("the Prophet model", MODEL, f"it cannot be read: {error!r}") from error
        vars(model).update(attributes, stan_fit=None, stan_backend=None)
        if state["backend"] is not None:
            model._load_stan_backend(_backend(state["backend"]))
        for name, predictor in state["predictors"].items():
            inner = folder / f"{_PREDICTOR}-{int(predictor['at'])}"
            model.extra_regressors[name][_PREDICTOR] = self.load_object(inner, predictor["state"], request)
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """What its constructor and the `add_…` methods were given; of the holidays, their names."""
        found = {name: getattr(obj, name) for name in _PARAMETERS if hasattr(obj, name)}
        found["seasonalities"] = {name: dict(properties) for name, properties in obj.seasonalities.items()}
        found["regressors"] = {
            name: {key: properties.get(key) for key in ("prior_scale", "mode", "standardize")}
            for name, properties in obj.extra_regressors.items()
        }
        if obj.holidays is not None:
            found["holidays"] = sorted({str(name) for name in obj.holidays["holiday"]})[:100]
        return found


def _write(obj: Any, folder: ModelFolder) -> dict[str, Any]:
    """Write `model.json`; gives the attributes that come back from it as they are."""
    from prophet.serialize import model_from_json, model_to_json

    try:
        text = model_to_json(obj)
        again = vars(model_from_json(text))
    except Exception as error:  # pandas and Prophet raise whatever they like
        raise UnsupportedObjectError(
            f"Prophet's own format does not hold this {class_name(obj)} ({error!r}); was its fit interrupted?",
            class_name(obj),
        ) from error
    folder.add_bytes(MODEL, text.encode())
    return {name: value for name, value in vars(obj).items() if name in again and _same(value, again[name])}


def _same(value: Any, other: Any) -> bool:
    try:
        # By text, as JSON's 1, 1.0 and true are equal to Python.
        return repr(encode(value)) == repr(encode(other))
    except TypeError:
        return False


def _backend(name: Any) -> str | None:
    """Stan's interface of that name, if this version of Prophet has it; otherwise Prophet chooses."""
    from prophet.models import StanBackendEnum

    return name if name in StanBackendEnum.__members__ else None
