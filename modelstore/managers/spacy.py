"""spaCy: pipelines with their vocabulary, vectors and trained components.

The folder `model` is what `to_disk` writes and `spacy.load` reads; it holds no pickle. It names the functions that make
the components. Those that an installed package or spaCy itself registers are found by their names; others, such as a
notebook's, are pickled beside it and registered again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, ModelStoreError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._spacy import functions, words
from modelstore.managers._spacy.checks import check, check_config, shimmed
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.classes import ClassBook, ClassShelf

FOLDER = "model"
WORDS = "words.json"

_REFUSED = {
    "spacy.tokens.doc:Doc": "a Doc is data: write it with spacy.tokens.DocBin(docs=[doc]).to_disk(path), pass the path",
    "spacy.tokens._serialize:DocBin": "a DocBin is data: write it with its to_disk(path), pass the path",
    "spacy.vocab:Vocab": "a vocabulary is stored with the pipeline it belongs to: pass the whole pipeline (nlp)",
    "spacy.pipeline.pipe:Pipe": "a component is stored with its pipeline: pass the whole pipeline (nlp)",
}


class SpacyManager(ObjectManager):
    """Stores `spacy.language.Language`; trained or not."""

    name = "spacy"
    title = "spaCy"
    claims = ("spacy.language:Language", *_REFUSED)
    distributions = ("spacy", "thinc", "numpy", "cloudpickle")
    extra = "spacy"
    limits = (
        "single components, vocabularies, `Doc` and `DocBin`: pass the whole pipeline; data belong into files",
        "a table `lexeme_norm` that was put into `vocab.lookups` in place: spaCy heeds it only after a load",
        "the optimizer of training: `nlp.resume_training()` makes a new one",
        "`Doc.set_extension` and the like are set for a process, not for a pipeline: whoever loads it sets them again",
        "a component without `to_disk` is made anew from its configuration, as spaCy does it",
        "a tokenizer that is not spaCy's has to be registered with `@spacy.registry.tokenizers`; patterns that are not "
        "regular expressions, or have flags outside of their text, are refused",
        "getters of lexical attributes that were replaced by hand, and error handlers: a warning at upload",
        "components that hold models of PyTorch or other frameworks count as pickled, since thinc leaves their loading "
        "to these frameworks",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write what `to_disk` writes, what it leaves out, and the functions that no package registers."""
        for base in type(obj).__mro__:
            if f"{base.__module__}:{base.__qualname__}" in _REFUSED:
                raise UnsupportedObjectError(_REFUSED[f"{base.__module__}:{base.__qualname__}"], class_name(obj))
        check(obj)
        book = ClassBook()
        state: dict[str, Any] = {
            "class": book.refer(type(obj)),
            "functions": functions.collect(obj, book),
            "max_length": obj.max_length,
            "batch_size": obj.batch_size,
        }
        path = folder.path(FOLDER)
        try:
            obj.to_disk(path)
        except Exception as error:  # components of anybody's
            raise UnsupportedObjectError(
                f"spaCy cannot write this pipeline: {type(error).__name__}: {error}", class_name(obj)
            ) from error
        folder.add_json(WORDS, words.collect(obj))
        # spaCy goes on without some of them if they are gone.
        state["files"] = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        saved = Saved("spacy", state, pickled=[f"{FOLDER}/{name}/model" for name in shimmed(obj)])
        saved.merge(book.save(folder))
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the pipeline from its configuration and fill it.

        Raises:
            PickleNotAllowedError: it has functions or classes of the user's, or models of other frameworks.
            IntegrityError: files are missing or damaged.
        """
        import spacy

        shelf = ClassShelf(folder, request.policy)
        cls = shelf.get(state["class"])
        if not (isinstance(cls, type) and issubclass(cls, spacy.language.Language)):
            raise IntegrityError("the record", "managers", f"{state['class'].get('class')!r} is no Language of spaCy")
        for name in state["files"]:
            if not (folder / FOLDER / name).is_file():
                raise IntegrityError("the spaCy pipeline", FOLDER, f"{name} is not there")
        functions.register(state["functions"], shelf, cls)
        try:
            nlp = _build(cls, folder / FOLDER, request)
            words.restore(nlp, folder / WORDS)
        except (ModelStoreError, ImportError):
            raise
        except Exception as error:  # spaCy and components of anybody's raise whatever they like
            raise IntegrityError("the spaCy pipeline", FOLDER, f"{type(error).__name__}: {error}") from error
        nlp.max_length = state["max_length"]
        nlp.batch_size = state["batch_size"]
        return nlp

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The language, the components with their factories and labels, and the size of the vectors."""
        config = obj.config
        return {
            "lang": obj.lang,
            "components": {name: dict(config["components"][name]) for name in obj.component_names},
            "disabled": list(obj.disabled),
            "labels": {name: _short(list(labels)) for name, labels in obj.pipe_labels.items()},
            "vectors": dict(obj.meta["vectors"]),
        }


def _build(cls: Any, path: Path, request: LoadRequest) -> Any:
    from spacy import util

    config = util.load_config(path / "config.cfg")
    check_config(config)
    nlp = cls.from_config(config, meta=util.get_model_meta(path), auto_fill=False)
    foreign = shimmed(nlp)
    if foreign:
        request.policy.require(f"the spaCy component {foreign[0]}, which holds a model of another framework,")
    nlp.from_disk(path)
    nlp._path = None  # the cache is nobody's to write to
    return nlp


def _short(labels: list[Any]) -> Any:
    return labels if len(labels) <= 100 else [*labels[:100], f"… {len(labels) - 100} more"]
