"""What cannot be stored is refused before anything is written, with the attribute to blame and the way out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from modelstore.exceptions import UnsupportedObjectError  # noqa: E402
from tests.managers.torch_cases import Holder  # noqa: E402
from tests.managers.torch_helpers import restore, store  # noqa: E402


def refused(tmp_path: Path, model: Any, match: str, **options: Any) -> None:
    """Check the error's text, and that nothing was written."""
    with pytest.raises(UnsupportedObjectError, match=match):
        store(tmp_path / "m", model=model, **options)
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.parametrize("weights_only", [False, True])
def test_meta_tensors(tmp_path: Path, weights_only: bool) -> None:
    """A module on the meta device holds no data: the tensor is named, with the way to give it some."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))
    refused(tmp_path, model, r"'1\.weight'.*meta.*to_empty", weights_only=weights_only)


def test_meta_tensors_elsewhere(tmp_path: Path) -> None:
    """A meta tensor in an attribute or a state dict is found, too."""
    model = Holder()
    model.plain = [torch.empty(2, device="meta")]
    refused(tmp_path, model, "meta device")
    refused(tmp_path / "b", {"a": {"b": torch.empty(2, device="meta")}}, r"'a\.b'.*meta device")


def test_fake_tensors(tmp_path: Path) -> None:
    """A fake tensor holds no data."""
    with torch._subclasses.FakeTensorMode():
        model = torch.nn.Linear(2, 2)
    refused(tmp_path, model, "FakeTensor, which holds no data")


@pytest.fixture
def process_group() -> Any:
    """A process group of one."""
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("weights_only", [False, True])
def test_sharded_modules(tmp_path: Path, process_group: Any, weights_only: bool) -> None:
    """FSDP modules and DTensors are shards: the error says how to gather them."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    model = torch.nn.Linear(2, 2)
    model.weight = torch.nn.Parameter(distribute_tensor(model.weight, mesh, [Shard(0)]))
    refused(tmp_path, model, r"'weight'.*shard.*get_model_state_dict", weights_only=weights_only)
    sharded = fully_shard(torch.nn.Linear(2, 2), mesh=mesh)
    refused(tmp_path / "b", sharded, "sharded.*get_model_state_dict", weights_only=weights_only)
    refused(tmp_path / "c", {"w": distribute_tensor(torch.ones(2, 2), mesh, [Shard(0)])}, "'w'.*shard")


def test_script_modules(tmp_path: Path) -> None:
    """TorchScript has no pickled form, alone or inside; its weights have."""
    scripted = torch.jit.script(torch.nn.Linear(2, 2))
    refused(tmp_path, scripted, r"TorchScript.*torch\.jit\.save")
    refused(tmp_path / "b", torch.nn.Sequential(scripted), r"model\.0 is a TorchScript")
    target = torch.nn.Linear(2, 2)
    restore(store(tmp_path / "c", model=scripted, weights_only=True), into=target)
    assert torch.equal(target.weight, scripted.weight)


def test_an_attribute_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    """The path of the attribute, its class and the cause stand in the error; weights_only=True is a way out."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Holder())
    model[1].guard = {"lock": threading.Lock()}
    refused(tmp_path, model, r"model\.1\.guard.*cannot pickle '_thread\.lock'.*weights_only=True")
    store(tmp_path / "b", model=model, weights_only=True)


def test_a_hook_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    """Hooks are attributes as others."""
    model = torch.nn.Linear(2, 2)
    lock = threading.Lock()
    model.register_forward_hook(lambda module, args, output: lock and None)
    refused(tmp_path, model, r"model\._forward_hooks.*lock")


def test_a_dict_that_cannot_be_pickled(tmp_path: Path) -> None:
    """Objects that are no modules are named by their class and the cause."""
    refused(tmp_path, {"a": torch.ones(1), "lock": threading.Lock()}, "dict cannot be pickled.*lock")
