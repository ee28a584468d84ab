"""An object of gensim and the objects inside of it: attributes as exact JSON, large arrays as `.npy` files.

Objects, random states and arrays that stand in several places are written once, so that they are one after a load too.
Names in the file lead only to gensim's own `SaveLoad` classes and to the few functions that are listed here: a function
could run whatever it is given.
"""

from __future__ import annotations

import functools
import io
import json
import types
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers import exact_json
from modelstore.managers.base import class_name
from modelstore.managers.classes import framework_class, import_object, is_of, name_of

TREE = "model.json"
ROOTS = ("gensim.utils:SaveLoad",)

FUNCTIONS = frozenset(
    {
        "builtins:hash",
        "zlib:adler32",
        "gensim.models.ensemblelda:mass_masking",
        "gensim.models.ensemblelda:rank_masking",
        "gensim.models.phrases:npmi_scorer",
        "gensim.models.phrases:original_scorer",
        "gensim.models.tfidfmodel:df2idf",
        "gensim.models.tfidfmodel:smartirs_wglobal",
        "gensim.models.tfidfmodel:smartirs_wlocal",
        "gensim.utils:call_on_class_only",
        "gensim.utils:identity",
    }
)
"""Functions that gensim's models hold as attributes unless they are told otherwise."""

PLAIN = frozenset(
    {
        "gensim.models.ensemblelda:CBDBSCAN",
        "gensim.models.ensemblelda:Cluster",
        "gensim.models.ensemblelda:Topic",
        "gensim.models.poincare:NegativesBuffer",
        "gensim.models.translation_matrix:Space",
        "gensim.utils:FakeDict",
    }
)
"""Classes of gensim's that are no `SaveLoad` and hold nothing but attributes."""

GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})

_MADE_BY_PYTHON = 1 << 9
"""CPython's Py_TPFLAGS_HEAPTYPE."""

_SMALL = 64  # elements; a file of its own would be mostly header

_DERIVED: dict[str, tuple[str, ...]] = {"FastTextKeyedVectors": ("buckets_word",)}
"""Attributes that are computed again, by class: a list of one small array for each word."""


