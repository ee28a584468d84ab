"""Saves models of classes that exist in this script only: `python hf_script.py FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from tests.managers import hf_cases, hf_helpers, hf_parts


class ScriptConfig(hf.PretrainedConfig):
    model_type = "script"

    def __init__(self, width: int = 4, **settings: Any) -> None:
        self.width = width
        super().__init__(**settings)


class ScriptModel(hf.PreTrainedModel):
    config_class = ScriptConfig

    def __init__(self, config: ScriptConfig) -> None:
        super().__init__(config)
        self.layer = torch.nn.Linear(config.width, config.width)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        if isinstance(module, torch.nn.Linear):
            module.weight.data.normal_()

    def forward(self, values: Any = None) -> dict[str, torch.Tensor]:
        return {"values": helper(super_layer(self, values))}


class ScriptHead(hf.DistilBertForSequenceClassification):
    def forward(self, **inputs: Any) -> dict[str, torch.Tensor]:
        return {"doubled": super().forward(**inputs).logits * 2}


class ScriptTokenizer(hf.PreTrainedTokenizerFast):
    def shout(self, text: str) -> str:
        return text.upper()


class ScriptPipeline(hf.TextClassificationPipeline):
    def postprocess(self, *arguments: Any, **settings: Any) -> Any:
        return {"shouted": super().postprocess(*arguments, **settings)}


def super_layer(model: Any, values: Any) -> Any:
    return model.layer(values)


def helper(values: Any) -> Any:
    return values * 3


def main() -> None:
    folder = Path(sys.argv[1])
    torch.manual_seed(3)
    tokenizer = ScriptTokenizer(tokenizer_object=hf_parts.word_tokenizer().backend_tokenizer, unk_token="[UNK]")
    tokenizer.pad_token = "[PAD]"
    plain = hf_parts.classifier()
    text = {key: value.clamp(max=12) for key, value in hf_cases.TEXT.items()}
    uploads: dict[str, tuple[Any, dict[str, Any]]] = {
        "model and configuration": ({"values": torch.ones(1, 6)}, {"model": ScriptModel(ScriptConfig(width=6)).eval()}),
        "head": (text, {"model": ScriptHead(plain.config).eval(), "tokenizer": tokenizer}),
        "configuration": (None, {"config": ScriptConfig(width=7)}),
        "pipeline": ("the lazy dog", {"model": ScriptPipeline(model=plain, tokenizer=tokenizer, task="shouting")}),
    }
    found = {}
    for name, (inputs, given) in uploads.items():
        hf_helpers.keep(folder / name, inputs, **given)
        objects = tuple(given.values())
        if name in ("model and configuration", "head"):
            objects += (given["model"].config,)
        found[name] = hf_helpers.fingerprint(objects if len(objects) > 1 else objects[0], (inputs,))
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
