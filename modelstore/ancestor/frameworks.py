"""One function for each of the ancestor's file formats. Each imports its framework when it is called."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import IntegrityError, MissingDependencyError

if TYPE_CHECKING:
    from modelstore.ancestor.loading import Part


def load_joblib(part: Part) -> Any:
    """scikit-learn, skorch and CausalML: a pickle by joblib."""
    return _joblib(part, "model.joblib")


def load_explainer(part: Part) -> Any:
    """SHAP: a pickle by joblib."""
    return _joblib(part, "explainer.joblib")


def _joblib(part: Part, name: str) -> Any:
    import joblib

    path = part.file(name)
    part.policy.require(part.subject)
    return joblib.load(path)


def load_xgboost(part: Part) -> Any:
    """XGBoost's own format, into the class that was saved."""
    import xgboost

    cls = _class(xgboost, part, "xgboost.core:Booster", "xgboost.sklearn:XGBModel")
    model = cls()
    model.load_model(bytearray(part.file("model.xgboost").read_bytes()))  # its suffix tells XGBoost no format
    return model


def load_lightgbm(part: Part) -> Any:
    """A `Booster`."""
    import lightgbm

    return lightgbm.Booster(model_file=part.file("model.txt"))


def load_catboost(part: Part) -> Any:
    """CatBoost's own format, into the class that was saved."""
    import catboost

    model = _class(catboost, part, "catboost.core:CatBoost")()
    return model.load_model(str(part.file("model.cbm")), format="cbm")


def load_annoy(part: Part) -> Any:
    """An index, mapped into memory."""
    from annoy import AnnoyIndex

    try:
        dimensions, metric = int(part.parameters["num_dimensions"]), str(part.parameters["metric"])
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(part.subject, "record", f"its parameters lack {error}") from error
    model = AnnoyIndex(dimensions, metric)
    model.load(str(part.file("model.ann")))
    return model


def load_torch(part: Part) -> Any:
    """A module, pickled whole; or with `into=` its weights alone, which stand in a file of their own."""
    import torch

    where = part.device or (None if torch.cuda.is_available() else "cpu")
    if part.into is not None:
        checkpoint = torch.load(part.file("checkpoint.pt"), map_location=where, weights_only=True)
        part.into.load_state_dict(checkpoint["model_state_dict"])
        return part.into
    path = part.file("model.pt")
    part.policy.require(part.subject)
    return torch.load(path, map_location=where, weights_only=False)


def load_lightning(part: Part) -> Any:
    """A module from a checkpoint. Its class is looked for among what has been imported, as in the ancestor."""
    try:
        from pytorch_lightning import LightningModule
    except ModuleNotFoundError:
        from lightning.pytorch import LightningModule
    part.policy.require(part.subject)
    found = (getattr(module, "__dict__", {}).get(part.type) for module in list(sys.modules.values()))
    cls: Any = next((each for each in found if isinstance(each, type) and issubclass(each, LightningModule)), None)
    if cls is None:
        raise MissingDependencyError(
            part.type, f"loading {part.subject}", f"import the module that defines the class {part.type} first"
        )
    options = inspect.signature(cls.load_from_checkpoint).parameters
    trusted = {"weights_only": False} if "weights_only" in options else {}
    return cls.load_from_checkpoint(part.file("checkpoint.pt"), **trusted)


def load_keras(part: Part) -> Any:
    """A `.keras` file of Keras 3, or the SavedModel that TensorFlow wrote before 2.16."""
    if (part.folder / "model.keras").is_file():
        import keras

        if int(keras.__version__.partition(".")[0]) < 3:
            raise MissingDependencyError("keras", f"loading {part.subject}", "pip install 'keras>=3' tensorflow")
        # Lambda layers hold byte code, and a configuration names classes to import.
        return keras.models.load_model(part.file("model.keras"), safe_mode=not part.policy.allow_pickle)
    folder = part.file("model")
    part.policy.require(part.subject)  # it brings functions of its own
    try:
        older: Any = importlib.import_module("tf_keras")
    except ModuleNotFoundError:
        older = importlib.import_module("keras")
        if int(older.__version__.partition(".")[0]) >= 3:
            command = "pip install tf_keras (it is a SavedModel, which Keras 3 does not load)"
            raise MissingDependencyError("tf_keras", f"loading {part.subject}", command) from None
    return older.models.load_model(str(folder))


