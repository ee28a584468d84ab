"""Base models and adapters of every kind, each as small as it can be."""

from __future__ import annotations

from typing import Any

import peft
import torch
import transformers as hf

from tests.managers import hf_cases

TEXT = {"input_ids": torch.tensor([[5, 6, 7, 8, 9, 10]]), "attention_mask": torch.ones(1, 6, dtype=torch.long)}
SEQ2SEQ = {**TEXT, "decoder_input_ids": torch.tensor([[1, 5, 6]])}
VALUES = torch.linspace(-1, 1, 24).reshape(3, 8)


def llama(**settings: Any) -> Any:
    """A language model."""
    torch.manual_seed(1)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**{**hf_cases.SMALL, **settings}))


def bert(head: str = "ForSequenceClassification") -> Any:
    """An encoder with a head."""
    torch.manual_seed(2)
    labels = 2 if "Question" in head else 3
    return getattr(hf, f"Bert{head}")(hf.BertConfig(**hf_cases.SMALL, num_labels=labels))


def t5() -> Any:
    """An encoder and decoder."""
    torch.manual_seed(3)
    return hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=1)
    )


class Layers(torch.nn.Module):
    """A module of one's own, with all layers that adapters know."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(8, 8)
        self.conv = torch.nn.Conv1d(1, 4, 3, padding=1)
        self.attend = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, values: Any) -> Any:
        hidden = torch.tanh(self.embed(values))
        hidden = hidden + self.conv(hidden.unsqueeze(1)).mean(1)
        return self.head(self.attend(hidden, hidden, hidden)[0])


def layers() -> Any:
    """The module of one's own, with random weights."""
    torch.manual_seed(4)
    return Layers()


def shaken(model: Any) -> Any:
    """Adapters that have learnt something, as most start with no effect."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def on(base: Any, config: Any, name: str = "default", **settings: Any) -> Any:
    """An adapter on a base model."""
    torch.manual_seed(6)
    return shaken(peft.get_peft_model(base, config, adapter_name=name, **settings)).eval()


Q_AND_V = ["q_proj", "v_proj"]
CAUSAL = {"task_type": "CAUSAL_LM"}
VIRTUAL = {"num_virtual_tokens": 3, **CAUSAL}
KINDS: dict[str, dict[str, Any]] = {
    "LORA": {"r": 2, "target_modules": Q_AND_V},
    "ADALORA": {"init_r": 3, "target_r": 2, "total_step": 10, "target_modules": Q_AND_V},
    "ADAPTION_PROMPT": {"adapter_len": 2, "adapter_layers": 1},
    "BOFT": {"boft_block_size": 4, "target_modules": Q_AND_V},
    "C3A": {"block_size": 4, "target_modules": Q_AND_V},
    "CPT": {"cpt_token_ids": [5, 6], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 2], **CAUSAL},
    "FOURIERFT": {"n_frequency": 4, "target_modules": Q_AND_V},
    "GRALORA": {"r": 4, "gralora_k": 2, "target_modules": Q_AND_V},
    "HRA": {"r": 2, "target_modules": Q_AND_V},
    "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "LOHA": {"r": 2, "target_modules": Q_AND_V},
    "LOKR": {"r": 2, "target_modules": Q_AND_V},
    "MISS": {"r": 2, "target_modules": Q_AND_V},
    "MULTITASK_PROMPT_TUNING": {"num_tasks": 2, "num_ranks": 1, **VIRTUAL},
    "OFT": {"oft_block_size": 4, "r": 0, "target_modules": Q_AND_V},
    "PREFIX_TUNING": {"prefix_projection": True, "encoder_hidden_size": 8, **VIRTUAL},
    "PROMPT_TUNING": VIRTUAL,
    "P_TUNING": {"encoder_hidden_size": 8, **VIRTUAL},
    "RANDLORA": {"r": 2, "target_modules": Q_AND_V},
    "ROAD": {"group_size": 4, "target_modules": Q_AND_V},
    "SHIRA": {"r": 1, "target_modules": Q_AND_V},
    "TRAINABLE_TOKENS": {"token_indices": [5, 7], "target_modules": ["embed_tokens"]},
    "VBLORA": {"r": 2, "num_vectors": 8, "vector_length": 4, "topk": 2, "target_modules": Q_AND_V},
    "VERA": {"r": 4, "target_modules": Q_AND_V, "save_projection": False},
    "WAVEFT": {"n_frequency": 4, "target_modules": Q_AND_V},
    "ADAMSS": {"r": 2, "num_subspaces": 1, "target_modules": Q_AND_V},
    "BEFT": {"target_modules": ["v_proj"]},
    "CARTRIDGE": VIRTUAL,
    "DEFT": {"target_modules": Q_AND_V},
    "DELORA": {"r": 2, "target_modules": Q_AND_V},
    "FROD": {"target_modules": Q_AND_V},
    "GLORA": {"r": 2, "target_modules": Q_AND_V},
    "HIRA": {"r": 2, "target_modules": Q_AND_V},
    "LILY": {"r": 2, "target_modules": Q_AND_V},
    "OSF": {"effective_rank": 4, "target_modules": Q_AND_V},
    "PEANUT": {"target_modules": Q_AND_V},
    "PSOFT": {"r": 2, "target_modules": Q_AND_V},
    "PVERA": {"r": 2, "target_modules": Q_AND_V},
    "SHADOW": {},
    "SUPERTUNING": {"target_modules": Q_AND_V},
    "TINYLORA": {"target_modules": Q_AND_V},
    "UNILORA": {"r": 2, "target_modules": Q_AND_V},
}
"""Settings of each kind of adapter, over a language model."""


REFUSED = {"POLY", "XLORA"}


def of_kind(kind: str) -> Any:
    """An adapter of this kind."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)](**KINDS[kind])
    return on(llama(), config)


