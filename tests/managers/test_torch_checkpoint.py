"""Checkpoints of torch.distributed.checkpoint: a folder goes up, its state dict comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")

from modelstore import ModelStore  # noqa: E402
from modelstore.contracts.difference import difference  # noqa: E402
from modelstore.contracts.manager import Case  # noqa: E402
from modelstore.exceptions import IntegrityError, InvalidArgumentError, PickleNotAllowedError  # noqa: E402
from modelstore.managers.base import LoadRequest  # noqa: E402
from modelstore.managers.pickling import PicklePolicy  # noqa: E402
from modelstore.managers.torch_checkpoint import TorchCheckpointManager  # noqa: E402
from tests.managers.contract import BuiltinContract  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed")


def network() -> Any:
    """A small module."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2).bfloat16())


def training_state() -> dict[str, Any]:
    """What a training script saves."""
    model = network()[:2]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(4, 4)).square().sum().backward()
    optimizer.step()
    extra = {"epoch": 3, "names": ["a", "b"], "rate": 0.5}
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "extra": extra}


def write(folder: Path, state: dict[str, Any]) -> Path:
    """Save it as one process without a process group does."""
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    return folder


def plain(value: Any) -> Any:
    """Tensors as arrays."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), value.float().numpy()]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in sorted(value.items(), key=lambda item: str(item[0]))}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def observe(state: Any) -> Any:
    """What was saved is observed as what was written to the folder, not as its path."""
    if isinstance(state, Path):
        state = network().state_dict() if state.name == "weights" else training_state()
    return plain(state)


@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestTorchCheckpoint(BuiltinContract):
    """A state dict and a whole training state."""

    manager = TorchCheckpointManager()

    def cases(self) -> Mapping[str, Case]:
        """The folders are made here, and stay for the other process."""
        root = Path(os.environ["MODELSTORE_CACHE"])
        return {
            "weights": Case(lambda: {"model": write(root / "weights", network().state_dict())}, observe),
            "training": Case(lambda: {"model": write(root / "training", training_state())}, observe),
        }

    def _seen(self, result: Any, keywords: tuple[str, ...], probe: Any) -> dict[str, Any]:
        return {**super()._seen(result, keywords, probe), "class": {}}

    def _tried(self, tmp_path_factory: Any) -> dict[str, Any]:
        # A path has no class of the framework's; what is tried is the format.
        formats = sorted({outcome.saved.format for outcome in self._outcomes(tmp_path_factory).values()})
        classes = {"torch.distributed.checkpoint (a folder)": {"cases": 2, "formats": formats, "pickled": 2}}
        return {**super()._tried(tmp_path_factory), "classes": classes}


def test_a_folder_of_another_kind_is_no_checkpoint(tmp_path: Path) -> None:
    """Only a folder with `.metadata` and shards is one, and nothing else than its names is looked at."""
    manager = TorchCheckpointManager()
    assert not manager.recognises(tmp_path)
    (tmp_path / ".metadata").write_bytes(b"no pickle")
    assert not manager.recognises(tmp_path)
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    assert manager.recognises(str(tmp_path))
    assert not manager.recognises(tmp_path / "nothing")
    assert not manager.recognises({"a": 1})


def test_up_and_down(store: ModelStore, tmp_path: Path) -> None:
    """The facade recognises the folder before it is taken for any folder, and a download gives the same files."""
    folder = write(tmp_path / "checkpoint of mine", training_state())
    info = store.upload("nets", model=folder)
    assert info["model"]["model_type"]["library"] == "torch_checkpoint"
    assert difference(plain(training_state()), plain(store.load("nets"))) is None
    with pytest.raises(PickleNotAllowedError, match="metadata"):
        store.load("nets", allow_pickle=False)
    there = Path(store.download(tmp_path / "there", "nets")) / "checkpoint"
    assert {p.name: p.read_bytes() for p in there.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_into_fills_a_state_dict_in_place(store: ModelStore, tmp_path: Path) -> None:
    """A caller's state dict is filled where its tensors lie, nested or not."""
    store.upload("nets", model=write(tmp_path / "c", training_state()))
    mine = training_state()
    weight = mine["model"]["0.weight"].zero_()
    mine["extra"]["epoch"] = 0
    assert store.load("nets", into=mine) is mine
    assert mine["model"]["0.weight"] is weight
    assert weight.abs().sum() > 0
    assert mine["extra"]["epoch"] == 3


