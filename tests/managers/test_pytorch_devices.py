"""Where PyTorch's tensors are after a load: on the device that was asked for, or where they were if that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from modelstore import ModelStore  # noqa: E402
from modelstore.exceptions import InvalidArgumentError  # noqa: E402
from modelstore.managers._torch.devices import checked_device, devices  # noqa: E402
from modelstore.managers._torch.persistent import PersistentIds  # noqa: E402
from tests.managers.torch_helpers import restore, store  # noqa: E402


def network() -> Any:
    """A module with parameters, buffers and a view."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    model.register_buffer("row", model[0].weight.data[1])
    return model


def trained() -> tuple[Any, Any]:
    """A module and its optimizer after a step."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(3, 4)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def places(model: Any) -> set[str]:
    """The devices of all its tensors."""
    return {str(tensor.device) for tensor in (*model.parameters(), *model.buffers())}


@pytest.fixture
def saved_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads say of each storage that it lay on `cuda:99`, as they would of a GPU that is not here."""
    whole = PersistentIds._storage

    def storage(self: Any, found: Any, dtype: str) -> Any:
        return (*whole(self, found, dtype)[:-1], "cuda:99")

    monkeypatch.setattr(PersistentIds, "_storage", storage)


def test_all_tensors_go_where_they_are_asked_for(tmp_path: Path) -> None:
    """With `device="meta"` a module, a state dict and a tensor come back with their shapes and without memory."""
    model = network()
    loaded = restore(store(tmp_path / "module", model=model), device="meta")
    assert places(loaded) == {"meta"}
    assert loaded[0].weight.shape == (4, 4)
    assert loaded.row.untyped_storage()._cdata == loaded[0].weight.untyped_storage()._cdata
    weights = restore(store(tmp_path / "weights", model=model.state_dict()), allow_pickle=False, device="meta")
    assert {str(value.device) for value in weights.values()} == {"meta"}
    assert restore(store(tmp_path / "tensor", model=torch.ones(3)), device="meta").is_meta


def test_the_cpu_is_a_device_too(tmp_path: Path) -> None:
    """`device="cpu"` gives equal weights, still mapped from the file."""
    model = network()
    loaded = restore(store(tmp_path / "m", model=model), device="cpu")
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())


@pytest.mark.usefixtures("saved_on_a_gpu")
def test_what_was_saved_on_a_gpu_loads_without_one(tmp_path: Path) -> None:
    """A module and its optimizer whose storages were on a device that is not here load on the CPU, and train on."""
    model, optimizer = trained()
    path = store(tmp_path / "m", model=model, optimizer=optimizer)
    assert b"cuda:99" in (path / "files" / "skeleton.pkl").read_bytes()
    loaded, again = restore(path, with_optimizer=True)
    assert places(loaded) == {"cpu"}
    again.step()
    assert places(restore(path, device="meta")) == {"meta"}


def test_the_optimizer_goes_along(tmp_path: Path) -> None:
    """An optimizer's state is on the device of its model's parameters, which it still trains."""
    model, optimizer = trained()
    path = store(tmp_path / "m", model=model, optimizer=optimizer)
    loaded, again = restore(path, with_optimizer=True, device="meta")
    assert again.param_groups[0]["params"][0] is loaded[0].weight
    assert again.state[loaded[0].weight]["exp_avg"].is_meta
    loaded, again = restore(path, with_optimizer=True, device="cpu")
    assert again.state[loaded[0].weight]["step"].item() == 1


def test_steps_are_counted_on_the_cpu(tmp_path: Path) -> None:
    """Step counts stay on the CPU unless the optimizer is one that keeps them beside the parameters."""
    from modelstore.managers._torch.optimizer import _place_steps

    _, optimizer = trained()
    moved: list[str] = []

    class Far(torch.Tensor):
        """A step count that tells when it is moved."""

        def to(self, *where: Any, **how: Any) -> Any:
            """Note where to."""
            moved.append(str(where[0]))
            return self

    for state in optimizer.state.values():
        state["step"] = torch.ones(()).as_subclass(Far)
    _place_steps(optimizer)
    assert moved == ["cpu"] * 4
    optimizer.param_groups[0]["capturable"] = True
    _place_steps(optimizer)
    assert moved == ["cpu"] * 4


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "", "xpu:50", "meta:x"])
def test_a_device_that_is_not_here_is_an_error_that_names_those_that_are(device: str, store: ModelStore) -> None:
    """Asked for by name, a device must be there: nothing falls back in silence."""
    store.upload("nets", model=network().state_dict())
    with pytest.raises(InvalidArgumentError, match="there are cpu, meta"):
        store.load("nets", device=device)


def test_into_is_filled_where_it_lies(store: ModelStore) -> None:
    """A module that the caller built has its devices already, so that `device=` beside it is refused."""
    store.upload("nets", model=network())
    assert places(store.load("nets", device="meta")) == {"meta"}
    with pytest.raises(InvalidArgumentError, match="into="):
        store.load("nets", into=network(), device="cpu")


def test_names_of_devices_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device may be given as torch's object, and GPUs are named one by one in the error."""
    assert checked_device(torch.device("cpu")) == "cpu"
    assert checked_device(None) is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices()[:4] == ["cpu", "meta", "cuda:0", "cuda:1"]
