"""Which classes and functions of a Keras model are not Keras' own, as its file only names them."""

from __future__ import annotations

import functools
import json
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelstore.exceptions import UnsupportedObjectError
from modelstore.managers.base import class_name
from modelstore.managers.classes import ClassShelf, name_of

_CODE = ("__lambda__", "TorchModuleWrapper")
"""Kinds of nodes that hold byte code or a pickle."""


@dataclass
class Named:
    """What a `.keras` file refers to."""

    names: set[str] = field(default_factory=set)
    """The names under which it wants classes and functions."""
    has_lambda: bool = False
    """Whether it holds byte code."""


def read_names(path: Path) -> Named:
    """What the configuration in a `.keras` file refers to."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    found = Named()
    for part in _dicts(config):
        kind = part.get("class_name")
        found.has_lambda = found.has_lambda or kind in _CODE
        wanted = part.get("config") if kind == "function" else part.get("registered_name") or kind
        if isinstance(wanted, str):
            found.names.add(wanted)
    return found


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def custom_objects(model: Any, wanted: set[str], registered_name: Callable[[Any], str]) -> dict[str, Any]:
    """The classes and functions that `model` is made of and Keras would not find by itself, by the names it wants.

    Args:
        model: a Keras object.
        wanted: see `Named.names`.
        registered_name: Keras' function of that name.

    Raises:
        UnsupportedObjectError: two of them have one name.
    """
    found: dict[str, Any] = {}
    for obj in _code_of(model):
        name = registered_name(obj)
        if name not in wanted or found.get(name) is obj:
            continue
        if name in found:
            raise UnsupportedObjectError(
                f"{name_of(found[name])} and {name_of(obj)} would both be called {name!r} in the .keras file; tell "
                "them apart with @keras.saving.register_keras_serializable(package=…)",
                class_name(model),
            )
        found[name] = obj
    return found


def _code_of(model: Any) -> Iterator[Any]:
    """Classes and named functions that are not Keras' own, from everything that the model reaches through Keras."""
    seen: dict[int, Any] = {}
    waiting: list[Any] = [model]
    while waiting:
        obj = waiting.pop()
        if id(obj) in seen:
            continue
        seen[id(obj)] = obj  # kept, so that no other object gets this id
        if isinstance(obj, Mapping):
            waiting.extend(obj.values())
        elif isinstance(obj, (list, tuple, set, frozenset)):
            waiting.extend(obj)
        elif isinstance(obj, functools.partial):
            waiting.append(obj.func)
        elif isinstance(obj, types.MethodType):
            waiting.append(obj.__self__)
        elif isinstance(obj, (type, types.FunctionType)):
            if _root(obj) not in ("keras", "builtins") and obj.__name__ != "<lambda>":
                yield obj
        elif is_of_keras(type(obj)) or hasattr(obj, "get_config"):
            waiting.append(type(obj))
            waiting.extend(getattr(obj, "__dict__", {}).values())


def is_of_keras(cls: type) -> bool:
    """Whether the class is Keras' own or derives from one that is."""
    return any(_root(base) == "keras" for base in cls.__mro__)


def _root(obj: Any) -> str:
    return str(obj.__module__).partition(".")[0]


def load_custom(references: Mapping[str, Any], shelf: ClassShelf, request: Any) -> dict[str, Any]:
    """The classes and functions that were referred to, by name.

    A class that derives from Keras' is built from its configuration, as Keras does itself. Anything else could be any
    function of any installed package, called with stored arguments: it takes the reader's trust.

    Raises:
        PickleNotAllowedError: the policy refuses.
    """
    found = {}
    for name, reference in references.items():
        obj = shelf.get(reference)
        trusted = reference["class"] in request.policy.trusted_types
        if not trusted and not (isinstance(obj, type) and is_of_keras(obj)):
            request.policy.require(f"{name!r} in the .keras file", [reference["class"]])
        found[name] = obj
    return found
