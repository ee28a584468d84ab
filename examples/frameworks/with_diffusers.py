"""Diffusers, up and back: `python examples/frameworks/with_diffusers.py [FOLDER]`.

A small model learns to paint a bright spot, and goes into the store as a pipeline, with its scheduler. What it paints
from the same noise is the same after the load.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    spots = torch.exp(-4 * (rows**2 + columns**2)).expand(4, 3, 16, 16) * 2 - 1
    unet = UNet2DModel(
        sample_size=16, block_out_channels=(16, 16), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    scheduler = DDPMScheduler(num_train_timesteps=20)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=0.005)
    for _ in range(10):
        noise, steps = torch.randn_like(spots), torch.randint(0, 20, (4,))
        guess = unet(scheduler.add_noise(spots, noise, steps), steps).sample
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(guess, noise).backward()
        optimizer.step()
    pipeline = DDPMPipeline(unet.eval(), scheduler)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("spots", model=pipeline)

    def painted(pipe: DDPMPipeline) -> np.ndarray:
        pipe.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(1)
        images: np.ndarray = pipe(generator=noise, num_inference_steps=5, output_type="np").images
        return images

    loaded = store.load("spots", info.model_id, allow_pickle=False)
    if not np.array_equal(painted(loaded), painted(pipeline)):
        raise SystemExit("the loaded pipeline paints something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
