"""Tokenizers of every model come back as themselves, and cut any text into the same tokens."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    implementations,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from modelstore import ModelStore
from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.tokenizers import MODEL, TokenizersManager
from tests.managers.contract import BuiltinContract

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "<s> naïve café [MASK] 東京 \U0001f98a </s>",
    "",
]
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]


def observe(tokenizer: Any) -> Any:
    """Tokens, offsets and masks of each text alone and in pairs; vocabulary; and all that it would write."""
    core = getattr(tokenizer, "_tokenizer", tokenizer)
    encodings = [core.encode(text) for text in TEXTS] + [core.encode(TEXTS[0], TEXTS[1])]
    return {
        "encodings": [
            [each.ids, each.tokens, list(map(list, each.offsets)), each.type_ids, each.attention_mask,
             each.special_tokens_mask]
            for each in encodings
        ],
        "decoded": [core.decode(each.ids, skip_special_tokens=False) for each in encodings],
        "vocabulary": sorted(core.get_vocab().items()),
        "added": {number: repr(token) for number, token in sorted(core.get_added_tokens_decoder().items())},
        "settings": [core.padding, core.truncation, core.encode_special_tokens],
        "own": {name: value for name, value in getattr(tokenizer, "__dict__", {}).items() if name != "_tokenizer"},
        "repr": repr(tokenizer),
        "text": core.to_str(),
    }  # fmt: skip


def observe_sampling(tokenizer: Any) -> Any:
    """What can be compared of a tokenizer that draws random numbers: its settings."""
    core = getattr(tokenizer, "_tokenizer", tokenizer)
    names = ("dropout", "alpha", "nbest_size")
    return core.to_str(), {name: getattr(core.model, name, None) for name in names}


def trained(model: Any, trainer: Any, dress: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """A tokenizer that has seen the texts."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    if dress is not None:
        dress(tokenizer)
    return {"model": tokenizer}


def bpe(dress: Callable[[Any], Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Byte pairs."""
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=SPECIAL, show_progress=False)
    return trained(models.BPE(unk_token="[UNK]", **settings), trainer, dress)


def unigram(dress: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """A language model over pieces."""
    trainer = trainers.UnigramTrainer(
        vocab_size=70, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False, n_sub_iterations=1
    )
    return trained(models.Unigram(), trainer, dress)


def word_piece(dress: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """BERT's pieces of words."""
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=SPECIAL, show_progress=False)
    model = models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=12)
    return trained(model, trainer, dress)


def word_level(dress: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Whole words."""
    trainer = trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False)
    return trained(models.WordLevel(unk_token="[UNK]"), trainer, dress)


def like_bert(tokenizer: Any) -> None:
    """A template for pairs, padding, truncation, and BERT's normalizer."""
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.enable_padding(length=24, pad_id=1, pad_token="[PAD]", direction="left", pad_type_id=1)
    tokenizer.enable_truncation(20, stride=2, strategy="longest_first", direction="left")


def with_more_tokens(tokenizer: Any) -> None:
    """Tokens that were added later, special ones among them."""
    tokenizer.add_tokens([AddedToken("café", single_word=True, lstrip=True), AddedToken("fox", normalized=False), "ö"])
    tokenizer.add_special_tokens([AddedToken("<s>", rstrip=True), "</s>"])
    tokenizer.encode_special_tokens = True


def with_all_parts(tokenizer: Any) -> None:
    """Sequences of normalizers, pre-tokenizers, processors and decoders."""
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[0-9]"), "#"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("[.,]"), "isolated"), pre_tokenizers.Digits(True), pre_tokenizers.Metaspace()]
    )
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.Sequence([decoders.Metaspace(), decoders.Strip(" ", 1, 0)])


def sampling(tokenizer: Any) -> None:
    """A Unigram model that samples."""
    model = tokenizer.model
    model.alpha, model.nbest_size = 0.3, 5
    tokenizer.model = model


class Own(implementations.CharBPETokenizer):
    """A ready-made tokenizer with a method and an attribute of one's own."""

    def shout(self, text: str) -> list[str]:
        return [token.upper() for token in self.encode(text).tokens]


