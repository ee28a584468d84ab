"""Models of each framework in archives as operatorai/modelstore packs them, written here by the framework's own means.

The real one writes the golden store; these are the frameworks that do not install beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    MissingDependencyError,
    NewerFormatError,
    PickleNotAllowedError,
)
from tests.ancestor.helpers import Ancestor, archive_of

Adopt = Callable[..., ModelStore]


@pytest.fixture
def adopt(tmp_path: Path) -> Adopt:
    """Packs all files of a folder as a model `m` of the domain `d`, and adopts it."""

    def adopted(library: str, kind: str | None, folder: Path, parameters: Any = None, models: Any = None) -> ModelStore:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        model_type = {"library": library, "type": kind, **({"models": models} if models else {})}
        model = {"domain": "d", "model_id": "m", "model_type": model_type, "parameters": parameters or {}}
        ancestor = Ancestor()
        ancestor.upload("d", "m", archive_of({"model-info.json": b"{}", **files}), model=model)
        store = ancestor.open(tmp_path)
        assert store.adopt().problems == ()
        return store

    return adopted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to save to."""
    made = tmp_path / "saved"
    made.mkdir()
    return made


def refused(store: ModelStore) -> bool:
    """Whether the model is refused where pickles are not allowed."""
    try:
        store.load("d", "m", allow_pickle=False)
    except PickleNotAllowedError:
        return True
    return False


@pytest.mark.parametrize(("library", "name"), [("sklearn", "model"), ("causalml", "model"), ("shap", "explainer")])
def test_joblib(adopt: Adopt, folder: Path, library: str, name: str) -> None:
    """scikit-learn, CausalML (and skorch) and SHAP are pickled by joblib."""
    joblib = pytest.importorskip("joblib")
    joblib.dump({"weights": [1, 2]}, folder / f"{name}.joblib")
    store = adopt(library, "Model", folder)
    assert store.load("d", "m") == {"weights": [1, 2]}
    assert refused(store)


def test_several_models(adopt: Adopt, folder: Path) -> None:
    """A mapping by library, each with its own class and parameters."""
    joblib = pytest.importorskip("joblib")
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBRegressor(n_estimators=2).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    model.save_model(folder / "model.ubj")
    (folder / "model.ubj").rename(folder / "model.xgboost")
    joblib.dump("explainer", folder / "explainer.joblib")
    models = [{"library": "xgboost", "type": "XGBRegressor"}, {"library": "shap", "type": "TreeExplainer"}]
    store = adopt("multiple-models", None, folder, models=models)
    loaded = store.load("d", "m")
    assert loaded["shap"] == "explainer"
    assert loaded["xgboost"].predict([[1.0]]).tolist() == model.predict([[1.0]]).tolist()
    assert refused(store)


def test_catboost(adopt: Adopt, folder: Path) -> None:
    """CatBoost's own format, into the class that the record names."""
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostClassifier(iterations=2, verbose=False, allow_writing_files=False)
    model.fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    model.save_model(str(folder / "model.cbm"), format="cbm")
    loaded = adopt("catboost", "CatBoostClassifier", folder).load("d", "m", allow_pickle=False)
    assert type(loaded) is catboost.CatBoostClassifier
    assert loaded.predict_proba([[1.5]]).tolist() == model.predict_proba([[1.5]]).tolist()


def test_prophet(adopt: Adopt, folder: Path) -> None:
    """Prophet's own JSON, which the ancestor wraps in JSON once more."""
    pytest.importorskip("prophet")
    pandas = pytest.importorskip("pandas")
    from prophet import Prophet
    from prophet.serialize import model_to_json

    days = pandas.date_range("2026-01-01", periods=30)
    model = Prophet().fit(pandas.DataFrame({"ds": days, "y": range(30)}))
    (folder / "prophet_model.json").write_text(json.dumps(model_to_json(model)))
    loaded = adopt("prophet", "Prophet", folder).load("d", "m", allow_pickle=False)
    future = pandas.DataFrame({"ds": days[:3]})
    assert loaded.predict(future)["yhat"].tolist() == pytest.approx(model.predict(future)["yhat"].tolist())


def test_gensim(adopt: Adopt, folder: Path) -> None:
    """Of the class that was saved, and not of Word2Vec alone."""
    models = pytest.importorskip("gensim.models")
    model = models.FastText([["a", "b", "c"]] * 20, vector_size=4, min_count=1, epochs=1, bucket=10)
    model.save(str(folder / "gensim.model"))
    store = adopt("gensim", "FastText", folder)
    assert type(store.load("d", "m")) is models.FastText
    assert refused(store)


