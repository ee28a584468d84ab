"""Whose object is this? Answered from class names alone, so that nothing gets imported.

The object's class is walked from the most derived to `object`: the first class that a manager claims decides.
So an `XGBClassifier` meets XGBoost's claim before scikit-learn's, and no manager lists exceptions.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from modelstore.exceptions import (
    AmbiguousObjectError,
    InvalidArgumentError,
    ModelStoreError,
    UnknownKeywordError,
    UnsupportedObjectError,
)
from modelstore.managers.base import Manager
from modelstore.notices import warn

BUILTIN = (
    "modelstore.managers.annoy:AnnoyManager",
    "modelstore.managers.catboost:CatBoostManager",
    "modelstore.managers.diffusers:DiffusersManager",
    "modelstore.managers.fastai:FastaiManager",
    "modelstore.managers.causalml:CausalMLManager",
    "modelstore.managers.flax:FlaxManager",
    "modelstore.managers.gensim:GensimManager",
    "modelstore.managers.gguf:GGUFManager",
    "modelstore.managers.h2o:H2OManager",
    "modelstore.managers.imblearn:ImblearnManager",
    "modelstore.managers.interpret:InterpretManager",
    "modelstore.managers.jax:JaxManager",
    "modelstore.managers.lightgbm:LightGBMManager",
    "modelstore.managers.onnx:OnnxManager",
    "modelstore.managers.orbax:OrbaxManager",
    "modelstore.managers.paddle:PaddleManager",
    "modelstore.managers.peft:PeftManager",
    "modelstore.managers.pmdarima:PmdarimaManager",
    "modelstore.managers.prophet:ProphetManager",
    "modelstore.managers.pyspark:PySparkManager",
    "modelstore.managers.python:PythonManager",
    "modelstore.managers.pytorch:PyTorchManager",
    "modelstore.managers.pytorch_lightning:PyTorchLightningManager",
    "modelstore.managers.river:RiverManager",
    "modelstore.managers.sentence_transformers:SentenceTransformersManager",
    "modelstore.managers.shap:ShapManager",
    "modelstore.managers.sklearn:SklearnManager",
    "modelstore.managers.sktime:SktimeManager",
    "modelstore.managers.skorch:SkorchManager",
    "modelstore.managers.sksurv:SksurvManager",
    "modelstore.managers.spacy:SpacyManager",
    "modelstore.managers.statsforecast:StatsForecastManager",
    "modelstore.managers.statsmodels:StatsmodelsManager",
    "modelstore.managers.tensorflow:TensorflowManager",
    "modelstore.managers.tokenizers:TokenizersManager",
    "modelstore.managers.torch_checkpoint:TorchCheckpointManager",
    "modelstore.managers.torch_export:TorchExportManager",
    "modelstore.managers.torchscript:TorchScriptManager",
    "modelstore.managers.transformers:TransformersManager",
    "modelstore.managers.xgboost:XGBoostManager",
    # Last, as it takes any path.
    "modelstore.managers.model_file:ModelFileManager",
)
"""The managers that modelstore brings, each called as its module is; adding a framework is one new file and one line
here."""

ENTRY_POINTS = "modelstore.managers"
"""The entry-point group through which other packages add managers."""


class Managers:
    """A set of managers: finds the one for an object, or by name."""

    def __init__(self, managers: Iterable[Manager]) -> None:
        self.by_name: dict[str, Manager] = {}
        self._claims: dict[str, Manager] = {}
        self._wrappers: dict[str, str] = {}
        self._claimed: dict[str, str] = {}
        self._origins: dict[str, str] = {}
        self._found: dict[type, Manager | None] = {}
        for manager in managers:
            self._add(manager)

    def _add(self, manager: Manager, origin: str = "") -> None:
        if not isinstance(manager, Manager):
            raise InvalidArgumentError("managers", f"{manager!r} is no modelstore.managers.base.Manager")
        name, origin = manager.name, origin or _class_name(type(manager))
        if not re.fullmatch(r"\w[\w.-]*", name):
            # It names a folder in archives that hold objects of several managers.
            raise InvalidArgumentError("managers", f"a manager cannot be called {name!r}: letters, digits, _, - and .")
        if name in self.by_name:
            raise InvalidArgumentError(
                "managers", f"two managers are called {name!r}: {self._origins[name]} and {origin}"
            )
        for claim in (*manager.claims, *manager.wrappers):
            if claim in self._claimed:
                other = self._claimed[claim]
                raise InvalidArgumentError(
                    "managers",
                    f"{claim} is claimed by {name} and by {other}: {origin} and {self._origins[other]}; a manager for "
                    "some of its subclasses claims those",
                )
        self.by_name[name] = manager
        self._origins[name] = origin
        self._claims.update(dict.fromkeys(manager.claims, manager))
        self._wrappers.update(manager.wrappers)
        self._claimed.update(dict.fromkeys((*manager.claims, *manager.wrappers), name))
        self._found.clear()

    def unwrap(self, obj: Any) -> tuple[Any, list[str]]:
        """Take off declared wrappers (`torch.compile`'s, `DataParallel` …): what is inside, and their class names."""
        names: list[str] = []
        while attribute := next((self._wrappers[n] for n in _class_names(type(obj)) if n in self._wrappers), None):
            names.append(type(obj).__qualname__)
            obj = getattr(obj, attribute)
        return obj, names

    def find(self, obj: Any) -> Manager | None:
        """The manager of an object that has been unwrapped; None if nobody claims it.

        Raises:
            AmbiguousObjectError: unrelated claimed classes meet in the object's class.
        """
        cls = type(obj)
        if cls not in self._found:
            self._found[cls] = self._claimant(cls)
        found = self._found[cls]
        if found is None:
            found = next((manager for manager in self.by_name.values() if manager.recognises(obj)), None)
        return found

    def _claimant(self, cls: type) -> Manager | None:
        roots = [(base, self._claims[name]) for base in cls.__mro__ if (name := _class_name(base)) in self._claims]
        if not roots:
            return None
        first, manager = roots[0]
        rivals = [other.name for base, other in roots if other is not manager and not issubclass(first, base)]
        if rivals:
            raise AmbiguousObjectError(_class_name(cls), sorted({manager.name, *rivals}))
        return manager

    def get(self, name: str) -> Manager:
        """The manager called `name`.

        Raises:
            InvalidArgumentError: there is none; names those there are.
        """
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(sorted(self.by_name))
            raise InvalidArgumentError("manager", f"there is no manager {name!r}; there are {known}") from None

    @property
    def keywords(self) -> list[str]:
        """All keywords under which some manager takes objects or options, sorted."""
        return sorted({word for m in self.by_name.values() for word in (*m.keywords, *m.options)})

    def group(
        self, given: Mapping[str, Any], manager: str | None = None
    ) -> tuple[dict[Manager, dict[str, Any]], dict[str, Any], dict[str, list[str]]]:
        """Sort the keywords of an `upload` by manager.

        Args:
            given: what `upload` was given beside its own arguments; None counts as not given.
            manager: the manager that is to take all of it.

        Returns:
            The objects by manager and keyword, the options, and the names of the wrappers taken off, by keyword.

        Raises:
            UnknownKeywordError: no manager takes this keyword.
            UnsupportedObjectError: no manager takes this object, or not under this keyword; or there is no object.
        """
        option_names = {name for m in self.by_name.values() for name in m.options}
        known = self.keywords
        objects: dict[Manager, dict[str, Any]] = {}
        options: dict[str, Any] = {}
        wrappers: dict[str, list[str]] = {}
        for keyword, value in given.items():
            if keyword not in known:
                raise UnknownKeywordError(keyword, known)
            if value is None:
                continue
            if keyword in option_names:
                options[keyword] = value
                continue
            value, names = self.unwrap(value)
            if names:
                wrappers[keyword] = names
            owner = self.get(manager) if manager is not None else self.find(value)
            if owner is None:
                raise UnsupportedObjectError(self._unsupported(keyword, value), _class_name(type(value)))
            if keyword not in owner.keywords:
                raise UnsupportedObjectError(
                    f"{keyword}= cannot hold a {_class_name(type(value))}: the manager {owner.name!r} takes "
                    f"{', '.join(word + '=' for word in owner.keywords)}",
                    _class_name(type(value)),
                )
            objects.setdefault(owner, {})[keyword] = value
        if not objects:
            raise UnsupportedObjectError("upload() was given nothing to store: pass the model as model=")
        _check_options(objects, options)
        return objects, options, wrappers

    def _unsupported(self, keyword: str, value: Any) -> str:
        if isinstance(value, str):
            return f"{keyword}={value!r} is a text, and no file or folder lies at that path"
        return (
            f"{keyword}= is a {_class_name(type(value))}, which none of the managers "
            f'({", ".join(sorted(self.by_name))}) claims; upload(…, manager="python") stores any Python object as a '
            f"pickle with its code, or save it to a file yourself and pass its path as {keyword}="
        )


def _check_options(objects: Mapping[Manager, Any], options: Mapping[str, Any]) -> None:
    for option in options:
        if not any(option in manager.options for manager in objects):
            names = ", ".join(manager.name for manager in objects)
            raise UnsupportedObjectError(f"{option}= means nothing to the manager of this model ({names})")


def _class_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _class_names(cls: type) -> list[str]:
    return [_class_name(base) for base in cls.__mro__]


@functools.cache
def all_managers() -> Managers:
    """The managers of modelstore and those that installed packages add; made once a process."""
    managers = Managers(_load(path) for path in BUILTIN)
    from importlib.metadata import entry_points

    # Sorted, so that of two that claim the same it is the same one everywhere that is left out.
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
        distribution = getattr(entry, "dist", None)
        origin = f"{entry.value} of {distribution.name}" if distribution is not None else entry.value
        try:
            plugin = entry.load()
            managers._add(plugin() if isinstance(plugin, type) else plugin, origin)
        except Exception as error:
            # A broken plugin must not keep anybody from their models.
            what = error if isinstance(error, ModelStoreError) else f"{type(error).__name__}: {error}"
            warn(f"the manager {entry.name!r} ({origin}) is left out: {what}")
    return managers


def managers_for(entries: Any, manager: str | None = None) -> Managers:
    """The managers that a load takes.

    A service that loads one model need not import all of them, which takes a tenth of a second of its start.

    Args:
        entries: `model.managers` of a record, which may be anything.
        manager: the name of the one that is to load, instead of the recorded ones.
    """
    try:
        names = [entry["name"] for entry in entries] if manager is None else [manager]
        return _some(frozenset(names)) or all_managers()
    except (TypeError, KeyError):  # what is wrong with the record is told by whoever reads it
        return all_managers()


@functools.cache
def _some(names: frozenset[str]) -> Managers | None:
    """Those of modelstore's own that have these names; None if one of them is somebody else's."""
    own = {path.partition(":")[0].rpartition(".")[2]: path for path in BUILTIN}
    if not names <= set(own):
        return None
    return Managers(_load(path) for name, path in own.items() if name in names)


def _load(path: str) -> Manager:
    module, _, name = path.partition(":")
    manager: Manager = getattr(importlib.import_module(module), name)()
    return manager
