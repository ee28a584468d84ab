"""XGBoost: every class of its scikit-learn interface, and the bare `Booster`.

`model.ubj` is what `save_model` writes, readable by every XGBoost interface. It leaves out whatever is not part of the
trees (parameters such as `n_jobs`, evaluation results, the training configuration), so those lie beside it as JSON;
callables and a user's own class are pickled.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers import pickling
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.pieces import PieceWriter

MODEL = "model.ubj"
CONFIG = "config.json"
ATTRIBUTES = "attributes.json"
PICKLE = "custom.pkl"

_LIVE = frozenset({"_Booster", "handle", "_client"})
"""Attributes that are the trained model itself, or a connection to a Dask cluster."""


class XGBoostManager(ObjectManager):
    """Stores `XGBModel`, all that derives from it, and `Booster`; fitted or not."""

    name = "xgboost"
    claims = ("xgboost.sklearn:XGBModel", "xgboost.core:Booster")
    distributions = ("xgboost", "xgboost-cpu", "numpy", "scipy", "scikit-learn", "cloudpickle")
    extra = "xgboost"

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the trained model, its configuration and its Python attributes."""
        import xgboost

        saved = Saved("ubj", {"class": class_name(obj), "version": xgboost.__version__})
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
        plain, custom = _split(vars(obj))
        folder.add_json(ATTRIBUTES, plain)
        if not _is_own(type(obj)):
            custom["class"] = type(obj)
        if custom:
            self._pickle(obj, custom, folder, saved)
        return saved

    def _pickle(self, obj: Any, custom: dict[str, Any], folder: ModelFolder, saved: Saved) -> None:
        file = PieceWriter()
        try:
            pickled = pickling.dump(custom, file)
        except Exception as error:
            names = ", ".join(sorted(set(custom.get("attributes", ())) | set(custom) & {"class"}))
            raise UnsupportedObjectError(
                f"parts of this {class_name(obj)} cannot be pickled ({names}): {error}", class_name(obj)
            ) from error
        folder.add_buffers(PICKLE, file.pieces)
        saved.format += " + pickle"
        saved.state["pickle_because"] = sorted(custom.get("attributes", ())) + (["class"] if "class" in custom else [])
        saved.pickled, saved.modules, saved.by_value = [PICKLE], pickled.modules, pickled.by_value

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the model anew and fill it.

        Raises:
            PickleNotAllowedError: it has a class, a callable or an object of the user's.
        """
        import xgboost

        custom: dict[str, Any] = {}
        if (folder / PICKLE).exists():
            with open(folder / PICKLE, "rb") as file:
                custom = pickling.load(file, f"the XGBoost model's {PICKLE}", request.policy)
        cls = custom.get("class") or _own_class(state["class"])
        plain = json.loads((folder / ATTRIBUTES).read_bytes())
        attributes = {name: _decode(value) for name, value in plain.items()} | custom.get("attributes", {})
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


def _is_own(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "xgboost" and pickling.is_importable(cls)


def _own_class(name: str) -> Any:
    """A class of XGBoost's by its recorded name, which may name nothing else: it comes from the store."""
    import importlib

    import xgboost

    module, _, qualname = name.partition(":")
    if module.partition(".")[0] == "xgboost":
        found = getattr(importlib.import_module(module), qualname, None)
        if isinstance(found, type) and issubclass(found, (xgboost.XGBModel, xgboost.Booster)):
            return found
    raise IntegrityError("the record", "managers", f"{name!r} is no model class of XGBoost")


def _split(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes that JSON can hold, encoded, and what has to be pickled."""
    plain, custom = {}, {}
    for name, value in attributes.items():
        if name in _LIVE:
            continue
        try:
            plain[name] = _encode(value)
        except TypeError:
            custom[name] = value
    return plain, {"attributes": custom} if custom else {}


def _encode(value: Any) -> Any:
    """JSON for builtin values and numpy's numbers, exact in type and value; `_decode` is its inverse.

    Raises:
        TypeError: it holds something else.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [_encode(item) for item in value]
    if kind is tuple:
        return {"tuple": [_encode(item) for item in value]}
    if kind in (dict, OrderedDict):
        form = "dict" if kind is dict else "ordered"
        return {form: [[_encode(key), _encode(item)] for key, item in value.items()]}
    if kind.__module__ == "numpy" and getattr(getattr(value, "dtype", None), "kind", "") in ("b", "i", "u", "f"):
        form = "array" if kind.__name__ == "ndarray" else "numpy"
        return {form: value.dtype.str, "value": _encode(value.tolist())}
    raise TypeError(f"{kind.__module__}.{kind.__qualname__}")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    # Every encoded dict has one of these keys; the user's own stand inside "dict", as pairs.
    if "float" in value:
        return float(value["float"])
    if "tuple" in value:
        return tuple(_decode(item) for item in value["tuple"])
    if "dict" in value or "ordered" in value:
        pairs = [(_decode(key), _decode(item)) for key, item in value.get("dict") or value.get("ordered") or ()]
        return dict(pairs) if "dict" in value else OrderedDict(pairs)
    import numpy

    array = numpy.array(_decode(value["value"]), dtype=value.get("numpy") or value["array"])
    return array[()] if "numpy" in value else array