def load_transformers(part: Part) -> tuple[Any, ...]:
    """`(model, tokenizer, config)`, `(model, processor, config)` or `(model, config)`."""
    import transformers

    folder = part.file("transformers")
    names = {path.name for path in folder.iterdir()}
    if not any(name.endswith((".safetensors", ".h5")) for name in names):
        part.policy.require(part.subject)  # weights in a pickle
    cls = getattr(transformers, part.type, None)
    if not (isinstance(cls, type) and hasattr(cls, "from_pretrained")):
        cls = transformers.AutoModel

    def read(each: Any) -> Any:
        return each.from_pretrained(str(folder), local_files_only=True)

    model, config = read(cls), read(transformers.AutoConfig) if "config.json" in names else None
    if names & {"tokenizer.json", "tokenizer_config.json"}:
        return model, read(transformers.AutoTokenizer), config
    if "preprocessor_config.json" in names:
        return model, read(transformers.AutoProcessor), config
    return model, config


def load_onnx(part: Part) -> Any:
    """An `InferenceSession` of ONNX Runtime."""
    import onnxruntime

    data = part.file("model.onnx").read_bytes()
    return onnxruntime.InferenceSession(data, providers=onnxruntime.get_available_providers())


def load_prophet(part: Part) -> Any:
    """Prophet's own JSON."""
    from prophet.serialize import model_from_json

    return model_from_json(part.text("prophet_model.json"))


def load_gensim(part: Part) -> Any:
    """A pickle in gensim's way, by the class that was saved."""
    import gensim.models
    from gensim.utils import SaveLoad

    path = part.file("gensim.model")
    part.policy.require(part.subject)
    cls: Any = getattr(gensim.models, part.type, None)
    known = isinstance(cls, type) and issubclass(cls, SaveLoad)
    return (cls if known else SaveLoad).load(str(path))


def load_fastai(part: Part) -> Any:
    """A learner, pickled whole."""
    from fastai.learner import load_learner

    path = part.file("learner.pkl")
    part.policy.require(part.subject)
    return load_learner(path)


def load_statsmodels(part: Part) -> Any:
    """Results, pickled whole."""
    from statsmodels.iolib.smpickle import load_pickle

    path = part.file("model.pkl")
    part.policy.require(part.subject)
    return load_pickle(str(path))


def load_pyspark(part: Part) -> Any:
    """A pipeline, from the folders at the top of the archive."""
    import pyspark.ml

    from modelstore.managers._pyspark import sessions

    part.file("metadata")
    part.policy.require(part.subject)
    cls = pyspark.ml.Pipeline if part.type == "Pipeline" else pyspark.ml.PipelineModel
    spark = sessions.session()
    with sessions.readable(spark, part.folder, lasting=True) as uri:
        return cls.load(uri)


def load_file(part: Part) -> Path:
    """A private copy of the file that was uploaded. The ancestor could only download it."""
    from modelstore.managers.model_file import private_copy

    files = [path for path in sorted(part.folder.iterdir()) if path.is_file()]
    own = [path for path in files if path.name != "model-info.json"] or files
    if len(own) != 1:
        raise IntegrityError(part.subject, "archive", f"it holds {len(own)} files where one is to be")
    return private_copy(own[0])


def _class(module: Any, part: Part, *roots: str) -> Any:
    """The class of a framework that the record names, if it is one of its models."""
    cls = getattr(module, part.type, None)
    if isinstance(cls, type) and any(f"{base.__module__}:{base.__qualname__}" in roots for base in cls.__mro__):
        return cls
    raise IntegrityError(part.subject, "record", f"{part.type!r} is no class of {module.__name__}'s models")
