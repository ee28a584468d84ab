"""XGBoost: every class of its scikit-learn interface, and the bare `Booster`.

`model.ubj` is what `save_model` writes, readable by every XGBoost interface. It leaves out whatever is not part of the
trees (parameters such as `n_jobs`, evaluation results, the training configuration), so those lie beside it as JSON;
callables and a user's own class are pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.attributes import load_attributes, save_attributes
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name

MODEL = "model.ubj"
CONFIG = "config.json"

_LIVE = frozenset({"_Booster", "handle", "_client"})
"""Attributes that are the trained model itself, or a connection to a Dask cluster."""


class XGBoostManager(ObjectManager):
    """Stores `XGBModel`, all that derives from it, and `Booster`; fitted or not."""

    name = "xgboost"
    claims = ("xgboost.sklearn:XGBModel", "xgboost.core:Booster")
    distributions = ("xgboost", "xgboost-cpu", "numpy", "scipy", "scikit-learn", "cloudpickle")
    extra = "xgboost"
    title = "XGBoost"
    limits = (
        "a bare `Booster` that was never trained: there is nothing to store",
        "callbacks, objectives and metrics that are functions, which are pickled",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the trained model, its configuration and its Python attributes."""
        import xgboost

        saved = Saved("ubj", {"version": xgboost.__version__})
        booster = _booster(obj)
        if booster is not None:
            try:
                folder.add_buffers(MODEL, [booster.save_raw("ubj")])
                folder.add_bytes(CONFIG, booster.save_config().encode())
            except xgboost.core.XGBoostError as error:
                first_line = str(error).partition("\n")[0]
                raise UnsupportedObjectError(
                    f"XGBoost cannot save this {class_name(obj)}; was it trained? ({first_line})", class_name(obj)
                ) from error
        saved.merge(part := save_attributes(obj, folder, "xgboost", leave=_LIVE))
        saved.state |= part.state
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the model anew and fill it.

        Raises:
            PickleNotAllowedError: it has a class, a callable or an object of the user's.
        """
        import xgboost

        cls, attributes = load_attributes(folder, state, request.policy, "xgboost", self.claims)
        model = cls.__new__(cls)
        if issubclass(cls, xgboost.Booster):
            xgboost.Booster.__init__(model, model_file=folder / MODEL)
            vars(model).update(attributes)
        else:
            _fill(model, attributes, folder / MODEL)
        booster = _booster(model)
        if booster is not None and state["version"] == xgboost.__version__:
            # The model file is stable between versions, the configuration is not.
            booster.load_config((folder / CONFIG).read_text(encoding="utf-8"))
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """`get_params()`; of a bare Booster, its configuration."""
        if hasattr(obj, "get_params"):
            return dict(obj.get_params())
        return dict(json.loads(obj.save_config()))


def _booster(obj: Any) -> Any:
    if not hasattr(obj, "get_booster"):
        return obj
    return obj.get_booster() if obj.__sklearn_is_fitted__() else None


def _fill(model: Any, attributes: dict[str, Any], file: Path) -> None:
    vars(model).update(attributes)
    if file.exists():
        model.load_model(file)
        # It has derived parameters from the file, over those that the user gave.
        kept = {name: value for name, value in vars(model).items() if name in _LIVE}
        vars(model).clear()
        vars(model).update(kept | attributes)
