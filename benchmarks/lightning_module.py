"""A Lightning module that another process can import."""

from __future__ import annotations

import lightning.pytorch
import torch


class Module(lightning.pytorch.LightningModule):
    """4 MB of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute."""
        return self.layers(x)
