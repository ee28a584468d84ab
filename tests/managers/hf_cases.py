"""Architectures of Transformers, each as small as its configuration allows, with an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

TEXT = {"input_ids": torch.tensor([[5, 6, 7, 8, 9, 10, 11, 2]]), "attention_mask": torch.ones(1, 8, dtype=torch.long)}
SEQ2SEQ = {**TEXT, "decoder_input_ids": torch.tensor([[0, 5, 6]])}
CHOICES = {key: value.unsqueeze(1).repeat(1, 2, 1) for key, value in TEXT.items()}
IMAGE = {"pixel_values": torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)}
BOTH = {**TEXT, **IMAGE}
SOUND = {"input_values": torch.sin(torch.arange(800.0)).unsqueeze(0)}
SERIES = {"past_values": torch.arange(32.0).reshape(1, 16, 2)}
SPECTRUM = {"input_features": torch.linspace(-1, 1, 8 * 40).reshape(1, 8, 40), "decoder_input_ids": torch.tensor([[1]])}

SMALL = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 1, "head_dim": 8}
SEEING = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
HEARING = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40,
    "conv_dim": (8, 8), "conv_kernel": (5, 3), "conv_stride": (5, 2), "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2,
}  # fmt: skip
FUNNEL_LIKE = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
               "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 40,
               "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
               "max_position_embeddings": 32}  # fmt: skip
LABELS = {"num_labels": 3, "id2label": {0: "bad", 1: "so so", 2: "good"}}

INPUTS: dict[str, dict[str, torch.Tensor]] = {}
"""What the cases ask of each class."""

Case = tuple[Callable[[], Any], dict[str, torch.Tensor]]


def built(model: str, config: str, inputs: dict[str, torch.Tensor], **settings: Any) -> Case:
    """A model of this class with random weights."""

    def build() -> Any:
        torch.manual_seed(1)
        return getattr(hf, model)(getattr(hf, config)(**settings))

    INPUTS[model] = inputs
    return build, inputs


CASES: dict[str, Case] = {
    f"bert {head}": built(f"Bert{head}", "BertConfig", CHOICES if "Choice" in head else TEXT, **SMALL)
    for head in (
        "Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction", "ForSequenceClassification",
        "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice",
    )
}  # fmt: skip
CASES |= {
    "bert as decoder": built("BertLMHeadModel", "BertConfig", TEXT, is_decoder=True, **SMALL),
    "roberta": built("RobertaForSequenceClassification", "RobertaConfig", TEXT, **SMALL | LABELS),
    "distilbert sequence": built(
        "DistilBertForSequenceClassification", "DistilBertConfig", TEXT,
        vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, **LABELS,
    ),
    "distilbert token": built(
        "DistilBertForTokenClassification", "DistilBertConfig", TEXT,
        vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, **LABELS,
    ),
    "electra": built("ElectraForPreTraining", "ElectraConfig", TEXT, embedding_size=8, **SMALL),
    "albert": built("AlbertForQuestionAnswering", "AlbertConfig", TEXT, embedding_size=8, **SMALL),
    "deberta": built("DebertaV2ForSequenceClassification", "DebertaV2Config", TEXT, relative_attention=True,
                     pos_att_type=["p2c", "c2p"], **SMALL),
    "xlm-roberta": built("XLMRobertaForQuestionAnswering", "XLMRobertaConfig", TEXT, **SMALL),
    "mpnet": built("MPNetForMaskedLM", "MPNetConfig", TEXT, **SMALL),
    "gpt2": built("GPT2LMHeadModel", "GPT2Config", TEXT, vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32),
    "gpt2 classification": built("GPT2ForSequenceClassification", "GPT2Config", TEXT, vocab_size=40, n_embd=16,
                                 n_layer=2, n_head=2, n_positions=32, pad_token_id=0),
    "gpt-neox": built("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT, **SMALL),
    "opt": built("OPTForCausalLM", "OPTConfig", TEXT, vocab_size=40, hidden_size=16, num_hidden_layers=2, ffn_dim=24,
                 num_attention_heads=2, max_position_embeddings=32, word_embed_proj_dim=16),
    "bloom": built("BloomForCausalLM", "BloomConfig", TEXT, vocab_size=40, hidden_size=16, n_layer=2, n_head=2),
    "llama": built("LlamaForCausalLM", "LlamaConfig", TEXT, **GROUPED),
    "llama tied": built("LlamaForCausalLM", "LlamaConfig", TEXT, tie_word_embeddings=True, **GROUPED),
    "mistral": built("MistralForCausalLM", "MistralConfig", TEXT, sliding_window=4, **GROUPED),
    "mixtral": built("MixtralForCausalLM", "MixtralConfig", TEXT, num_local_experts=4, **GROUPED),
    "qwen2": built("Qwen2ForCausalLM", "Qwen2Config", TEXT, **GROUPED),
    "qwen3 experts": built("Qwen3MoeForCausalLM", "Qwen3MoeConfig", TEXT, num_experts=4, num_experts_per_tok=2,
                           moe_intermediate_size=8, **GROUPED),
    "gemma": built("GemmaForCausalLM", "GemmaConfig", TEXT, **GROUPED),
    "phi": built("PhiForCausalLM", "PhiConfig", TEXT, **SMALL),
    "mamba": built("MambaForCausalLM", "MambaConfig", {"input_ids": TEXT["input_ids"]}, vocab_size=40, hidden_size=16,
                   state_size=4, num_hidden_layers=2),
    "t5": built("T5ForConditionalGeneration", "T5Config", SEQ2SEQ, vocab_size=40, d_model=16, d_kv=8, d_ff=24,
                num_layers=2, num_heads=2),
    "t5 encoder": built("T5EncoderModel", "T5Config", TEXT, vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2,
                        num_heads=2),
    "bart": built("BartForConditionalGeneration", "BartConfig", SEQ2SEQ, **FUNNEL_LIKE),
    "marian": built("MarianMTModel", "MarianConfig", SEQ2SEQ, **FUNNEL_LIKE),
    "pegasus": built("PegasusForConditionalGeneration", "PegasusConfig", SEQ2SEQ, **FUNNEL_LIKE),
    "m2m100": built("M2M100ForConditionalGeneration", "M2M100Config", SEQ2SEQ, **FUNNEL_LIKE),
    "vit": built("ViTForImageClassification", "ViTConfig", IMAGE, **SEEING, **LABELS),
    "deit": built("DeiTForImageClassificationWithTeacher", "DeiTConfig", IMAGE, **SEEING),
    "beit": built("BeitForImageClassification", "BeitConfig", IMAGE, **SEEING),
    "dinov2": built("Dinov2Model", "Dinov2Config", IMAGE, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                    image_size=32, patch_size=8),
    "swin": built("SwinForImageClassification", "SwinConfig", IMAGE, image_size=32, patch_size=2, embed_dim=8,
                  depths=[1, 1], num_heads=[2, 2], window_size=4),
    "convnext": built("ConvNextForImageClassification", "ConvNextConfig", IMAGE, hidden_sizes=[8, 8, 8, 8],
                      depths=[1, 1, 1, 1]),
    "resnet": built("ResNetForImageClassification", "ResNetConfig", IMAGE, embedding_size=8, hidden_sizes=[8, 8],
                    depths=[1, 1]),
    "segformer": built("SegformerForSemanticSegmentation", "SegformerConfig", IMAGE, depths=[1, 1, 1, 1],
                       hidden_sizes=[8, 8, 8, 8], decoder_hidden_size=8, num_attention_heads=[1, 1, 2, 2]),
    "yolos": built("YolosForObjectDetection", "YolosConfig", IMAGE, num_detection_tokens=3,
                   **{**SEEING, "image_size": [32, 32]}),
    "clip": built("CLIPModel", "CLIPConfig", BOTH, text_config=SMALL, vision_config=SEEING, projection_dim=8),
    "clip text": built("CLIPTextModelWithProjection", "CLIPTextConfig", TEXT, projection_dim=8, **SMALL),
    "siglip": built("SiglipModel", "SiglipConfig", BOTH, text_config=SMALL, vision_config=SEEING),
    "blip": built("BlipForConditionalGeneration", "BlipConfig", BOTH,
                  text_config={**SMALL, "sep_token_id": 2}, vision_config=SEEING),
    "llava": built("LlavaForConditionalGeneration", "LlavaConfig", TEXT, text_config={"model_type": "llama", **GROUPED},
                   vision_config={"model_type": "clip_vision_model", **SEEING}, image_token_index=39),
    "whisper": built("WhisperForConditionalGeneration", "WhisperConfig", SPECTRUM, num_mel_bins=8,
                     max_source_positions=20, max_target_positions=16, **FUNNEL_LIKE),
    "wav2vec2": built("Wav2Vec2ForCTC", "Wav2Vec2Config", SOUND, **HEARING),
    "hubert": built("HubertForSequenceClassification", "HubertConfig", SOUND, **HEARING),
    "time series": built("PatchTSTForPrediction", "PatchTSTConfig", SERIES, num_input_channels=2,
                         context_length=16, patch_length=4, patch_stride=4, prediction_length=4,
                         d_model=8, num_hidden_layers=1, num_attention_heads=2, ffn_dim=8),
}  # fmt: skip
