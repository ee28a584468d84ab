"""What a vocabulary knows of words beyond strings, vectors and tables: stop words and attributes set by hand."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.notices import warn


def collect(nlp: Any) -> dict[str, Any]:
    """The stop words, and of each word the flags and the norm that are not what the language makes of it."""
    from spacy.attrs import IS_STOP, NORM

    getters = dict(nlp.vocab.lex_attr_getters)
    _warn_of_getters(nlp)
    flags = {attribute: getter for attribute, getter in getters.items() if attribute < 64}
    changed = {}
    for lexeme in nlp.vocab:
        text = lexeme.text
        own: dict[str, Any] = {
            str(attribute): lexeme.check_flag(attribute)
            for attribute, getter in flags.items()
            if lexeme.check_flag(attribute) != bool(getter(text))
        }
        if NORM in getters and lexeme.norm_ != getters[NORM](text):
            own["norm"] = lexeme.norm_
        if own:
            changed[text] = own
    stops = getattr(getters.get(IS_STOP), "keywords", {}).get("stops")
    return {"stop_words": None if stops is None else sorted(stops), "changed": changed}


def _warn_of_getters(nlp: Any) -> None:
    from spacy.vocab import create_vocab

    usual = create_vocab(nlp.lang, nlp.Defaults).lex_attr_getters
    replaced = sorted(
        attribute
        for attribute, getter in nlp.vocab.lex_attr_getters.items()
        if _core(getter) != _core(usual.get(attribute))
    )
    if replaced:
        warn(
            f"the getters of the lexical attributes {', '.join(map(str, replaced))} of this spaCy vocabulary were set "
            "by hand and are not stored: words that it has not seen yet get the language's own after a load"
        )


def _core(getter: Any) -> Any:
    return getter.func if isinstance(getter, functools.partial) else getter


def restore(nlp: Any, path: Path) -> None:
    """Set what `collect` has found.

    Raises:
        IntegrityError: the file cannot be read.
    """
    from spacy.attrs import IS_STOP
    from spacy.lang.lex_attrs import is_stop

    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError("the spaCy pipeline", path.name, f"it cannot be read: {error}") from error
    if kept["stop_words"] is not None:
        stops = set(kept["stop_words"])
        nlp.vocab.lex_attr_getters[IS_STOP] = functools.partial(is_stop, stops=stops)
        for lexeme in nlp.vocab:  # the tokenizer's rules have made some already
            lexeme.is_stop = is_stop(lexeme.text, stops)
    for text, own in kept["changed"].items():
        lexeme = nlp.vocab[text]
        for name, value in own.items():
            if name == "norm":
                lexeme.norm_ = value
            else:
                lexeme.set_flag(int(name), value)