class Writer:
    """Writes one object to a folder."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._known: dict[int, int] = {}
        self._alive: list[Any] = []  # keeps the keys of `_known` from being given to other objects
        self._arrays: list[tuple[str, list[Any]]] = []

    def write(self, obj: Any) -> None:
        """Write `model.json` and the arrays.

        Raises:
            TypeError: it holds something that only a pickle restores; then nothing is written.
            UnsupportedObjectError: it is of no use without files that lie elsewhere.
        """
        tree = exact_json.encode(obj, self._special)
        self._folder.add_json(TREE, tree)
        for name, pieces in self._arrays:
            self._folder.add_buffers(name, pieces)

    def _special(self, value: Any) -> Any:
        import numpy
        import scipy.sparse

        kind = type(value)
        if kind is numpy.ndarray and value.dtype.kind in "biuf" and not _is_small(value):
            return self._once(value, self._array)
        if kind in (numpy.random.RandomState, numpy.random.Generator):
            return self._once(value, self._random)
        if kind in (set, frozenset):
            return {kind.__name__: [exact_json.encode(item, self._special) for item in value]}
        if isinstance(value, type) and issubclass(value, numpy.generic):
            return {"type": value.__name__}
        if scipy.sparse.issparse(value) and value.format in ("csr", "csc"):
            parts = [exact_json.encode(getattr(value, part), self._special) for part in ("data", "indices", "indptr")]
            return {"sparse": kind.__name__, "parts": parts, "shape": list(value.shape)}
        if isinstance(value, numpy.dtype):
            return {"dtype": value.str}
        if isinstance(value, type):
            return {"of gensim": name_of(value)} if _is_own(value) else None
        if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
            return {"function": name_of(value)} if name_of(value) in FUNCTIONS else None
        if kind is functools.partial:
            parts = [value.func, value.args, value.keywords]
            return {"partial": [exact_json.encode(part, self._special) for part in parts]}
        return self._once(value, self._object) if _is_own(kind) else None

    def _once(self, value: Any, write: Any) -> Any:
        if id(value) in self._known:
            return {"again": self._known[id(value)]}
        number = self._known[id(value)] = len(self._known)
        self._alive.append(value)
        return {"number": number, **write(value)}

    def _array(self, value: Any) -> Any:
        import numpy

        name = f"arrays/{len(self._arrays)}.npy"
        if not (value.flags.c_contiguous or value.flags.f_contiguous):
            value = numpy.ascontiguousarray(value)
        header = io.BytesIO()
        numpy.lib.format.write_array_header_1_0(header, numpy.lib.format.header_data_from_array_1_0(value))
        data = value if value.flags.c_contiguous else value.T
        self._arrays.append((name, [header.getvalue(), memoryview(data).cast("B")]))
        return {"file": name}

    def _random(self, value: Any) -> Any:
        import numpy

        if isinstance(value, numpy.random.RandomState):
            return {"random": exact_json.encode(value.get_state(legacy=False))}
        return {"generator": exact_json.encode(value.bit_generator.state)}

    def _object(self, value: Any) -> Any:
        refuse(value)
        if _holds_more(value):
            raise TypeError(name_of(type(value)).replace(":", "."))
        custom = any("__getstate__" in vars(base) for base in type(value).__mro__ if base is not object)
        state = dict(value.__getstate__() if custom else vars(value))
        for name in _DERIVED.get(type(value).__name__, ()):
            state.pop(name, None)
        if _is_counted(state):
            state["key_to_index"] = None
        # As pairs, since whatever is written once has to be read in the order in which it was met.
        attributes = [[name, exact_json.encode(item, self._special)] for name, item in state.items()]
        return {"class": class_name(value), "attributes": attributes}


def _is_small(array: Any) -> bool:
    # In columns, only a file keeps it; sums over it could round otherwise.
    return bool(array.size <= _SMALL and (array.flags.c_contiguous or not array.flags.f_contiguous))


def _is_counted(state: dict[str, Any]) -> bool:
    """Whether keys have the positions that they have in the list of keys, so that one of the two is enough."""
    keys, positions = state.get("index_to_key"), state.get("key_to_index")
    if not isinstance(keys, list) or type(positions) is not dict or len(keys) != len(positions):
        return False
    pairs = enumerate(zip(keys, positions.items(), strict=True))
    return all(key == counted and at == position for at, (key, (counted, position)) in pairs)


def refuse(obj: Any) -> None:
    """Refuse what keeps its data in files of its own.

    Raises:
        UnsupportedObjectError: naming the class, and what to upload instead.
    """
    names = {name_of(base) for base in type(obj).__mro__}
    if "gensim.similarities.docsim:Similarity" in names and getattr(obj, "shards", None):
        raise UnsupportedObjectError(
            "this Similarity keeps its index in files of its own: use a MatrixSimilarity or SparseMatrixSimilarity, or "
            "pass the folder of its files as model=",
            class_name(obj),
        )
    sources = (getattr(obj, name, None) for name in ("fname", "input"))
    if "gensim.interfaces:CorpusABC" in names and any(source is not None for source in sources):
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} reads its documents from elsewhere: pass the path of that file as model=",
            class_name(obj),
        )


class Reader:
    """Reads what a `Writer` wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, Any] = {}

    def read(self) -> Any:
        """The object; its arrays are private copies that lie in the file until they are read or changed.

        Raises:
            IntegrityError: a file is missing or is not what a `Writer` writes.
        """
        try:
            return exact_json.decode(json.loads((self._folder / TREE).read_bytes()), self._special)
        except IntegrityError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError("the gensim model", TREE, f"it cannot be read: {error!r}") from error

    def _special(self, found: Any) -> Any:
        import numpy

        if "again" in found:
            return self._known[found["again"]]
        if "class" in found:
            return self._object(found)
        if "of gensim" in found:
            return _class(found["of gensim"])
        if "function" in found:
            return _function(found["function"])
        if "partial" in found:
            function, arguments, keywords = exact_json.decode(found["partial"], self._special)
            return functools.partial(function, *arguments, **keywords)
        if "dtype" in found:
            return numpy.dtype(found["dtype"])
        if "type" in found:
            return numpy.dtype(found["type"]).type
        if "sparse" in found:
            return self._sparse(found)
        for name, cls in (("set", set), ("frozenset", frozenset)):
            if name in found:
                return cls(exact_json.decode(found[name], self._special))
        self._known[found["number"]] = value = self._array(found["file"]) if "file" in found else _random(found)
        return value

    def _object(self, found: Any) -> Any:
        cls = _class(found["class"])
        obj = self._known[found["number"]] = cls.__new__(cls)
        state = {name: exact_json.decode(item, self._special) for name, item in found["attributes"]}
        if "key_to_index" in state and state["key_to_index"] is None:
            state["key_to_index"] = {key: at for at, key in enumerate(state["index_to_key"])}
        # Not by __setstate__: RpModel's marks itself to be copied, as pickle forgets the layout of its array.
        vars(obj).update(state)
        if cls.__name__ == "FastTextKeyedVectors":
            obj.recalc_char_ngram_buckets()
        return obj

    def _array(self, name: str) -> Any:
        import numpy

        if not name.removeprefix("arrays/").removesuffix(".npy").isdigit():
            raise IntegrityError("the gensim model", TREE, f"{name!r} is no array's file")
        mapped = numpy.load(self._folder / name, mmap_mode="c", allow_pickle=False)
        return numpy.asarray(mapped)

    def _sparse(self, found: Any) -> Any:
        import scipy.sparse

        kinds = ("csc_array", "csc_matrix", "csr_array", "csr_matrix")
        cls = getattr(scipy.sparse, kinds[kinds.index(found["sparse"])])
        return cls(tuple(exact_json.decode(found["parts"], self._special)), shape=tuple(found["shape"]), copy=False)


def _random(found: Any) -> Any:
    import numpy

    if "random" in found:
        state = numpy.random.RandomState()
        state.set_state(exact_json.decode(found["random"]))
        return state
    values = exact_json.decode(found["generator"])
    if values["bit_generator"] not in GENERATORS:
        raise IntegrityError("the gensim model", TREE, f"{values['bit_generator']!r} is no generator of numpy's")
    generator = numpy.random.Generator(getattr(numpy.random, values["bit_generator"])())
    generator.bit_generator.state = values
    return generator


def _is_own(cls: type) -> bool:
    names = {name_of(base) for base in cls.__mro__}
    return is_of(cls, "gensim") and (not names.isdisjoint(ROOTS) or name_of(cls) in PLAIN)


def _holds_more(value: Any) -> bool:
    """Whether there is state besides the attributes, in a class that is compiled or derives from a builtin one."""
    cls: Any = type(value)
    while cls is not object:
        if not cls.__flags__ & _MADE_BY_PYTHON:
            return not (cls is dict and not dict.__len__(value))
        cls = cls.__base__
    return False


def _class(name: Any) -> Any:
    return framework_class(name, "gensim", (*ROOTS, *PLAIN))


def _function(name: str) -> Any:
    if name not in FUNCTIONS:
        raise IntegrityError("the gensim model", TREE, f"{name!r} is none of the functions that gensim's models hold")
    return import_object(name)
