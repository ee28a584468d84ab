"""Saves and loads with another backend of Keras: `KERAS_BACKEND=jax python -m tests.managers.tf_backend FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras

from modelstore.folder import ModelFolder
from modelstore.managers.tensorflow import TensorflowManager
from tests.managers.tf_cases import TABLE, TARGET, sequential
from tests.managers.tf_helpers import fingerprint, keep, restore


def main() -> None:
    folder = Path(sys.argv[1])
    model = sequential()
    model.compile(optimizer="adam", loss="mse")
    model.fit(TABLE, TARGET, epochs=1, verbose=0)
    keep(folder / "model", [TABLE], model=model)
    loaded = restore(folder / "model", False)
    with ModelFolder(folder) as files:
        modules = TensorflowManager().save({"model": model}, files, {}).modules
    before, after = fingerprint(model, [TABLE], TARGET), fingerprint(loaded, [TABLE], TARGET)
    weights = [weight.tolist() for weight in restore(folder / "model").get_weights()]
    print(json.dumps({"backend": keras.config.backend(), "modules": sorted(modules), "before": before, "after": after,
                      "weights": weights}))  # fmt: skip


if __name__ == "__main__":
    main()
