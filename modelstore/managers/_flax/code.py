"""Functions and classes by name: which names a structure may hold, and closures of the frameworks' own functions.

`nn.initializers.normal(0.02)` and `optax.adam(1e-3)` are functions made by functions, which no import finds. Their code
lies in the installed package all the same: it is found by the name of the function that made them, and only what they
enclose is stored. So they need no pickle, and hold no byte code.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Iterator
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.managers.pickling import is_importable

_PREFIXES = (
    "flax.linen", "flax.nnx", "flax.core", "flax.struct", "flax.training.train_state", "flax.training.dynamic_scale",
    "flax.training.early_stopping", "jax.nn", "jax._src.nn", "jax.numpy", "jax._src.numpy", "jax.lax", "jax._src.lax",
    "jax.random", "jax._src.random", "jax.scipy", "jax._src.scipy", "jax._src.ops", "jax._src.image", "optax",
)  # fmt: skip
"""Modules whose functions only compute: naming any of them, with any arguments, does no harm."""

_NOT = frozenset(
    {"load", "save", "savez", "fromfile", "from_dlpack", "fromfunction", "frompyfunc", "printoptions", "vectorize",
     "set_printoptions", "pure_callback", "io_callback", "apply_along_axis", "apply_over_axes", "piecewise"}
)  # fmt: skip
"""Functions in them that read and write files, or call what they are given on the host."""

_BUILTINS = frozenset({"bool", "int", "float", "complex", "str", "bytes", "list", "tuple", "dict", "set", "object"})

FLAX_ROOTS = frozenset(
    {
        "flax.linen.module:Module", "flax.nnx.pytreelib:Pytree", "flax.nnx.object:Object", "flax.nnx.module:Module",
        "flax.nnx.variablelib:Variable", "flax.struct:PyTreeNode", "flax.nnx.statelib:State",
    }
)  # fmt: skip
"""Classes whose subclasses, a user's included, are built from stored attributes, as Flax does it itself."""


def name_of(obj: Any) -> str | None:
    """`module:qualname` under which an import finds this class or function; None if there is no such name."""
    module, qualname = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if is_importable(obj):
        return f"{module}:{qualname}"
    name = getattr(obj, "__name__", None)
    # The ufuncs of jax.numpy have no __qualname__.
    if isinstance(module, str) and isinstance(name, str) and qualname is None and _find(module, name) is obj:
        return f"{module}:{name}"
    return None


def is_harmless(name: str, obj: Any) -> bool:
    """Whether anybody may name this class or function, as it is the frameworks' own and only computes."""
    module, _, qualname = name.partition(":")
    if module == "builtins":
        return qualname in _BUILTINS
    if module == "numpy":
        return isinstance(obj, type) and any(f"{b.__module__}:{b.__qualname__}" == "numpy:generic" for b in obj.__mro__)
    # An attribute of a module that is another module's own, such as `flax.core:os.system`, has another name.
    return name_of(obj) == name and is_computing(module) and qualname.rpartition(".")[2] not in _NOT


def is_own_object(cls: Any) -> bool:
    """Whether a class is the frameworks' own, with instances that consist of their attributes and no more."""
    return (
        isinstance(cls, type)
        and is_computing(cls.__module__)
        and is_importable(cls)
        and cls.__dictoffset__ != 0
        and not any({"__reduce__", "__reduce_ex__"} & vars(base).keys() for base in cls.__mro__[:-1])
        and not any(issubclass(cls, builtin) for builtin in (dict, list, tuple, set, frozenset, str, int, float, type))
    )


def is_of_flax(obj: Any) -> bool:
    """Whether this is a class that derives from one of Flax' root classes."""
    return isinstance(obj, type) and any(f"{b.__module__}:{b.__qualname__}" in FLAX_ROOTS for b in obj.__mro__)


def find(name: Any) -> Any:
    """The class or function called `module:qualname`.

    Raises:
        IntegrityError: it is no such name, or the module does not hold it.
        ModuleNotFoundError: the module is not installed.
    """
    module, _, qualname = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not module or not qualname or "<locals>" in qualname:
        raise IntegrityError("the record", "structure", f"{name!r} names nothing that can be imported")
    importlib.import_module(module)
    found = _find(module, qualname)
    if found is None:
        raise IntegrityError(
            "the record",
            "structure",
            f"{module} holds no {qualname}; the package may have been another version at upload",
        )
    return found


def closure_name(function: Any) -> tuple[str, int] | None:
    """By which name, and as which of several of that name, `find_code` finds the code of a function.

    None for a function that is not the frameworks' own, or whose code lies elsewhere than its name says.
    """
    if type(function) is not types.FunctionType or vars(function).keys() - {"__wrapped__"}:
        return None
    # A function that wraps another bears its name; the code tells its own since Python 3.11.
    module = str(function.__globals__.get("__name__"))
    qualname = getattr(function.__code__, "co_qualname", function.__qualname__)
    name = f"{module}:{qualname}"
    if not is_computing(module) or "<locals>" not in qualname:
        return None
    try:
        found = list(_codes(name))
    except (ImportError, IntegrityError):
        return None
    return next(((name, at) for at, code in enumerate(found) if code == function.__code__), None)


def find_code(name: Any, at: Any, free: Any) -> types.CodeType:
    """The code of a function that a function of the frameworks' makes.

    Args:
        name: `module:outer.<locals>.inner`.
        at: which of several functions of this name.
        free: the names of what it encloses.

    Raises:
        IntegrityError: the installed version has no such function.
    """
    module = name.partition(":")[0] if isinstance(name, str) else ""
    if is_computing(module) and isinstance(at, int):
        for code in list(_codes(name))[at : at + 1]:
            if list(code.co_freevars) == free:
                return code
    raise IntegrityError(
        "the record", "structure",
        f"the installed {module.partition('.')[0]} makes no function {name!r} that encloses {free!r}; it was another "
        "version at upload, see requirements.txt",
    )  # fmt: skip


def _codes(name: str) -> Iterator[types.CodeType]:
    module, _, qualname = name.partition(":")
    outer, *inner = qualname.split(".<locals>.")
    function = inspect.unwrap(find(f"{module}:{outer}"))
    level = [function.__code__] if isinstance(function, types.FunctionType) else []
    for part in inner:
        level = [code for above in level for code in above.co_consts if _is_code(code) and code.co_name == part]
    yield from level


def _is_code(value: Any) -> bool:
    return isinstance(value, types.CodeType)


def is_computing(module: str) -> bool:
    """Whether a module is one of those of the frameworks that only compute."""
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in _PREFIXES)


def _find(module: str, qualname: str) -> Any:
    import sys

    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found
