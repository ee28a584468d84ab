"""TorchScript: what is scripted or traced comes back without its Python code."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from modelstore import ModelStore  # noqa: E402
from modelstore.contracts.manager import Case, write_folder  # noqa: E402
from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError  # noqa: E402
from modelstore.folder import ModelFolder  # noqa: E402
from modelstore.managers.base import LoadRequest, Saved  # noqa: E402
from modelstore.managers.pickling import PicklePolicy  # noqa: E402
from modelstore.managers.torchscript import MODEL, TorchScriptManager  # noqa: E402
from tests.managers.contract import BuiltinContract  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


class Net(torch.nn.Module):
    """Branches on data, which only a script keeps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(4, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.drop = torch.nn.Dropout(0.5)
        self.names: dict[str, int] = {"a": 1}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One layer, and another sign for small inputs."""
        y = self.drop(self.norm(self.layer(x)))
        return y if bool(x.sum() > 0) else -y

    @torch.jit.export
    def names_of(self, key: str) -> int:
        """A second method."""
        return self.names[key]


class Calls(torch.nn.Module):
    """Calls Python, which TorchScript cannot save."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Python all through."""
        return self.outside(x)

    @torch.jit.ignore
    def outside(self, x: torch.Tensor) -> torch.Tensor:
        """Not scripted."""
        return x


# TorchScript reads the annotations of what it ignores at once, and texts are none to it.
Calls.outside.__annotations__ = {"x": torch.Tensor, "return": torch.Tensor}


def twice(x: torch.Tensor) -> torch.Tensor:
    """A function."""
    return x * 2


def observe(model: Any) -> Any:
    """Outputs, tensors, modes and what else can be called."""
    torch.manual_seed(3)
    seen: dict[str, Any] = {"output": model(ROWS).detach().numpy(), "negative": model(-ROWS).detach().numpy()}
    if isinstance(model, torch.nn.Module):
        seen["state"] = {name: value.numpy() for name, value in model.state_dict().items()}
        seen["training"] = {name: getattr(each, "training", None) for name, each in model.named_modules()}
        seen["gradients"] = [parameter.requires_grad for parameter in model.parameters()]
        if hasattr(model, "names_of"):
            seen["method"] = model.names_of("a")
    return seen


def observe_function(model: Any) -> Any:
    """What a function gives."""
    return model(ROWS).numpy()


def _scripted(eval_mode: bool = True) -> Any:
    return {"model": torch.jit.script(Net().train(not eval_mode))}


def _sequential() -> Any:
    return {"model": torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()))}


def _traced() -> Any:
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh()).eval()
    return {"model": torch.jit.trace(net, ROWS)}


def _frozen() -> Any:
    return {"model": torch.jit.freeze(torch.jit.script(Net().eval()))}


class TestTorchScript(BuiltinContract):
    """Modules, in all the ways of making one."""

    manager = TorchScriptManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        builds = {
            "scripted": _scripted,
            "scripted, in training": functools.partial(_scripted, eval_mode=False),
            "sequential": _sequential,
            "traced": _traced,
            "frozen": _frozen,
        }
        cases = {name: Case(build, observe) for name, build in builds.items()}
        return {**cases, "part of a module": Case(lambda: {"model": torch.jit.script(Net()).layer}, observe)}

    def _seen(self, result: Any, keywords: tuple[str, ...], probe: Any) -> dict[str, Any]:
        # What was traced is of a class of its own until it has been saved.
        assert isinstance(result, torch.jit.ScriptModule)
        return {**super()._seen(result, keywords, probe), "class": {}}


class TestFunctions(BuiltinContract):
    """A function comes back as a module that is called like it."""

    manager = TorchScriptManager()

    def cases(self) -> Mapping[str, Case]:
        """Scripted and traced."""
        return {
            "scripted": Case(lambda: {"model": torch.jit.script(twice)}, observe_function),
            "traced": Case(lambda: {"model": torch.jit.trace(twice, ROWS)}, observe_function),
        }

    def _seen(self, result: Any, keywords: tuple[str, ...], probe: Any) -> dict[str, Any]:
        return {**super()._seen(result, keywords, probe), "class": {}, "parameters": {}}


