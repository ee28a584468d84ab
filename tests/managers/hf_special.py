"""Models with something that `from_pretrained` alone would not restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

from tests.managers import hf_cases, hf_parts


def half(dtype: torch.dtype) -> Callable[[], Any]:
    """A model of this dtype throughout, its buffers too."""
    return lambda: hf_cases.CASES["llama"][0]().to(dtype)


def mixed() -> Any:
    """A half-precision model with a norm and the head in single precision."""
    model = hf_cases.CASES["mistral"][0]().to(torch.bfloat16)
    model.model.norm.to(torch.float32)
    model.lm_head.to(torch.float32)
    return model


def in_fp32_when_loaded() -> Any:
    """A class that keeps modules in float32 when it is loaded, all of it in float16."""
    return hf_cases.CASES["t5"][0]().to(torch.float16)


def partly_frozen() -> Any:
    """A model in training, with a frozen backbone in evaluation mode."""
    model = hf_parts.classifier().train()
    model.distilbert.eval()
    model.distilbert.requires_grad_(False)
    return model


def without_pooler() -> Any:
    """A model whose constructor was given a switch."""
    torch.manual_seed(4)
    return hf.BertModel(hf.BertConfig(**hf_cases.SMALL), add_pooling_layer=False)


def untied() -> Any:
    """A model whose configuration ties what was set apart later."""
    model = hf_cases.CASES["gpt2"][0]()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 2)
    return model


def tied_by_hand() -> Any:
    """A model with a tie that its configuration does not know of."""
    model = hf_cases.CASES["llama"][0]()
    model.lm_head.weight = model.model.embed_tokens.weight
    return model


def eager() -> Any:
    """A model with another attention implementation than the usual one."""
    model = hf_cases.CASES["bert Model"][0]()
    model.set_attn_implementation("eager")
    return model


def generating() -> Any:
    """A model with generation settings of its own."""
    model = hf_cases.CASES["gpt2"][0]()
    model.generation_config = hf.GenerationConfig(do_sample=True, temperature=0.7, top_k=7, max_new_tokens=5)
    return model


def named() -> Any:
    """A model that remembers where it once came from."""
    model = hf_parts.classifier()
    model.name_or_path = model.config.name_or_path = "somebody/something"
    return model


def not_contiguous() -> Any:
    """A model with a transposed weight."""
    model = hf_parts.classifier()
    model.pre_classifier.weight = torch.nn.Parameter(model.pre_classifier.weight.detach().t())
    return model


def channels_last() -> Any:
    """A model of images in the order that convolutions like best."""
    return hf_cases.CASES["resnet"][0]().to(memory_format=torch.channels_last)


SPECIAL = {
    "bf16": half(torch.bfloat16), "fp16": half(torch.float16), "fp64": half(torch.float64), "mixed": mixed,
    "kept in fp32": in_fp32_when_loaded, "frozen": partly_frozen, "no pooler": without_pooler, "untied": untied,
    "tied by hand": tied_by_hand, "eager": eager, "generating": generating, "named": named,
    "not contiguous": not_contiguous, "channels last": channels_last,
}  # fmt: skip
