"""The inverse of `encode.py`. The JSON comes from a store: it builds frameworks' objects, and calls nothing else."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.managers._flax import encode as names
from modelstore.managers._flax.arrays import ArrayReader, find_dtype
from modelstore.managers._flax.code import find, find_code, is_harmless, is_of_flax, is_own_object
from modelstore.managers.exact_json import decode as decode_exactly
from modelstore.managers.pickled import load_pickle
from modelstore.managers.pickling import PicklePolicy

SUBJECT = "the flax model"


def read_structure(folder: Path) -> Any:
    """The JSON of a model.

    Raises:
        IntegrityError: it is missing, or is no JSON.
    """
    try:
        return json.loads((folder / names.STRUCTURE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(SUBJECT, names.STRUCTURE, f"it cannot be read: {error}") from error


class Decoder:
    """Builds the object of a folder."""

    def __init__(self, folder: Path, arrays: ArrayReader, policy: PicklePolicy) -> None:
        self._folder = folder
        self._arrays = arrays
        self._policy = policy
        self._pickled: list[Any] | None = None
        self._known: dict[int, Any] = {}

    def load(self) -> Any:
        """The object.

        Raises:
            PickleNotAllowedError: something is pickled, or names code that is not the frameworks', and the policy
                refuses.
            IntegrityError: the structure is damaged, or means another version of a framework.
        """
        try:
            return self.decode(read_structure(self._folder))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
            if isinstance(error, IntegrityError):
                raise
            raise IntegrityError(SUBJECT, names.STRUCTURE, f"it cannot be built: {error!r}") from error

    def decode(self, node: Any) -> Any:
        """The value of a node."""
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        build = getattr(self, f"_{str(node.get('')).replace(' ', '_')}_", None)
        if build is None:
            raise IntegrityError(SUBJECT, names.STRUCTURE, f"there are no nodes of the kind {node.get('')!r}")
        return build(node)

    def _keep(self, node: dict[str, Any], value: Any) -> Any:
        self._known[node["id"]] = value
        return value

    def _pairs(self, pairs: Any) -> Iterator[tuple[Any, Any]]:
        for key, item in pairs:
            yield self.decode(key), self.decode(item)

    def _class(self, node: Any) -> Any:
        """A class; that it is of the right kind is the caller's to check."""
        return self.decode(node) if isinstance(node, dict) else find(node)

    def _flax_class(self, node: Any, *roots: str) -> Any:
        cls = self._class(node)
        bases = cls.__mro__ if isinstance(cls, type) else ()
        if not any(f"{base.__module__}:{base.__qualname__}" in roots for base in bases):
            raise IntegrityError(SUBJECT, names.STRUCTURE, f"{node!r} is no class of Flax' kinds")
        return cls

    def _same_(self, node: dict[str, Any]) -> Any:
        return self._known[node["id"]]

    def _exact_(self, node: dict[str, Any]) -> Any:
        return decode_exactly(node["value"])

    def _array_(self, node: dict[str, Any]) -> Any:
        return self._arrays.get(node)

    def _tuple_(self, node: dict[str, Any]) -> Any:
        return tuple(self.decode(node["items"]))

    def _set_(self, node: dict[str, Any]) -> Any:
        return set(self.decode(node["items"]))

    def _frozenset_(self, node: dict[str, Any]) -> Any:
        return frozenset(self.decode(node["items"]))

    def _dict_(self, node: dict[str, Any]) -> Any:
        return dict(self._pairs(node["items"]))

    def _ordered_(self, node: dict[str, Any]) -> Any:
        return OrderedDict(self._pairs(node["items"]))

    def _frozen_(self, node: dict[str, Any]) -> Any:
        from flax.core import FrozenDict

        return self._keep(node, FrozenDict(dict(self._pairs(node["items"]))))

    def _state_(self, node: dict[str, Any]) -> Any:
        return self._keep(node, self._flax_class(node["class"], names.STATE)(dict(self._pairs(node["items"]))))

    def _complex_(self, node: dict[str, Any]) -> Any:
        return complex(*self.decode(node["parts"]))

    def _slice_(self, node: dict[str, Any]) -> Any:
        return slice(*self.decode(node["parts"]))

    def _ellipsis_(self, node: dict[str, Any]) -> Any:
        return ...

    def _dtype_(self, node: dict[str, Any]) -> Any:
        return find_dtype(node["name"])

    def _spec_(self, node: dict[str, Any]) -> Any:
        import jax

        return self._keep(node, jax.sharding.PartitionSpec(*self.decode(node["items"])))

    def _code_(self, node: dict[str, Any]) -> Any:
        name = node["name"]
        found = find(name)
        if not is_harmless(name, found) and not is_of_flax(found) and name not in self._policy.trusted_types:
            self._policy.require(f"what {names.STRUCTURE} names", [name])
        return found

    def _closure_(self, node: dict[str, Any]) -> Any:
        code = find_code(node["name"], node["at"], node["free"])
        module = find(f"{node['name'].partition(':')[0]}:__dict__")
        cells = tuple(types.CellType() for _ in node["cells"])
        function = self._keep(node, types.FunctionType(code, module, closure=cells))
        for cell, item in zip(cells, node["cells"], strict=True):
            cell.cell_contents = self.decode(item)
        function.__defaults__ = self.decode(node["defaults"])
        function.__kwdefaults__ = self.decode(node["kwdefaults"])
        if node["wrapped"] is not None:
            functools.update_wrapper(function, self.decode(node["wrapped"]))
        return function

    def _pickled_(self, node: dict[str, Any]) -> Any:
        if self._pickled is None:
            self._pickled = load_pickle(self._folder / names.CUSTOM, f"what belongs to {SUBJECT}", self._policy)
        return self._pickled[node["at"]]

    def _enum_(self, node: dict[str, Any]) -> Any:
        cls = self._class(node["class"])
        if not isinstance(cls, enum.EnumMeta):
            raise IntegrityError(SUBJECT, names.STRUCTURE, f"{node['class']!r} is no enumeration")
        return cls.__members__[node["name"]]

    def _namedtuple_(self, node: dict[str, Any]) -> Any:
        cls = self._class(node["class"])
        if (
            not isinstance(cls, type)
            or not issubclass(cls, tuple)
            or list(getattr(cls, "_fields", ())) != node["names"]
        ):
            raise IntegrityError(
                SUBJECT, names.STRUCTURE,
                f"{node['class']!r} is no tuple of {node['names']}; its package was another version at upload",
            )  # fmt: skip
        return tuple.__new__(cls, self.decode(node["items"]))

    def _dataclass_(self, node: dict[str, Any]) -> Any:
        cls = self._class(node["class"])
        if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
            raise IntegrityError(SUBJECT, names.STRUCTURE, f"{node['class']!r} is no dataclass")
        # Not by its __init__, which may be anybody's and do anything.
        value = self._keep(node, object.__new__(cls))
        for name, item in node["attributes"]:
            _set(value, name, self.decode(item))
        return value

    def _plain_(self, node: dict[str, Any]) -> Any:
        cls = self._class(node["class"])
        if not is_own_object(cls):
            raise IntegrityError(SUBJECT, names.STRUCTURE, f"{node['class']!r} is no class of plain objects")
        value = self._keep(node, object.__new__(cls))
        vars(value).update((name, self.decode(item)) for name, item in node["attributes"])
        return value

    def _linen_(self, node: dict[str, Any]) -> Any:
        cls = self._flax_class(node["class"], names.LINEN)
        fields = {name: self.decode(item) for name, item in node["fields"]}
        late = {name: fields.pop(name) for name in node["late"]}
        value = self._keep(node, cls(parent=None, **fields))
        for name, item in late.items():
            _set(value, name, item)
        return value

    def _node_(self, node: dict[str, Any]) -> Any:
        cls = self._flax_class(node["class"], *names.NODES)
        value = self._keep(node, object.__new__(cls))
        attributes = vars(value)
        for name in names.NODE_STATES:
            if name in node["state"]:
                attributes[name] = _node_state()(*map(bool, node["state"][name]))
        for name in names.NODE_KINDS:
            if name in node["nodes"]:
                kinds = {key: bool(kind) for key, kind in node["nodes"][name]}
                attributes[name] = type(getattr(cls, name))(kinds)
        for name, item in node["attributes"]:
            attributes[name] = self.decode(item)
        return value

    def _variable_(self, node: dict[str, Any]) -> Any:
        import jax

        cls = self._flax_class(node["class"], *names.VARIABLES)
        metadata = dict(self._pairs(node["metadata"]))
        raw = self.decode(node["value"])
        return self._keep(node, cls.from_metadata(jax.new_ref(raw) if metadata.get("ref") else raw, metadata))

    def _variable_type_(self, node: dict[str, Any]) -> Any:
        from flax import nnx

        return nnx.variable_type_from_name(node["name"], allow_register=True)

    def _partial_(self, node: dict[str, Any]) -> Any:
        function, arguments = self.decode(node["function"]), self.decode(node["arguments"])
        return functools.partial(function, *arguments, **dict(self._pairs(node["keywords"])))

    def _method_(self, node: dict[str, Any]) -> Any:
        owner = self.decode(node["of"])
        if not is_of_flax(type(owner)) or not isinstance(_held(type(owner), node["name"]), types.FunctionType):
            raise IntegrityError(SUBJECT, names.STRUCTURE, f"there is no method {node['name']!r}")
        return getattr(owner, node["name"])


def _set(value: Any, name: str, item: Any) -> None:
    """Set an attribute without running any code, and none that is not the object's own."""
    if hasattr(value, "__dict__"):
        vars(value)[name] = item
    elif name in {field.name for field in dataclasses.fields(value)}:
        object.__setattr__(value, name, item)


def _held(cls: type, name: str) -> Any:
    """What a class or the first of its bases holds under a name, without asking any descriptor."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _node_state() -> Any:
    try:
        from flax.nnx.pytreelib import PytreeState
    except ImportError:  # before Flax 0.12
        from flax.nnx.object import ObjectState as PytreeState
    return PytreeState
