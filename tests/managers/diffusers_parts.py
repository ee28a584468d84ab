"""Models, schedulers and pipelines of Diffusers, each as small as its configuration allows."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import torch
import transformers as hf

from tests.managers import hf_parts

IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
LATENT = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8)
STATES = torch.linspace(-1, 1, 5 * 16).reshape(1, 5, 16)
SMALL = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1}
CROSS = {
    **SMALL, "sample_size": 8, "cross_attention_dim": 16, "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
}  # fmt: skip


def seeded(cls: Any, **settings: Any) -> Any:
    """A model with random weights."""
    torch.manual_seed(1)
    return cls(**settings).eval()


def unet() -> Any:
    """Denoises images."""
    return seeded(
        diffusers.UNet2DModel, sample_size=16, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), **SMALL,
    )  # fmt: skip


def conditioned() -> Any:
    """Denoises latents by a text."""
    return seeded(diffusers.UNet2DConditionModel, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **CROSS)


def vae() -> Any:
    """Turns images into latents and back."""
    return seeded(
        diffusers.AutoencoderKL, latent_channels=4, sample_size=16, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, **SMALL,
    )  # fmt: skip


def controls() -> Any:
    """Steers a model by images."""
    settings = {name: value for name, value in CROSS.items() if name != "sample_size"}
    return seeded(diffusers.ControlNetModel, conditioning_embedding_out_channels=(8, 8), **settings)


def two_controls() -> Any:
    """Two of them as one."""
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

    return MultiControlNetModel([controls(), controls()])


def text_encoder() -> Any:
    """Reads a text."""
    torch.manual_seed(2)
    return hf.CLIPTextModel(
        hf.CLIPTextConfig(vocab_size=len(hf_parts.WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                          num_attention_heads=2, max_position_embeddings=16, bos_token_id=2, eos_token_id=3,
                          pad_token_id=0)
    ).eval()  # fmt: skip


def tokenizer() -> Any:
    """Cuts a text into words."""
    return hf_parts.word_tokenizer()


def painter(**settings: Any) -> Any:
    """A pipeline like Stable Diffusion's."""
    parts: dict[str, Any] = {
        "vae": vae(), "text_encoder": text_encoder(), "tokenizer": tokenizer(), "unet": conditioned(),
        "scheduler": diffusers.DDIMScheduler(clip_sample=False, steps_offset=1, beta_schedule="scaled_linear"),
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip
    return diffusers.StableDiffusionPipeline(**{**parts, **settings})


MODELS: dict[str, Any] = {
    "UNet2DModel": (unet, lambda model: model(IMAGE, 3).sample),
    "UNet2DConditionModel": (conditioned, lambda model: model(LATENT, 3, STATES).sample),
    "AutoencoderKL": (vae, lambda model: model(IMAGE).sample),
    "ControlNetModel": (
        controls,
        lambda model: model(LATENT, 3, STATES, IMAGE.repeat(1, 1, 1, 1)).mid_block_res_sample,
    ),
    "VQModel": (
        lambda: seeded(
            diffusers.VQModel, latent_channels=3, num_vq_embeddings=8, down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, **SMALL,
        ),
        lambda model: model(IMAGE).sample,
    ),
    "AutoencoderTiny": (
        lambda: seeded(
            diffusers.AutoencoderTiny, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
        ),
        lambda model: model(IMAGE).sample,
    ),
    "DiTTransformer2DModel": (
        lambda: seeded(
            diffusers.DiTTransformer2DModel, num_attention_heads=2, attention_head_dim=8, num_layers=1, sample_size=8,
            num_embeds_ada_norm=10,
        ),
        lambda model: model(LATENT, timestep=torch.tensor([3]), class_labels=torch.tensor([1])).sample,
    ),
    "PriorTransformer": (
        lambda: seeded(
            diffusers.PriorTransformer, num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=16,
            num_embeddings=5,
        ),
        lambda model: model(STATES[:, 0], 3, STATES[:, 1], STATES).predicted_image_embedding,
    ),
    "T2IAdapter": (
        lambda: seeded(diffusers.T2IAdapter, channels=[8, 8], num_res_blocks=1, downscale_factor=2),
        lambda model: model(IMAGE)[-1],
    ),
    "UNet1DModel": (
        lambda: seeded(
            diffusers.UNet1DModel, sample_size=32, in_channels=2, out_channels=2, extra_in_channels=64,
            block_out_channels=(32, 32), down_block_types=("DownBlock1DNoSkip", "AttnDownBlock1D"),
            up_block_types=("AttnUpBlock1D", "UpBlock1DNoSkip"), mid_block_type="UNetMidBlock1D",
        ),
        lambda model: model(torch.linspace(-1, 1, 64).reshape(1, 2, 32), 3).sample,
    ),
    "SD3Transformer2DModel": (
        lambda: seeded(
            diffusers.SD3Transformer2DModel, sample_size=8, patch_size=2, in_channels=4, num_layers=1,
            attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16,
            pooled_projection_dim=16, out_channels=4, pos_embed_max_size=8,
        ),
        lambda model: model(LATENT, STATES, STATES[:, 0], torch.tensor([3])).sample,
    ),
    "FluxTransformer2DModel": (
        lambda: seeded(
            diffusers.FluxTransformer2DModel, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=1, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
        ),
        lambda model: model(
            hidden_states=STATES, encoder_hidden_states=STATES, pooled_projections=STATES[:, 0],
            timestep=torch.tensor([3.0]), guidance=None, img_ids=torch.zeros(5, 3), txt_ids=torch.zeros(5, 3),
        ).sample,
    ),
    "MultiControlNetModel": (two_controls, None),
}  # fmt: skip
"""How to build each, and what to ask of it."""


def schedulers() -> dict[str, Any]:
    """Every public scheduler that needs no argument and no further package."""
    found = {}
    for name in dir(diffusers):
        cls = getattr(diffusers, name) if name.endswith("Scheduler") else None
        if isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin) and not _is_dummy(cls):
            found[name] = cls
    return found


def _is_dummy(cls: Any) -> bool:
    if hasattr(cls, "_backends"):  # it stands for a class whose package is not installed
        return True
    try:
        cls()
    except (ImportError, TypeError):
        return True
    return "num_train_timesteps" not in inspect.signature(cls).parameters


class Steps(diffusers.DiffusionPipeline):
    """A pipeline of one's own, with a setting."""

    def __init__(self, unet: Any, scheduler: Any, steps: int = 3) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(steps=steps)

    def __call__(self) -> Any:
        self.scheduler.set_timesteps(self.config.steps)
        image = IMAGE
        for step in self.scheduler.timesteps:
            image = self.scheduler.step(self.unet(image, step).sample, step, image).prev_sample
        return image


class Own(diffusers.ModelMixin, diffusers.ConfigMixin):
    """A model of one's own."""

    config_name = "config.json"

    @diffusers.configuration_utils.register_to_config
    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(size, 3)
        self.register_buffer("halves", torch.full((3,), 0.5), persistent=False)

    def forward(self, values: Any) -> Any:
        return self.layer(values) * self.halves
