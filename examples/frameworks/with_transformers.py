"""Transformers, up and back: `python examples/frameworks/with_transformers.py [FOLDER]`.

A small BERT learns to tell complaints from praise, with a tokenizer made from the sentences. No hub is asked: the model
is built from its configuration. It loads with its head, its labels and its tokenizer.
"""

from __future__ import annotations

import sys

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from modelstore import ModelStore

PRAISE = ["the parcel came early", "great service and a kind driver", "all is well thank you", "a kind and quick reply"]
COMPLAINTS = ["the parcel is broken", "nobody answers the phone", "my parcel never came", "the driver was rude"]


def tokenizer_of(sentences: list[str]) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.train_from_iterator(sentences, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"]))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16)


def main(folder: str = "models") -> None:
    torch.manual_seed(0)
    sentences = PRAISE + COMPLAINTS
    tokenizer = tokenizer_of(sentences)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        id2label={0: "praise", 1: "complaint"}, label2id={"praise": 0, "complaint": 1},
    )  # fmt: skip
    model = BertForSequenceClassification(config).train()
    inputs = tokenizer(sentences, padding=True, return_tensors="pt")
    labels = torch.tensor([0] * len(PRAISE) + [1] * len(COMPLAINTS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimizer.step()
    model.eval()

    store = ModelStore.from_file_system(folder, create_directory=True)
    with torch.no_grad():
        wanted = model(**inputs).logits
    accuracy = (wanted.argmax(1) == labels).double().mean().item()
    info = store.upload("mail", model=model, tokenizer=tokenizer, metrics={"accuracy": accuracy})

    loaded, words, _ = store.load("mail", info.model_id, allow_pickle=False)
    with torch.no_grad():
        found = loaded(**words(sentences, padding=True, return_tensors="pt")).logits
    if not torch.equal(found, wanted) or loaded.config.id2label[1] != "complaint":
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
