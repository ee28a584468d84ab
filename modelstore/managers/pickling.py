"""Pickles: how they are written, and the one place that decides whether one may be loaded.

Classes and functions of `__main__` (a notebook, a script) and those that no import finds are pickled by value with
cloudpickle, all others by reference, unless a manager wants a module's code to travel. Which modules a pickle refers to
is collected on the way, for requirements.txt and for a warning about modules that are not installed.
"""

from __future__ import annotations

import copyreg
import functools
import io
import os
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from modelstore.exceptions import PickleNotAllowedError, RuntimeMismatchError

PROTOCOL = 5  # since Python 3.8; buffers of numpy arrays are written without a copy

_NET_PARTS = "__cuda_dependent_attributes__"
"""Where a net of skorch keeps a pickle of its modules and optimizers within its own."""


class Sink(Protocol):
    """What a pickle is written to: a binary file, or anything else that takes its pieces."""

    def write(self, data: Any, /) -> Any:
        """Take bytes, or a buffer that must not change until it has been used."""


@dataclass(frozen=True)
class PicklePolicy:
    """The reader's choice, made once a load."""

    allow_pickle: bool
    trusted_types: frozenset[str] = field(default_factory=frozenset)
    """Full names of further types that may be built from safe formats."""
    advice: str | None = None
    """What the refusal is to say, when not the usual."""

    def require(self, subject: str, types: Iterable[str] = ()) -> None:
        """Refuse unless pickles are allowed. To be called before anything that can run stored code.

        Raises:
            PickleNotAllowedError: naming `subject` and the types that asked for it.
        """
        if not self.allow_pickle:
            raise PickleNotAllowedError(subject, types, self.advice)


@dataclass
class Pickled:
    """What a pickle holds."""

    modules: set[str] = field(default_factory=set)
    """Modules that it refers to by name, or whose classes and functions it does."""
    by_value: bool = False
    """Whether it holds byte code."""
    travelling: set[str] = field(default_factory=set)
    """Modules that an import would find, and whose code it holds nevertheless, as it was asked to."""


def dump(
    obj: Any,
    file: Sink,
    persistent_id: Callable[[Any], Any] | None = None,
    travels: Callable[[str], bool] | None = None,
) -> Pickled:
    """Pickle to a file.

    Args:
        persistent_id: see `pickle.Pickler.persistent_id`.
        travels: says of a module's name whether its code is to go along, by value. Asked once about each module that
            the object refers to.

    Raises:
        Whatever the object's own pickling raises, `pickle.PicklingError` and `TypeError` among it.
    """
    with _travellers(travels) as register:
        pickler = _pickler_class(persistent_id is not None)(file, persistent_id, register)
        pickler.dump(obj)
    pickled: Pickled = pickler.pickled
    return pickled


def dumps(
    obj: Any, persistent_id: Callable[[Any], Any] | None = None, travels: Callable[[str], bool] | None = None
) -> tuple[bytes, Pickled]:
    """Pickle to bytes; see `dump`."""
    file = io.BytesIO()
    pickled = dump(obj, file, persistent_id, travels)
    return file.getvalue(), pickled


_registry_lock = threading.RLock()


def _renew_lock() -> None:
    # The thread that held it while its process was forked does not exist in the new one.
    global _registry_lock
    _registry_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def _travellers(travels: Callable[[str], bool] | None) -> Iterator[Callable[[str], bool] | None]:
    """Gives what registers a module with cloudpickle if it travels, and takes all of them out again in the end.

    That registry is the process's: without the lock, code would travel in another thread's pickle too.
    """
    import cloudpickle

    with _registry_lock:
        if travels is None:
            yield None
            return
        asked: dict[str, bool] = {}

        def register(name: str) -> bool:
            if name not in asked:
                asked[name] = name in sys.modules and not _is_registered(name) and travels(name)
                if asked[name]:
                    cloudpickle.register_pickle_by_value(sys.modules[name])
            return asked[name]

        try:
            yield register
        finally:
            for name in (name for name, registered in asked.items() if registered):
                with suppress(ValueError):  # the user has taken it out meanwhile
                    # By a stand-in, as pickling may have taken the module itself out of sys.modules.
                    cloudpickle.unregister_pickle_by_value(types.ModuleType(name))


def _is_registered(module: str) -> bool:
    """Whether the user has told cloudpickle to take this module, or a package above it, by value."""
    import cloudpickle

    registered = cloudpickle.list_registry_pickle_by_value()
    return any(module == name or module.startswith(f"{name}.") for name in registered)


