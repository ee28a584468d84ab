"""Hugging Face Transformers: models with their heads, tokenizers, processors, configurations, pipelines.

The folder `model` has the layout that `save_pretrained` writes (weights as safetensors), so that `from_pretrained` of
Transformers alone opens it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._torch.devices import checked_device
from modelstore.managers._transformers.models import fill_model, load_model, save_model
from modelstore.managers._transformers.parts import KINDS, kind_of, load_part, require_kind, save_part
from modelstore.managers._transformers.pipelines import build_pipeline, parts_of, settings_of
from modelstore.managers.base import SUBJECTS, LoadRequest, Manager, Saved, class_name
from modelstore.managers.classes import ClassBook, ClassShelf
from modelstore.notices import warn
from modelstore.records import json_safe


class TransformersManager(Manager):
    """Hugging Face Transformers."""

    name = "transformers"
    title = "Hugging Face Transformers"
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
    load_options = ("into", "device")
    extra = "transformers"
    restores_as = (
        "the same class with its head: `(model, config)`, with a tokenizer or processor between them where one was "
        "uploaded; anything uploaded without a model as itself"
    )
    exactness = "bit for bit; of a model whose weights lay unaligned in memory, kernels may round differently"
    limits = (
        "A model that its class would not build from its configuration (a replaced head, layers added by hand) is "
        "refused, as `from_pretrained` could not load it; `manager='pytorch'` stores it as it is.",
        "Models with adapters are refused: merge them, or upload the `PeftModel`, which has a manager of its own.",
        "Weights on the meta device or on disk, and shards of a distributed model, are refused: load the whole model.",
        "A `Trainer` is refused: upload its model and tokenizer. Optimizer and progress are in the checkpoints that it "
        "writes, whose folder can be uploaded by its path.",
        "A pipeline's assistant model, and parameters that JSON cannot hold, are refused.",
        "An attention implementation that torch does not bring (flash attention) is left to the reader's machine.",
        "Classes that came with a checkpoint (`trust_remote_code=True`) or from a notebook are pickled.",
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
    kind = kind_of(obj)
    if kind == "trainer":
        raise UnsupportedObjectError(
            f"a {class_name(obj)} is a process, not a model: upload model=trainer.model, tokenizer="
            "trainer.processing_class; a checkpoint's folder, which holds optimizer and progress, goes in by its path",
            class_name(obj),
        )
    if kind is None:
        raise UnsupportedObjectError(
            f"a {class_name(obj)} is neither a model, tokenizer, processor, configuration nor pipeline of transformers",
            class_name(obj),
        )
    return kind


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
            save_part(obj, self._folder.path(name))
            self._add_format("json")
        return entry

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


class _Reader:
    """One load."""

    def __init__(self, request: LoadRequest) -> None:
        self._request = request
        self._shelf = ClassShelf(request.folder, request.policy)
        if request.into is not None and request.device is not None:
            raise InvalidArgumentError(
                "device", "into= is filled on the devices that it lies on: move it there instead"
            )
        self._device = checked_device(request.device)

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
            return load_model(cls, self._class(entry["config"], "config"), folder, entry["folder"], self._device)
        if kind == "pipeline":
            parts = {name: self._load(part) for name, part in entry["parts"].items()}
            return build_pipeline(cls, parts, entry["same"], entry["settings"], self._device)
        return load_part(cls, kind, folder / entry["folder"])

    def _class(self, reference: Mapping[str, Any], kind: str) -> Any:
        return require_kind(self._shelf.get(reference), kind, reference["class"])


def _follow(loaded: Mapping[str, Any], path: str) -> Any:
    first, _, attribute = path.partition(".")
    return getattr(loaded[first], attribute) if attribute else loaded[first]
