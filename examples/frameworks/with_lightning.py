"""Lightning, up and back: `python examples/frameworks/with_lightning.py [FOLDER]`.

With its trainer, a module goes up together with the checkpoint from which training is resumed later.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import lightning.pytorch as L
import torch

from modelstore import ModelStore

warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


class Forecast(L.LightningModule):
    """Tells the next value of a series from the last twelve."""

    def __init__(self, hidden: int = 16, rate: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(torch.nn.Linear(12, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1))

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return self.layers(window).squeeze(-1)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        window, following = batch
        loss = torch.nn.functional.mse_loss(self(window), following)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["rate"])


def series() -> torch.utils.data.TensorDataset:
    """Ten years of months with a season and a trend, as windows of twelve."""
    month = torch.arange(120.0)
    values = torch.sin(month * torch.pi / 6) + 0.01 * month + 0.1 * torch.randn(120)
    windows = values.unfold(0, 13, 1)
    return torch.utils.data.TensorDataset(windows[:, :12].contiguous(), windows[:, 12].contiguous())


def trainer(epochs: int) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip


def main(folder: str = "models") -> None:
    L.seed_everything(0, verbose=False)
    months = series()
    batches = torch.utils.data.DataLoader(months, batch_size=16, shuffle=True)
    model = Forecast()
    first = trainer(epochs=5)
    first.fit(model, batches)

    store = ModelStore.from_file_system(folder, create_directory=True)
    loss = first.callback_metrics["loss"].item()
    info = store.upload("forecasts", model=model.eval(), trainer=first, metrics={"loss": loss})

    loaded = store.load("forecasts", info.model_id)
    windows = months.tensors[0]
    if not torch.equal(loaded(windows), model(windows)):
        raise SystemExit("the loaded model predicts something else")

    again, checkpoint = store.load("forecasts", info.model_id, with_optimizer=True)
    second = trainer(epochs=10)
    second.fit(again, batches, ckpt_path=checkpoint)
    print(f"step {first.global_step} of the first sitting, step {second.global_step} after the second")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