def test_pytorch(adopt: Adopt, folder: Path) -> None:
    """The module as it was pickled; with `into=` the weights alone, for which no pickle is read."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    torch.save({"model_state_dict": model.state_dict()}, folder / "checkpoint.pt")
    torch.save(model, folder / "model.pt")
    store = adopt("pytorch", "Linear", folder)
    assert torch.equal(store.load("d", "m").weight, model.weight)
    assert refused(store)
    into = torch.nn.Linear(2, 1)
    assert store.load("d", "m", into=into, allow_pickle=False) is into
    assert torch.equal(into.weight, model.weight)
    with pytest.raises(InvalidArgumentError, match="with_optimizer"):
        store.load("d", "m", with_optimizer=True)


def test_pytorch_lightning(adopt: Adopt, folder: Path) -> None:
    """A checkpoint, loaded by the class of that name that has been imported."""
    torch = pytest.importorskip("torch")
    try:
        from pytorch_lightning import LightningModule, __version__
    except ImportError:
        pytest.importorskip("lightning")
        from lightning.pytorch import LightningModule, __version__

    class Net(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

    model = Net()
    checkpoint = {
        "state_dict": model.state_dict(), "pytorch-lightning_version": __version__, "epoch": 0, "global_step": 0,
        "loops": {}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": [],
    }  # fmt: skip
    torch.save(checkpoint, folder / "checkpoint.pt")
    store = adopt("pytorch_lightning", "AncestorNet", folder)
    with pytest.raises(MissingDependencyError, match="import the module"):
        store.load("d", "m")
    globals()["AncestorNet"] = Net
    try:
        assert torch.equal(store.load("d", "m").layer.weight, model.layer.weight)
    finally:
        del globals()["AncestorNet"]
    assert refused(store)


@pytest.mark.parametrize("tokenizer", [False, True])
def test_transformers(adopt: Adopt, folder: Path, tokenizer: bool) -> None:
    """`(model, config)`, or with the tokenizer between them; the model has its head."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=20, num_labels=3, **sizes)
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder / "transformers")
    if tokenizer:
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
        transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "transformers")
    loaded = adopt("transformers", "BertForSequenceClassification", folder).load("d", "m", allow_pickle=False)
    assert type(loaded[0]) is transformers.BertForSequenceClassification
    assert loaded[-1].num_labels == 3
    assert len(loaded) == (3 if tokenizer else 2)


@pytest.mark.parametrize("library", ["tensorflow", "keras"])
def test_keras(adopt: Adopt, folder: Path, library: str) -> None:
    """A `.keras` file; `keras` was a library of its own once."""
    keras = pytest.importorskip("keras")
    numpy = pytest.importorskip("numpy")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    model.save(folder / "model.keras")
    loaded = adopt(library, "Sequential", folder).load("d", "m", allow_pickle=False)
    data = numpy.ones((1, 2), "float32")
    assert numpy.array_equal(loaded.predict(data, verbose=0), model.predict(data, verbose=0))


def test_fastai(adopt: Adopt, folder: Path) -> None:
    """A learner, pickled whole."""
    pytest.importorskip("fastai")
    torch = pytest.importorskip("torch")
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner

    loader = DataLoader([(torch.ones(2), torch.ones(1))] * 4, bs=2)
    learner = Learner(DataLoaders(loader, loader), torch.nn.Linear(2, 1), loss_func=torch.nn.MSELoss(), path=folder)
    torch.save(learner, folder / "learner.pkl")  # as its export() does once it has taken the data out
    store = adopt("fastai", "Learner", folder)
    assert torch.equal(store.load("d", "m").model.weight, learner.model.weight)
    assert refused(store)


def test_files(adopt: Adopt, folder: Path) -> None:
    """A file that was uploaded as it was is the path of a copy that one may write to."""
    (folder / "model.gguf").write_bytes(b"weights")
    path = adopt("model_file", None, folder).load("d", "m")
    assert path.name == "model.gguf"
    path.write_bytes(b"mine")


def test_what_is_missing(adopt: Adopt, folder: Path) -> None:
    """A file that is not there, a class that is none of the framework's, and a library that nobody knows."""
    pytest.importorskip("xgboost")
    (folder / "other").write_bytes(b"")
    with pytest.raises(IntegrityError, match="Module"):
        adopt("xgboost", "Module", folder).load("d", "m")
    with pytest.raises(IntegrityError, match="model.xgboost"):
        adopt("xgboost", "XGBRegressor", folder).load("d", "m")
    with pytest.raises(NewerFormatError, match="future"):
        adopt("future", "Model", folder).load("d", "m")


def test_pyspark(adopt: Adopt, folder: Path) -> None:
    """A pipeline, whose two folders stand at the top of the archive."""
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.feature import VectorAssembler

    from modelstore.managers._pyspark.sessions import session

    frame = session().createDataFrame([(1.0, 2.0)], ["a", "b"])
    model = Pipeline(stages=[VectorAssembler(inputCols=["a", "b"], outputCol="both")]).fit(frame)
    model.save(str(folder / "pyspark"))
    store = adopt("pyspark", "PipelineModel", folder / "pyspark")
    loaded = store.load("d", "m")
    assert type(loaded) is PipelineModel
    assert loaded.transform(frame).head()["both"].toArray().tolist() == [1.0, 2.0]
    assert refused(store)
