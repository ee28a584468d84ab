"""Exported programs: they come back with their graph, shapes and weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch.export")

from modelstore import ModelStore  # noqa: E402
from modelstore.contracts.manager import Case, write_folder  # noqa: E402
from modelstore.exceptions import IntegrityError, InvalidArgumentError  # noqa: E402
from modelstore.folder import ModelFolder  # noqa: E402
from modelstore.managers.base import LoadRequest, Saved  # noqa: E402
from modelstore.managers.pickling import PicklePolicy  # noqa: E402
from modelstore.managers.torch_export import MODEL, TorchExportManager  # noqa: E402
from tests.managers.contract import BuiltinContract  # noqa: E402

ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


class Net(torch.nn.Module):
    """Layers, a buffer, a constant, and a weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm = torch.nn.BatchNorm1d(4)
        self.offset = torch.arange(4.0)

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> dict[str, torch.Tensor]:
        """A nested result."""
        y = self.norm(self.second(self.first(x)) + self.offset)
        return {"y": y * scale, "sum": y.sum(1)}


def observe(program: Any) -> Any:
    """What it computes, what it is made of, and for which shapes."""
    module = program.module()
    return {
        "output": {key: value.detach().numpy() for key, value in module(ROWS).items()},
        "state": {key: value.detach().numpy() for key, value in sorted(program.state_dict.items())},
        "constants": sorted(program.constants),
        "ranges": sorted(map(str, program.range_constraints.values())),
        "inputs": list(program.graph_signature.user_inputs),
        "targets": [target for node in program.graph.nodes if (target := str(node.target)).startswith("aten")],
        "example": [value.numpy() for value in program.example_inputs[0]],
    }


def observe_dynamic(program: Any) -> Any:
    """It takes other numbers of rows."""
    return {**observe(program), "more": program.module()(torch.cat([ROWS, ROWS]))["y"].detach().numpy()}


def _exported(**how: Any) -> Any:
    return {"model": torch.export.export(Net().eval(), (ROWS,), **how)}


def _dynamic() -> Any:
    return _exported(dynamic_shapes={"x": {0: torch.export.Dim("rows", min=2, max=64)}})


def _half() -> Any:
    return {"model": torch.export.export(Net().eval().bfloat16().float(), (ROWS,))}


def _core() -> Any:
    return {"model": _exported()["model"].run_decompositions()}


@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestTorchExport(BuiltinContract):
    """Fixed and dynamic shapes, in training, decomposed."""

    manager = TorchExportManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            "fixed": Case(_exported, observe),
            "strict": Case(lambda: _exported(strict=True), observe),
            "dynamic": Case(_dynamic, observe_dynamic),
            "in training": Case(lambda: {"model": torch.export.export(Net(), (ROWS,))}, observe),
            "rounded": Case(_half, observe),
            "core operators": Case(_core, observe),
        }


def _store(program: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = TorchExportManager().save({"model": program}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _load(folder: Path, state: Mapping[str, Any], **how: Any) -> Any:
    return TorchExportManager().load(LoadRequest(folder, state, ("model",), PicklePolicy(True), **how))


def test_the_file_is_what_torch_itself_reads(tmp_path: Path) -> None:
    """`model.pt2` opens with torch alone."""
    program = _exported()["model"]
    _store(program, tmp_path)
    by_hand = torch.export.load(tmp_path / MODEL)
    assert torch.equal(by_hand.module()(ROWS)["y"], program.module()(ROWS)["y"])


def test_a_device_can_be_asked_for(tmp_path: Path) -> None:
    """`device=` moves weights and graph; one that is not there is an error."""
    saved = _store(_exported()["model"], tmp_path)
    assert torch.equal(
        _load(tmp_path, saved.state, device="cpu").module()(ROWS)["y"], _load(tmp_path, saved.state).module()(ROWS)["y"]
    )
    moved = _load(tmp_path, saved.state, device="meta")
    assert {value.device.type for value in moved.state_dict.values()} == {"meta"}
    with pytest.raises(InvalidArgumentError, match="there are cpu"):
        _load(tmp_path, saved.state, device="cuda:99")


def test_a_program_of_an_absent_device_is_refused_by_name(tmp_path: Path) -> None:
    """A graph holds its device, so the error says which one it needs."""
    saved = _store(_exported()["model"], tmp_path)
    with pytest.raises(InvalidArgumentError, match="exported on cuda:99"):
        _load(tmp_path, {**saved.state, "devices": ["cpu", "cuda:99"]})


@pytest.mark.parametrize("damage", ["cut", "missing", "other"])
def test_a_damaged_file_is_an_integrity_error(damage: str, tmp_path: Path) -> None:
    """A file that is cut, gone, or no archive at all."""
    saved = _store(_exported()["model"], tmp_path)
    file = tmp_path / MODEL
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:900] if damage == "cut" else b"no archive")
    with pytest.raises(IntegrityError, match="cannot load it"):
        _load(tmp_path, saved.state)


def test_up_and_down(store: ModelStore) -> None:
    """Through the facade, with what the record tells of it."""
    program = _dynamic()["model"]
    info = store.upload("programs", model=program)
    assert info["model"]["model_type"] == {"library": "torch_export", "type": "ExportedProgram", "models": None}
    assert list(info["model"]["parameters"]["ranges"].values()) == ["VR[2, 64]"]
    assert torch.equal(store.load("programs").module()(ROWS)["y"], program.module()(ROWS)["y"])
