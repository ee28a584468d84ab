"""The functions that a configuration names and neither spaCy nor its entry points register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.managers._spacy.checks import references
from modelstore.managers.classes import ClassBook, ClassShelf

_OWN = ("spacy", "thinc", "spacy_legacy", "spacy_loggers", "confection", "srsly", "catalogue")
"""Packages whose functions are registered wherever spaCy is installed."""


def collect(nlp: Any, book: ClassBook) -> list[dict[str, Any]]:
    """What has to be registered before the configuration is read: JSON, with the book's references.

    A factory that only gives a function (`@Language.component`) is kept as that function, since spaCy made the factory.
    """
    found = [_factory(nlp, name, component, book) for name, component in nlp.components]
    config = nlp.config
    for section in ("nlp", "components"):
        for path, name in references(config[section]):
            function = _registered(path.rpartition("@")[2], name)
            if function is not None and not _is_own(function):
                kind = path.rpartition("@")[2]
                found.append({"registry": kind, "name": name, "function": book.refer(function)})
    unique = {(each["registry"], each["name"]): each for each in found if each is not None}
    return list(unique.values())


def _factory(nlp: Any, name: str, component: Any, book: ClassBook) -> dict[str, Any] | None:
    meta = nlp.get_pipe_meta(name)
    factory = _registered("factories", f"{nlp.lang}.{meta.factory}") or _registered("factories", meta.factory)
    if factory is None:
        return None
    wrapped = [cell.cell_contents for cell in getattr(factory, "__closure__", None) or ()]
    # `Language.component` made this factory around the function.
    is_component = factory.__module__ == "spacy.language" and len(wrapped) == 1 and callable(wrapped[0])
    function = wrapped[0] if is_component else factory
    if _is_own(function):
        return None
    told = {"assigns": list(meta.assigns), "requires": list(meta.requires), "retokenizes": meta.retokenizes}
    if not is_component:
        told |= {
            "default_config": dict(meta.default_config or {}),
            "default_score_weights": dict(meta.default_score_weights or {}),
        }
    kind = "component" if is_component else "factory"
    return {"registry": kind, "name": meta.factory, "meta": told, "function": book.refer(function)}


def _registered(kind: str, name: str) -> Any:
    from spacy.util import registry

    try:
        return getattr(registry, kind).get(name)
    except Exception:  # the registry does not know it, and neither would a load ask for it
        return None


def _is_own(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] in _OWN


def register(functions: Any, shelf: ClassShelf, language: Any) -> None:
    """Register what is not registered here yet: whoever loads a pipeline may have registered their own version.

    Raises:
        PickleNotAllowedError: a function was pickled, and the policy refuses.
        IntegrityError: the record names no registry.
        ModuleNotFoundError: the package of a function is not installed.
    """
    from spacy.language import Language
    from spacy.util import registry

    for each in functions:
        kind, name = str(each["registry"]), str(each["name"])
        if kind in ("component", "factory"):
            if not language.has_factory(name):
                function = shelf.get(each["function"])
                if not language.has_factory(name):  # importing its module may have registered it
                    getattr(Language, kind)(name, func=function, **_settings(each["meta"]))
        elif kind not in registry.get_registry_names():
            raise IntegrityError("the record", "managers", f"{kind!r} is no registry of spaCy")
        elif name not in getattr(registry, kind):
            function = shelf.get(each["function"])
            if name not in getattr(registry, kind):
                getattr(registry, kind).register(name, func=function)


def _settings(meta: Mapping[str, Any]) -> dict[str, Any]:
    known = ("assigns", "requires", "retokenizes", "default_config", "default_score_weights")
    return {name: meta[name] for name in known if name in meta}
