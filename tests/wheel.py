"""Run by the tox environment `wheel`, with `python -I`: is the installed distribution whole, and does it work?

It needs no pytest: what is tested is what a user gets.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

sources = Path(sys.argv[1]).resolve()

import modelstore  # noqa: E402

installed = Path(modelstore.__file__).resolve().parent
assert not installed.is_relative_to(sources / "modelstore"), f"{installed} is the source tree"

dist = distribution("modelstore")
assert dist.version == modelstore.__version__
files = {str(file) for file in dist.files or ()}
expected = {str(path.relative_to(sources)) for path in (sources / "modelstore").rglob("*.py")} | {"modelstore/py.typed"}
assert expected <= files, f"not in the wheel: {sorted(expected - files)}"
stray = {file for file in files - expected if not file.startswith(("modelstore-", "../")) and "__pycache__" not in file}
assert not stray, f"in the wheel, but no part of it: {sorted(stray)}"
assert any(file.endswith("licenses/LICENSE") for file in files), "no licence in the wheel"
needed = sorted(line for line in dist.requires or () if "extra ==" not in line)
assert [line.partition(">")[0] for line in needed] == ["cloudpickle", "platformdirs", "tqdm", "zstandard"], needed

with tempfile.TemporaryDirectory() as folder:
    model = Path(folder, "model.bin")
    model.write_bytes(b"weights")
    scripts = Path(sys.executable).parent
    command = [scripts / "modelstore", "upload", "files", model, "--store", Path(folder, "store"), "--create"]
    model_id = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    store = modelstore.ModelStore.from_file_system(Path(folder, "store"), cache_directory=Path(folder, "cache"))
    assert store.list_models("files") == [model_id]
    assert store.load("files").read_bytes() == b"weights"
print(f"modelstore {dist.version} from {installed}: {len(files)} files, one model up and back")
