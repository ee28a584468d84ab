"""CatBoost: `CatBoost`, its classifier, regressor and ranker, fitted or not.

`model.cbm` is the file that `save_model` writes, with class labels and categorical, text and embedding features in it.
The parameters as they were given and the object's Python attributes lie beside it as JSON; callables, loss functions of
the user's and a user's own class are pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.attributes import load_attributes, save_attributes
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name

MODEL = "model.cbm"

_PARAMETER = "parameter "
"""Stands before the name of a parameter, so that one that takes a pickle is named in the record."""

_DERIVED = frozenset({"_object", "_init_params", "_canonized_params"})


class CatBoostManager(ObjectManager):
    """Stores `CatBoost` and all that derives from it."""

    name = "catboost"
    title = "CatBoost"
    claims = ("catboost.core:CatBoost",)
    distributions = ("catboost", "numpy", "pandas", "scipy", "cloudpickle")
    extra = "catboost"
    exactness = "bit for bit; evaluation results to fifteen digits, which is what CatBoost writes of them"
    limits = (
        "predictions on the evaluation sets (`get_test_evals()`) are not stored: CatBoost itself gives them back empty "
        "from its own file or a pickle",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the trees, the parameters and the attributes."""
        import catboost

        if obj.is_fitted():
            try:
                folder.add_bytes(MODEL, obj._serialize_model())
            except catboost.CatBoostError as error:
                raise UnsupportedObjectError(
                    f"CatBoost cannot write this {class_name(obj)}: {error}", class_name(obj)
                ) from error
        parameters = {_PARAMETER + name: value for name, value in obj._init_params.items()}
        part = save_attributes(obj, folder, "catboost", _DERIVED, {**vars(obj), **parameters})
        saved = Saved("cbm" if obj.is_fitted() else "json", {"version": catboost.__version__, **part.state})
        saved.merge(part)
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the model anew and fill it. Writes no `catboost_info`, which only training does.

        Raises:
            PickleNotAllowedError: it has a class, a callable or an object of the user's.
        """
        import catboost

        cls, attributes = load_attributes(folder, state, request.policy, "catboost", self.claims)
        model = cls.__new__(cls)
        catboost.CatBoost.__init__(model)
        if attributes.get("_random_seed") is not None:
            try:
                model.load_model(folder / MODEL)
            except catboost.CatBoostError as error:
                raise IntegrityError("the CatBoost model", MODEL, f"it cannot be read: {error}") from error
        # Over what it has derived from the file: the parameters are to be those that the user gave.
        model._init_params = {
            name.removeprefix(_PARAMETER): value for name, value in attributes.items() if name.startswith(_PARAMETER)
        }
        vars(model).update({name: value for name, value in attributes.items() if not name.startswith(_PARAMETER)})
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """`get_params()`."""
        return dict(obj._init_params)