def load(
    file: BinaryIO, subject: str, policy: PicklePolicy, persistent_load: Callable[[Any], Any] | None = None
) -> Any:
    """Unpickle from a file, if the policy allows it.

    Args:
        subject: what is loaded, for the error.
        persistent_load: see `pickle.Unpickler.persistent_load`.

    Raises:
        PickleNotAllowedError: the policy refuses.
        Whatever the objects' own unpickling raises.
    """
    policy.require(subject)
    unpickler = _Unpickler(file)
    unpickler.resolve = persistent_load
    return unpickler.load()


def python_version() -> str:
    """The version on which byte code depends, such as `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def check_python(saved: str, subject: str) -> None:
    """Refuse byte code of another Python version, which can crash the interpreter.

    Raises:
        RuntimeMismatchError: naming both versions.
    """
    if saved != python_version():
        raise RuntimeMismatchError(saved, python_version(), subject)


def is_importable(obj: Any) -> bool:
    """Whether `import` in another process would find this class or function under its own name."""
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if module is None or name is None or module == "__main__" or module not in sys.modules:
        return False
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is obj


class _Unpickler(pickle.Unpickler):
    resolve: Callable[[Any], Any] | None = None

    def persistent_load(self, pid: Any) -> Any:
        if self.resolve is None:
            raise pickle.UnpicklingError("this pickle refers to data that lies beside it")
        return self.resolve(pid)


def _net_class() -> Any:
    """The class of skorch's nets, if it is imported."""
    return getattr(sys.modules.get("skorch.net"), "NeuralNet", None)


def _reads_any_pickle() -> bool:
    """Whether nets of this skorch do so for their modules; those of earlier releases read what torch saves."""
    return hasattr(sys.modules.get("skorch.utils"), "_TorchLoadUnpickler")


@functools.cache
def _pickler_class(persistent: bool) -> Any:
    import cloudpickle  # 10 ms that an import of modelstore need not pay

    class CollectingPickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(
            self, file: Sink, resolve: Callable[[Any], Any] | None, register: Callable[[str], bool] | None
        ) -> None:
            self.pickled = Pickled()
            self.resolve = resolve
            self.register = register
            self.net = _net_class()
            super().__init__(file, protocol=PROTOCOL)

        def reducer_override(self, obj: Any) -> Any:
            # Called for every module, class and function, and for instances before their __reduce__.
            if isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)):
                self.collect(obj, getattr(obj, "__module__", None))
            elif isinstance(obj, types.ModuleType):
                self.collect(obj, obj.__name__)
            elif self.net is not None and isinstance(obj, self.net):
                return self.reduce_net(obj)
            return super().reducer_override(obj)

        def reduce_net(self, net: Any) -> Any:
            """As skorch does it, less its own pickle, in which nothing goes in by value: its modules, for one."""
            if type(net).__getstate__ is not self.net.__getstate__:
                return NotImplemented
            state = dict(vars(net))
            prefixes = tuple(net.cuda_dependent_attributes_)
            names = [name for name in state if isinstance(name, str) and name.startswith(prefixes)]
            file = io.BytesIO()
            inner = type(self)(file, None, self.register)
            inner.dump({name: state.pop(name) for name in names})
            if not _reads_any_pickle():
                if inner.pickled.by_value:
                    raise pickle.PicklingError("a skorch net of a notebook's classes within another takes skorch 1.2")
                return NotImplemented
            self.pickled.modules |= inner.pickled.modules
            self.pickled.by_value |= inner.pickled.by_value
            self.pickled.travelling |= inner.pickled.travelling
            return copyreg.__newobj__, (type(net),), {**state, _NET_PARTS: file.getvalue()}  # type: ignore[attr-defined]

        def collect(self, obj: Any, module: Any) -> None:
            if isinstance(obj, types.ModuleType):
                by_value = module not in sys.modules
            elif isinstance(obj, types.BuiltinFunctionType) or module == "builtins":  # it has no byte code
                return None if module is None else self.pickled.modules.add(module)
            else:
                by_value = not is_importable(obj)
            if not by_value and self.register is not None and self.register(module):
                self.pickled.travelling.add(module)
                by_value = True
            if by_value or _is_registered(module):
                self.pickled.by_value = True
            else:
                self.pickled.modules.add(module)

    class PersistentPickler(CollectingPickler):
        # A class of its own: the hook costs a call of Python for every object.
        def persistent_id(self, obj: Any) -> Any:
            return self.resolve(obj) if self.resolve is not None else None

    return PersistentPickler if persistent else CollectingPickler
