"""Sentence Transformers: embedding models, cross-encoders, sparse encoders, of any modules.

The folder `model` is what `save_pretrained` writes (weights as safetensors), so that the library alone opens it too.
What its loader would not restore lies beside it, in `model.rest.json` and `model.rest.safetensors`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.classes import ClassBook, ClassShelf, is_of
from modelstore.managers.exact_json import decode, split
from modelstore.managers.pickled import load_pickle, save_pickle

MODEL = "model"
PICKLE = "custom.pkl"

_PACKAGE = "sentence_transformers"
_AS_PYTORCH = "or store it as it is, as a PyTorch module: upload(…, manager='pytorch')"
_ACTIVATIONS = ("activation_fn", "activation_function")
_SETTINGS = ("prompts", "default_prompt_name", "truncate_dim", "_similarity_fn_name", "max_active_dims")
_CARD = ("language", "license", "model_name", "model_id", "task_name", "tags", "generate_widget_examples", "base_model")


class SentenceTransformersManager(ObjectManager):
    """Stores `SentenceTransformer`, `CrossEncoder`, `SparseEncoder`, `MultiVectorEncoder`, and classes of them."""

    name = "sentence_transformers"
    title = "Sentence Transformers"
    claims = (
        "sentence_transformers.base.model:BaseModel",
        "sentence_transformers.sentence_transformer.model:SentenceTransformer",
        "sentence_transformers.cross_encoder.model:CrossEncoder",
        "sentence_transformers.sparse_encoder.model:SparseEncoder",
        # Before release 6.
        "sentence_transformers.SentenceTransformer:SentenceTransformer",
        "sentence_transformers.cross_encoder.CrossEncoder:CrossEncoder",
        "sentence_transformers.sparse_encoder.SparseEncoder:SparseEncoder",
    )
    load_options = ("device",)
    distributions = ("sentence-transformers", "transformers", "torch", "tokenizers", "safetensors", "numpy")
    extra = "sentence-transformers"
    restores_as = "the same class, with the same modules, prompts and similarity"
    limits = (
        "Models that run on ONNX or OpenVINO, or carry PEFT adapters, are refused: their folders hold another format, "
        "or lead to another model. Upload them before the export, or after `merge_and_unload()`.",
        "Module classes whose code came with a checkpoint (`trust_remote_code=True`) are refused, as no code of a "
        "folder is run; `manager='pytorch'` stores such a model as a pickle.",
        "An activation function that is no plain `torch.nn` class, or has arguments, is pickled; so are classes from a "
        "notebook.",
        "The trainer and its state are not part of the model; the text and the fields of the model card are kept.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the model by its own `save_pretrained`."""
        from modelstore.managers._sentence_transformers.vetting import vet
        from modelstore.managers._torch.exact import save_rest
        from modelstore.managers._transformers.layout import main_dtype

        _refuse(obj)
        book = ClassBook()
        modules = {_dotted(type(part)): book.refer(type(part)) for part in _modules(obj)}
        saved = Saved("safetensors", {"class": book.refer(type(obj)), "modules": modules})
        saved.state["dtype"] = str(main_dtype(obj)).removeprefix("torch.")
        path = folder.path(MODEL)
        _write(obj, path)
        try:
            vet(path, modules)
        except IntegrityError as error:
            raise UnsupportedObjectError(
                f"this {type(obj).__name__} could not be loaded without trusting code in its folder ({error}); use "
                f"classes of {_PACKAGE} or of torch.nn there, {_AS_PYTORCH}",
                class_name(obj),
            ) from error
        _align(folder, path)
        save_rest(obj, folder, MODEL)
        saved.merge(_save_settings(obj, folder))
        saved.merge(book.save(folder))
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the model by its class, on the CPU at first, without asking any hub.

        Raises:
            PickleNotAllowedError: a class or function is the user's own.
        """
        from modelstore.managers._sentence_transformers.vetting import vet
        from modelstore.managers._torch.devices import checked_device
        from modelstore.managers._torch.exact import restore_rest

        device = checked_device(request.device)
        custom: dict[str, Any] = {}
        if (folder / PICKLE).exists():
            custom = load_pickle(folder / PICKLE, "what belongs to the sentence-transformers model", request.policy)
        shelf = ClassShelf(folder, request.policy)
        try:
            cls = _class(shelf, state["class"], self.claims)
            modules = {name: _class(shelf, each, (_MODULE,)) for name, each in state["modules"].items()}
            settings = {name: decode(value) for name, value in _json(folder, "settings.json").items()}
            dtype = str(state["dtype"])
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError("the record", "state", f"it cannot be read: {error!r}") from error
        if any(name != _dotted(module) for name, module in modules.items()):
            raise IntegrityError("the record", "modules", "a class stands under another class's name")
        vet(folder / MODEL, modules)
        model = _read(cls, folder / MODEL, modules, dtype)
        restore_rest(model, folder, MODEL, device)
        _set_settings(model, settings, custom)
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The modules with their settings, prompts, and the size of an embedding."""
        found: dict[str, Any] = {"modules": [_described(part) for part in obj.children()]}
        for name in ("prompts", "default_prompt_name", "truncate_dim", "similarity_fn_name", "max_seq_length"):
            value = getattr(obj, name, None)
            if value is None or isinstance(value, (bool, int, str, dict)):
                found[name] = value
        size = getattr(obj, "get_embedding_dimension", None) or getattr(obj, "get_sentence_embedding_dimension", None)
        if size is not None:
            found["dimensions"] = size()
        return found


