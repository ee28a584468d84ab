"""LightGBM: every class of its scikit-learn interface, and the bare `Booster`.

`model.txt` is the text that `save_model` writes. It prints thresholds and leaves with all their digits, so that
predictions come back bit for bit. Whatever is not part of the trees (the estimator's parameters, class labels,
evaluation results) lies beside it as JSON; callables and a user's own class are pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.attributes import load_attributes, save_attributes
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name

MODEL = "model.txt"
BOOSTER = "booster"
"""Where the attributes of an estimator's booster lie; those of a bare one lie at the top."""

_LIVE = frozenset(
    {
        *("_handle", "handle", "_network", "train_set", "valid_sets", "_Booster__init_predictor"),
        # Sized by the training data, which is not stored.
        *("_Booster__inner_predict_buffer", "_Booster__is_predicted_cur_iter", "_Booster__num_dataset"),
    }
)
"""Attributes of a booster that are the trees themselves, its training data or a connection to other machines."""

_DERIVED = frozenset({"_Booster", "_le", "client"})
"""Attributes of an estimator that are made anew, or hold a connection to a Dask cluster."""


class LightGBMManager(ObjectManager):
    """Stores `LGBMModel`, all that derives from it, and `Booster`; fitted or not."""

    name = "lightgbm"
    title = "LightGBM"
    claims = ("lightgbm.sklearn:LGBMModel", "lightgbm.basic:Booster")
    distributions = ("lightgbm", "numpy", "scipy", "scikit-learn", "pandas", "cloudpickle")
    extra = "lightgbm"
    exactness = (
        "bit for bit, contributions and leaves included; the gains of a Booster that still holds its training data to "
        "six digits, which is what LightGBM prints"
    )
    limits = (
        "a Booster's training and validation data are not stored: go on with `init_model=`, not with `update()`",
        "the client of a Dask estimator is not stored: set it again, or let Dask find the default one",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the trees as text, and the Python attributes beside them."""
        import lightgbm

        saved = Saved("txt", {"version": lightgbm.__version__})
        if isinstance(obj, lightgbm.Booster):
            _add_trees(obj, folder)
            part = save_attributes(obj, folder, "lightgbm", _LIVE)
        else:
            booster = obj._Booster
            if booster is not None:
                _add_trees(booster, folder)
                part = save_attributes(booster, folder.sub(BOOSTER), "lightgbm", _LIVE)
                saved.merge(part, f"{BOOSTER}/")
                saved.state[BOOSTER] = part.state
            part = save_attributes(obj, folder, "lightgbm", _DERIVED, _attributes(obj))
        saved.merge(part)
        saved.state |= part.state
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the model anew and fill it.

        Raises:
            PickleNotAllowedError: it has a class, a callable or an object of the user's.
        """
        import lightgbm

        cls, attributes = load_attributes(folder, state, request.policy, "lightgbm", self.claims)
        if issubclass(cls, lightgbm.Booster):
            return _booster(cls, attributes, folder)
        model = cls.__new__(cls)
        vars(model).update(attributes)
        model._Booster = None
        if BOOSTER in state:
            parts = load_attributes(folder / BOOSTER, state[BOOSTER], request.policy, "lightgbm", self.claims)
            model._Booster = _booster(*parts, folder)
        if attributes.get("_classes") is not None:
            model._le = _label_encoder(attributes["_classes"])
        if hasattr(cls, "client_"):
            model.client = None
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """`get_params()`; of a bare Booster, the parameters that it was trained with."""
        if not hasattr(obj, "get_params"):
            return dict(obj.params)
        return {name: value for name, value in obj.get_params().items() if name != "client"}


def _attributes(estimator: Any) -> dict[str, Any]:
    """A Dask estimator keeps its client in two places."""
    further = {name: value for name, value in estimator._other_params.items() if name != "client"}
    return {**vars(estimator), "_other_params": further}


def _add_trees(booster: Any, folder: ModelFolder) -> None:
    try:
        # Without the number it would leave out what came after the best iteration.
        text = booster.model_to_string(num_iteration=-1)
    except Exception as error:  # LightGBMError, and TypeError of categories that JSON does not have
        raise UnsupportedObjectError(
            f"LightGBM cannot write this {class_name(booster)} as text; was it trained? ({error})", class_name(booster)
        ) from error
    folder.add_bytes(MODEL, text.encode())


def _booster(cls: Any, attributes: Mapping[str, Any], folder: Path) -> Any:
    import lightgbm

    booster = cls.__new__(cls)
    try:
        lightgbm.Booster.__init__(booster, model_str=(folder / MODEL).read_text(encoding="utf-8"))
    except (OSError, ValueError, lightgbm.basic.LightGBMError) as error:
        raise IntegrityError("the LightGBM model", MODEL, f"it cannot be read: {error}") from error
    vars(booster).update(attributes)
    return booster


def _label_encoder(classes: Any) -> Any:
    from sklearn.preprocessing import LabelEncoder

    encoder = LabelEncoder()
    encoder.classes_ = classes
    return encoder
