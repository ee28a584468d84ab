"""scikit-learn: estimators, pipelines, searches, and what other packages build on its base class.

The format is skops, which holds data and names instead of code. What skops cannot hold, or would not give back as it
was, is pickled, and the record says what it was and why.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from modelstore.folder import ModelFolder
from modelstore.managers._skops_survey import Objection, Survey, full_name, survey
from modelstore.managers._skops_types import SAFE_TYPES
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.pickled import PICKLE, load_pickle, save_pickle
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.pieces import PieceWriter
from modelstore.notices import warn

SKOPS = "model.skops"

_MOST_PARTS = 20_000
_LONGEST_PARAMETER = 1000  # elements of an array; more belongs into a file, not into the record


class SklearnManager(ObjectManager):
    """Stores whatever has `sklearn.base.BaseEstimator` among its parents, unless its own library has a manager."""

    name = "sklearn"
    title = "scikit-learn"
    claims: ClassVar[tuple[str, ...]] = ("sklearn.base:BaseEstimator",)
    distributions: ClassVar[tuple[str, ...]] = (
        "scikit-learn",
        "skops",
        "numpy",
        "scipy",
        "joblib",
        "threadpoolctl",
        "cloudpickle",
    )
    extra = "sklearn"
    limits: ClassVar[tuple[str, ...]] = (
        "estimators that hold open files, locks or connections, which nothing restores",
        "what skops has no form for, such as functions and classes of a notebook, makes the whole estimator a pickle; "
        "the record names the part",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.skops`, or `model.pkl` where skops cannot."""
        state = {"version": _version()}
        try:
            found = survey(obj)
            pieces = _dump(obj)
        except Exception as error:  # skops and the object's own methods raise whatever they like
            if isinstance(error, ModuleNotFoundError) and error.name == "skops":
                warn("skops is not installed, so this model is pickled: pip install 'modelstore[sklearn]'")
            return self._pickle(obj, folder, {**state, "pickle_because": _reason(obj, error)})
        foreign = _foreign_types(pieces, found)
        folder.add_buffers(SKOPS, pieces)
        return Saved(
            "skops",
            state={**state, "types": sorted(found.types & SAFE_TYPES), "foreign": foreign},
            pickled=[SKOPS] if foreign else [],
            modules=found.modules,
        )

    def _pickle(self, obj: Any, folder: ModelFolder, state: dict[str, Any]) -> Saved:
        refusal = f"this {class_name(obj)} can neither be stored with skops ({state['pickle_because']}) nor pickled"
        saved = save_pickle(obj, folder, PICKLE, refusal)
        saved.state = state
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read whichever of the two files there is.

        Raises:
            PickleNotAllowedError: a pickle, or types that are neither reviewed nor trusted by the caller.
        """
        if (folder / SKOPS).exists():
            return _load(folder / SKOPS, state, request.policy, f"the {self.title} model")
        return load_pickle(folder / PICKLE, f"the {self.title} model", request.policy)

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """`get_params(deep=True)`, with text for long arrays and, later, for nested estimators."""
        return {name: _short(value) for name, value in _parameters(obj).items()}


def _dump(obj: Any) -> list[memoryview]:
    import skops.io

    file = PieceWriter()
    skops.io.dump(obj, file)  # stored, not compressed: that is the archive's part
    return file.pieces


def _foreign_types(pieces: list[memoryview], found: Survey) -> list[str]:
    """The types in a skops file that are trusted neither by skops nor by us."""
    if found.types <= _certain_types():
        return []
    import skops.io

    # Reads all arrays on the way, so it is asked only about models that hold something unusual.
    return sorted(set(skops.io.get_untrusted_types(data=b"".join(pieces))) - SAFE_TYPES)


@functools.cache
def _certain_types() -> frozenset[str]:
    """Types of which we know without asking that their files load."""
    from sklearn.utils import all_estimators

    own = {full_name(cls) for _, cls in all_estimators() if cls.__module__.startswith("sklearn.")}
    return SAFE_TYPES | own | {"numpy.ndarray", "numpy.float64", "numpy.int64", "numpy.random._mt19937.MT19937"}


def _load(path: Path, state: Mapping[str, Any], policy: PicklePolicy, subject: str) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    allowed = SAFE_TYPES | policy.trusted_types
    # The state only says which of the allowed types to name, since skops compares each node with each name.
    likely = allowed.intersection([*state.get("types", ()), *policy.trusted_types])
    try:
        return skops.io.load(path, trusted=sorted(likely))
    except UntrustedTypesFoundException:
        needed = skops.io.get_untrusted_types(file=path)
    unknown = sorted(set(needed) - allowed)
    if unknown:
        policy.require(f"{subject} in {SKOPS}", unknown)
    return skops.io.load(path, trusted=needed)


def _reason(obj: Any, error: Exception) -> str:
    """Why skops was not used: where in the model, and what."""
    if not isinstance(error, Objection):
        return f"{type(error).__name__}: {error}"[:300]
    where = _place(obj, error.culprit)
    return f"{where}: {error}" if where else str(error)


def _place(obj: Any, culprit: Any) -> str | None:
    """The parameter of `obj` in which `culprit` lies, or the path of attributes that leads to it."""
    found = _way(obj, culprit)
    if found is None:
        return None
    path, passed = found
    parameters = _parameters(obj).items()
    deepest = next((name for each in reversed(passed) for name, part in parameters if part is each), None)
    return f"parameter {deepest!r}" if deepest else f"attribute {path!r}" if path else None


def _way(obj: Any, culprit: Any) -> tuple[str, list[Any]] | None:
    """The shortest way to `culprit`: as a path, and the objects on it. Breadth first, and not for ever."""
    seen, waiting = {id(obj)}, deque([("", [obj])])
    while waiting and len(seen) < _MOST_PARTS:
        path, passed = waiting.popleft()
        if passed[-1] is culprit or type(passed[-1]) is culprit:
            return path.removeprefix("."), passed
        for step, part in _parts(passed[-1]):
            if id(part) not in seen:
                seen.add(id(part))
                waiting.append((path + step, [*passed, part]))
    return None


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(obj, (list, tuple)):
        yield from ((f"[{at}]", part) for at, part in enumerate(obj))
    elif isinstance(obj, dict):
        yield from ((f"[{key!r}]", part) for key, part in obj.items())
    elif not isinstance(obj, type):
        yield from ((f".{name}", part) for name, part in getattr(obj, "__dict__", {}).items())


def _parameters(obj: Any) -> dict[str, Any]:
    """`get_params(deep=True)`; of a class that has none or breaks its rules, what is called as its arguments are."""
    try:
        return dict(obj.get_params(deep=True))
    except Exception:
        names = inspect.signature(type(obj)).parameters
        return {name: value for name, value in vars(obj).items() if name in names}


def _short(value: Any) -> Any:
    size = getattr(value, "size", None)
    return repr(value) if isinstance(size, int) and size > _LONGEST_PARAMETER else value


def _version() -> str:
    import sklearn

    return str(sklearn.__version__)
