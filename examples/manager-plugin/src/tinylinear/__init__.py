"""Linear models by least squares: the invented library that the manager beside it stores."""

from tinylinear.models import LinearModel, RidgeModel

__all__ = ["LinearModel", "RidgeModel"]
