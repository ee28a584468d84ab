"""spaCy: pipelines come back with all that they know, without a pickle unless their code is the user's."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("spacy")

import numpy as np
import spacy
from spacy.language import Language
from spacy.tokens import DocBin

from modelstore import ModelStore
from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, PickleNotAllowedError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.spacy import SpacyManager
from tests.managers import spacy_cases
from tests.managers.contract import BuiltinContract

observe = spacy_cases.observe


def observe_several(result: Any) -> Any:
    """Each of several pipelines."""
    return {keyword: observe(nlp) for keyword, nlp in result.items()}


class TestSpacy(BuiltinContract):
    """Languages, components of every kind, vocabularies."""

    manager = SpacyManager()

    def cases(self) -> Mapping[str, Case]:
        """By name."""
        languages = {
            f"language {code}": Case(functools.partial(spacy_cases.blank, code), observe)
            for code in spacy_cases.LANGUAGES
        }
        several = {"several": Case(spacy_cases._several, observe_several)}
        return languages | several | {name: Case(build, observe) for name, build in spacy_cases.BUILDERS.items()}

    def test_nothing_is_pickled(self, tmp_path_factory: Any) -> None:
        """Components, languages and functions of importable modules are named, not pickled."""
        outcomes = self._outcomes(tmp_path_factory)
        assert {name for name, outcome in outcomes.items() if outcome.saved.pickled} == set()
        assert "tests.managers.spacy_cases" in outcomes["function and factory"].saved.modules


def _save(nlp: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = SpacyManager().save({"model": nlp}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _load(folder: Path, saved: Saved, allow_pickle: bool = False, **state: Any) -> Any:
    request = LoadRequest(folder, {**saved.state, **state}, ("model",), PicklePolicy(allow_pickle))
    return SpacyManager().load(request)


def test_the_folder_is_what_spacy_itself_reads(tmp_path: Path) -> None:
    """`spacy.load` opens the folder `model`."""
    nlp = spacy_cases.initialized("tagger")["model"]
    _save(nlp, tmp_path)
    by_hand = spacy.load(tmp_path / "model")
    assert [token.tag_ for token in by_hand("Berlin sees apples")] == [
        token.tag_ for token in nlp("Berlin sees apples")
    ]


def test_training_goes_on_after_a_load(tmp_path: Path) -> None:
    """A loaded pipeline that is trained further, by a new optimizer, gets the weights that the original gets."""
    nlp = spacy_cases.initialized("tagger")["model"]
    loaded = _load(tmp_path, _save(nlp, tmp_path))
    weights = []
    for each in (nlp, loaded):
        spacy.util.fix_random_seed(1)
        doc = each.make_doc("London buys gifts")
        example = spacy.training.Example.from_dict(doc, spacy_cases.annotation(3))
        each.update([example], sgd=each.create_optimizer())
        weights.append(each.get_pipe("tagger").model.to_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("kind", ["Doc", "DocBin", "Vocab", "component"])
def test_what_is_no_pipeline_is_refused_with_advice(kind: str, store: ModelStore) -> None:
    """Data and parts of a pipeline belong to this manager, which says what to upload instead."""
    nlp = spacy.blank("en")
    obj = {"Doc": nlp("a"), "DocBin": DocBin(), "Vocab": nlp.vocab, "component": nlp.add_pipe("sentencizer")}[kind]
    with pytest.raises(UnsupportedObjectError, match="pass the path" if "Doc" in kind else "whole pipeline"):
        store.upload("d", model=obj)


def test_patterns_that_spacy_would_change_are_refused(tmp_path: Path) -> None:
    """A pattern with flags outside of its text, or a function in place of one, would be lost without a word."""
    import re

    nlp = spacy.blank("en")
    nlp.tokenizer.token_match = re.compile("abc", re.IGNORECASE).match
    with pytest.raises(UnsupportedObjectError, match=r"token_match was compiled with flags.*\(\?i\)"):
        _save(nlp, tmp_path)
    nlp.tokenizer.token_match = lambda text: None
    with pytest.raises(UnsupportedObjectError, match="token_match is not the match of"):
        _save(nlp, tmp_path)


def test_a_tokenizer_that_the_configuration_does_not_make_is_refused(tmp_path: Path) -> None:
    """A tokenizer that was only assigned would come back as spaCy's; the error says how to register it."""

    class Split:
        def __init__(self, vocab: Any) -> None:
            self.vocab = vocab

        def __call__(self, text: str) -> Any:
            return spacy.tokens.Doc(self.vocab, words=text.split())

    nlp = spacy.blank("en")
    nlp.tokenizer = Split(nlp.vocab)
    with pytest.raises(UnsupportedObjectError, match=r"@spacy\.registry\.tokenizers"):
        _save(nlp, tmp_path)


