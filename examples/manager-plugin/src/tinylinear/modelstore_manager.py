"""How modelstore keeps tinylinear's models: the settings as JSON, the weights as a NumPy file. No pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name

# Neither tinylinear nor numpy is imported up here: modelstore imports this module whenever it looks for managers.

SETTINGS = "settings.json"
WEIGHTS = "weights.npy"


class TinyLinearManager(ObjectManager):
    """Stores `LinearModel` and what derives from it; trained or not."""

    name = "tinylinear"
    title = "tinylinear"
    # The root class only: an object belongs to the first claimed class among its parents.
    claims = ("tinylinear.models:LinearModel",)
    # What loading takes from PyPI; versions that are installed get pinned in the archive's requirements.txt.
    distributions = ("tinylinear", "numpy")

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write both files."""
        import numpy as np

        import tinylinear

        if getattr(tinylinear, type(obj).__name__, None) is not type(obj):
            raise UnsupportedObjectError(
                f"{class_name(obj)} is a class of your own, of which settings() may not tell all; store it with "
                'upload(…, manager="python")',
                class_name(obj),
            )
        folder.add_json(SETTINGS, obj.settings())
        if obj.weights is not None:
            file = io.BytesIO()
            np.save(file, obj.weights, allow_pickle=False)
            folder.add_bytes(WEIGHTS, file.getvalue())
        return Saved("npy", {"class": type(obj).__name__})

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the model anew and give it its weights."""
        import numpy as np

        import tinylinear

        # The record comes out of a store: it may choose among our classes, and nothing else.
        if state["class"] not in tinylinear.__all__:
            raise IntegrityError("the record", "managers", f"{state['class']!r} is no model of tinylinear")
        try:
            model = getattr(tinylinear, state["class"])(**json.loads((folder / SETTINGS).read_bytes()))
            if (folder / WEIGHTS).exists():
                model.weights = np.load(folder / WEIGHTS, allow_pickle=False)
        except (OSError, ValueError, TypeError) as error:
            raise IntegrityError("the tinylinear model", str(folder), f"it cannot be read: {error}") from error
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The settings; they stand in the record as `model.parameters`."""
        return dict(obj.settings())
