"""Classes in a pipeline that are not Spark's: pickled beside its files, and lent to Spark's reader while it loads."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from modelstore.exceptions import IntegrityError

_LENDING = threading.RLock()
_DEPTH = 50


def own_classes(obj: Any) -> dict[str, type]:
    """The classes of an object and of all stages in it that are not Spark's, by the name that metadata give them."""
    found: dict[str, type] = {}
    for part in parts_of(obj):
        cls = type(part)
        if not cls.__module__.startswith("pyspark."):
            found[f"{cls.__module__}.{cls.__name__}"] = cls
    return found


def parts_of(obj: Any) -> list[Any]:
    """An object and the stages, models, evaluators and parameters' values in it."""
    from pyspark.ml.param import Params

    found: dict[int, Any] = {}
    level = [obj]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, Params):
                if id(value) not in found:
                    found[id(value)] = value
                    below.extend(vars(value).values())
            elif isinstance(value, Mapping):
                below.extend(value.values())
            elif isinstance(value, (list, tuple)):
                below.extend(value)
        level = below
    return list(found.values())


@contextmanager
def lent(classes: Mapping[str, Any]) -> Iterator[None]:
    """Within it, an import finds each class under the name that metadata give it.

    Raises:
        IntegrityError: one is no class of Spark's pipelines.
    """
    from pyspark.ml.param import Params

    with _LENDING:
        undo: list[tuple[Any, str, Any]] = []
        made: list[str] = []
        try:
            for name, cls in classes.items():
                if not isinstance(cls, type) or not issubclass(cls, Params):
                    raise IntegrityError("the Spark model", "classes.pkl", f"{name!r} is no class of a pipeline")
                place, _, short = name.rpartition(".")
                if place not in sys.modules:
                    sys.modules[place] = types.ModuleType(place)
                    made.append(place)
                module = sys.modules[place]
                undo.append((module, short, getattr(module, short, _NOTHING)))
                setattr(module, short, cls)
            yield
        finally:
            for module, short, before in reversed(undo):
                if before is _NOTHING:
                    delattr(module, short)
                else:
                    setattr(module, short, before)
            for place in made:
                del sys.modules[place]


_NOTHING = object()