def ready_made(name: str, **settings: Any) -> dict[str, Any]:
    """A class of `tokenizers.implementations`."""
    cls = Own if name == "Own" else getattr(implementations, name)
    tokenizer = cls(**settings)
    further = {} if name == "SentencePieceUnigramTokenizer" else {"min_frequency": 1}
    if name in ("ByteLevelBPETokenizer", "SentencePieceUnigramTokenizer"):
        further["special_tokens"] = ["<pad>", "<s>", "</s>", "<unk>"]
    if name == "SentencePieceUnigramTokenizer":
        further["unk_token"] = "<unk>"
    tokenizer.train_from_iterator(TEXTS * 3, vocab_size=330, show_progress=False, **further)
    tokenizer.enable_padding(pad_id=0, pad_token="<pad>")
    if name == "Own":
        tokenizer.note = ("x", 1.5)
    return {"tokenizer": tokenizer}


class TestTokenizers(BuiltinContract):
    """Every model, every kind of part, and the ready-made classes."""

    manager = TokenizersManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        plain = {
            f"{build.__name__}{f' {dress.__name__}' if dress else ''}": functools.partial(build, dress)
            for build in (bpe, unigram, word_piece, word_level)
            for dress in (None, like_bert, with_more_tokens, with_all_parts)
        }
        plain |= {
            "bpe with settings": functools.partial(
                bpe, fuse_unk=True, byte_fallback=True, ignore_merges=True, end_of_word_suffix="</w>"
            ),
            "untrained": lambda: {"model": Tokenizer(models.BPE())},
            "lower case": functools.partial(ready_made, "ByteLevelBPETokenizer", lowercase=True, add_prefix_space=True),
            "of the user's": functools.partial(ready_made, "Own", lowercase=True),
            "two": lambda: {"model": bpe()["model"], "tokenizer": word_level()["model"]},
        }
        plain |= {
            name: functools.partial(ready_made, name)
            for name in (
                "BertWordPieceTokenizer", "ByteLevelBPETokenizer", "CharBPETokenizer", "SentencePieceBPETokenizer",
                "SentencePieceUnigramTokenizer",
            )
        }  # fmt: skip
        cases = {name: Case(build, observe) for name, build in plain.items() if name != "two"}
        cases["two"] = Case(plain["two"], observe_two)
        cases["dropout"] = Case(functools.partial(bpe, dropout=0.3), observe_sampling)
        cases["sampling"] = Case(functools.partial(unigram, sampling), observe_sampling)
        return cases

    def test_only_own_classes_are_pickled(self, tmp_path_factory: Any) -> None:
        """Nothing that tokenizers brings asks for a pickle."""
        outcomes = self._outcomes(tmp_path_factory)
        assert {name for name, outcome in outcomes.items() if outcome.saved.pickled} == {"of the user's"}


def observe_two(both: Any) -> Any:
    """Two tokenizers of one upload."""
    return {keyword: observe(tokenizer) for keyword, tokenizer in both.items()}


def test_every_public_class_is_tried() -> None:
    """The ready-made classes of the contract are all that tokenizers exports."""
    found = {
        name
        for name, cls in vars(implementations).items()
        if isinstance(cls, type) and issubclass(cls, implementations.BaseTokenizer) and name != "BaseTokenizer"
    }
    assert found <= set(TestTokenizers().cases())


def store(obj: Any, folder: Path) -> Saved:
    """Save one object to a folder."""
    with ModelFolder() as files:
        saved = TokenizersManager().save({"model": obj}, files, {})
        write_folder(files.contents(), folder)
    return saved


def load(folder: Path, state: Any) -> Any:
    """Load what lies in the folder."""
    return TokenizersManager().load(LoadRequest(folder, state, ("model",), PicklePolicy(True)))


