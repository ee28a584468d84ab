"""The metadata in a folder of Spark's: which classes loading it would import, read before Spark does.

Spark's readers import whatever class a `metadata` file names, and follow the identifiers in it as parts of paths.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.managers.classes import framework_class

PARAMS = "pyspark.ml.param:Params"
"""The root of all that Spark's pipelines are made of."""

LAZY = frozenset({"ALSModel", "DistributedLDAModel", "FPGrowthModel"})
"""Models that keep reading their folder after they were loaded."""

_FOLDER = "metadata"
_JVM = re.compile(r"org\.apache\.spark\.(ml|mllib)\.[\w.$]+")
_PYTHON = re.compile(r"pyspark\.ml\.[\w.]+")
_FILE = re.compile(r"part-[\w-]+(\.txt)?")  # no other ending: Spark would unpack a .gz


def classes_in(folder: Path) -> tuple[set[str], set[str]]:
    """The names of the classes in a folder: Spark's own, and all others.

    Raises:
        IntegrityError: metadata cannot be read, lead out of the folder, or name what is no class of Spark's pipelines.
    """
    own: set[str] = set()
    foreign: set[str] = set()
    for at, described in _metadata(folder):
        _stays_inside(described, at)
        name = described.get("class")
        if not isinstance(name, str):
            raise _damaged(at, "it names no class")
        if _PYTHON.fullmatch(name):
            module, _, cls = name.rpartition(".")
            framework_class(f"{module}:{cls}", "pyspark", (PARAMS,))
        (own if _PYTHON.fullmatch(name) or _JVM.fullmatch(name) else foreign).add(name)
    if not own and not foreign:
        raise IntegrityError("the Spark model", _FOLDER, "there are no metadata")
    return own, foreign


def default_outputs(folder: Path) -> dict[str, str]:
    """The default name of the output column, by the identifier of the stage."""
    found: dict[str, str] = {}
    for _, described in _metadata(folder):
        defaults = described.get("defaultParamMap")
        name = defaults.get("outputCol") if isinstance(defaults, dict) else None
        if isinstance(name, str):
            found[str(described.get("uid"))] = name
    return found


def _metadata(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for parent, folders, files in os.walk(folder):
        if _FOLDER in files:
            raise _damaged((Path(parent) / _FOLDER).relative_to(folder).as_posix(), "it is to be a folder")
        if _FOLDER not in folders:
            continue
        found = False
        for path in sorted((Path(parent) / _FOLDER).iterdir()):
            at = path.relative_to(folder).as_posix()
            if path.name.startswith(("_", ".")):  # neither Spark nor Hadoop reads these
                continue
            if not path.is_file() or not _FILE.fullmatch(path.name):
                raise _damaged(at, "Spark writes no such file")
            for line in path.read_bytes().splitlines():
                found = True
                yield at, _parsed(line, at)
        if not found:
            raise _damaged(f"{Path(parent).relative_to(folder).as_posix()}/{_FOLDER}", "it is empty")


def _parsed(line: bytes, at: str) -> dict[str, Any]:
    try:
        described = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(at, f"it is not JSON: {error}") from error
    if not isinstance(described, dict):
        raise _damaged(at, "it is not a JSON object")
    return described


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # of which Spark might take the other
        raise ValueError("a name stands twice")
    return found


def _stays_inside(described: Mapping[str, Any], at: str) -> None:
    """Refuse identifiers that Spark would join to a path outside of the folder."""
    parameters = described.get("paramMap")
    parameters = parameters if isinstance(parameters, dict) else {}
    parts = [described.get("uid"), *_listed(parameters.get("stageUids"))]
    for alternatives in _listed(parameters.get("estimatorParamMaps")):
        for each in _listed(alternatives):
            if isinstance(each, dict) and str(each.get("isJson", True)).lower() == "false":
                parts.append(each.get("value"))
    for part in parts:
        if part is not None and (not isinstance(part, str) or "/" in part or "\\" in part.replace('\\"', "")):
            raise _damaged(at, f"{part!r:.100} leads out of the folder")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _damaged(at: str, detail: str) -> IntegrityError:
    return IntegrityError("the Spark model", at, detail)