def lora(**settings: Any) -> Any:
    """The settings of a LoRA adapter."""
    return peft.LoraConfig(**{"r": 2, "target_modules": Q_AND_V, **settings})


def several() -> Any:
    """Two adapters with different ranks, the second of them active, a third by a weighted sum."""
    model = on(llama(), lora(), "first")
    model.add_adapter("second", lora(r=3, target_modules=["q_proj", "o_proj"], lora_alpha=5, use_rslora=True))
    model.add_adapter("third", lora())
    model.set_adapter("second")
    shaken(model)
    model.add_weighted_adapter(["first", "third"], [0.7, 0.3], "sum", combination_type="linear")
    model.set_adapter("second")
    return model.eval()


def together() -> Any:
    """Two adapters that are active at once."""
    model = on(llama(), lora(), "first")
    model.add_adapter("second", lora(target_modules=["k_proj"]))
    model.base_model.set_adapter(["first", "second"])
    return shaken(model).eval()


def mixed() -> Any:
    """Adapters of different kinds."""
    model = on(llama(), lora(), "first", mixed=True)
    model.add_adapter("second", peft.LoHaConfig(r=2, target_modules=["q_proj", "k_proj"]))
    model.set_adapter(["first", "second"])
    return shaken(model).eval()


def training() -> Any:
    """A model in the middle of training, with a head and norms that are trained whole."""
    return on(bert(), lora(target_modules=["query"], modules_to_save=["LayerNorm"], task_type="SEQ_CLS",
                           lora_dropout=0.1)).train()  # fmt: skip


def for_inference() -> Any:
    """A model whose adapter is not to be trained."""
    return on(llama(), lora(inference_mode=True, **CAUSAL))


def disabled() -> Any:
    """A model whose adapter is switched off."""
    model = on(llama(), lora())
    model.base_model.disable_adapter_layers()
    return model


def in_half(dtype: torch.dtype, base_only: bool) -> Any:
    """A base model of this dtype, with its adapter in single precision or in the same."""
    return on(llama().to(dtype), lora(), autocast_adapter_dtype=base_only)


def initialised(how: Any) -> Any:
    """An adapter whose making changed the base model."""
    return on(llama(), lora(init_lora_weights=how))


class Named(peft.PeftModelForCausalLM):
    """A class of one's own."""

    def shout(self) -> str:
        return "!"


def own_class() -> Any:
    """A PEFT model of one's own class."""
    torch.manual_seed(6)
    return shaken(Named(llama(), lora(**CAUSAL))).eval()


SPECIAL: dict[str, Any] = {
    "SEQ_CLS": lambda: on(bert(), lora(target_modules=["query"], task_type="SEQ_CLS")),
    "TOKEN_CLS": lambda: on(
        bert("ForTokenClassification"), peft.PromptTuningConfig(num_virtual_tokens=2, task_type="TOKEN_CLS")
    ),
    "QUESTION_ANS": lambda: on(
        bert("ForQuestionAnswering"), lora(target_modules=["query"], task_type="QUESTION_ANS")
    ),
    "FEATURE_EXTRACTION": lambda: on(
        bert("Model"),
        peft.PromptEncoderConfig(num_virtual_tokens=2, task_type="FEATURE_EXTRACTION", encoder_hidden_size=8),
    ),
    "SEQ_2_SEQ_LM": lambda: on(t5(), lora(target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")),
    "several": several, "together": together, "mixed": mixed, "training": training, "for inference": for_inference,
    "disabled": disabled,
    "own module": lambda: on(layers(), lora(target_modules=["embed", "conv"], modules_to_save=["head"])),
    "attention": lambda: on(layers(), lora(target_modules=["attend"])),
    "dora": lambda: on(llama(), lora(use_dora=True, target_modules="all-linear", rank_pattern={"v_proj": 1})),
    "embeddings": lambda: on(llama(tie_word_embeddings=True), lora(target_modules=["embed_tokens", "q_proj"])),
    "tokens": lambda: on(llama(), lora(trainable_token_indices={"embed_tokens": [3, 4]})),
    "bias": lambda: on(bert(), lora(target_modules=["query"], bias="lora_only")),
    "base in bf16": lambda: in_half(torch.bfloat16, True),
    "all in fp16": lambda: in_half(torch.float16, False),
    "pissa": lambda: initialised("pissa"),
    "olora": lambda: initialised("olora"),
    "own class": own_class,
}  # fmt: skip


def answer(model: Any) -> Any:
    """What the model makes of the inputs that fit it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model.base_model.model
    torch.manual_seed(0)
    with torch.no_grad():
        if isinstance(base, Layers):
            return model(VALUES)
        inputs = dict(SEQ2SEQ if base.config.is_encoder_decoder else TEXT)
        if str(getattr(model, "peft_type", "")).endswith("MULTITASK_PROMPT_TUNING"):
            inputs["task_ids"] = torch.tensor([1])
        return next(value for value in model(**inputs).values() if isinstance(value, torch.Tensor))
