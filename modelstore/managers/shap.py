"""shap: explainers and explanations, alone or beside the model that they explain.

shap's own `save` is a sequence of pickles, and what it writes of a tree explainer its `load` does not read. An
explainer of trees or of a linear model is arrays, though, and the parsed model: skops holds those. What skops does not
hold, such as the compiled link function, is taken out and named in the record. Explainers of any function are pickled.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.sklearn import SklearnManager

LINKS = ("identity", "logit")
"""The names of shap's link functions."""

_DYNAMIC = "_TreeExplainer__dynamic_expected_value"


class ShapManager(SklearnManager):
    """Stores every `Explainer`, and `Explanation`."""

    name = "shap"
    title = "SHAP"
    claims = ("shap.explainers._explainer:Explainer", "shap._explanation:Explanation")
    distributions = ("shap", "numba", "pandas", "slicer", *SklearnManager.distributions)
    extra = "shap"
    exactness = "bit for bit; explainers that sample give equal values where they have a seed"
    limits = (
        "Explainers of a function (kernel, permutation, exact, partition, sampling) hold it and are pickled; so are "
        "deep and gradient explainers, with the network in them.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.skops`, or `model.pkl` where skops cannot."""
        bare, taken = _take_out(obj)
        saved = super().save_object(bare, folder, options)
        saved.state["taken"] = taken
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read whichever of the two files there is, and put back what was taken out.

        Raises:
            PickleNotAllowedError: a pickle, or types that are neither reviewed nor trusted by the caller.
            IntegrityError: the record names a link function that shap does not have.
        """
        obj = super().load_object(folder, state, request)
        _put_back(obj, state["taken"])
        return obj

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The attributes that are texts, numbers or flags; of an explanation, its shape."""
        plain = {name: value for name, value in vars(obj).items() if type(value) in (str, int, float, bool)}
        return {**plain, "shape": list(obj.shape)} if hasattr(obj, "shape") else plain


def _take_out(obj: Any) -> tuple[Any, dict[str, Any]]:
    """A copy without what skops cannot hold, and how to make that again."""
    import shap

    bare, taken = object.__new__(type(obj)), dict[str, Any]()
    vars(bare).update(vars(obj))  # the copy that an Explanation makes of itself leaves out some of it
    link = next((name for name in LINKS if vars(obj).get("link") is getattr(shap.links, name)), None)
    if link:
        taken["link"] = link
        del bare.link
    # A bound method of the explainer itself, where the value depends on the label.
    if getattr(vars(obj).get("expected_value"), "__func__", None) is getattr(type(obj), _DYNAMIC, obj):
        taken["expected_value"] = "by label"
        del bare.expected_value
    columns: Any = getattr(vars(obj).get("masker"), "feature_names", None)
    if type(columns).__module__.startswith("pandas.") and all(type(name) is str for name in columns):
        taken["columns"] = {"dtype": str(columns.dtype), "name": columns.name}
        bare.masker = copy.copy(obj.masker)
        bare.masker.feature_names = list(columns)
    return bare, taken


def _put_back(obj: Any, taken: Mapping[str, Any]) -> None:
    import shap

    if "link" in taken:
        if taken["link"] not in LINKS:
            raise IntegrityError("the record", "managers", f"{taken['link']!r} is no link function of shap")
        obj.link = getattr(shap.links, taken["link"])
    if "expected_value" in taken:
        obj.expected_value = getattr(obj, _DYNAMIC)
    if "columns" in taken:
        import pandas

        obj.masker.feature_names = pandas.Index(obj.masker.feature_names, **taken["columns"])
