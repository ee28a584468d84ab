"""Which classes and functions a model is made of: by name where an import finds them, else by value in a pickle.

Safe formats hold weights and configurations, not code. The code is named in the record, and what another process could
not import (a notebook's classes) is pickled beside the safe files.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder
from modelstore.managers import pickling
from modelstore.managers.base import Saved
from modelstore.managers.pickling import PicklePolicy

CLASSES_FILE = "classes.pkl"

GENERATED = "transformers_modules."
"""Modules that transformers makes of code that came with a checkpoint. No other process finds them, so that their
classes are pickled by value."""


def name_of(obj: Any) -> str:
    """`module:qualname` of a class or function; `import_object` is its inverse for importable ones."""
    return f"{obj.__module__}:{obj.__qualname__}"


def import_object(name: str) -> Any:
    """The class or function called `module:qualname`.

    Raises:
        IntegrityError: it is no such name, or the module does not hold it.
        ModuleNotFoundError: the module is not installed.
    """
    module, _, path = name.partition(":")
    if not module or not path or "<locals>" in path:
        raise IntegrityError("the record", "classes", f"{name!r} names no class that can be imported")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)  # type: ignore[assignment]
    if found is None:
        raise IntegrityError(
            "the record", "classes", f"{module} holds no {path}; the package may have been another version at upload"
        )
    return found


def is_of(cls: type, package: str) -> bool:
    """Whether this class is the package's own, so that its name is enough to find it again."""
    return cls.__module__.partition(".")[0] == package and pickling.is_importable(cls)


def framework_class(name: Any, package: str, roots: Collection[str]) -> Any:
    """A class of a framework's by its recorded name, which may name nothing else: it comes from the store.

    Args:
        name: `module:qualname`.
        package: the top-level package that holds it.
        roots: `module:qualname` of classes of which it has to be one.

    Raises:
        IntegrityError: it is no such class.
    """
    if isinstance(name, str) and name.partition(":")[0].partition(".")[0] == package:
        found = import_object(name)
        if isinstance(found, type) and any(name_of(base) in roots for base in found.__mro__):
            return found
    raise IntegrityError("the record", "managers", f"{name!r} is no model class of {package}")


class ClassBook:
    """Collects the classes and functions of one upload; each gets a reference, which is JSON."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self._by_value: list[Any] = []

    def refer(self, obj: Any) -> dict[str, Any]:
        """The reference by which `ClassShelf.get` finds this class or function again."""
        reference: dict[str, Any] = {"class": name_of(obj)}
        if _is_lasting(obj):
            self.modules.add(obj.__module__)
        else:
            if not any(known is obj for known in self._by_value):
                self._by_value.append(obj)
            reference["pickled"] = next(at for at, known in enumerate(self._by_value) if known is obj)
        return reference

    def save(self, folder: ModelFolder) -> Saved:
        """Pickle what cannot be imported, if there is any; tells which modules all of them come from."""
        if not self._by_value:
            return Saved(format="", modules=self.modules)
        data, pickled = pickling.dumps(self._by_value, travels=lambda module: module.startswith(GENERATED))
        folder.add_bytes(CLASSES_FILE, data)
        return Saved("cloudpickle", pickled=[CLASSES_FILE], modules=self.modules | pickled.modules, by_value=True)


class ClassShelf:
    """Gives back the classes and functions that a `ClassBook` referred to; unpickles only when one is asked for."""

    def __init__(self, folder: Path, policy: PicklePolicy) -> None:
        self._folder = folder
        self._policy = policy
        self._by_value: list[Any] | None = None

    def get(self, reference: Mapping[str, Any]) -> Any:
        """The class or function.

        Raises:
            PickleNotAllowedError: it was pickled by value, and the policy refuses.
            IntegrityError: there is no such class.
            ModuleNotFoundError: its package is not installed.
        """
        if "pickled" not in reference:
            return import_object(str(reference["class"]))
        if self._by_value is None:
            with open(self._folder / CLASSES_FILE, "rb") as file:
                self._by_value = pickling.load(file, f"the class {reference['class']} in {CLASSES_FILE}", self._policy)
        return self._by_value[reference["pickled"]]


def _is_lasting(obj: Any) -> bool:
    return pickling.is_importable(obj) and not obj.__module__.startswith(GENERATED)
