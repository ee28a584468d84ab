"""What the ancestor's `load` gave for each of its libraries, from the files that it packed.

Where it could save more than it could load (a class that its table did not name), the object is given as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelstore.ancestor import frameworks
from modelstore.exceptions import IntegrityError, InvalidArgumentError, MissingDependencyError, NewerFormatError
from modelstore.managers.pickling import PicklePolicy, python_version
from modelstore.notices import warn

MULTIPLE = "multiple-models"


@dataclass(frozen=True)
class Part:
    """One of the objects of an archive, to be loaded."""

    folder: Path
    type: str
    """The name of its class, without its module; empty where nobody noted it."""
    parameters: Mapping[str, Any]
    policy: PicklePolicy
    subject: str
    device: str | None = None
    into: Any = None

    def file(self, name: str) -> Path:
        """A file of the archive.

        Raises:
            IntegrityError: it is not there.
        """
        path = self.folder / name
        if not path.exists():
            raise IntegrityError(self.subject, "archive", f"it has no {name}")
        return path

    def text(self, name: str) -> Any:
        """The value in a JSON file."""
        try:
            return json.loads(self.file(name).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise IntegrityError(self.subject, name, f"it is no JSON: {error}") from error


Loader = Callable[[Part], Any]

_LOADERS: Mapping[str, tuple[Loader, bool]] = {
    "annoy": (frameworks.load_annoy, False),
    "catboost": (frameworks.load_catboost, False),
    "causalml": (frameworks.load_joblib, True),
    "fastai": (frameworks.load_fastai, True),
    "gensim": (frameworks.load_gensim, True),
    "keras": (frameworks.load_keras, False),
    "lightgbm": (frameworks.load_lightgbm, False),
    "model_file": (frameworks.load_file, False),
    "onnx": (frameworks.load_onnx, False),
    "prophet": (frameworks.load_prophet, False),
    "pyspark": (frameworks.load_pyspark, True),
    "pytorch": (frameworks.load_torch, True),
    "pytorch_lightning": (frameworks.load_lightning, True),
    "shap": (frameworks.load_explainer, True),
    "sklearn": (frameworks.load_joblib, True),
    "skorch": (frameworks.load_joblib, True),
    "statsmodels": (frameworks.load_statsmodels, True),
    "tensorflow": (frameworks.load_keras, False),
    "transformers": (frameworks.load_transformers, False),
    "xgboost": (frameworks.load_xgboost, False),
}
"""How each library's objects are loaded, and whether that always takes what can run code: a pickle, or Spark's
instances of classes that the files name. The loaders of the others ask where it depends on the files."""


def check_policy(record: Mapping[str, Any], policy: PicklePolicy, subject: str, into: Any = None) -> None:
    """Refuse before an archive is fetched, if the record alone tells that it takes a pickle.

    Raises:
        PickleNotAllowedError: the policy refuses.
    """
    for library, _ in _parts(record, subject):
        if _LOADERS[library][1] and not (library == "pytorch" and into is not None):
            policy.require(subject, [library])
            _compare_python(record, subject)


def load(
    record: Mapping[str, Any],
    folder: Path,
    policy: PicklePolicy,
    subject: str,
    *,
    into: Any = None,
    device: str | None = None,
    **others: Any,
) -> Any:
    """The object; a mapping by library where several were stored together.

    Args:
        record: of an adopted model.
        folder: its archive, unpacked.
        policy: whether pickles may be loaded.
        subject: the model, for errors.
        into: fill this PyTorch module with the weights; needs no pickle.
        device: see `ModelStore.load`.
        others: further options of `load`, which mean nothing to these archives.

    Raises:
        PickleNotAllowedError: it takes a pickle, and the policy refuses.
        InvalidArgumentError: an option means nothing here.
        NewerFormatError: of a library that the ancestor had not.
        MissingDependencyError: a package is not installed.
        IntegrityError: the archive lacks a file.
    """
    parts = _parts(record, subject)
    libraries = [library for library, _ in parts]
    asked = {**others, "into": into, "device": device}
    for option in (name for name, value in asked.items() if value not in (None, False)):
        if option not in ("into", "device") or libraries != ["pytorch"]:
            what = ", ".join(libraries)
            raise InvalidArgumentError(option, f"{option}= means nothing to {subject}, an adopted model of {what}")
    check_policy(record, policy, subject, into)
    results = {}
    for library, kind in parts:
        parameters = record["model"].get("parameters") or {}
        if len(parts) > 1 or record["model"]["model_type"]["library"] == MULTIPLE:
            parameters = parameters.get(library) or {}
        part = Part(folder, kind, parameters, policy, subject, device, into)
        try:
            results[library] = _LOADERS[library][0](part)
        except ModuleNotFoundError as error:
            if isinstance(error, MissingDependencyError):
                raise
            raise _missing(error, record, subject) from error
    if record["model"]["model_type"]["library"] == MULTIPLE:
        return results
    return next(iter(results.values()))


def _parts(record: Mapping[str, Any], subject: str) -> list[tuple[str, str]]:
    """The library and the class of each object."""
    kind = record["model"]["model_type"]
    several = kind.get("models") if kind["library"] == MULTIPLE else [kind]
    if not isinstance(several, list) or not all(isinstance(each, Mapping) for each in several) or not several:
        raise IntegrityError(subject, "record", "it does not say which models it holds")
    for each in several:
        if each.get("library") not in _LOADERS:
            raise NewerFormatError(subject, "record", f"a model of the library {each.get('library')!r}")
    return [(each["library"], str(each.get("type") or "")) for each in several]


def _compare_python(record: Mapping[str, Any], subject: str) -> None:
    told = str(record["code"].get("runtime") or "")
    if told.startswith("python:") and told[len("python:") :].rpartition(".")[0] != python_version():
        warn(f"{subject} was pickled by {told}, and this is Python {python_version()}", RuntimeWarning)


_DISTRIBUTIONS = {"sklearn": "scikit-learn", "tensorflow": "tensorflow", "pytorch_lightning": "pytorch-lightning"}


def _missing(error: ModuleNotFoundError, record: Mapping[str, Any], subject: str) -> MissingDependencyError:
    """Name the version that the model was made with."""
    module = (error.name or str(error)).partition(".")[0]
    told = record["code"].get("dependencies")
    version = told.get(module) if isinstance(told, Mapping) else None
    name = _DISTRIBUTIONS.get(module, module)
    pinned = f"'{name}=={version}'" if isinstance(version, str) and set(version) <= _OF_VERSIONS else name
    return MissingDependencyError(module, f"loading {subject}", f"pip install {pinned}")


_OF_VERSIONS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz.+-")
