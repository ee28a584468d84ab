"""What spaCy would lose when it writes a pipeline, and what a configuration from a store must not ask for."""

from __future__ import annotations

import re
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.managers.base import class_name
from modelstore.notices import warn

_PATTERNS = {
    "prefix_search": "search",
    "suffix_search": "search",
    "infix_finditer": "finditer",
    "token_match": "match",
    "url_match": "match",
}
"""The tokenizer's patterns, and the method of a compiled one that its file stands for."""

_LOADERS = ("spacy.copy_from_base_model.v1",)
"""Registered functions that load another pipeline, which may be any installed package."""


def check(nlp: Any) -> None:
    """Refuse what spaCy would write without it, and warn about what it does not write.

    Raises:
        UnsupportedObjectError: the tokenizer would come back as another one.
    """
    from spacy.language import raise_error
    from spacy.tokenizer import Tokenizer

    named = nlp.config["nlp"]["tokenizer"].get("@tokenizers")
    if type(nlp.tokenizer) is Tokenizer:
        _check_patterns(nlp.tokenizer)
    elif named == "spacy.Tokenizer.v1" or not hasattr(nlp.tokenizer, "to_disk"):
        raise UnsupportedObjectError(
            f"nlp.tokenizer is a {class_name(nlp.tokenizer)}, and the configuration makes another one ({named}); "
            "register a function that makes it with @spacy.registry.tokenizers, name it in the configuration "
            "([nlp.tokenizer]), and give the tokenizer to_disk and from_disk",
            class_name(nlp),
        )
    for name, component in nlp.components:
        spacys = type(component).__module__.partition(".")[0] in ("spacy", "builtins")
        if not hasattr(component, "to_disk") and not spacys:
            warn(f"the spaCy component {name!r} has no to_disk: a load makes it anew from its configuration")
    if nlp.default_error_handler is not raise_error:
        warn("the error handler of this spaCy pipeline is not stored: set it again after a load")


def _check_patterns(tokenizer: Any) -> None:
    for name, method in _PATTERNS.items():
        bound = getattr(tokenizer, name)
        if bound is None:
            continue
        pattern = getattr(bound, "__self__", None)
        if not isinstance(pattern, re.Pattern) or bound.__name__ != method:
            raise UnsupportedObjectError(
                f"nlp.tokenizer.{name} is not the {method} of a compiled regular expression, and spaCy stores "
                "its text only"
            )
        if re.compile(pattern.pattern).flags != pattern.flags:
            raise UnsupportedObjectError(
                f"nlp.tokenizer.{name} was compiled with flags, and spaCy stores its text only: write them into the "
                "expression, such as (?i) at its start"
            )


def shimmed(nlp: Any) -> list[str]:
    """Components that hold a model of another framework, which thinc leaves to that framework to load."""
    found = []
    for name, component in nlp.components:
        model: Any = getattr(component, "model", None)
        if hasattr(model, "walk") and any(getattr(node, "shims", None) for node in model.walk()):
            found.append(name)
    return found


def check_config(config: Any) -> None:
    """Refuse a configuration that loads something else than itself.

    A pipeline writes none like this. References (`@misc = "…"`) lead to registered functions, and nowhere else.

    Raises:
        IntegrityError: it names the part.
    """
    for name, component in config.get("components", {}).items():
        if "source" in component:
            raise IntegrityError("the spaCy pipeline", "config.cfg", f"{name} is to come from {component['source']!r}")
    for path, reference in references(config):
        if reference in _LOADERS:
            raise IntegrityError("the spaCy pipeline", "config.cfg", f"{path} loads another pipeline ({reference})")


def references(config: Any, path: str = "") -> list[tuple[str, str]]:
    """All references to registered functions below a section, as `section.@registry` and the function's name."""
    found = []
    for name, value in config.items():
        here = f"{path}.{name}" if path else str(name)
        if isinstance(value, dict):
            found += references(value, here)
        elif isinstance(value, str) and str(name).startswith("@"):
            found.append((here, value))
    return found
