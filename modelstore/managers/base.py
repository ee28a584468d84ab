"""What a manager is: one framework's way between objects and files in a folder.

A manager knows its framework and nothing else: no storage, no record, no neighbour. Importing a manager's module
imports no framework; the framework is imported inside `save` and `load`, when its objects exist or are wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from modelstore.exceptions import InvalidArgumentError
from modelstore.folder import ModelFolder
from modelstore.managers.pickling import PicklePolicy

SUBJECTS = ("model", "explainer", "preprocessor")
"""Keywords of `upload` under which any manager takes its objects."""


@dataclass
class Saved:
    """What a manager tells of what it has saved; becomes part of the record."""

    format: str
    """The format's usual name, such as `safetensors` or `skops`; several joined by ` + `."""
    state: dict[str, Any] = field(default_factory=dict)
    """What `load` needs to know beside the files. JSON, small, no object of the user's."""
    pickled: list[str] = field(default_factory=list)
    """Files that can run code when they are loaded, relative to the manager's folder."""
    modules: set[str] = field(default_factory=set)
    """Dotted names of the modules that the pickled files refer to."""
    by_value: bool = False
    """Whether byte code of this Python version lies in a pickled file (notebook classes and functions)."""
    references: list[tuple[str, str]] = field(default_factory=list)
    """Other models of the same store that loading this one takes, each by domain and id."""

    def merge(self, other: Saved, prefix: str = "") -> None:
        """Take in what another part of the same model was saved as, in the sub-folder `prefix`."""
        for name in other.format.split(" + "):
            if name and name not in self.format.split(" + "):
                self.format = f"{self.format} + {name}" if self.format else name
        self.pickled += [prefix + name for name in other.pickled]
        self.modules |= other.modules
        self.by_value = self.by_value or other.by_value
        self.references += other.references


def no_other_model(domain: str, model_id: str) -> Any:
    """What stands for a store where there is none.

    Raises:
        InvalidArgumentError: always.
    """
    raise InvalidArgumentError(
        "model", f"model {model_id!r} of {domain!r} is needed, and there is no store to load it from"
    )


@dataclass(frozen=True)
class LoadRequest:
    """What a manager is given to load from.

    `folder` is shared with other processes and read-only: no object that is returned may write to it.
    """

    folder: Path
    state: Mapping[str, Any]
    keywords: tuple[str, ...]
    """Under which keywords the objects were uploaded, sorted."""
    policy: PicklePolicy
    with_optimizer: bool = False
    into: Any = None
    """An object that the caller built, to be filled instead of building a new one."""
    device: str | None = None
    """Where the caller wants the tensors, in the framework's words (`cpu`, `cuda:1`); None is where they were, or the
    CPU if this machine has no such device."""
    load_model: Callable[[str, str], Any] = no_other_model
    """Loads another model of the same store, by domain and id; one of those that were named in `Saved.references`."""


class Manager(ABC):
    """One framework."""

    name: ClassVar[str]
    """`model_type.library` in records; the ancestor's name where it had one."""
    claims: ClassVar[tuple[str, ...]] = ()
    """The framework's root classes as `module:qualname`, under every path they have had. Claim no mixin: an object
    belongs to the first claimed class of its MRO."""
    wrappers: ClassVar[Mapping[str, str]] = {}
    """Classes that only wrap an object, as `module:qualname`, with the attribute that holds it."""
    keywords: ClassVar[tuple[str, ...]] = SUBJECTS
    """The keywords of `upload` under which this manager takes objects."""
    options: ClassVar[tuple[str, ...]] = ()
    """Further keywords of `upload` that say how to save; they hold no objects."""
    load_options: ClassVar[tuple[str, ...]] = ()
    """Which of `into`, `with_optimizer` and `device` this manager's `load` heeds; the others are refused before it is
    called."""
    distributions: ClassVar[tuple[str, ...]] = ()
    """What loading needs from PyPI; those that are installed get pinned in `requirements.txt`."""
    extra: ClassVar[str | None] = None
    """The extra of modelstore that installs the framework."""
    title: ClassVar[str] = ""
    """What the framework calls itself, for the page of frameworks (default: `name`)."""
    restores_as: ClassVar[str] = "the same class"
    """What `load` gives back, for the page of frameworks."""
    exactness: ClassVar[str] = "bit for bit"
    """How near predictions of what was loaded are to those of what was saved; a tolerance is stated with its reason."""
    limits: ClassVar[tuple[str, ...]] = ()
    """What this manager does not store, or not wholly, each with the reason; for the page of frameworks."""

    def recognises(self, obj: Any) -> bool:
        """Whether an object of a builtin or unclaimed type is this manager's. Imports nothing, reads no file."""
        return False

    def dependencies(self) -> tuple[str, ...]:
        """The distributions that `code.dependencies` records, whether or not loading needs them."""
        return self.distributions

    @abstractmethod
    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the objects, given by keyword, to the folder.

        Raises:
            UnsupportedObjectError: what is wrong with the object and what to do about it.
        """

    @abstractmethod
    def load(self, request: LoadRequest) -> Any:
        """Build what was saved: the object, or a mapping by keyword where there were several.

        Raises:
            MissingDependencyError: the framework is not installed.
            PickleNotAllowedError: it takes a pickle, and the reader's policy refuses it.
        """

    def parameters(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        """What the framework calls the parameters or configuration of the objects. Need not be JSON yet."""
        return {}


class ObjectManager(Manager):
    """A manager whose objects do not know each other: one at the top of the folder, several in a folder each."""

    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Save each object by `save_object`."""
        if len(objects) == 1:
            return self.save_object(next(iter(objects.values())), folder, options)
        whole = Saved(format="")
        for keyword, obj in sorted(objects.items()):
            part = self.save_object(obj, folder.sub(keyword), options)
            whole.merge(part, f"{keyword}/")
            whole.state[keyword] = part.state
        return whole

    def load(self, request: LoadRequest) -> Any:
        """Load each object by `load_object`; of several, `into` maps the keywords of those to fill to what fills them.

        Raises:
            InvalidArgumentError: `into` is no such mapping.
        """
        if len(request.keywords) == 1:
            return self.load_object(request.folder, request.state, request)
        into = {} if request.into is None else request.into
        if (
            not isinstance(into, Mapping)
            or not set(into) <= set(request.keywords)
            or (not into and request.into is not None)
        ):
            words = ", ".join(request.keywords)
            raise InvalidArgumentError("into", f"into= is to be a mapping from {words} to the object to fill")
        return {
            keyword: self.load_object(
                request.folder / keyword, request.state[keyword], replace(request, into=into.get(keyword))
            )
            for keyword in request.keywords
        }

    @abstractmethod
    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write one object to its folder."""

    @abstractmethod
    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build one object from its folder."""

    def parameters(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        """The object's parameters; of several objects, a mapping by keyword."""
        if len(objects) == 1:
            return self.object_parameters(next(iter(objects.values())))
        return {keyword: self.object_parameters(obj) for keyword, obj in sorted(objects.items())}

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The parameters of one object."""
        return {}


def class_name(obj: Any) -> str:
    """`module:qualname` of an object's class; `import_class` is its inverse for importable classes."""
    cls = type(obj)
    return f"{cls.__module__}:{cls.__qualname__}"
