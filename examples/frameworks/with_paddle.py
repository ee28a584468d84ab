"""PaddlePaddle, up and back: `python examples/frameworks/with_paddle.py [FOLDER]`.

The optimizer goes up with its model, so that training can go on from where it was.
"""

from __future__ import annotations

import sys

import numpy as np
import paddle
from paddle import nn

from modelstore import ModelStore


def two_moons(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    label = random.randint(0, 2, rows)
    angle = random.uniform(0, np.pi, rows)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.where(label[:, None] == 0, upper, [1.0, 0.5] - upper)
    return (points + random.normal(0, 0.1, points.shape)).astype("float32"), label


def train(model: nn.Layer, optimizer: paddle.optimizer.Optimizer, points: np.ndarray, label: np.ndarray) -> float:
    model.train()
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(paddle.to_tensor(points)), paddle.to_tensor(label))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    model.eval()
    return float(loss)


def main(folder: str = "models") -> None:
    paddle.seed(0)
    points, label = two_moons(400, seed=0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = paddle.optimizer.Adam(0.02, parameters=model.parameters())
    first = train(model, optimizer, points, label)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("moons", model=model, optimizer=optimizer, metrics={"loss": first})

    fresh, _ = two_moons(100, seed=1)
    loaded, its_optimizer = store.load("moons", info.model_id, with_optimizer=True)
    if not np.array_equal(loaded(paddle.to_tensor(fresh)).numpy(), model(paddle.to_tensor(fresh)).numpy()):
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")
    print(f"trained further, its loss falls from {first:.3f} to {train(loaded, its_optimizer, points, label):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
