"""Train a network in two sittings: `python examples/pytorch_training.py [FOLDER]`.

The first sitting uploads the model with its optimizer; the second loads both and goes on where the first left off. A
service then takes the weights alone, into a network that it builds itself, with pickles refused.
"""

from __future__ import annotations

import sys
import tempfile

import torch

from modelstore import ModelStore


def network() -> torch.nn.Module:
    """What the service knows: the architecture, not the weights."""
    return torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    """Learn the product of two numbers; gives the last loss."""
    for step in range(steps):
        points = torch.rand(256, 2, generator=torch.Generator().manual_seed(step))
        loss = (model(points).squeeze(1) - points.prod(dim=1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def main(folder: str) -> None:
    """Two sittings and a service."""
    store = ModelStore.from_file_system(folder, create_directory=True)
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss = train(model, optimizer, 100)
    first = store.upload("product", model=model, optimizer=optimizer, metrics={"loss": loss}, note="first sitting")
    print(f"first sitting    loss {loss:.5f}")

    model, optimizer = store.load("product", first.model_id, with_optimizer=True)
    loss = train(model, optimizer, 300)
    second = store.upload("product", model=model, optimizer=optimizer, metrics={"loss": loss}, note="second sitting")
    store.create_model_state("production")
    store.set_model_state("product", second.model_id, "production")
    print(f"second sitting   loss {loss:.5f}")

    service = store.load("product", state="production", into=network(), allow_pickle=False).eval()
    with torch.no_grad():
        answer = float(service(torch.tensor([[0.5, 0.4]])))
    print(f"the service says 0.5 × 0.4 = {answer:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(scratch)
