"""Models of Sentence Transformers, each as small as it can be, built from configurations."""

from __future__ import annotations

import functools
import tempfile
from typing import Any, ClassVar

import sentence_transformers as st
import torch
import transformers as hf
from sentence_transformers.sentence_transformer import modules
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

from tests.managers import hf_parts

TEXTS = ["the quick brown fox", "jumps over the lazy dog and the fox", "nothing known", "dog"]
PAIRS = [("the quick fox", "the lazy dog"), ("brown", "fox jumps over")]
SIZE = 16


@functools.cache
def backbone(kind: str = "encoder") -> str:
    """A folder with a model and its tokenizer."""
    torch.manual_seed(3)
    words = hf_parts.word_tokenizer()
    if kind == "decoder":
        config: Any = hf.LlamaConfig(vocab_size=len(hf_parts.WORDS), hidden_size=SIZE, intermediate_size=24,
                                     num_hidden_layers=1, num_attention_heads=2, pad_token_id=0)  # fmt: skip
        model = hf.LlamaForCausalLM(config)
    else:
        config = hf.BertConfig(vocab_size=len(hf_parts.WORDS), hidden_size=SIZE, num_hidden_layers=2,
                               num_attention_heads=2, intermediate_size=24, max_position_embeddings=32)  # fmt: skip
        model = {"encoder": hf.BertModel, "mlm": hf.BertForMaskedLM}[kind](config)
    folder = tempfile.mkdtemp(prefix="backbone-")
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def transformer(kind: str = "encoder", **settings: Any) -> Any:
    """A Transformer module."""
    return modules.Transformer(backbone(kind), **settings)


def embedder(*further: Any, pooling: Any = "mean", **settings: Any) -> Any:
    """A SentenceTransformer over BERT."""
    torch.manual_seed(4)
    parts = [transformer(max_seq_length=12), modules.Pooling(SIZE, pooling), *further]
    return st.SentenceTransformer(modules=parts, device="cpu", **settings)


def words(first: Any, *further: Any) -> Any:
    """A SentenceTransformer that starts from words."""
    return st.SentenceTransformer(modules=[first, *further], device="cpu")


def word_embeddings() -> Any:
    """Vectors of words."""
    torch.manual_seed(5)
    tokenizer = WhitespaceTokenizer([*hf_parts.WORDS], stop_words=["over"], do_lower_case=True)
    return modules.WordEmbeddings(tokenizer, torch.randn(len(hf_parts.WORDS), SIZE))


def cross_encoder(labels: int = 1, **settings: Any) -> Any:
    """A scorer of pairs."""
    torch.manual_seed(6)
    return st.CrossEncoder(backbone(), num_labels=labels, max_length=20, device="cpu", **settings)


def ranker() -> Any:
    """A scorer of pairs by a language model's answer."""
    from sentence_transformers.cross_encoder.modules import LogitScore

    parts = [transformer(kind="decoder", transformer_task="text-generation"), LogitScore(5, 6)]
    return st.CrossEncoder(modules=parts, device="cpu")


def splade(**settings: Any) -> Any:
    """A sparse encoder over the vocabulary."""
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    parts = [transformer(kind="mlm", transformer_task="fill-mask"), SpladePooling("max")]
    return st.SparseEncoder(modules=parts, device="cpu", **settings)


def sparse_static() -> Any:
    """A sparse encoder without inference for queries."""
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    torch.manual_seed(7)
    weight = torch.rand(len(hf_parts.WORDS))
    document = [transformer(kind="mlm", transformer_task="fill-mask"), SpladePooling("max")]
    router = modules.Router.for_query_document(
        [SparseStaticEmbedding(hf_parts.word_tokenizer(), weight, frozen=True)], document
    )
    return st.SparseEncoder(modules=[router], device="cpu", similarity_fn_name="dot")


def sparse_coder() -> Any:
    """A sparse auto-encoder over a dense one."""
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    torch.manual_seed(8)
    parts = [transformer(), modules.Pooling(SIZE), SparseAutoEncoder(SIZE, 32, k=6, k_aux=8)]
    return st.SparseEncoder(modules=parts, device="cpu", max_active_dims=5)


def late() -> Any:
    """A multi-vector encoder."""
    torch.manual_seed(9)
    return st.MultiVectorEncoder(backbone(), device="cpu")


def routed() -> Any:
    """Queries and documents by different modules that share one."""
    torch.manual_seed(10)
    first = transformer()
    router = modules.Router.for_query_document(
        [first, modules.Pooling(SIZE)], [first, modules.Pooling(SIZE, "cls"), modules.Dense(SIZE, SIZE)]
    )
    return st.SentenceTransformer(modules=[router, modules.Normalize()], device="cpu")


class Scaled(modules.Module):
    """A module of one's own, with a setting and a weight."""

    config_keys: ClassVar[list[str]] = ["factor"]

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.shift = torch.nn.Parameter(torch.linspace(0, 1, SIZE))

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        features["sentence_embedding"] = features["sentence_embedding"] * self.factor + self.shift
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **further: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **further: Any) -> Scaled:
        where = {key: further[key] for key in ("token", "cache_folder", "revision", "local_files_only")}
        module = cls(**cls.load_config(model_name_or_path, subfolder=subfolder, **where))
        return cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=module, **where)


class Loud(st.SentenceTransformer):
    """A model class of one's own."""

    def loudness(self) -> float:
        return float(self.encode(["dog"]).max())


def double(values: Any) -> Any:
    """An activation function of one's own."""
    return torch.tanh(values) * 2


def half(dtype: torch.dtype) -> Any:
    """An embedder of this dtype throughout."""
    return embedder(modules.Dense(SIZE, 8)).to(dtype)


def partly_frozen() -> Any:
    """In training, with a frozen first module in evaluation mode."""
    model = embedder(modules.Dense(SIZE, 8)).train()
    model[0].requires_grad_(False)
    model[0].eval()
    return model


def adapted() -> Any:
    """A model with a PEFT adapter."""
    import peft

    model = embedder()
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["query"]))
    return model
