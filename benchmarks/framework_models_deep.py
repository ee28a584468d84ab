"""As `framework_models`: networks, and what runs in a virtual machine of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.framework_models import by_pickle, data, entry, from_pickle


def _torch_save(model: Any, path: Path) -> None:
    import torch

    torch.save(model, path)


def _torch_load(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=False)


def network(width: int = 1024) -> Any:
    """4 MB of weights."""
    import torch

    return torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))


@entry("pytorch", _torch_save, _torch_load)
def pytorch() -> Any:
    return network()


def _jit_load(path: Path) -> Any:
    import torch

    return torch.jit.load(path)


@entry("torchscript", lambda model, path: model.save(str(path)), _jit_load)
def torchscript() -> Any:
    import torch

    return torch.jit.script(network())


def _export_save(model: Any, path: Path) -> None:
    import torch

    torch.export.save(model, path.with_suffix(".pt2"))


def _export_load(path: Path) -> Any:
    import torch

    return torch.export.load(path.with_suffix(".pt2"))


@entry("torch_export", _export_save, _export_load)
def torch_export() -> Any:
    import torch

    return torch.export.export(network(), (torch.zeros(1, 1024),))


@entry("pytorch_lightning", _torch_save, _torch_load)
def pytorch_lightning() -> Any:
    from benchmarks.lightning_module import Module

    return Module()


@entry("skorch", by_pickle, from_pickle)
def skorch() -> Any:
    import torch
    from skorch import NeuralNetClassifier

    X, y = data(200, 1024)
    net = NeuralNetClassifier(network, criterion=torch.nn.CrossEntropyLoss, max_epochs=1, verbose=0)
    return net.fit(X.astype("float32"), y)


def _fastai_load(path: Path) -> Any:
    import warnings

    from fastai.learner import load_learner

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_learner(path)


def _as_learner(model: Any) -> dict[str, Any]:
    return {"learner": model}


@entry("fastai", lambda model, path: model.export(path), _fastai_load, given=_as_learner)
def fastai() -> Any:
    import pandas as pd
    from fastai.tabular.all import TabularDataLoaders, tabular_learner

    X, _ = data(200, 3)
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=X[:, 0])
    loaders = TabularDataLoaders.from_df(frame, y_names="y", cont_names=list("abc"), procs=[], bs=50)
    return tabular_learner(loaders, layers=[512, 512])


def bert() -> Any:
    """A model of 2 million weights."""
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(vocab_size=5000, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=512)
    ).eval()


def _bert_load(path: Path) -> Any:
    from transformers import BertForSequenceClassification

    return BertForSequenceClassification.from_pretrained(path)


@entry("transformers", lambda model, path: model.save_pretrained(path), _bert_load)
def transformers() -> Any:
    return bert()


def _peft_load(path: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(_bert_load(path / "base"), path / "adapter")


def _peft_save(model: Any, path: Path) -> None:
    model.save_pretrained(path / "adapter")
    bert().save_pretrained(path / "base")


@entry("peft", _peft_save, _peft_load, given=lambda model: {"model": model, "bundle_base": True})
def peft() -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(bert(), LoraConfig(target_modules=["query", "value"]))


def _diffusers_load(path: Path) -> Any:
    from diffusers import UNet2DModel

    return UNet2DModel.from_pretrained(path)


@entry("diffusers", lambda model, path: model.save_pretrained(path), _diffusers_load)
def diffusers() -> Any:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=16, block_out_channels=(32, 64), norm_num_groups=8, layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def _sentences_load(path: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device="cpu")


@entry("sentence_transformers", lambda model, path: model.save(str(path)), _sentences_load)
def sentence_transformers() -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding

    return SentenceTransformer(modules=[StaticEmbedding(_tokenizer(), embedding_dim=64)], device="cpu")


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, **{f"w{at}": at for at in range(1, 5000)}}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def _tokenizers_load(path: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


@entry("tokenizers", lambda model, path: model.save(str(path)), _tokenizers_load)
def tokenizers() -> Any:
    return _tokenizer()


def _keras_load(path: Path) -> Any:
    import keras

    return keras.saving.load_model(path.with_suffix(".keras"))


@entry("tensorflow", lambda model, path: model.save(path.with_suffix(".keras")), _keras_load)
def tensorflow() -> Any:
    import keras

    return keras.Sequential([keras.Input((1024,)), keras.layers.Dense(1024, "relu"), keras.layers.Dense(2)])


def _flax_save(both: Any, path: Path) -> None:
    from flax import serialization

    path.write_bytes(serialization.to_bytes(both[1]))


def _flax_load(path: Path) -> Any:
    from flax import serialization

    return serialization.msgpack_restore(path.read_bytes())


@entry("flax", _flax_save, _flax_load, given=lambda both: {"model": both[0], "variables": both[1]})
def flax() -> Any:
    import jax
    from flax import linen

    module = linen.Dense(1024)
    return module, module.init(jax.random.key(0), jax.numpy.zeros((1, 1024)))


def _jax_load(path: Path) -> Any:
    from jax import export

    return export.deserialize(bytearray(path.read_bytes()))


@entry("jax", lambda model, path: path.write_bytes(model.serialize()), _jax_load)
def jax() -> Any:
    import jax
    from jax import export

    return export.export(jax.jit(lambda x: jax.numpy.sin(x) @ x.T))(jax.ShapeDtypeStruct((64, 64), "float32"))


def _paddle_save(model: Any, path: Path) -> None:
    import paddle

    paddle.save(model.state_dict(), str(path))


def _paddle_load(path: Path) -> Any:
    import paddle

    model = paddle.nn.Sequential(paddle.nn.Linear(1024, 1024), paddle.nn.ReLU(), paddle.nn.Linear(1024, 2))
    model.set_state_dict(paddle.load(str(path)))
    return model


@entry("paddle", _paddle_save, _paddle_load)
def paddle() -> Any:
    import paddle

    return paddle.nn.Sequential(paddle.nn.Linear(1024, 1024), paddle.nn.ReLU(), paddle.nn.Linear(1024, 2))


def _pyspark_load(path: Path) -> Any:
    from pyspark.ml.classification import LogisticRegressionModel

    return LogisticRegressionModel.load(f"file://{path}")


@entry("pyspark", lambda model, path: model.write().save(f"file://{path}"), _pyspark_load)
def pyspark() -> Any:
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.linalg import Vectors
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    rows = [(float(label), Vectors.dense(row.tolist())) for row, label in zip(*data(200, 5), strict=True)]
    return LogisticRegression(maxIter=5).fit(session.createDataFrame(rows, ["label", "features"]))


def _h2o_save(model: Any, path: Path) -> None:
    import h2o

    path.mkdir()
    h2o.save_model(model, str(path), filename="model")


def _h2o_load(path: Path) -> Any:
    import h2o

    return h2o.load_model(str(path / "model"))


@entry("h2o", _h2o_save, _h2o_load)
def h2o() -> Any:
    import h2o
    import pandas as pd
    from h2o.estimators import H2OGradientBoostingEstimator

    h2o.init(nthreads=1, max_mem_size="1g")
    h2o.no_progress()
    model = H2OGradientBoostingEstimator(ntrees=10)
    model.train(y="20", training_frame=h2o.H2OFrame(pd.DataFrame(data(500)[0]).assign(**{"20": data(500)[0][:, 0]})))
    return model