@pytest.mark.parametrize("nested", [False, True])
def test_into_fills_a_module(nested: bool, store: ModelStore, tmp_path: Path) -> None:
    """A module takes its part of a checkpoint, be it the whole or one entry of it."""
    model = network()
    state = {"optimizer": {"lr": 0.1}, "net": model.state_dict()} if nested else model.state_dict()
    store.upload("nets", model=write(tmp_path / "c", state))
    mine = network()
    for parameter in mine.parameters():
        torch.nn.init.zeros_(parameter)
    assert store.load("nets", into=mine) is mine
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in mine.state_dict().items())


def test_what_does_not_fit_is_an_argument_error(store: ModelStore, tmp_path: Path) -> None:
    """A module or state dict of other names or shapes, and anything else than these."""
    store.upload("nets", model=write(tmp_path / "c", network().state_dict()))
    with pytest.raises(InvalidArgumentError, match="does not fit into="):
        store.load("nets", into=torch.nn.Linear(2, 2))
    with pytest.raises(InvalidArgumentError, match="does not fit into="):
        store.load("nets", into={"other": torch.zeros(2)})
    with pytest.raises(InvalidArgumentError, match="does not fit into="):
        store.load("nets", into={"0.weight": torch.zeros(9, 9)})
    with pytest.raises(InvalidArgumentError, match="state dict or a module"):
        store.load("nets", into=3)
    with pytest.raises(InvalidArgumentError, match="device"):
        store.load("nets", into=network(), device="cpu")


def test_a_device_can_be_asked_for(store: ModelStore, tmp_path: Path) -> None:
    """All tensors go there, however deep they lie."""
    store.upload("nets", model=write(tmp_path / "c", training_state()))
    loaded = store.load("nets", device="meta")
    assert loaded["model"]["0.weight"].is_meta
    assert loaded["extra"]["names"] == ["a", "b"]


@pytest.mark.parametrize("damage", ["no metadata", "metadata", "no shard", "shard"])
def test_damage_is_an_integrity_error(damage: str, tmp_path: Path) -> None:
    """Files that are cut or gone."""
    folder = write(tmp_path / "checkpoint", network().state_dict())
    file = folder / (".metadata" if "metadata" in damage else "__0_0.distcp")
    if damage.startswith("no "):
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(IntegrityError, match="checkpoint"):
        TorchCheckpointManager().load(LoadRequest(tmp_path, {}, ("model",), PicklePolicy(True)))


TWO = """
    import os, sys, torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    folder = sys.argv[1]
    child = os.fork()  # after the imports, which take long
    rank = 0 if child else 1
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    whole = torch.arange(40.0).reshape(8, 5)
    part = distribute_tensor(whole, init_device_mesh("cpu", (2,)), [Shard(0)])
    dcp.save({"layer": {"weight": part}, "steps": 7}, checkpoint_id=f"{folder}/sharded")
    dist.destroy_process_group()
    sys.exit(os.waitpid(child, 0)[1] if child else 0)
"""


def test_shards_of_two_processes_become_one_tensor(store: ModelStore, tmp_path: Path) -> None:
    """What two processes saved, each its half, is one whole tensor in one process."""
    (tmp_path / "two.py").write_text(textwrap.dedent(TWO))
    command = [sys.executable, str(tmp_path / "two.py"), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "sharded").glob("*.distcp"))) == 2
    store.upload("nets", model=str(tmp_path / "sharded"))
    loaded = store.load("nets")
    assert torch.equal(loaded["layer"]["weight"], torch.arange(40.0).reshape(8, 5))
    assert loaded["steps"] == 7
