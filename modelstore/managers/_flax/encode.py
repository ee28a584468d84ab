"""What a model is made of as JSON that names code and refers to arrays; only what that cannot hold is pickled.

Each node that is no plain JSON value is an object whose kind stands under the empty key. `decode.py` is the inverse.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modelstore.exceptions import UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._flax.arrays import ArrayWriter, is_jax_array, is_numpy_array, is_tracer
from modelstore.managers._flax.code import closure_name, is_harmless, is_of_flax, is_own_object, name_of
from modelstore.managers.base import Saved, class_name
from modelstore.managers.exact_json import encode as encode_exactly
from modelstore.managers.pickled import save_pickle

STRUCTURE = "structure.json"
CUSTOM = "custom.pkl"

LINEN = "flax.linen.module:Module"
NODES = frozenset({"flax.nnx.pytreelib:Pytree", "flax.nnx.object:Object"})
VARIABLES = frozenset({"flax.nnx.variablelib:Variable", "flax.nnx.variablelib:HijaxVariable"})
STATE = "flax.nnx.statelib:State"
FROZEN = "flax.core.frozen_dict:FrozenDict"
NODE_STATES = ("_pytree__state", "_object__state")
"""Attributes of a node that say how far its construction has come."""
NODE_KINDS = ("_pytree__nodes", "_object__nodes")
"""Attributes of a node that say which of its attributes are data."""
SPECS = frozenset({"jax:P", "jax._src.partition_spec:PartitionSpec"})

Path = tuple[str, ...]


class Encoder:
    """Encodes one object."""

    def __init__(self) -> None:
        self.arrays = ArrayWriter()
        self.trusted: set[str] = set()
        """Names of code that a reader has to trust, as it is neither the frameworks' nor derived from their classes."""
        self.modules: set[str] = set()
        self._pickled: list[Any] = []
        self._places: list[str] = []
        # Objects are kept, so that no other one gets their id.
        self._known: dict[int, tuple[Any, int]] = {}

    def save(self, obj: Any, folder: ModelFolder) -> Saved:
        """Write the structure, the arrays and what has to be pickled.

        Raises:
            UnsupportedObjectError: something in it can be neither described nor pickled.
        """
        structure = self.encode(obj, ())
        saved = Saved("safetensors" if self.arrays.write(folder) else "json", modules=self.modules)
        folder.add_json(STRUCTURE, structure)
        if self.trusted:
            saved.pickled.append(STRUCTURE)
        if self._pickled:
            where = ", ".join(dict.fromkeys(self._places))
            saved.merge(
                save_pickle(
                    self._pickled, folder, CUSTOM, f"parts of this {class_name(obj)} ({where}) cannot be pickled"
                )
            )
        saved.state = {"trusted": sorted(self.trusted), "pickle_because": sorted(set(self._places))}
        return saved

    def encode(self, value: Any, path: Path) -> Any:
        """The node of a value that is found at this path from the object that is saved."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is list:
            return self._items(value, path)
        if is_jax_array(value) or is_numpy_array(value):
            return self.arrays.add(value, path)
        bases = {f"{base.__module__}:{base.__qualname__}" for base in kind.__mro__}
        if is_tracer(value):
            raise UnsupportedObjectError(
                f"{'.'.join(path)} is being traced: upload outside of jit, grad and vmap", class_name(value)
            )
        encode = next((encode for roots, encode in _OBJECTS if roots & bases), None)
        if encode is not None:
            return self._once(value, lambda: encode(self, value, path))
        plain = _BUILTINS.get(kind)
        if plain is not None:
            return plain(self, value, path)
        return self._other(value, path)

    def _other(self, value: Any, path: Path) -> Any:
        try:
            return {"": "exact", "value": encode_exactly(value)}
        except TypeError:
            pass
        if callable(value) and not dataclasses.is_dataclass(type(value)):
            node = self._code(value, path)
            if node is not None:
                return node
        if isinstance(value, enum.Enum) and value.name in type(value).__members__:
            return {"": "enum", "class": self._class(type(value), path), "name": value.name}
        fields = getattr(type(value), "_fields", None)
        if isinstance(value, tuple) and fields is not None:
            items = [self.encode(item, (*path, name)) for name, item in zip(fields, value, strict=True)]
            cls = self._class(type(value), path)
            return {"": "namedtuple", "class": cls, "names": list(fields), "items": items}
        if dataclasses.is_dataclass(type(value)):
            return self._once(value, lambda: _dataclass(self, value, path))
        is_dtype = any(f"{base.__module__}:{base.__qualname__}" == "numpy:dtype" for base in type(value).__mro__)
        if is_dtype and (value.kind in "biufcmM" or value.type.__module__ == "ml_dtypes"):
            return {"": "dtype", "name": value.name}
        if is_own_object(type(value)):
            return self._once(value, lambda: _plain(self, value, path))
        return self._pickle(value, path)

    def _items(self, values: Iterable[Any], path: Path) -> list[Any]:
        return [self.encode(item, (*path, str(at))) for at, item in enumerate(values)]

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], path: Path) -> list[Any]:
        return [[self.encode(key, (*path, "key")), self.encode(item, (*path, str(key)))] for key, item in pairs]

    def _named(self, attributes: Mapping[str, Any], path: Path) -> list[Any]:
        """Attributes in their order, which the keys of a JSON file do not keep."""
        return [[name, self.encode(item, (*path, name))] for name, item in attributes.items()]

    def _once(self, value: Any, encode: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The node of an object that may be met again, or within itself."""
        if id(value) in self._known:
            return {"": "same", "id": self._known[id(value)][1]}
        number = len(self._known)
        self._known[id(value)] = (value, number)
        return {"id": number, **encode()}

    def _class(self, cls: Any, path: Path) -> Any:
        """The node of a class of which an instance is built without running its code."""
        name = name_of(cls)
        if name is None:
            return self._variable_type(cls) or self._pickle(cls, path)
        self.modules.add(cls.__module__)
        return name

    def _variable_type(self, cls: Any) -> Any:
        """The node of a class of variables that Flax has made for a collection of this name."""
        import sys

        nnx = sys.modules.get("flax.nnx")
        if nnx is None or not is_of_flax(cls) or not hasattr(nnx, "variable_name_from_type"):
            return None
        try:
            name = nnx.variable_name_from_type(cls)
        except ValueError:
            return None
        (base, *_) = cls.__bases__
        return {"": "variable type", "name": name} if cls.__dict__.keys() <= _EMPTY and base is nnx.Variable else None

    def _code(self, value: Any, path: Path) -> Any:
        name = name_of(value)
        if name is not None:
            self.modules.add(value.__module__)
            if not is_harmless(name, value) and not is_of_flax(value):
                self.trusted.add(name)
            return {"": "code", "name": name}
        found = closure_name(value)
        if found is None:
            return None
        self.modules.add(value.__module__)
        return self._once(value, lambda: self._closure(value, *found, path))

    def _closure(self, value: Any, name: str, at: int, path: Path) -> dict[str, Any]:
        free = value.__code__.co_freevars
        cells = [
            self.encode(cell.cell_contents, (*path, each))
            for each, cell in zip(free, value.__closure__ or (), strict=True)
        ]
        return {
            "": "closure", "name": name, "at": at, "free": list(free), "cells": cells,
            "defaults": self.encode(value.__defaults__, (*path, "defaults")),
            "kwdefaults": self.encode(value.__kwdefaults__, (*path, "kwdefaults")),
            "wrapped": self.encode(vars(value).get("__wrapped__"), (*path, "wrapped")),
        }  # fmt: skip

    def _pickle(self, value: Any, path: Path) -> dict[str, Any]:
        at = next((at for at, known in enumerate(self._pickled) if known is value), len(self._pickled))
        if at == len(self._pickled):
            self._pickled.append(value)
        self._places.append(".".join(path) or "class")
        return {"": "pickled", "at": at}


