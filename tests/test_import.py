"""Importing modelstore: what it costs, and that what it promises is there."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from typing import Any

import pytest

import modelstore
from modelstore import exceptions

ELSEWHERE = {"ModelStore", "ModelRecord", "__version__"}
EXCEPTIONS = sorted(
    name
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and issubclass(value, exceptions.ModelStoreError)
)


def imported_by(statement: str) -> set[str]:
    """The packages that a statement imports in a new interpreter, the standard library left out."""
    script = (
        "import json, sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    # -S: no site-packages hook (an editable install, a .pth file) may import something in our name.
    path = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {path!r}\n{script}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout)) - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "statement",
    [
        "import modelstore",
        "from modelstore import ModelStore",
        "from modelstore import ModelStoreError",
        "import modelstore.cli",
        "import modelstore.utils.exceptions",
    ],
)
def test_importing_the_library_imports_nothing_but_the_standard_library(statement: str) -> None:
    """No framework, no numpy, no SDK, and none of the four dependencies either, before something is done."""
    assert imported_by(statement) == {"modelstore"}


def test_importing_any_module_imports_no_framework() -> None:
    """Managers, storages and insight know their frameworks by name; a module comes when its objects do.

    But for two that hold nothing but subclasses of an SDK's classes, imported by whoever makes a client.
    """
    but = (
        "modelstore.testing",
        "modelstore.contracts",
        "modelstore.__main__",
        "modelstore.storage._azure.transport",
        "modelstore.storage._gcs.http",
    )
    statement = (
        "import importlib, pkgutil, modelstore\n"
        "for module in pkgutil.walk_packages(modelstore.__path__, 'modelstore.'):\n"
        f"    if not module.name.startswith({but!r}):\n"
        "        importlib.import_module(module.name)"
    )
    assert imported_by(statement) <= {"modelstore", "cloudpickle", "platformdirs", "tqdm", "zstandard"}


def test_all_names_what_is_there() -> None:
    """`__all__` is sorted, whole, and each of its names can be had; `dir` shows them before they are imported."""
    assert sorted(modelstore.__all__) == sorted({*EXCEPTIONS, *ELSEWHERE})
    assert set(modelstore.__all__) <= set(dir(modelstore))
    for name in modelstore.__all__:
        assert getattr(modelstore, name) is not None


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    """A typo must not turn into anything else on its way through the lazy import."""
    with pytest.raises(AttributeError, match="ModelStroe"):
        modelstore.ModelStroe  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="ModelStroe"):
        exec("from modelstore import ModelStroe")


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_every_exception_is_one_class_under_three_paths(name: str) -> None:
    """`modelstore`, `modelstore.exceptions` and the ancestor's path give the same class, so that `except` works."""
    paths = ("modelstore", "modelstore.exceptions", "modelstore.utils.exceptions")
    found: list[Any] = [getattr(importlib.import_module(path), name) for path in paths]
    assert found[0] is found[1] is found[2]


def test_the_store_is_one_class_under_both_paths() -> None:
    """`from modelstore.model_store import ModelStore` is the ancestor's other spelling."""
    from modelstore.model_store import ModelStore

    assert modelstore.ModelStore is ModelStore
