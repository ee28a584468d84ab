"""Tiny Transformers models, saved here and looked at in a process that has never seen them.

Run as a program, it loads what was saved and prints what it found: `python -m tests.managers.hf_helpers FOLDER…`. Any
connection that it tries to open ends it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from modelstore.folder import ModelFolder
from modelstore.managers.bundle import Bundle, load_bundle
from modelstore.managers.detection import Managers
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.transformers import TransformersManager

ROOT = Path(__file__).parents[2]
INPUTS = "inputs.pt"


def keep(path: Path, *inputs: Any, **given: Any) -> Path:
    """Save what `upload` would be given, as an archive would hold it and read-only like the cache.

    Args:
        path: a folder that is not there yet.
        inputs: what the model is to be called with: one dict of keywords, or the arguments of a pipeline.
        given: what `upload` would be given.
    """
    import torch

    path.mkdir(parents=True)
    with ModelFolder(path) as folder:
        entries, _ = Bundle.of(Managers([TransformersManager()]), given).save(folder)
        for file in folder.contents().files:
            target = path / "files" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(file.source.read(0, file.size)))
            target.chmod(0o444)
    (path / "entries.json").write_text(json.dumps(entries))
    torch.save(inputs, path / INPUTS)
    return path


def entry(path: Path) -> dict[str, Any]:
    """What the record would say of the folder."""
    return json.loads((path / "entries.json").read_text())[0]


def restore(path: Path, allow_pickle: bool = True, **how: Any) -> Any:
    """Load it, as `load` would."""
    entries = json.loads((path / "entries.json").read_text())
    policy = PicklePolicy(allow_pickle)
    return load_bundle(Managers([TransformersManager()]), entries, path / "files", policy, subject="the model", **how)


def digests(path: Path) -> dict[str, str]:
    """The digest of every stored file."""
    files = [file for file in sorted((path / "files").rglob("*")) if file.is_file()]
    return {str(file.relative_to(path / "files")): _digest(file.read_bytes()) for file in files}


def read_elsewhere(*paths: Path) -> list[dict[str, Any]]:
    """The fingerprint of each folder's objects, taken in one fresh process without a network."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.managers.hf_helpers", *map(str, paths)],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fingerprint(obj: Any, inputs: tuple[Any, ...] = ()) -> Any:
    """All that has to be the same, as JSON."""
    import torch
    import transformers

    if isinstance(obj, tuple):
        return [fingerprint(obj[0], inputs), *map(fingerprint, obj[1:])]
    if isinstance(obj, dict):
        return {key: fingerprint(value) for key, value in obj.items()}
    found: dict[str, Any] = {"class": f"{type(obj).__module__}:{type(obj).__qualname__}"}
    if isinstance(obj, torch.nn.Module):
        return {**found, **_model(obj), "outputs": outputs(obj, inputs[0]) if inputs else None}
    if isinstance(obj, transformers.Pipeline):
        parts = [getattr(obj, name, None) for name in ("tokenizer", "image_processor", "feature_extractor")]
        answers = repr(obj(*inputs)) if inputs else None
        return {
            **found, "task": obj.task, "model": _model(obj.model), "answers": answers,
            "parts": [fingerprint(part) for part in parts if part is not None],
        }  # fmt: skip
    if isinstance(obj, transformers.PreTrainedTokenizerBase):
        text = "the quick brown fox jumps over the lazy dog unknownword"
        special = {key: str(value) for key, value in obj.special_tokens_map.items()}
        return {**found, "ids": obj(text)["input_ids"], "vocabulary": sorted(obj.get_vocab().items()),
                "special": special, "template": obj.chat_template, "length": obj.model_max_length}  # fmt: skip
    return {**found, "settings": settings(obj)}


def settings(obj: Any) -> Any:
    """A configuration as JSON, without what saving fills in."""
    return _less_filled_in(json.loads(json.dumps(obj.to_dict(), default=str, sort_keys=True)))


def _less_filled_in(values: Any) -> Any:
    filled_in = ("dtype", "torch_dtype", "architectures", "transformers_version", "_name_or_path")
    if not isinstance(values, dict):
        return values
    return {key: _less_filled_in(value) for key, value in values.items() if key not in filled_in}


def outputs(model: Any, inputs: dict[str, Any]) -> list[str]:
    """The digest of every tensor that a call returns, in its order."""
    import torch

    if inputs is None:
        return []
    torch.manual_seed(0)
    with torch.no_grad():
        found = model(**inputs)
    tensors = [value for value in found.values() if isinstance(value, torch.Tensor)]
    assert tensors
    return [_digest(_bytes(tensor)) for tensor in tensors]


def _model(model: Any) -> dict[str, Any]:
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    return {
        "tensors": {
            name: [
                str(tensor.dtype),
                list(tensor.shape),
                tensor.is_contiguous(),
                tensor.requires_grad,
                _digest(_bytes(tensor)),
            ]
            for name, tensor in named
        },
        "ties": {name: first.setdefault(id(tensor), name) for name, tensor in sorted(named, key=lambda item: item[0])},
        "training": [name for name, module in model.named_modules() if module.training],
        "config": [f"{type(model.config).__qualname__}", settings(model.config)],
        "attention": model.config._attn_implementation,
        "generation": settings(model.generation_config) if model.can_generate() else None,
        "name": model.name_or_path,
    }


def _bytes(tensor: Any) -> bytes:
    import torch

    return bytes(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()) if tensor.numel() else b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.connect"):
        print(f"{event} was called with {arguments}", file=sys.stderr)
        os._exit(3)


def main() -> None:
    """Print the fingerprints of the folders given as arguments."""
    import torch

    sys.addaudithook(_refuse_network)
    torch.set_num_threads(1)
    found = []
    for path in map(Path, sys.argv[1:]):
        loaded = restore(path)
        found.append(fingerprint(loaded, torch.load(path / INPUTS, weights_only=True)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