def test_the_file_opens_with_tokenizers_alone(tmp_path: Path) -> None:
    """`Tokenizer.from_file` reads `tokenizer.json`."""
    tokenizer = bpe(like_bert)["model"]
    store(tokenizer, tmp_path)
    assert Tokenizer.from_file(str(tmp_path / MODEL)).encode(TEXTS[0]).ids == tokenizer.encode(TEXTS[0]).ids


class Spaces:
    """A pre-tokenizer in Python."""

    def pre_tokenize(self, text: Any) -> None:
        text.split(lambda number, part: part.split(" ", "removed"))


@pytest.mark.parametrize("ready", [False, True])
def test_components_of_python_are_refused(ready: bool, tmp_path: Path) -> None:
    """A component written in Python cannot be stored, and the error says what to do."""
    tokenizer = implementations.CharBPETokenizer() if ready else bpe()["model"]
    tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Spaces())
    with pytest.raises(UnsupportedObjectError, match="put it on again after the load"):
        store(tokenizer, tmp_path)


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    """A missing, cut or foreign `tokenizer.json`, and a setting that no tokenizer has, are named."""
    saved = store(bpe()["model"], tmp_path)
    with pytest.raises(IntegrityError, match="no setting"):
        load(tmp_path, {"settings": {"__class__": 1}})
    text = (tmp_path / MODEL).read_text(encoding="utf-8")
    for damaged in (text[:-9], "{}", None):
        (tmp_path / MODEL).unlink()
        if damaged is not None:
            (tmp_path / MODEL).write_text(damaged, encoding="utf-8")
        with pytest.raises(IntegrityError, match="cannot be read"):
            load(tmp_path, saved.state)


@pytest.mark.parametrize("name", ["os:system", "tokenizers:Tokenizer", "tokenizers.models:BPE", "tokenizers", None])
def test_a_record_cannot_name_another_class(name: Any, tmp_path: Path) -> None:
    """The class of a record is taken from the ready-made tokenizers, and from nowhere else."""
    saved = store(implementations.CharBPETokenizer(), tmp_path)
    with pytest.raises(IntegrityError, match="no model class of tokenizers|names no class"):
        load(tmp_path, {**saved.state, "class": name})


def test_a_loaded_tokenizer_can_be_trained(tmp_path: Path) -> None:
    """Training a loaded tokenizer gives what training the original gives."""
    tokenizer = word_level()["model"]
    loaded = load(tmp_path, store(tokenizer, tmp_path).state)
    for each in (tokenizer, loaded):
        trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False)
        each.train_from_iterator(["one two two three"], trainer)
    assert loaded.get_vocab() == tokenizer.get_vocab()


def test_through_a_store(store: ModelStore) -> None:
    """`upload` finds the manager, records the vocabulary's size, and `load` needs no pickle."""
    tokenizer = word_piece(like_bert)["model"]
    info = store.upload("words", tokenizer=tokenizer)
    assert info.library == "tokenizers"
    assert info["model"]["parameters"]["vocabulary"] == tokenizer.get_vocab_size()
    loaded = store.load("words", info.model_id, allow_pickle=False)
    assert observe(loaded) == observe(tokenizer)


SCRIPT = """
    import sys
    from tokenizers.implementations import CharBPETokenizer
    from modelstore import ModelStore

    class Loud(CharBPETokenizer):
        def shout(self, text):
            return "".join(self.encode(text).tokens).upper()

    tokenizer = Loud()
    tokenizer.train_from_iterator(["a b c"] * 3, show_progress=False)
    ModelStore.from_file_system(sys.argv[1], create_directory=True).upload("words", model_id="a", model=tokenizer)
"""


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A ready-made tokenizer's subclass from `__main__` is stored by value; the vocabulary stays in the file."""
    script = tmp_path / "notebook.py"
    script.write_text(textwrap.dedent(SCRIPT))
    subprocess.run([sys.executable, str(script), str(tmp_path / "models")], check=True, timeout=120)
    loaded = ModelStore.from_file_system(tmp_path / "models").load("words", "a")
    assert loaded.shout("a b") == "A</W>B</W>"
    assert json.loads(loaded.to_str())["model"]["type"] == "BPE"
