"""Whether skops will give back an object as it is, found out before anything is written.

skops dumps more than it restores: a lambda becomes a name that no import finds, a class with a `__reduce__` of its
own is rebuilt without it, the key `False` of a dict comes back as `True`. Loading the file at every upload would find
such cases at the price of a load, so the object is walked instead, by a pickler that writes nowhere: it meets every
object that is not a plain builtin, costs a hundredth of the dump, and copies no array.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import pickle
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from modelstore.managers._skops_types import SAFE_TYPES
from modelstore.managers.pickling import is_importable

_KEY_TYPES = frozenset({"builtins.str", "builtins.int", "builtins.float", "numpy.str_"})
# Pickle rebuilds objects of compiled classes and of numpy with these functions; skops does without.
_HELPERS = ("__pyx_unpickle_", "newObj")
_HELPER_MODULES = ("_codecs", "copyreg", "numpy._core.", "numpy.core.", "numpy.ma.core", "numpy.random._pickle")


class Objection(Exception):
    """Why skops would not give this object back; `culprit` is the part that it is about."""

    def __init__(self, reason: str, culprit: Any) -> None:
        super().__init__(reason)
        self.culprit = culprit


@dataclass
class Survey:
    """What an object is made of."""

    types: set[str] = field(default_factory=set)
    """Full names of the classes and functions in it, as skops writes them."""
    modules: set[str] = field(default_factory=set)
    """The modules that define them."""


def survey(obj: Any) -> Survey:
    """Walk an object.

    Raises:
        Objection: skops would not restore it, or not to the same.
        Whatever the object's own pickling raises.
    """
    surveyor = _Surveyor()
    surveyor.dump(obj)
    return surveyor.found


def full_name(obj: Any) -> str:
    """The name of a class or function as skops writes it."""
    return f"{obj.__module__}.{obj.__name__}"


_KINDS: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()  # classes of a notebook come and go


class _Nowhere:
    def write(self, data: Any) -> int:
        return len(data)


class _Surveyor(pickle.Pickler):
    def __init__(self) -> None:
        # Taking buffers out of band is what keeps arrays from being copied.
        super().__init__(_Nowhere(), protocol=5, buffer_callback=lambda buffer: None)
        self.found = Survey()

    def reducer_override(self, obj: Any) -> Any:
        """Look at one object; called for all but exact builtin values and containers."""
        if isinstance(obj, (type, types.FunctionType)):
            if not is_importable(obj):
                raise Objection(f"{obj.__module__}.{obj.__qualname__} is not found by an import elsewhere", obj)
            if obj.__qualname__ != obj.__name__:
                raise Objection(f"{obj.__module__}.{obj.__qualname__} is nested, which skops does not record", obj)
            self._note(obj)
        else:
            self._examine(obj)
        return NotImplemented

    def _note(self, named: Any) -> None:
        if not named.__module__.startswith(_HELPER_MODULES) and named not in _losses():
            self.found.types.add(full_name(named))
            self.found.modules.add(named.__module__)

    def _examine(self, obj: Any) -> None:
        cls = type(obj)
        how = _KINDS.get(cls) or _KINDS.setdefault(cls, _kind(cls))
        if how == "function":
            if obj.__name__.startswith(_HELPERS):
                return
            if cls.__name__ == "cython_function_or_method" or not isinstance(obj.__module__, str):
                raise Objection(f"{obj.__qualname__} is a compiled function that skops cannot restore", obj)
            self._note(obj)
        elif how == "unknown":
            raise Objection(f"{full_name(cls)} has its own way to be pickled, which skops ignores", obj)
        elif how == "array" and obj.dtype.hasobject:
            nested = any(isinstance(item, (list, tuple)) or hasattr(item, "shape") for item in obj.flat)
            if obj.ndim == 0 or (obj.ndim > 1 and (nested or not obj.size)):
                raise Objection(f"an array of objects of shape {obj.shape} comes back from skops in another", obj)
            _check_containers(obj.ravel().tolist(), obj)
        elif isinstance(obj, dict):
            _check_containers([dict(obj)], obj)
        elif how == "plain":
            _check_containers(vars(obj).values(), obj)


def _kind(cls: type) -> str:
    """How skops treats objects of this class: array, function, known, plain, or unknown to it."""
    import numpy

    if issubclass(cls, numpy.ndarray):
        if cls is numpy.ma.MaskedArray:
            return "known"
        return "array" if cls in (numpy.ndarray, numpy.matrix) else "unknown"
    if cls.__name__ in ("cython_function_or_method", "_ArrayFunctionDispatcher") or cls is types.BuiltinFunctionType:
        return "function"
    if cls in _restored_types() or full_name(cls) in SAFE_TYPES or issubclass(cls, (numpy.generic, numpy.dtype)):
        return "known"
    return "plain" if _is_plain(cls) else "unknown"


@functools.cache
def _restored_types() -> frozenset[Any]:
    """Types that skops has a way of its own for, and restores to the same."""
    import numpy.random
    import scipy.sparse

    own = {OrderedDict, defaultdict, slice, functools.partial, pickle.PickleBuffer, numpy.ufunc}
    # What save_npz takes; in newer versions of scipy there are arrays beside the matrices.
    forms = [f"{form}_{kind}" for form in ("bsr", "coo", "csc", "csr", "dia") for kind in ("matrix", "array")]
    sparse = {getattr(scipy.sparse, form) for form in forms if hasattr(scipy.sparse, form)}
    random = {numpy.random.RandomState, numpy.random.Generator, numpy.random.SeedSequence, numpy.random.MT19937}
    random |= {numpy.random.PCG64, numpy.random.PCG64DXSM, numpy.random.Philox, numpy.random.SFC64}
    return frozenset(own | sparse | random | _losses())


@functools.cache
def _losses() -> frozenset[Any]:
    """scikit-learn's compiled losses, which skops trusts; before 1.8 they called their module `_loss`."""
    found: set[Any] = set()
    for module, names in _LOSSES.items():
        try:
            present = vars(importlib.import_module(module))
        except ImportError:
            continue
        found |= {present[name] for name in names.split() if name in present}
    return frozenset(found)


