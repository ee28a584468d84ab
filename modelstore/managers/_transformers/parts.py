"""Transformers' objects beside models: tokenizers, processors, configurations; and which kind an object is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.managers._transformers.models import quiet
from modelstore.managers.base import class_name

KINDS = {
    "transformers.modeling_utils:PreTrainedModel": "model",
    "transformers.configuration_utils:PreTrainedConfig": "config",
    "transformers.configuration_utils:PretrainedConfig": "config",  # before release 5
    "transformers.tokenization_utils_base:PreTrainedTokenizerBase": "tokenizer",
    "transformers.processing_utils:ProcessorMixin": "processor",
    "transformers.image_processing_base:ImageProcessingMixin": "processor",
    "transformers.image_processing_utils:ImageProcessingMixin": "processor",  # before 4.34
    "transformers.feature_extraction_utils:FeatureExtractionMixin": "processor",
    "transformers.pipelines.base:Pipeline": "pipeline",
    "transformers.trainer:Trainer": "trainer",
}
"""What the root classes are. The mixins among them are the only common roots that processors have."""

REMOTE_CODE = ("tokenizer", "processor")
"""Whose from_pretrained takes trust_remote_code; elsewhere it would become a setting of the object."""


def kind_of(obj: Any) -> str | None:
    """Which of `KINDS` an object is, or None."""
    names = (f"{base.__module__}:{base.__qualname__}" for base in type(obj).__mro__)
    return next((KINDS[name] for name in names if name in KINDS), None)


def require_kind(cls: Any, kind: str, name: Any) -> Any:
    """The class, if it is of that kind: a record must not make us call anything else.

    Raises:
        IntegrityError: it is not.
    """
    bases = {f"{base.__module__}:{base.__qualname__}" for base in getattr(cls, "__mro__", ())}
    if not any(root in bases for root, of_kind in KINDS.items() if of_kind == kind):
        raise IntegrityError("the record", "transformers", f"{name} is no class of a {kind}")
    return cls


def save_part(obj: Any, path: Path) -> None:
    """Write a tokenizer, processor or configuration to the folder `path`.

    Raises:
        UnsupportedObjectError: transformers refuses, or its class could not load it again.
    """
    try:
        with quiet():
            obj.save_pretrained(path)
    except OSError:
        raise
    except Exception as error:
        raise UnsupportedObjectError(
            f"transformers cannot save this {type(obj).__name__}: {error}", class_name(obj)
        ) from error
    if not type(obj).__module__.startswith("transformers."):
        # Small, and of a class whose constructor may need what was not saved.
        _check_loads(obj, path)


def _check_loads(obj: Any, path: Path) -> None:
    try:
        load_part(type(obj), str(kind_of(obj)), path)
    except Exception as error:
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} was saved, but its class cannot load it again ({error!r}); a constructor's "
            "further arguments need defaults, or must be kept by save_pretrained",
            class_name(obj),
        ) from error


def load_part(cls: Any, kind: str, path: Path) -> Any:
    """Read what `save_part` wrote, without asking any hub."""
    settings = {"trust_remote_code": False} if kind in REMOTE_CODE and _has_remote_code(cls) else {}
    with quiet():
        return cls.from_pretrained(path, local_files_only=True, **settings)


def _has_remote_code(cls: Any) -> bool:
    """Tokenizers and composed processors look for code to run; image processors and feature extractors never do."""
    return hasattr(cls, "get_attributes") or hasattr(cls, "vocab_files_names") or hasattr(cls, "attributes")
