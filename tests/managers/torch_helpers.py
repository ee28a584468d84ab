"""Saving here, loading elsewhere: what the tests of the PyTorch manager share.

Run as a program, it loads what was saved and prints what it found, in a process that has seen none of it before:
`python -m tests.managers.torch_helpers FOLDER…`.
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
from modelstore.managers.pytorch import PyTorchManager

ROOT = Path(__file__).parents[2]
INPUTS = "inputs.pt"


def store(path: Path, **given: Any) -> Path:
    """Save what `upload` would be given into a folder, as an archive would hold it; read-only like the cache."""
    path.mkdir(parents=True)
    with ModelFolder(path) as folder:
        bundle = Bundle.of(Managers([PyTorchManager()]), given)
        entries, _ = bundle.save(folder)
        for file in folder.contents().files:
            target = path / "files" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(file.source.read(0, file.size)))
            target.chmod(0o444)
    (path / "entries.json").write_text(json.dumps(entries))
    return path


def entry(path: Path) -> dict[str, Any]:
    """What the record would say of the folder."""
    return json.loads((path / "entries.json").read_text())[0]


def restore(path: Path, allow_pickle: bool = True, **how: Any) -> Any:
    """Load it, as `load` would."""
    entries = json.loads((path / "entries.json").read_text())
    policy = PicklePolicy(allow_pickle)
    return load_bundle(Managers([PyTorchManager()]), entries, path / "files", policy, subject="the model", **how)


def digests(path: Path) -> dict[str, str]:
    """The digest of every stored file."""
    files = [file for file in sorted((path / "files").rglob("*")) if file.is_file()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def with_inputs(path: Path, *inputs: Any) -> Path:
    """Lay down what the model is to be called with."""
    import torch

    torch.save(inputs, path / INPUTS)
    return path


def read_elsewhere(*paths: Path) -> list[dict[str, Any]]:
    """The fingerprint of each folder's object, taken in one fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.managers.torch_helpers", *map(str, paths)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fingerprint(obj: Any, inputs: tuple[Any, ...] | None) -> dict[str, Any]:
    """All that has to be the same of a module, a dict of tensors or a tensor, as JSON."""
    import torch

    found: dict[str, Any] = {"class": f"{type(obj).__module__}:{type(obj).__qualname__}"}
    if isinstance(obj, torch.nn.Module):
        named = [*obj.named_parameters(remove_duplicate=False), *obj.named_buffers(remove_duplicate=False)]
        found["training"] = {name: module.training for name, module in obj.named_modules()}
        found["hooks"] = {name: len(module._forward_hooks) for name, module in obj.named_modules()}
        found["state_dict"] = list(obj.state_dict())
    elif isinstance(obj, dict):
        named = list(obj.items())
        found["metadata"] = getattr(obj, "_metadata", None)
    else:
        named = [("tensor", obj)]
    found["tensors"] = _tensors(named)
    if inputs is not None:
        torch.manual_seed(0)
        with torch.no_grad():
            found["output"] = _values(obj(*inputs))
    return json.loads(json.dumps(found))


def _tensors(named: list[tuple[str, Any]]) -> list[Any]:
    import torch

    objects: dict[int, str] = {}
    storages: dict[int, str] = {}
    rows = []
    for name, tensor in named:
        row: dict[str, Any] = {"name": name, "same as": objects.setdefault(id(tensor), name)}
        if not isinstance(tensor, torch.Tensor):
            rows.append({**row, "value": repr(tensor)})
            continue
        row.update(cls=type(tensor).__name__, dtype=str(tensor.dtype), grad=tensor.requires_grad)
        if not torch.nn.parameter.is_lazy(tensor):
            row.update(shape=list(tensor.shape), bytes=_values(tensor))
            if tensor.layout == torch.strided:
                key = tensor.untyped_storage()._cdata
                row.update(stride=tensor.stride(), offset=tensor.storage_offset(), of=storages.setdefault(key, name))
        rows.append(row)
    return rows


def _values(value: Any) -> Any:
    """Bits, not numbers: NaN equals itself, and -0.0 is not 0.0."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.is_quantized:
            return [_values(value.int_repr()), str(value.qscheme())]
        if value.layout != torch.strided:
            return _values(value.to_dense())
        flat = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return [str(value.dtype), hashlib.sha256(bytes(flat.view(torch.uint8).tolist())).hexdigest()]
    if isinstance(value, (list, tuple)):
        return [_values(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _values(item) for key, item in value.items()}
    return repr(value)


def main(folders: list[str]) -> None:
    """Load each folder and print the fingerprints."""
    assert "torch" not in sys.modules
    found = []
    for folder in map(Path, folders):
        obj = restore(folder)
        import torch

        inputs = torch.load(folder / INPUTS, weights_only=False) if (folder / INPUTS).exists() else None
        found.append(fingerprint(obj, inputs))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