def test_what_is_not_stored_is_a_warning(tmp_path: Path) -> None:
    """Getters of attributes, error handlers and components without to_disk are warned about."""
    nlp = spacy.blank("en")
    nlp.vocab.add_flag(lambda text: text == "banana", flag_id=55)
    with pytest.warns(UserWarning, match="lexical attributes 55 "):
        _save(nlp, tmp_path / "a")
    nlp = spacy.blank("en")
    nlp.set_error_handler(lambda *args: None)
    with pytest.warns(UserWarning, match="error handler"):
        _save(nlp, tmp_path / "b")

    class Stateless:
        def __call__(self, doc: Any) -> Any:
            return doc

    @Language.factory("modelstore_test_stateless")
    def stateless(nlp: Any, name: str) -> Any:
        return Stateless()

    nlp = spacy.blank("en")
    nlp.add_pipe("modelstore_test_stateless")
    with pytest.warns(UserWarning, match="'modelstore_test_stateless' has no to_disk"):
        _save(nlp, tmp_path / "c")


def test_models_of_other_frameworks_ask_for_the_policy(tmp_path: Path) -> None:
    """A component whose model holds another framework's counts as pickled, and the record need not say so."""
    from thinc.api import Model
    from thinc.shims import Shim

    class Foreign(Shim):
        def to_bytes(self) -> bytes:
            return b"weights"

        def from_bytes(self, data: bytes) -> Any:
            return self

    @spacy.registry.architectures("modelstore_test_foreign")
    def foreign() -> Any:
        return Model("foreign", lambda model, docs, is_train: ([], lambda d: []), shims=[Foreign(None)])

    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": {"@architectures": "modelstore_test_foreign"}})
    saved = _save(nlp, tmp_path)
    assert "model/tok2vec/model" in saved.pickled
    assert all((tmp_path / name).is_file() for name in saved.pickled)
    with pytest.raises(PickleNotAllowedError, match="component tok2vec"):
        _load(tmp_path, saved)
    assert _load(tmp_path, saved, allow_pickle=True).component_names == ["tok2vec"]


