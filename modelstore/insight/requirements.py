"""What loading a model takes from PyPI."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from modelstore._version import __version__
from modelstore.insight.environment import version

if TYPE_CHECKING:
    from importlib.metadata import Distribution

# These are wherever a model is loaded, or are of the process that saved it.
_ALWAYS_THERE = frozenset({"modelstore", "__main__", "__mp_main__", ""})
_MODULE_SUFFIXES = (".py", ".so", ".pyd", ".abi3", ".cp")  # .cpython-311-x86_64-linux-gnu.so, .cp311-win_amd64.pyd


def requirements(distributions: Iterable[str], modules: Iterable[str]) -> tuple[list[str], list[str]]:
    """The lines of `requirements.txt`, and the modules that nothing on PyPI would bring.

    Args:
        distributions: what is needed if it is installed here.
        modules: dotted names of modules that are needed.

    Returns:
        Pinned lines, modelstore's own first and the others sorted; and the modules that belong neither to an installed
        distribution nor to the standard library, sorted.
    """
    needed = {canonical(name): name for name in distributions if version(name) is not None}
    homeless = []
    for module in sorted(set(modules)):
        if _is_always_there(module):
            continue
        owners = [name for name in _owners(module, tuple(needed.values())) if _brings(name, module)]
        for owner in owners:
            needed.setdefault(canonical(owner), owner)
        if not owners:
            homeless.append(module)
    needed.pop("modelstore", None)
    pins = [_pin(name) for name in sorted(needed.values(), key=str.lower)]
    return [f"modelstore=={_public(__version__)}", *(pin for pin in pins if pin)], homeless


def canonical(distribution: str) -> str:
    """The one spelling of a distribution's name by which PyPI compares names."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _is_always_there(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _ALWAYS_THERE or top in sys.stdlib_module_names


def _pin(distribution: str) -> str | None:
    installed = version(distribution)
    return None if installed is None else f"{distribution}=={_public(installed)}"


def _public(installed: str) -> str:
    # PyPI has no local versions, and `==2.4.0` is satisfied by an installed 2.4.0+cpu.
    return installed.partition("+")[0]


def _owners(module: str, likely: Sequence[str]) -> list[str]:
    """The distributions that a module comes from; several where they share a file, none where nobody knows it."""
    top = module.partition(".")[0]
    # Asking all installed distributions takes up to a second, so the few that are likely are asked first.
    for name in likely:
        if canonical(name) == canonical(top) or (_holds(name, top) and not _is_shared(top)):
            return [name]
    if version(top) is not None and not _is_shared(top):
        return [top]
    owners = sorted(set(_packages_distributions(_installation()).get(top, ())))
    if len(owners) < 2:
        return owners
    # A namespace such as `google` is shared: the deepest part of the name that some of them hold decides.
    parts = module.split(".")
    for depth in range(len(parts), 1, -1):
        deepest = [name for name in owners if _holds(name, "/".join(parts[:depth]))]
        if deepest:
            return deepest
    return owners


def _brings(distribution: str, module: str) -> bool:
    """Whether a module that is loaded lies where this distribution lies. One beside a script may have the same name, as
    packages called `tests` or `utils` get installed by mistake.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    root = _root(distribution)
    if not isinstance(file, str) or root is None:
        return True
    return any(
        to_path(file).startswith(to_path(root).rstrip(os.sep) + os.sep)
        for to_path in (os.path.abspath, os.path.realpath)
    )


@lru_cache(maxsize=256)
def _root(distribution: str) -> str | None:
    """The folder that a distribution is installed in; None if it is anywhere, as those that can be edited."""
    from importlib import metadata

    try:
        found = metadata.distribution(distribution)
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        return None if origin.get("dir_info", {}).get("editable") else str(found.locate_file(""))
    except Exception:
        return None


def _is_shared(top: str) -> bool:
    """Whether a package is a namespace, to which several distributions may contribute."""
    module = sys.modules.get(top)
    return module is not None and hasattr(module, "__path__") and getattr(module, "__file__", None) is None


def _holds(distribution: str, path: str) -> bool:
    """Whether one of a distribution's files is this module, or lies in this package."""
    files = _files(distribution)
    return f"\n{path}/" in files or any(f"\n{path}{suffix}" in files for suffix in _MODULE_SUFFIXES)


@lru_cache(maxsize=64)
def _files(distribution: str) -> str:
    """The list of a distribution's files as it lies on disk: parsing that of a large one takes 100 times as long."""
    from importlib import metadata

    try:
        found = metadata.distribution(distribution)
        listed = found.read_text("RECORD") or ""
        tops = found.read_text("top_level.txt") or ""
    except Exception:
        return ""
    return "".join(["\n", listed, *(f"\n{top}/" for top in tops.split())])


def _installation() -> tuple[tuple[str, int], ...]:
    """Changes when something is installed."""
    found = []
    for path in sys.path:
        if "site-packages" in path or "dist-packages" in path:
            try:
                found.append((path, os.stat(path).st_mtime_ns))
            except OSError:
                continue
    return tuple(found)


@lru_cache(maxsize=1)
def _packages_distributions(installation: tuple[tuple[str, int], ...]) -> dict[str, list[str]]:
    """The distributions of each top-level module. `importlib.metadata` has such a function, which on Python 3.10 knows
    only distributions that list their modules in `top_level.txt`, as hardly any do now.
    """
    from importlib import metadata

    owners: dict[str, list[str]] = {}
    for distribution in metadata.distributions():
        try:
            name = distribution.metadata["Name"]
            for top in _top_level(distribution):
                owners.setdefault(top, []).append(name)
        except Exception:  # one distribution whose metadata is broken
            continue
    return owners


def _top_level(distribution: Distribution) -> set[str]:
    listed = distribution.read_text("top_level.txt")
    if listed:
        return set(listed.split())
    paths = [line.partition(",")[0] for line in (distribution.read_text("RECORD") or "").splitlines()]
    packages = {path.partition("/")[0] for path in paths if "/" in path and path.endswith(_MODULE_SUFFIXES)}
    modules = {path.partition(".")[0] for path in paths if "/" not in path and path.endswith(_MODULE_SUFFIXES)}
    return packages | modules
