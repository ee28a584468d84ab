"""PyTorch, up and back: `python examples/frameworks/with_torch.py [FOLDER]`.

A module goes up with its optimizer. A service loads the module alone; who trains on asks for both.
"""

from __future__ import annotations

import sys

import torch

from modelstore import ModelStore


class Classifier(torch.nn.Module):
    """Two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def spirals(points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two spirals that wind around each other."""
    at = torch.linspace(0.2, 1.0, points)
    arms = [torch.stack([at * torch.cos(7 * at + turn), at * torch.sin(7 * at + turn)], 1) for turn in (0.0, torch.pi)]
    return torch.cat(arms), torch.arange(2).repeat_interleave(points)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, rounds: int) -> float:
    X, y = spirals(200)
    model.train()
    for _ in range(rounds):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(X), y)
        loss.backward()
        optimizer.step()
    return loss.item()


def main(folder: str = "models") -> None:
    torch.manual_seed(0)
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss = train(model, optimizer, 200)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("spirals", model=model.eval(), optimizer=optimizer, metrics={"cross entropy": loss})

    loaded = store.load("spirals", info.model_id, device="cpu")
    X, _ = spirals(50)
    if not torch.equal(loaded(X), model(X)):
        raise SystemExit("the loaded model predicts something else")

    # Where pickles are refused, the weights fill a module that the code at hand has built.
    filled = store.load("spirals", info.model_id, into=Classifier().eval(), allow_pickle=False)
    if not torch.equal(filled(X), model(X)):
        raise SystemExit("the filled model predicts something else")

    again, optimizer = store.load("spirals", info.model_id, with_optimizer=True)
    print(f"the loss was {loss:.4f}, and is {train(again, optimizer, 100):.4f} after a second sitting")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
