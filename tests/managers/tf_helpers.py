"""Small Keras and TensorFlow models, saved here and looked at in a process that has never seen them.

Run as a program, it loads what was saved and prints what it found: `python -m tests.managers.tf_helpers FOLDER…`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from modelstore.folder import ModelFolder
from modelstore.managers.bundle import Bundle, load_bundle
from modelstore.managers.detection import Managers
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.tensorflow import TensorflowManager

ROOT = Path(__file__).parents[2]
INPUTS = "inputs.npz"


def keep(path: Path, inputs: Any = (), targets: Any = None, **given: Any) -> Path:
    """Save what `upload` would be given, as an archive would hold it and read-only like the cache.

    Args:
        path: a folder that is not there yet.
        inputs: arrays to call the model with.
        targets: what one step of training is to aim at; None for no training.
        given: what `upload` would be given.
    """
    path.mkdir(parents=True)
    with ModelFolder(path) as folder:
        entries, _ = Bundle.of(Managers([TensorflowManager()]), given).save(folder)
        contents = folder.contents()
        for file in contents.files:
            target = path / "files" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(file.source.read(0, file.size)))
            target.chmod(0o444)
        for name in contents.empty_folders:
            (path / "files" / name).mkdir(parents=True)
    (path / "entries.json").write_text(json.dumps(entries))
    arrays = {f"x{at}": array for at, array in enumerate(inputs)}
    np.savez(path / INPUTS, **arrays, **({} if targets is None else {"y": targets}))
    return path


def entry(path: Path) -> dict[str, Any]:
    """What the record would say of the folder."""
    return json.loads((path / "entries.json").read_text())[0]


def restore(path: Path, policy: PicklePolicy | bool = True, **how: Any) -> Any:
    """Load it, as `load` would."""
    entries = json.loads((path / "entries.json").read_text())
    policy = PicklePolicy(policy) if isinstance(policy, bool) else policy
    return load_bundle(Managers([TensorflowManager()]), entries, path / "files", policy, subject="the model", **how)


def read_elsewhere(*paths: Path) -> list[dict[str, Any]]:
    """The fingerprint of each folder's object, taken in one fresh process."""
    return run("tests.managers.tf_helpers", *map(str, paths))


def run(module: str, *arguments: str, **environment: str) -> Any:
    """What a module prints as its last line when it is run as a program, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def read_inputs(path: Path) -> tuple[list[Any], Any]:
    """What `keep` was given to call the model with."""
    with np.load(path / INPUTS) as arrays:
        found = dict(arrays)
    return [found[f"x{at}"] for at in range(len(found) - ("y" in found))], found.get("y")


def fingerprint(obj: Any, inputs: Any = (), targets: Any = None) -> Any:
    """All that has to be the same, as JSON. Trains the object where there are targets."""
    import keras

    if isinstance(obj, dict):
        return {key: fingerprint(value, inputs) for key, value in obj.items()}
    random.seed(0)  # AugMix and RandAugment choose by it, which is no state of a model's
    if not isinstance(obj, keras.Layer):
        return {"outputs": outputs(obj, inputs)}
    found = {
        "class": f"{type(obj).__module__}:{type(obj).__qualname__}",
        "config": _less_code(json.loads(json.dumps(keras.saving.serialize_keras_object(obj)["config"], default=str))),
        # Not their names: Keras numbers them anew in each process.
        "weights": [[str(weight.dtype), weight.trainable, _digest(weight)] for weight in obj.weights],
        "outputs": outputs(obj, inputs),
    }
    if getattr(obj, "compiled", False):
        optimizer = obj.optimizer
        found["optimizer"] = [type(optimizer).__name__, str(optimizer.get_config())]
        found["optimizer state"] = [_digest(variable) for variable in optimizer.variables]
        found["loss"] = str(obj.get_compile_config()["loss"])
        found["metrics"] = str(obj.get_compile_config()["metrics"])
    if targets is not None:
        losses = [obj.train_on_batch(arguments(inputs), targets) for _ in range(2)]
        found["trained"] = [str(losses), [_digest(weight) for weight in obj.weights]]
    return found


def _less_code(config: Any) -> Any:
    """Byte code of equal functions differs in its reference counts."""
    if isinstance(config, list):
        return [_less_code(item) for item in config]
    return {k: _less_code(v) for k, v in config.items() if k != "code"} if isinstance(config, dict) else config


def arguments(inputs: Any) -> Any:
    """The one input, or the list of them."""
    import tensorflow as tf

    found = [tf.constant(array.tolist()) if array.dtype.kind == "U" else array for array in inputs]
    return found[0] if len(found) == 1 else found


def outputs(obj: Any, inputs: Any) -> list[str]:
    """The digest of every array that a call returns."""
    import tensorflow as tf

    if not len(inputs):
        return []
    if not callable(obj):
        return [_digest(part) for part in tf.nest.flatten(obj.predict(*inputs))]
    return [_digest(part) for part in tf.nest.flatten(obj(arguments(inputs)))]


def _digest(value: Any) -> str:
    import keras

    if hasattr(value, "to_tensor"):
        value = value.to_tensor()
    array = np.asarray(
        value if hasattr(value, "numpy") and value.dtype == "string" else keras.ops.convert_to_numpy(value)
    )
    data = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return f"{array.shape} {hashlib.sha256(data).hexdigest()}"


def main() -> None:
    """Print the fingerprints of the folders given as arguments."""
    found = []
    for path in map(Path, sys.argv[1:]):
        inputs, targets = read_inputs(path)
        found.append(fingerprint(restore(path), inputs, targets))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