_MODULE = "torch.nn.modules.module:Module"


def _dotted(cls: type) -> str:
    """The class's name as `modules.json` has it."""
    return f"{cls.__module__}.{cls.__name__}"


def _modules(obj: Any) -> Iterator[Any]:
    """All that `modules.json` and the files of routers name: the modules, and those inside routers."""
    for part in obj.children():
        yield part
        for route in getattr(part, "sub_modules", {}).values():
            yield from route.children()


def _refuse(obj: Any) -> None:
    backend = obj.get_backend() if hasattr(obj, "get_backend") else getattr(obj, "backend", "torch")
    if backend != "torch":
        raise UnsupportedObjectError(
            f"this {type(obj).__name__} runs on {backend}; upload it as it was before the export, or save it to a "
            "folder and upload that by its path",
            class_name(obj),
        )
    for name, part in obj.named_modules():
        if getattr(part, "_hf_peft_config_loaded", False) or _is_adapted(part):
            raise UnsupportedObjectError(
                f"{name or 'this model'} carries adapters, whose files would lead to another model; merge them into "
                f"its weights first (peft: merge_and_unload()), {_AS_PYTORCH}",
                class_name(obj),
            )
    if not is_of(type(obj), _PACKAGE):
        try:
            inspect.signature(type(obj)).bind("folder", **_HOW)
        except TypeError as error:
            raise UnsupportedObjectError(
                f"{type(obj).__name__} cannot be built from a folder as its base class is ({error}); let its __init__ "
                "take and pass on the base's arguments",
                class_name(obj),
            ) from error


def _is_adapted(part: Any) -> bool:
    return any(base.__module__.startswith("peft.") for base in type(part).__mro__)


_HOW: dict[str, Any] = {"device": "cpu", "local_files_only": True, "trust_remote_code": False, "model_kwargs": {}}


def _write(obj: Any, path: Path) -> None:
    from modelstore.managers._transformers.models import quiet

    try:
        with quiet():
            # Without a card: making one looks things up at the hub, and calls the model.
            obj.save_pretrained(str(path), create_model_card=False, safe_serialization=True)
    except OSError:
        raise
    except Exception as error:  # a module of the user's may raise anything
        raise UnsupportedObjectError(
            f"{_PACKAGE} cannot save this {type(obj).__name__}: {error!r}", class_name(obj)
        ) from error
    if text := getattr(obj, "_model_card_text", None):
        (path / "README.md").write_text(text, encoding="utf-8")


