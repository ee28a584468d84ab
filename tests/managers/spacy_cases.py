"""spaCy pipelines for tests: components of every kind, trained in a few steps."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import spacy
from spacy.lang.en import English
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

TEXTS = [
    "Apple isn't looking at buying U.K. startup for $1 billion.",
    "Berlin is green. London, however, wasn't built in a day!",
    "She gave him colourful gifts; he'd never forget (https://example.org/x?y=1).",
]

RARE: dict[str, Any] = {"trainable_lemmatizer": {"min_tree_freq": 1}, "parser": {"min_action_freq": 1}}
TAGS = ["PROPN", "VERB", "NOUN"]
WORDS = ["Berlin", "sees", "apples", "London", "buys", "gifts"]


@Language.component("modelstore_test_marks")
def marks(doc: Doc) -> Doc:
    """A component that is a function, in an importable module."""
    doc.user_data["marks"] = [token.i for token in doc if token.is_stop]
    return doc


@Language.factory("modelstore_test_counts", default_config={"step": 2}, assigns=["doc.user_data"])
def make_counts(nlp: Language, name: str, step: int) -> Any:
    """A factory of the user's, in an importable module."""
    return Counts(step)


class Counts:
    """A component with a state that it writes itself."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.seen = 0

    def __call__(self, doc: Doc) -> Doc:
        """Count."""
        self.seen += self.step
        doc.user_data["seen"] = self.seen
        return doc

    def to_disk(self, path: Any, exclude: Any = ()) -> None:
        """Write the count."""
        path.write_text(str(self.seen))

    def from_disk(self, path: Any, exclude: Any = ()) -> Counts:
        """Read the count."""
        self.seen = int(path.read_text())
        return self


class OwnEnglish(English):
    """A user's language in an importable module."""

    def count(self, text: str) -> int:
        """How many tokens."""
        return len(self(text))


def observe(nlp: Any) -> Any:
    """What the pipeline makes of texts, bit for bit, and what it consists of."""
    seen = []
    for doc in nlp.pipe(TEXTS) if nlp.meta["name"] != "untrained" else ():
        seen.append({
            "tokens": [
                (t.text, t.norm_, t.lemma_, t.pos_, t.tag_, t.dep_, t.head.i, t.is_stop, t.is_sent_start, str(t.morph),
                 t.ent_type_, t.like_num)
                for t in doc
            ],
            "spans": [(key, [(s.start, s.end, s.label_, s.id_) for s in doc.spans[key]]) for key in sorted(doc.spans)],
            "entities": [(e.text, e.label_, e.kb_id_) for e in doc.ents],
            "cats": dict(doc.cats),
            "vector": np.asarray(doc.vector),
            "tensor": np.asarray(doc.tensor),
            "user": {str(key): str(value) for key, value in doc.user_data.items()},
        })  # fmt: skip
    return {
        "docs": seen,
        "config": nlp.config.to_str(),
        "names": [list(nlp.component_names), list(nlp.disabled), list(nlp.pipe_labels.items())],
        "meta": {key: str(value) for key, value in nlp.meta.items()},
        "settings": [nlp.max_length, nlp.batch_size, nlp.path],
        "weights": [
            np.asarray(node.get_param(name))
            for _, component in nlp.components
            for node in (component.model.walk() if hasattr(getattr(component, "model", None), "walk") else ())
            for name in node.param_names
            if node.has_param(name)
        ],
        "words": [
            [nlp.vocab[word].is_stop, nlp.vocab[word].norm_, nlp.vocab[word].check_flag(3)]
            for word in ("banana", "the", "colour", "unseen")
        ],
        "tables": {name: dict(nlp.vocab.lookups.get_table(name)) for name in nlp.vocab.lookups.tables},
    }


def blank(language: str = "en", *components: str) -> dict[str, Any]:
    """An untrained pipeline."""
    nlp = spacy.blank(language)
    for component in components:
        nlp.add_pipe(component)
    return {"model": nlp}


def initialized(*components: str, steps: int = 2, language: str = "en") -> dict[str, Any]:
    """A pipeline that was trained a little on made-up sentences."""
    random.seed(0)
    np.random.seed(0)
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank(language)
    for component in components:
        nlp.add_pipe(component, config=RARE.get(component, {}))
    examples = [Example.from_dict(nlp.make_doc(" ".join(WORDS[at : at + 3])), annotation(at)) for at in (0, 3)]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(steps):
        nlp.update(examples, sgd=optimizer)
    return {"model": nlp}


def annotation(at: int) -> dict[str, Any]:
    """What is known of one of the sentences."""
    return {
        "tags": TAGS,
        "pos": TAGS,
        "heads": [1, 1, 1],
        "deps": ["nsubj", "ROOT", "dobj"],
        "lemmas": ["a", "b", "c"],
        "morphs": ["Number=Sing", "", "Number=Plur"],
        "sent_starts": [1, 0, 0],
        "entities": ["U-PLACE", "O", "O"],
        "cats": {"first": float(at == 0), "second": float(at == 3)},
        "spans": {"sc": [(0, 6, "PLACE")]},
    }