def _store(model: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = TorchScriptManager().save({"model": model}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _request(folder: Path, saved: Saved, **how: Any) -> LoadRequest:
    return LoadRequest(folder, saved.state, ("model",), PicklePolicy(True), **how)


def test_the_file_is_what_torch_itself_reads(tmp_path: Path) -> None:
    """`model.pt` opens with torch alone."""
    model = _scripted()["model"]
    _store(model, tmp_path)
    assert torch.equal(torch.jit.load(tmp_path / MODEL)(ROWS), model(ROWS))


def test_a_device_can_be_asked_for(tmp_path: Path) -> None:
    """`device=` is torch's map_location, and one that is not there is an error."""
    saved = _store(_scripted()["model"], tmp_path)
    assert saved.state["devices"] == ["cpu"]
    loaded = TorchScriptManager().load(_request(tmp_path, saved, device="cpu"))
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}
    with pytest.raises(InvalidArgumentError, match="there are cpu"):
        TorchScriptManager().load(_request(tmp_path, saved, device="cuda:99"))


def test_what_was_on_an_absent_device_is_mapped_to_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the record names a device that is not here, torch is told to load on the CPU."""
    saved = _store(_scripted()["model"], tmp_path)
    saved.state["devices"] = ["cpu", "cuda:99"]
    asked: list[Any] = []
    load = torch.jit.load

    def watched(path: Any, map_location: Any = None) -> Any:
        asked.append(map_location)
        return load(path, map_location=map_location)

    monkeypatch.setattr(torch.jit, "load", watched)
    TorchScriptManager().load(_request(tmp_path, saved))
    assert asked == ["cpu"]


@pytest.mark.parametrize("devices", [3, "cpu", [1], {"cpu": 1}])
def test_a_record_that_names_no_devices_is_refused(devices: Any, tmp_path: Path) -> None:
    """What the record says of devices is checked before it is used."""
    saved = _store(_scripted()["model"], tmp_path)
    with pytest.raises(IntegrityError, match="no list of devices"):
        TorchScriptManager().load(_request(tmp_path, Saved("torchscript", {"devices": devices})))
    assert saved.pickled == [MODEL]


def test_training_goes_on_after_a_load(tmp_path: Path) -> None:
    """A loaded module takes the same steps as the original."""
    model = _scripted(eval_mode=False)["model"]
    loaded = TorchScriptManager().load(_request(tmp_path, _store(model, tmp_path)))
    weights = []
    for each in (model, loaded):
        torch.manual_seed(2)
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        each(ROWS).square().sum().backward()
        optimizer.step()
        weights.append(each.layer.weight)
    assert torch.equal(*weights)


def test_python_in_it_is_refused(tmp_path: Path) -> None:
    """A module that calls Python cannot be saved, and the error says so."""
    with pytest.raises(UnsupportedObjectError, match=r"torch\.jit\.save cannot save"):
        _store(torch.jit.script(Calls()), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_file_is_an_integrity_error(damage: str, tmp_path: Path) -> None:
    """A file that is cut or gone is told from a policy's refusal."""
    saved = _store(_scripted()["model"], tmp_path)
    if damage == "cut":
        (tmp_path / MODEL).write_bytes((tmp_path / MODEL).read_bytes()[:700])
    else:
        (tmp_path / MODEL).unlink()
    with pytest.raises(IntegrityError, match="cannot load it"):
        TorchScriptManager().load(_request(tmp_path, saved))


def test_up_and_down(store: ModelStore) -> None:
    """Through the facade."""
    model = _scripted()["model"]
    info = store.upload("nets", model=model)
    assert info["model"]["model_type"]["library"] == "torchscript"
    assert torch.equal(store.load("nets")(ROWS), model(ROWS))
