"""PEFT, up and back: `python examples/frameworks/with_peft.py [FOLDER]`.

The base model lies in one domain, its adapters in another: each upload of an adapter is small, and loading one brings
its base model along. The base model is built from a configuration, so that no hub is asked.
"""

from __future__ import annotations

import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=2
    )
    base = BertForSequenceClassification(config).eval()
    store = ModelStore.from_file_system(folder, create_directory=True)
    of_base = store.upload("bases", model=base)

    # A sentence belongs to the second class if the word 7 is in it.
    sentences = torch.randint(1, 50, (64, 8))
    labels = (sentences == 7).any(1).long()
    sentences[::2, 3], labels[::2] = 7, 1
    model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        model(input_ids=sentences, labels=labels).loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        wanted = model(input_ids=sentences).logits

    info = store.upload("adapters", model=model, base_model=of_base)
    loaded = store.load("adapters", info.model_id, allow_pickle=False)
    with torch.no_grad():
        found = loaded(input_ids=sentences).logits
    if not torch.equal(found, wanted):
        raise SystemExit("the loaded model predicts something else")
    for each in (of_base, info):
        size = sum(file.size for file in store.files(each.domain, each.model_id))
        print(f"{each.domain}: {size // 1024} KiB")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
