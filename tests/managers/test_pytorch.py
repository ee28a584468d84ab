"""The PyTorch manager: what is saved here loads elsewhere, with everything that makes a model what it is."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from modelstore.contracts.manager import Case  # noqa: E402
from modelstore.folder import ModelFolder  # noqa: E402
from modelstore.managers._torch.storages import DevicePiece  # noqa: E402
from modelstore.managers.pytorch import PyTorchManager  # noqa: E402
from tests.managers.contract import BuiltinContract  # noqa: E402
from tests.managers.torch_cases import CASES  # noqa: E402
from tests.managers.torch_helpers import (  # noqa: E402
    ROOT,
    digests,
    entry,
    fingerprint,
    read_elsewhere,
    restore,
    store,
    with_inputs,
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Fingerprints of each case, taken here and in one fresh process."""
    root = tmp_path_factory.mktemp("cases")
    here, paths = {}, []
    for name, build in CASES.items():
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of what it deprecates
            model, inputs = build()
            paths.append(store(root / name, model=model))
            if inputs is not None:
                with_inputs(paths[-1], *inputs)
            here[name] = fingerprint(model, inputs)
    return {name: (here[name], found) for name, found in zip(here, read_elsewhere(*paths), strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_survives(cases: dict[str, tuple[Any, Any]], name: str) -> None:
    """Class, tensors bit for bit, ties, views, strides, modes, hooks and outputs are the same in a fresh process."""
    here, there = cases[name]
    assert there == here


def probe_tensors(model: Any) -> Any:
    """What the contract compares."""
    return fingerprint(model, None)


class TestContract(BuiltinContract):
    """What every manager promises."""

    manager = PyTorchManager()

    def cases(self) -> dict[str, Case]:
        """One of each kind."""
        net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        return {
            "module": Case(lambda: {"model": net}, probe_tensors),
            "state dict": Case(lambda: {"model": net.state_dict()}, probe_tensors),
            "tensor": Case(lambda: {"model": torch.randn(3)}, probe_tensors),
        }


SCRIPT = """
import sys, pathlib, torch
from tests.managers.torch_helpers import store

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, x):
        return helper(self.linear(x)) + OFFSET

def helper(x):
    return x * 3

OFFSET = torch.ones(2)
net = Net()
store(pathlib.Path(sys.argv[1]), model=net)
print(net(torch.ones(1, 2)).tolist())
"""


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A module whose class, helper and constant are defined in `__main__` loads in a process that has none of them."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "net")],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert entry(tmp_path / "net")["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    net = restore(tmp_path / "net")
    assert net(torch.ones(1, 2)).tolist() == json.loads(done.stdout)


def test_others_can_read_the_weights(tmp_path: Path) -> None:
    """The safetensors package reads the file: each parameter under its own name, and non-persistent buffers too."""
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2).bfloat16())
    model.register_buffer("cached", torch.randn(3, 3, dtype=torch.complex64), persistent=False)
    path = store(tmp_path / "m", model=model)
    found = safetensors_torch.load_file(path / "files" / "model.safetensors")
    wanted = {**model.state_dict(), "cached": model.cached}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_storages_are_stored_once_and_not_copied(tmp_path: Path) -> None:
    """Ties, views and hooks add nothing to the file, whose pieces are the tensors' own memory."""
    model = torch.nn.Sequential(torch.nn.Linear(64, 64, bias=False), torch.nn.Linear(64, 64, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("view", model[0].weight.data[3:])
    weight = model[0].weight
    model.register_forward_hook(lambda module, args, output: output @ weight)
    with ModelFolder(tmp_path) as folder:
        PyTorchManager().save({"model": model}, folder, {})
        source = next(file.source for file in folder.contents().files if file.name == "model.safetensors")
        header = source.size - weight.nbytes
        (piece,) = source.read(header, source.size)
        assert 0 < header < 4096
        address = ctypes.addressof(ctypes.c_char.from_buffer(piece))
        assert address == weight.data_ptr()
        assert list(tmp_path.iterdir()) == []


def test_views_keep_their_memory_alive(tmp_path: Path) -> None:
    """The pieces of a folder stay readable after the model is gone."""
    model = torch.nn.Linear(300, 300)
    wanted = model.weight.detach().clone()
    with ModelFolder(tmp_path) as folder:
        PyTorchManager().save({"model": model.state_dict()}, folder, {})
        del model
        gc.collect()
        source = next(file.source for file in folder.contents().files if file.name == "model.safetensors")
        (*_, piece) = (piece for piece in source.read(0, source.size) if len(piece) == wanted.nbytes)
        assert torch.equal(torch.frombuffer(piece, dtype=torch.float32).view(300, 300), wanted)


def test_training_a_loaded_model_leaves_the_files_alone(tmp_path: Path) -> None:
    """Weights are private mappings: an optimizer's step reaches neither the file nor a second load."""
    path = store(tmp_path / "m", model=torch.nn.Linear(256, 256))
    before = digests(path)
    first, second = restore(path), restore(path)
    kept = second.weight.detach().clone()
    optimizer = torch.optim.SGD(first.parameters(), lr=1.0)
    first(torch.ones(1, 256)).sum().backward()
    optimizer.step()
    assert not torch.equal(first.weight, kept)
    assert torch.equal(second.weight, kept)
    assert torch.equal(restore(path).weight, kept)
    assert digests(path) == before


def test_weights_are_mapped_and_aligned(tmp_path: Path) -> None:
    """Large weights are pages of the file, and every tensor starts at a multiple of 64 bytes as torch's own do."""
    model = torch.nn.Sequential(torch.nn.Linear(640, 640), torch.nn.BatchNorm1d(640), torch.nn.Linear(640, 7))
    path = store(tmp_path / "m", model=model)
    loaded = restore(path)
    tensors = [*loaded.parameters(), *loaded.buffers()]
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors)
    if Path("/proc/self/maps").exists():
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        ranges = [[int(end, 16) for end in line[0].split("-")] for line in maps if str(path) in line[-1]]
        assert any(start <= loaded[0].weight.data_ptr() < stop for start, stop in ranges)


def test_a_device_is_read_in_ranges() -> None:
    """A storage of another device is copied to the host range by range, whatever the range."""
    values = torch.arange(1000, dtype=torch.int16)
    piece = DevicePiece(values.untyped_storage())
    whole = values.numpy().tobytes()
    assert piece.nbytes == 2000
    assert b"".join([piece.read(0, 7), piece.read(7, 1999), piece.read(1999, 2000)]) == whole


def test_a_device_that_is_not_here_falls_back_to_the_cpu(tmp_path: Path) -> None:
    """Storages recorded on a device that this machine lacks are loaded on the CPU."""
    path = store(tmp_path / "m", model={"a": torch.ones(3)})
    file = path / "files" / "tensors.json"
    file.chmod(0o644)
    file.write_text(file.read_text().replace('"offset":0', '"offset":0,"device":"cuda:99"'))
    assert restore(path)["a"].device.type == "cpu"


@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
def test_quantized_weights_are_not_stored_twice(tmp_path: Path) -> None:
    """A quantized layer makes its state dict's tensors anew on every call; they are found among those stored."""
    model = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(256, 256)), dtype=torch.qint8)
    path = store(tmp_path / "m", model=model)
    size = (path / "files" / "model.safetensors").stat().st_size
    alone = store(tmp_path / "w", model=model, weights_only=True)
    assert size <= (alone / "files" / "model.safetensors").stat().st_size + 512