@pytest.mark.parametrize("name", ["config.cfg", "meta.json", "vocab/strings.json", "vocab/vectors", "sentencizer.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damage_is_an_error_that_says_so(name: str, damage: str, tmp_path: Path) -> None:
    """A file that is gone or cut is reported as damage, not as whatever spaCy makes of it."""
    saved = _save(spacy_cases.blank("en", "sentencizer")["model"], tmp_path)
    path = tmp_path / "model" / name
    data = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(IntegrityError, match="spaCy pipeline"):
        _load(tmp_path, saved)


def test_a_configuration_cannot_load_something_else(tmp_path: Path) -> None:
    """Components from other packages and functions that load pipelines are refused before anything is imported."""
    saved = _save(spacy_cases.blank("en", "sentencizer")["model"], tmp_path)
    path = tmp_path / "model" / "config.cfg"
    text = path.read_text()
    path.write_text(text.replace('factory = "sentencizer"', 'source = "antigravity"'))
    with pytest.raises(IntegrityError, match="to come from 'antigravity'"):
        _load(tmp_path, saved)
    loader = '[nlp.after_creation]\n@callbacks = "spacy.copy_from_base_model.v1"\nvocab = "antigravity"\n\n[components]'
    path.write_text(text.replace("after_creation = null\n", "").replace("[components]", loader))
    with pytest.raises(IntegrityError, match="loads another pipeline"):
        _load(tmp_path, saved)
    assert "antigravity" not in sys.modules


def test_a_record_cannot_name_another_class(tmp_path: Path) -> None:
    """The class of a record has to be a language of spaCy's, and functions go to spaCy's registries only."""
    saved = _save(spacy.blank("en"), tmp_path)
    for name in ("os:system", "spacy.vocab:Vocab", "builtins:dict"):
        with pytest.raises(IntegrityError, match="is no Language of spaCy"):
            _load(tmp_path, saved, **{"class": {"class": name}})
    hostile = {"registry": "__class__", "name": "x", "function": {"class": "os:system"}}
    with pytest.raises(IntegrityError, match="is no registry"):
        _load(tmp_path, saved, functions=[hostile])


def test_end_to_end(store: ModelStore) -> None:
    """Up and back with one line each, where pickles are refused; the record has the components and their labels."""
    nlp = spacy_cases.initialized("ner")["model"]
    info = store.upload("news", model=nlp)
    assert info.library == "spacy"
    assert info["model"]["model_type"]["type"] == "English"
    assert info["model"]["parameters"]["labels"] == {"ner": ["PLACE"]}
    loaded = store.load("news", info.model_id, allow_pickle=False)
    texts = [doc.text for doc in loaded.pipe(spacy_cases.TEXTS)]
    assert texts == spacy_cases.TEXTS
    assert np.array_equal(
        loaded.get_pipe("ner").model.predict([loaded.make_doc("Berlin sees")]).tokvecs,
        nlp.get_pipe("ner").model.predict([nlp.make_doc("Berlin sees")]).tokvecs,
    )


SCRIPT = """
    import sys
    import spacy
    from modelstore import ModelStore
    from spacy.language import Language
    from spacy.lang.en import English

    LIMIT = 2

    @Language.component("short")
    def short(doc):
        doc.user_data["short"] = [token.text for token in doc if len(token) <= LIMIT]
        return doc

    @spacy.registry.misc("answer")
    def answer():
        return 42

    @Language.factory("answers", default_config={"answer": {"@misc": "answer"}, "times": 1})
    def answers(nlp, name, answer, times):
        return Answers(answer * times)

    class Answers:
        def __init__(self, answer):
            self.answer = answer

        def __call__(self, doc):
            doc.user_data["answer"] = self.answer
            return doc

        def to_disk(self, path, exclude=()):
            pass

        def from_disk(self, path, exclude=()):
            return self

    class Shouting(English):
        lang = "en"

        def shout(self, text):
            return [token.text.upper() for token in self(text)]

    nlp = Shouting()
    nlp.add_pipe("short")
    nlp.add_pipe("answers", config={"times": 2})
    store = ModelStore.from_file_system(sys.argv[1], create_directory=True)
    entry = store.upload("d", model=nlp, model_id="m")["model"]["managers"][0]
    print(entry["pickled"], "python" in entry)
"""

READER = """
    import sys
    from modelstore import ModelStore
    from modelstore.exceptions import PickleNotAllowedError
    store = ModelStore.from_file_system(sys.argv[1])
    try:
        store.load("d", "m", allow_pickle=False)
    except PickleNotAllowedError:
        print("refused")
    nlp = store.load("d", "m")
    print(nlp("it is so green").user_data, nlp.shout("a b"), type(nlp).__name__)
    print(nlp.get_pipe_meta("short").factory, store.load("d", "m")("of").user_data)
"""


def test_components_of_a_notebook_load_elsewhere(tmp_path: Path) -> None:
    """Functions, factories, registered values and a language of `__main__` go along, and only they are pickled."""
    store = tmp_path / "store"
    assert _run(SCRIPT, tmp_path / "notebook.py", store) == "['classes.pkl'] True\n"
    lines = _run(READER, tmp_path / "service.py", store).splitlines()
    assert lines == [
        "refused",
        "{'short': ['it', 'is', 'so'], 'answer': 84} ['A', 'B'] Shouting",
        "short {'short': ['of'], 'answer': 84}",
    ]


def test_what_the_reader_has_registered_wins(tmp_path: Path) -> None:
    """A process that registers a component itself gets its own, however the pipeline was stored."""
    nlp = spacy_cases.blank("en", "modelstore_test_marks")["model"]
    saved = _save(nlp, tmp_path)
    (entry,) = saved.state["functions"]
    other = {**entry, "function": {"class": "os:system"}}
    assert _load(tmp_path, saved, functions=[other]).get_pipe("modelstore_test_marks") is spacy_cases.marks
    assert json.loads(json.dumps(saved.state)) == saved.state


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "", "HOME": str(script.parent)}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