_LOSSES = {
    "sklearn._loss._loss": "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss "
    "CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss CyPinballLoss",
    "sklearn.linear_model._sgd_fast": "EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive SquaredHinge",
}


def _is_plain(cls: type) -> bool:
    """Whether `__new__` and setting the state (or `__dict__`) rebuild an object, which is all that skops does."""
    if cls.__reduce_ex__ is not object.__reduce_ex__ or cls.__reduce__ is not object.__reduce__:  # type: ignore[comparison-overlap]
        return False
    if hasattr(cls, "__getnewargs__") or hasattr(cls, "__getnewargs_ex__") or cls in copyreg.dispatch_table:
        return False
    if any(vars(base).get("__slots__") for base in cls.__mro__):
        return False
    # More than room for a __dict__ and weak references means fields that only C can reach.
    word = object.__basicsize__ // 2
    return cls.__dictoffset__ != 0 and cls.__basicsize__ - object.__basicsize__ <= 2 * word


def _check_containers(values: Iterable[Any], owner: Any) -> None:
    """Look for dicts whose keys do not survive JSON, which is how skops writes them."""
    for value in values:
        kind = type(value)
        if kind in (list, tuple):
            _check_containers(value, owner)
        elif isinstance(value, dict):
            key_types = {full_name(key_type) for key_type in set(map(type, value))}
            if len(key_types) > 1 or not all(name in _KEY_TYPES or _is_number(name) for name in key_types):
                raise Objection(f"a dict with keys of {', '.join(sorted(key_types))} comes back changed", owner)
            _check_containers(value.values(), owner)


def _is_number(name: str) -> bool:
    return name.startswith(("numpy.int", "numpy.uint", "numpy.float"))
