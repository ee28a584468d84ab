"""Tokenizers, processors and models of one's own, built here without any hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]


def word_tokenizer() -> Any:
    """A tokenizer of whole words."""
    core = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]", model_max_length=16
    )


def bpe_tokenizer() -> Any:
    """A tokenizer of byte pairs, with a chat template and a token that was added later."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel()
    core.train_from_iterator(["the quick brown fox jumps"] * 9, trainers.BpeTrainer(special_tokens=["<unk>", "<s>"]))
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>")
    tokenizer.add_tokens(["unknownword"])
    tokenizer.chat_template = "{% for message in messages %}<s>{{ message['content'] }}{% endfor %}"
    return tokenizer


def bert_tokenizer(folder: Path) -> Any:
    """A tokenizer from a vocabulary file."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    return hf.BertTokenizer(str(vocabulary))


def image_processor() -> Any:
    """An image processor that needs Pillow only."""
    return hf.ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3])


def classifier(**settings: Any) -> Any:
    """A text classifier that knows the words above."""
    torch.manual_seed(2)
    config = hf.DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=1, n_heads=2, hidden_dim=16, id2label={0: "bad", 1: "good"}, **settings
    )
    return hf.DistilBertForSequenceClassification(config).eval()


class WiderConfig(hf.BertConfig):
    """A configuration with a setting that BERT does not have."""

    model_type = "wider-bert"

    def __init__(self, extra: int = 3, **settings: Any) -> None:
        self.extra = extra
        super().__init__(**settings)


class WiderBert(hf.BertPreTrainedModel):
    """A model with a head of one's own."""

    config_class = WiderConfig

    def __init__(self, config: WiderConfig) -> None:
        super().__init__(config)
        self.bert = hf.BertModel(config)
        self.head = torch.nn.Linear(config.hidden_size, config.extra)
        self.post_init()

    def forward(self, **inputs: Any) -> dict[str, torch.Tensor]:
        return {"scores": self.head(self.bert(**inputs).last_hidden_state)}


class LoudTokenizer(hf.PreTrainedTokenizerFast):
    """A tokenizer with a method of its own."""

    def shout(self, text: str) -> str:
        return text.upper()