def _untrained() -> dict[str, Any]:
    nlp = spacy.blank("en", meta={"name": "untrained"})
    for component in ("tok2vec", "tagger", "ner", "textcat", "parser"):
        nlp.add_pipe(component)
    return {"model": nlp}


def _ruled() -> dict[str, Any]:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer", config={"punct_chars": ["!", "."]})
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([
        {"label": "CITY", "pattern": "Berlin", "id": "ber"},
        {"label": "SUM", "pattern": [{"ORTH": "$"}, {"LIKE_NUM": True}]},
    ])  # fmt: skip
    spans = nlp.add_pipe("span_ruler", config={"spans_key": "found"})
    spans.add_patterns([{"label": "GIFT", "pattern": [{"LOWER": {"REGEX": "^gift"}}]}])
    attributes = nlp.add_pipe("attribute_ruler")
    attributes.add(patterns=[[{"ORTH": "London"}]], attrs={"TAG": "NNP", "LEMMA": "london"})
    nlp.add_pipe("merge_entities")
    nlp.disable_pipe("span_ruler")
    return {"model": nlp}


def _lemmas() -> dict[str, Any]:
    from spacy.lookups import Lookups

    nlp = spacy.blank("en")
    lemmatizer = nlp.add_pipe("lemmatizer", config={"mode": "lookup"})
    lookups = Lookups()
    lookups.add_table("lemma_lookup", {"gifts": "gift", "gave": "give"})
    lemmatizer.initialize(lookups=lookups)
    norms = Lookups()
    norms.add_table("lexeme_norm", {"colour": "color", "colourful": "colorful"})
    nlp.vocab.lookups = norms
    return {"model": nlp}


def _vectors(mode: str = "default") -> dict[str, Any]:
    nlp = spacy.blank("en")
    random_state = np.random.RandomState(0)
    for word in ("Berlin", "London", "green", "gifts"):
        nlp.vocab.set_vector(word, random_state.normal(size=7).astype("float32"))
    nlp.vocab.vectors.name = "tests"
    return {"model": nlp}


def _tokenizer() -> dict[str, Any]:
    nlp = spacy.blank("en")
    nlp.tokenizer.add_special_case("U.K.", [{"ORTH": "U."}, {"ORTH": "K."}])
    nlp.tokenizer.infix_finditer = re.compile(r"(?i)\?Y|ISN").finditer
    nlp.tokenizer.url_match = None
    nlp.tokenizer.faster_heuristics = False
    return {"model": nlp}


def _words() -> dict[str, Any]:
    nlp = spacy.blank("en")
    nlp.vocab["banana"].is_stop = True
    nlp.vocab["the"].is_stop = False
    nlp.vocab["colour"].norm_ = "color"
    return {"model": nlp}


def _stop_words() -> dict[str, Any]:
    from functools import partial

    from spacy.attrs import IS_STOP
    from spacy.lang.lex_attrs import is_stop

    nlp = spacy.blank("en")
    nlp.vocab.lex_attr_getters[IS_STOP] = partial(is_stop, stops={*nlp.Defaults.stop_words, "unseen", "buying"})
    return {"model": nlp}


def _settings() -> dict[str, Any]:
    nlp = spacy.blank("de", meta={"name": "shop", "version": "1.2.3", "author": "me"})
    nlp.max_length = 5000
    nlp.batch_size = 7
    return {"model": nlp}


def _own_language() -> dict[str, Any]:
    nlp = OwnEnglish()
    nlp.add_pipe("sentencizer")
    return {"model": nlp}


def _several() -> dict[str, Any]:
    return {"model": blank("en", "sentencizer")["model"], "preprocessor": blank("de")["model"]}


LANGUAGES = ("en", "de", "hu", "ar", "xx", "zh")

BUILDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "untrained components": _untrained,
    "rules": _ruled,
    "lemmas and norms by tables": _lemmas,
    "vectors": _vectors,
    "tokenizer changed": _tokenizer,
    "words changed": _words,
    "stop words changed": _stop_words,
    "meta and settings": _settings,
    "tagger, morphologizer, lemmas": lambda: initialized("tagger", "morphologizer", "trainable_lemmatizer"),
    "entities": lambda: initialized("ner"),
    "parser": lambda: initialized("parser", "senter"),
    "categories": lambda: initialized("textcat"),
    "many categories": lambda: initialized("textcat_multilabel"),
    "spans": lambda: initialized("spancat"),
    "shared vectors of tokens": lambda: initialized("tok2vec", "tagger", "ner"),
    "function and factory": lambda: blank("en", "sentencizer", "modelstore_test_marks", "modelstore_test_counts"),
    "language of the user's": _own_language,
}
