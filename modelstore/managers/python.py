"""Any Python object or function, where `manager="python"` asks for it: a pickle, with the code that belongs to it.

Code of installed packages is named, and `requirements.txt` brings it. All other code goes along by value: that of a
notebook or script, lambdas, closures, and modules that lie beside the script.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from modelstore.exceptions import UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.insight.requirements import requirements
from modelstore.managers.base import Saved, class_name
from modelstore.managers.pickled import PICKLE, PickledManager, save_pickle
from modelstore.notices import warn

_LONGEST = 300  # characters of a signature or a first line, in the record

_RUNNING: dict[type, str] = {
    types.GeneratorType: "generator",
    types.AsyncGeneratorType: "asynchronous generator",
    types.CoroutineType: "coroutine",
}


class PythonManager(PickledManager):
    """Stores what no framework's manager takes. It claims nothing: it is used only when it is named."""

    name = "python"
    title = "any Python object or function"
    distributions = ("cloudpickle",)
    restores_as = (
        "the same class; of code that went along by value, a copy of the class or function as it was at upload"
    )
    exactness = "bit for bit, as far as the object's own pickling goes"
    limits = (
        'only with `upload(…, manager="python")`, as nothing tells a model from any other object',
        "what runs or is open (generators, coroutines, files, locks, connections) is refused: upload what makes it",
        "code that went along by value loads with the same minor version of Python only, which the record names",
        "a module's code goes along only if it is Python source; a compiled module of one's own has to be installed "
        "where the model is loaded",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.pkl`, and warn about modules whose code lies in it.

        Raises:
            UnsupportedObjectError: it cannot be pickled.
        """
        running = _RUNNING.get(type(obj))
        if running is not None:
            raise UnsupportedObjectError(
                f"a {running} is a function that is running, and cannot be stored: upload the function that makes it",
                class_name(obj),
            )
        saved = save_pickle(obj, folder, PICKLE, f"this {class_name(obj)} cannot be pickled", travels=_travels)
        travelling = saved.state["by_value"]
        if travelling:
            warn(
                f"the code of {', '.join(travelling)}, which no installed package brings, is stored with the model: it "
                "runs as it is now, whatever becomes of these modules"
            )
        return saved

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The signature of what can be called, and the first line of the documentation."""
        found = {}
        if callable(obj):
            with suppress(TypeError, ValueError):  # it has none, as many builtin functions
                found["signature"] = _short(str(inspect.signature(obj)))
        doc = inspect.getdoc(obj) if callable(obj) or type(obj).__module__ != "builtins" else None
        if doc:
            found["doc"] = _short(doc.partition("\n")[0])
        return found


def _travels(module: str) -> bool:
    """Whether no package would bring this module to where the model is loaded, and its code can be pickled."""
    source = getattr(sys.modules[module], "__file__", None)
    return (source is None or source.endswith(".py")) and bool(requirements((), [module])[1])


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