def _align(folder: ModelFolder, path: Path) -> None:
    from modelstore.managers._transformers.files import align_files

    below = {file.parent.relative_to(path).as_posix() for file in path.rglob("*.safetensors")}
    for part in sorted(below):
        align_files(folder, MODEL if part == "." else f"{MODEL}/{part}")


def _read(cls: Any, path: Path, modules: Mapping[str, Any], dtype: str) -> Any:
    import torch

    from modelstore.managers._transformers.models import quiet, takes_dtype

    number = getattr(torch, dtype, None)
    if not isinstance(number, torch.dtype):
        raise IntegrityError("the record", "dtype", f"torch knows no {dtype!r}")
    how = {**_HOW, "model_kwargs": {"dtype" if takes_dtype() else "torch_dtype": number}}
    # Since release 6.1 the loader takes the classes; before, it imports them by the names that were vetted.
    build = getattr(cls, "_load_with_module_classes", None)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            return build(str(path), modules, **how) if build is not None else cls(str(path), **how)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise IntegrityError(
            "the sentence-transformers model", MODEL, f"its class cannot read its files: {error}"
        ) from error


def _odd_activations(obj: Any) -> dict[str, Any]:
    """Activation functions that their dotted name alone would not bring back, by path and attribute."""
    from modelstore.managers._sentence_transformers.vetting import is_plain_activation

    found = {}
    for path, part in obj.named_modules():
        for attribute in _ACTIVATIONS:
            function = getattr(part, attribute, None)
            if type(part).__module__.startswith(f"{_PACKAGE}.") and callable(function):
                cls = type(function)
                if not is_plain_activation(_dotted(cls)) or repr(cls()) != repr(function):
                    found[f"{path}:{attribute}"] = function
    return found


def _save_settings(obj: Any, folder: ModelFolder) -> Saved:
    """Settings and card beside the folder; what JSON cannot hold in a pickle."""
    settings, _ = split({name: getattr(obj, name) for name in _SETTINGS if hasattr(obj, name)})
    card = getattr(obj, "model_card_data", None)
    if dataclasses.is_dataclass(card):
        fields, _ = split({name: getattr(card, name) for name in _CARD if hasattr(card, name)})
        settings |= {f"card.{name}": value for name, value in fields.items()}
    folder.add_json("settings.json", settings)
    odd = _odd_activations(obj)
    if not odd:
        return Saved("json")
    saved = save_pickle(odd, folder, PICKLE, f"the activation functions of this {type(obj).__name__} cannot be pickled")
    saved.merge(Saved("json"))
    return saved


def _set_settings(model: Any, settings: Mapping[str, Any], custom: Mapping[str, Any]) -> None:
    card = getattr(model, "model_card_data", None)
    for name, value in settings.items():
        if name.startswith("card.") and name.removeprefix("card.") in _CARD:
            setattr(card, name.removeprefix("card."), value)
        elif name in _SETTINGS:
            setattr(model, name, value)
        else:
            raise IntegrityError("the sentence-transformers model", "settings.json", f"it sets {name!r}")
    for place, function in custom.items():
        path, _, attribute = place.rpartition(":")
        part = model.get_submodule(path)
        part._modules.pop(attribute, None)  # a function cannot take a module's place otherwise
        setattr(part, attribute, function)


def _class(shelf: ClassShelf, reference: Mapping[str, Any], roots: tuple[str, ...]) -> Any:
    cls = shelf.get(reference)
    bases = {f"{base.__module__}:{base.__qualname__}" for base in getattr(cls, "__mro__", ())}
    if not bases & set(roots):
        raise IntegrityError("the record", "state", f"{reference['class']} is no class of such a model")
    return cls


def _json(folder: Path, name: str) -> dict[str, Any]:
    import json

    try:
        found: dict[str, Any] = json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError("the sentence-transformers model", name, f"it cannot be read: {error}") from error
    return found


def _described(part: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"class": type(part).__name__}
    if hasattr(part, "get_config_dict"):
        plain = (bool, int, float, str, type(None))
        described |= {key: value for key, value in part.get_config_dict().items() if isinstance(value, plain)}
    return described