_EMPTY = frozenset({"__module__", "__doc__", "__slots__", "__parameters__", "__orig_bases__", "__annotations__"})
"""What a class has that adds nothing to its base."""


def _linen(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    if value.scope is not None:
        raise UnsupportedObjectError(
            f"this {type(value).__name__} is bound to variables: upload what unbind() gives, as model= and variables=",
            class_name(value),
        )
    names = [field.name for field in dataclasses.fields(value) if field.name != "parent"]
    fields = encoder._named({name: vars(value).get(name) for name in names}, path)
    late = [field.name for field in dataclasses.fields(value) if not field.init]
    return {"": "linen", "class": encoder._class(type(value), path), "fields": fields, "late": late}


def _node(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    own = {name: item for name, item in vars(value).items() if name not in (*NODE_STATES, *NODE_KINDS)}
    attributes = encoder._named(own, path)
    state = {name: vars(value)[name] for name in NODE_STATES if name in vars(value)}
    nodes = {name: list(map(list, vars(value)[name].items())) for name in NODE_KINDS if name in vars(value)}
    return {
        "": "node", "class": encoder._class(type(value), path), "attributes": attributes, "nodes": nodes,
        "state": {name: [item.initializing, getattr(item, "is_setup", False)] for name, item in state.items()},
    }  # fmt: skip


def _variable(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    raw = value.get_raw_value() if hasattr(value, "get_raw_value") else value.raw_value
    # A variable that JAX traces as such hides its class.
    cls = getattr(value, "_var_type", type(value))
    metadata = value.get_metadata()
    if metadata.get("ref"):
        raw = raw[...]
    return {
        "": "variable", "class": encoder._class(cls, path), "value": encoder.encode(raw, path),
        "metadata": encoder._pairs(metadata.items(), (*path, "metadata")),
    }  # fmt: skip


def _dataclass(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    if hasattr(value, "__dict__"):
        found = dict(vars(value))
    else:
        found = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {"": "dataclass", "class": encoder._class(type(value), path), "attributes": encoder._named(found, path)}


def _plain(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    return {
        "": "plain", "class": encoder._class(type(value), path), "attributes": encoder._named(vars(value), path)
    }  # fmt: skip


def _state(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    mapping = value.raw_mapping
    return {"": "state", "class": encoder._class(type(value), path), "items": encoder._pairs(mapping.items(), path)}


def _frozen(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    return {"": "frozen", "items": encoder._pairs(value.items(), path)}


def _spec(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    return {"": "spec", "items": encoder._items(tuple(value), path)}


_OBJECTS: tuple[tuple[frozenset[str], Callable[[Encoder, Any, Path], dict[str, Any]]], ...] = (
    (frozenset({LINEN}), _linen),
    (NODES, _node),
    (VARIABLES, _variable),
    (frozenset({STATE}), _state),
    (frozenset({FROZEN}), _frozen),
    (SPECS, _spec),
)


def _partial(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    return {
        "": "partial", "function": encoder.encode(value.func, (*path, "func")),
        "arguments": encoder._items(value.args, path), "keywords": encoder._pairs(value.keywords.items(), path),
    }  # fmt: skip


def _method(encoder: Encoder, value: Any, path: Path) -> dict[str, Any]:
    owner, name = value.__self__, value.__func__.__name__
    is_module = is_of_flax(type(owner)) and getattr(type(owner), name, None) is value.__func__
    if not is_module:
        return encoder._pickle(value, path)
    return {"": "method", "of": encoder.encode(owner, path), "name": name}


_BUILTINS: dict[type, Callable[[Encoder, Any, Path], Any]] = {
    tuple: lambda encoder, value, path: {"": "tuple", "items": encoder._items(value, path)},
    dict: lambda encoder, value, path: {"": "dict", "items": encoder._pairs(value.items(), path)},
    OrderedDict: lambda encoder, value, path: {"": "ordered", "items": encoder._pairs(value.items(), path)},
    set: lambda encoder, value, path: {"": "set", "items": encoder._items(sorted(value, key=repr), path)},
    frozenset: lambda encoder, value, path: {"": "frozenset", "items": encoder._items(sorted(value, key=repr), path)},
    complex: lambda encoder, value, path: {"": "complex", "parts": encoder._items([value.real, value.imag], path)},
    slice: lambda encoder, value, path: {
        "": "slice", "parts": encoder._items([value.start, value.stop, value.step], path)
    },
    types.EllipsisType: lambda encoder, value, path: {"": "ellipsis"},
    functools.partial: _partial,
    types.MethodType: _method,
}  # fmt: skip
