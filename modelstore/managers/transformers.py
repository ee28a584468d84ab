"""Hugging Face Transformers: models with their heads, tokenizers, processors, configurations, pipelines.

The folder `model` has the layout that `save_pretrained` writes (weights as safetensors), so that `from_pretrained` of
Transformers alone opens it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._transformers.models import fill_model, load_model, quiet, save_model
from modelstore.managers._transformers.pipelines import build_pipeline, parts_of, settings_of
from modelstore.managers.base import SUBJECTS, LoadRequest, Manager, Saved, class_name
from modelstore.managers.classes import ClassBook, ClassShelf
from modelstore.notices import warn
from modelstore.records import json_safe

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
}
"""What the root classes are. The mixins among them are the only common roots that processors have."""

REMOTE_CODE = ("tokenizer", "processor")
"""Whose from_pretrained takes trust_remote_code; elsewhere it would become a setting of the object."""


class TransformersManager(Manager):
    """Hugging Face Transformers."""

    name = "transformers"
    claims = tuple(KINDS)
    keywords = (*SUBJECTS, "tokenizer", "processor", "config")
    distributions = (
        "transformers",
        "torch",
        "torchvision",
        "tokenizers",
        "safetensors",
        "huggingface-hub",
        "sentencepiece",
        "pillow",
        "numpy",
    )
    load_options = ("into",)
    extra = "transformers"
    restores_as = (
        "the same class with its head: `(model, config)`, with a tokenizer or processor between them where one was "
        "uploaded; anything uploaded without a model as itself"
    )

    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write each object by its own `save_pretrained`."""
        writer = _Writer(folder)
        state = writer.save_all(objects)
        saved = writer.saved()
        saved.state = state
        return saved

    def load(self, request: LoadRequest) -> Any:
        """Load each object by its recorded class's own `from_pretrained`, without asking any hub."""
        try:
            reader = _Reader(request)
            return reader.load_all()
        except (KeyError, IndexError) as error:
            raise IntegrityError("the record", "transformers", f"its state cannot be read: {error!r}") from error

    def parameters(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration, the explicit one first."""
        first = objects.get("config", objects.get("model", next(iter(objects.values()))))
        first = getattr(first, "model", first) if _kind(first) == "pipeline" else first
        config = first if _kind(first) == "config" else getattr(first, "config", None)
        parameters: dict[str, Any] = json_safe(config.to_dict()) if config is not None else {}
        return parameters


def _kind(obj: Any) -> str:
    for base in type(obj).__mro__:
        if kind := KINDS.get(f"{base.__module__}:{base.__qualname__}"):
            return kind
    raise UnsupportedObjectError(
        f"a {class_name(obj)} is neither a model, tokenizer, processor, configuration nor pipeline of transformers",
        class_name(obj),
    )


class _Writer:
    """One upload."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._book = ClassBook()
        self._format = Saved(format="")

    def save_all(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        kinds = {keyword: _kind(obj) for keyword, obj in objects.items()}
        helpers = {keyword: obj for keyword, obj in objects.items() if keyword != "model"}
        if kinds.get("model") == "model" and not {kinds[keyword] for keyword in helpers} & {"model", "pipeline"}:
            return self._save_set(objects["model"], helpers, kinds)
        return {keyword: self._save(obj, keyword) for keyword, obj in sorted(objects.items())}

    def saved(self) -> Saved:
        """What was saved; to be called once, at the end."""
        saved = self._book.save(self._folder)
        formats = [part for part in (self._format.format, saved.format) if part]
        saved.format = " + ".join(formats)
        return saved

    def _save_set(self, model: Any, helpers: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
        """A model with what belongs to it."""
        state = {"model": self._save(model, "model")}
        configs = [keyword for keyword in helpers if kinds[keyword] == "config"]
        parts, same = _shared({keyword: obj for keyword, obj in helpers.items() if keyword not in configs})
        for at, (keyword, obj) in enumerate(parts.items()):
            # One of them may share the model's folder, as Transformers expects; two could mix up their files.
            state[keyword] = self._save(obj, "model" if at == 0 else keyword)
        state.update({keyword: {"same": path} for keyword, path in same.items()})
        for keyword in configs:
            config = helpers[keyword]
            if type(config) is type(model.config) and config.to_dict() == model.config.to_dict():
                state[keyword] = {"same": "model.config"}
            else:
                warn(
                    f"{keyword}= differs from the model's own configuration; both are stored, and load gives back "
                    f"this one beside the model, which keeps its own"
                )
                state[keyword] = self._save(config, keyword)
        return state

    def _save(self, obj: Any, name: str) -> dict[str, Any]:
        """One object, in the folder `name`."""
        kind = _kind(obj)
        entry: dict[str, Any] = {"kind": kind, "folder": name, **self._book.refer(type(obj))}
        if kind == "model":
            self._add_format(save_model(obj, self._folder, name))
            entry["config"] = self._book.refer(type(obj.config))
        elif kind == "pipeline":
            parts, same = parts_of(obj)
            entry["settings"] = settings_of(obj)
            entry["same"] = same
            entry["parts"] = {
                # The model and the first of its helpers share a folder, as above.
                part: self._save(value, name if at < 2 else f"{name}.{part}")
                for at, (part, value) in enumerate(parts.items())
            }
        else:
            self._save_small(obj, name)
        return entry

    def _save_small(self, obj: Any, name: str) -> None:
        path = self._folder.path(name)
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
        self._add_format("json")

    def _add_format(self, name: str) -> None:
        self._format.merge(Saved(format=name))


def _shared(parts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Which of the tokenizers and processors are parts of another one; the whole ones first."""
    whole: dict[str, Any] = {}
    same: dict[str, str] = {}
    for keyword, obj in sorted(parts.items(), key=lambda item: not hasattr(item[1], "tokenizer")):
        for other, holder in whole.items():
            names = ("tokenizer", "image_processor", "feature_extractor", "video_processor")
            attribute = next((name for name in names if getattr(holder, name, None) is obj), None)
            if attribute is not None or holder is obj:
                same[keyword] = f"{other}.{attribute}" if attribute else other
                break
        else:
            whole[keyword] = obj
    return whole, same


def _check_loads(obj: Any, path: Any) -> None:
    try:
        _from_pretrained(type(obj), _kind(obj), path)
    except Exception as error:
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} was saved, but its class cannot load it again ({error!r}); a constructor's "
            "further arguments need defaults, or must be kept by save_pretrained",
            class_name(obj),
        ) from error


def _from_pretrained(cls: Any, kind: str, path: Any) -> Any:
    settings = {"trust_remote_code": False} if kind in REMOTE_CODE and _has_remote_code(cls) else {}
    with quiet():
        return cls.from_pretrained(path, local_files_only=True, **settings)


def _has_remote_code(cls: Any) -> bool:
    """Tokenizers and composed processors look for code to run; image processors and feature extractors never do."""
    return hasattr(cls, "get_attributes") or hasattr(cls, "vocab_files_names") or hasattr(cls, "attributes")


class _Reader:
    """One load."""

    def __init__(self, request: LoadRequest) -> None:
        self._request = request
        self._shelf = ClassShelf(request.folder, request.policy)

    def load_all(self) -> Any:
        state = self._request.state
        models = [keyword for keyword, entry in state.items() if entry.get("kind") == "model"]
        if self._request.into is not None and len(models) != 1:
            raise InvalidArgumentError("into", f"into= takes the weights of one model, and here are {len(models)}")
        loaded: dict[str, Any] = {}
        for keyword, entry in sorted(state.items(), key=lambda item: "kind" not in item[1]):
            loaded[keyword] = self._load(entry) if "kind" in entry else _follow(loaded, entry["same"])
        model = state.get("model", {})
        others = [entry.get("kind") for keyword, entry in state.items() if keyword != "model"]
        if model.get("kind") == "model" and not set(others) & {"model", "pipeline"}:
            return self._tuple(loaded)
        return next(iter(loaded.values())) if len(loaded) == 1 else loaded

    def _tuple(self, loaded: dict[str, Any]) -> tuple[Any, ...]:
        """`(model, tokenizer, processor, config)`, less what was not uploaded."""
        model = loaded.pop("model")
        is_config = {keyword: self._is_config(keyword) for keyword in loaded}
        config = next((obj for keyword, obj in loaded.items() if is_config[keyword]), model.config)
        order = ("tokenizer", "processor", "preprocessor", "explainer", "config")
        return (model, *(loaded[keyword] for keyword in order if keyword in loaded and not is_config[keyword]), config)

    def _is_config(self, keyword: str) -> bool:
        entry: Mapping[str, Any] = self._request.state[keyword]
        return "config" in (entry.get("kind"), str(entry.get("same")).partition(".")[2])

    def _load(self, entry: Mapping[str, Any]) -> Any:
        kind, folder = entry["kind"], self._request.folder
        if kind == "model" and self._request.into is not None:
            return fill_model(self._request.into, folder, entry["folder"])
        cls = self._class(entry, kind)
        if kind == "model":
            return load_model(cls, self._class(entry["config"], "config"), folder, entry["folder"])
        if kind == "pipeline":
            parts = {name: self._load(part) for name, part in entry["parts"].items()}
            return build_pipeline(cls, parts, entry["same"], entry["settings"])
        return _from_pretrained(cls, kind, folder / entry["folder"])

    def _class(self, reference: Mapping[str, Any], kind: str) -> Any:
        """The recorded class, if it is of that kind: a record must not make us call anything else."""
        cls = self._shelf.get(reference)
        bases = {f"{base.__module__}:{base.__qualname__}" for base in getattr(cls, "__mro__", ())}
        if not any(root in bases for root, of_kind in KINDS.items() if of_kind == kind):
            raise IntegrityError("the record", "transformers", f"{reference['class']} is no class of a {kind}")
        return cls


def _follow(loaded: Mapping[str, Any], path: str) -> Any:
    first, _, attribute = path.partition(".")
    return getattr(loaded[first], attribute) if attribute else loaded[first]
