"""skorch, up and back: `python examples/frameworks/with_skorch.py [FOLDER]`.

The net comes back with its callbacks and history, and goes on training where it stopped.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping

from modelstore import ModelStore


class Wines(torch.nn.Module):
    """Chemical measurements to one of three growers."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(13)
        self.layers = torch.nn.Sequential(torch.nn.Linear(13, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 3))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layers(self.norm(X)), dim=-1)


def main(folder: str = "models") -> None:
    torch.manual_seed(0)
    X, y = load_wine(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X.astype("float32"), y, random_state=0)
    net = NeuralNetClassifier(
        Wines, module__hidden=24, optimizer=torch.optim.Adam, lr=0.02, max_epochs=30, verbose=0,
        callbacks=[EarlyStopping(patience=5)],
    )  # fmt: skip
    net.fit(X_train, y_train)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("wines", model=net, metrics={"accuracy": float(net.score(X_test, y_test))})

    loaded = store.load("wines", info.model_id)
    if not np.array_equal(loaded.predict_proba(X_test), net.predict_proba(X_test)):
        raise SystemExit("the loaded net predicts something else")
    epochs = len(loaded.history)
    loaded.partial_fit(X_train, y_train)
    print(f"{epochs} epochs at first, {len(loaded.history)} after some more")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
