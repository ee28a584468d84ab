"""The models."""

from __future__ import annotations

from typing import Any

import numpy as np


class LinearModel:
    """Least squares, with an intercept."""

    def __init__(self) -> None:
        self.weights: Any = None  # the intercept comes first

    def fit(self, X: Any, y: Any) -> LinearModel:
        """Learn the weights."""
        rows = self._rows(X)
        self.weights = np.linalg.solve(rows.T @ rows + self._penalty(rows.shape[1]), rows.T @ np.asarray(y))
        return self

    def predict(self, X: Any) -> Any:
        """Predictions."""
        return self._rows(X) @ self.weights

    def settings(self) -> dict[str, Any]:
        """The arguments that make such a model again."""
        return {}

    def _penalty(self, size: int) -> Any:
        return np.zeros((size, size))

    def _rows(self, X: Any) -> Any:
        X = np.asarray(X, dtype=float)
        return np.column_stack([np.ones(len(X)), X])


class RidgeModel(LinearModel):
    """Least squares that keeps the weights small."""

    def __init__(self, penalty: float = 1.0) -> None:
        super().__init__()
        self.penalty = penalty

    def settings(self) -> dict[str, Any]:
        """The arguments that make such a model again."""
        return {"penalty": self.penalty}

    def _penalty(self, size: int) -> Any:
        penalty = self.penalty * np.eye(size)
        penalty[0, 0] = 0.0  # the intercept may be as large as it likes
        return penalty