@pytest.mark.parametrize("wrapper", ["compile", "data_parallel", "distributed", "nested"])
def test_wrappers_come_off(tmp_path: Path, wrapper: str) -> None:
    """What torch.compile, DataParallel and DistributedDataParallel wrap is stored, and the record names them."""
    net = torch.nn.Linear(2, 2)
    if wrapper == "compile":
        model, names = torch.compile(net, backend="eager"), ["OptimizedModule"]
    elif wrapper == "data_parallel":
        model, names = torch.nn.DataParallel(net), ["DataParallel"]
    else:
        torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
        model, names = torch.nn.parallel.DistributedDataParallel(net), ["DistributedDataParallel"]
        if wrapper == "nested":
            model, names = torch.compile(model, backend="eager"), ["OptimizedModule", *names]
    try:
        path = store(tmp_path / "m", model=model)
        target = torch.compile(torch.nn.Linear(2, 2), backend="eager")
        assert restore(path, allow_pickle=False, into=target) is target
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert entry(path)["wrappers"] == {"model": names}
    loaded = restore(path)
    assert type(loaded) is torch.nn.Linear
    assert torch.equal(loaded.weight, net.weight)
    assert torch.equal(target.weight, net.weight)


def test_several_modules_come_back_by_keyword(tmp_path: Path) -> None:
    """Two modules under two keywords load as a mapping, each from its own folder; `into` is then a mapping, too."""
    model, before = torch.nn.Linear(2, 2), torch.nn.Linear(3, 2)
    path = store(tmp_path / "m", model=model, preprocessor=before)
    loaded = restore(path)
    assert torch.equal(loaded["model"].weight, model.weight)
    assert torch.equal(loaded["preprocessor"].weight, before.weight)
    target = torch.nn.Linear(3, 2)
    assert restore(path, into={"preprocessor": target})["preprocessor"] is target
    assert torch.equal(target.weight, before.weight)


def test_parameters_say_how_many_and_of_what_type(tmp_path: Path) -> None:
    """Numbers of elements, trainable ones, and types; lazy parameters count nothing; it is JSON."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1).bfloat16(), torch.nn.LazyLinear(4))
    model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW(model[1].parameters(), lr=torch.tensor(0.25), betas=(0.5, 0.75))
    found = PyTorchManager().parameters({"model": model, "optimizer": optimizer})
    assert found["parameters"] == 11
    assert found["trainable"] == 3
    assert found["dtypes"] == {"bfloat16": 3, "float32": 8}
    assert found["optimizer"]["type"] == "torch.optim.adamw:AdamW"
    (group,) = found["optimizer"]["param_groups"]
    assert group["lr"] == 0.25
    assert group["betas"] == [0.5, 0.75]
    assert group["tensors"] == 2
    json.dumps(found, allow_nan=False)


def test_importing_the_manager_imports_no_framework() -> None:
    """Neither torch nor numpy is loaded to ask whether an object is torch's."""
    code = (
        "import sys, modelstore.managers.pytorch as m; assert not m.PyTorchManager().recognises({'a': [1, {'b': 2}]});"
        "import modelstore.managers.safetensors_file; print({'torch', 'numpy', 'cloudpickle'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
