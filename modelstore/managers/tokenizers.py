"""Hugging Face tokenizers: `Tokenizer`, and the ready-made classes of `tokenizers.implementations`.

`tokenizer.json` is what `Tokenizer.save` writes. It leaves out the class and parameters of a ready-made tokenizer,
which lie beside it, and a few settings, which the record has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.attributes import load_attributes, save_attributes
from modelstore.managers.base import SUBJECTS, LoadRequest, ObjectManager, Saved, class_name

MODEL = "tokenizer.json"

_CORE = "_tokenizer"
"""The attribute of a ready-made tokenizer that holds the `Tokenizer`."""
_ROOT = "tokenizers.implementations.base_tokenizer:BaseTokenizer"
_SAMPLING = ("alpha", "nbest_size")
"""How a Unigram model samples; `tokenizer.json` does not say."""


class TokenizersManager(ObjectManager):
    """Stores `Tokenizer` of any model, and `BaseTokenizer` with all that derives from it."""

    name = "tokenizers"
    title = "Hugging Face tokenizers"
    claims = ("tokenizers:Tokenizer", _ROOT)
    keywords = (*SUBJECTS, "tokenizer")
    distributions = ("tokenizers", "cloudpickle")
    extra = "tokenizers"
    restores_as = "the same class; a class of your own from `tokenizers.implementations` is pickled beside the file"
    exactness = "token for token; BPE dropout and Unigram sampling draw from a random state that no one can read or set"
    limits = (
        "Components written in Python (`PreTokenizer.custom` and its like) are refused: tokenizers cannot write them. "
        "Take them off before the upload and put them on again after the load.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the tokenizer, and of a ready-made one its class and attributes."""
        core = getattr(obj, _CORE, obj)
        text = _written(core)
        folder.add_bytes(MODEL, text.encode())
        saved = Saved("json", {"settings": _settings(core)})
        if core is not obj:
            saved.merge(part := save_attributes(obj, folder, "tokenizers", leave=(_CORE,)))
            saved.state |= part.state
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read the tokenizer.

        Raises:
            PickleNotAllowedError: its class, or an attribute, is the user's own.
        """
        try:
            core = _read((folder / MODEL).read_text(encoding="utf-8"))
        except Exception as error:  # the bindings raise bare Exception
            raise IntegrityError("the tokenizer", MODEL, f"it cannot be read: {error}") from error
        _set(core, state["settings"])
        if "class" not in state:
            return core
        cls, attributes = load_attributes(folder, state, request.policy, "tokenizers", (_ROOT,))
        obj = cls.__new__(cls)
        vars(obj).update(attributes)
        vars(obj)[_CORE] = core
        return obj

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The kind of the model and its settings, the size of the vocabulary, padding and truncation."""
        core = getattr(obj, _CORE, obj)
        model = core.model
        names = ("dropout", "unk_token", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", *_SAMPLING)
        return {
            "model": type(model).__name__,
            **{name: getattr(model, name) for name in names if hasattr(model, name)},
            "vocabulary": core.get_vocab_size(),
            "padding": core.padding,
            "truncation": core.truncation,
        }


def _read(text: str) -> Any:
    """The tokenizer of a `tokenizer.json`."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram

    core = Tokenizer.from_str(text)
    if isinstance(core.model, Unigram):
        # tokenizers reads every few numbers one unit too low or high in their last place; Python reads them exactly.
        model = json.loads(text)["model"]
        core.model = Unigram([tuple(entry) for entry in model["vocab"]], model["unk_id"], model["byte_fallback"])
    return core


def _written(core: Any) -> str:
    try:
        text: str = core.to_str()
    except Exception as error:
        raise UnsupportedObjectError(
            f"tokenizers cannot write this tokenizer ({error}); take off what is written in Python before the upload, "
            "and put it on again after the load",
            class_name(core),
        ) from error
    try:
        again = _read(text).to_str()
    except Exception as error:
        raise UnsupportedObjectError(
            f"tokenizers writes this tokenizer, but cannot read it again ({error})", class_name(core)
        ) from error
    if again != text:
        raise UnsupportedObjectError("tokenizers reads another tokenizer than it writes here", class_name(core))
    return text


def _settings(core: Any) -> dict[str, Any]:
    """What `tokenizer.json` does not say."""
    model = core.model
    found = {name: getattr(model, name) for name in _SAMPLING if getattr(model, name, None) is not None}
    if getattr(core, "encode_special_tokens", False):  # since 0.16
        found["encode_special_tokens"] = True
    return found


def _set(core: Any, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if name in _SAMPLING:
            model = core.model
            setattr(model, name, value)
            core.model = model
        elif name == "encode_special_tokens":
            core.encode_special_tokens = bool(value)
        else:
            raise IntegrityError("the record", "settings", f"a tokenizer has no setting {name!r}")
