"""Lightning: a module comes back as it was, and training is resumed where its trainer stopped."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
L = pytest.importorskip("lightning.pytorch")
old = pytest.importorskip("pytorch_lightning")

from lightning.fabric import Fabric  # noqa: E402

from modelstore import ModelStore  # noqa: E402
from modelstore.contracts.manager import Case  # noqa: E402
from modelstore.exceptions import (  # noqa: E402
    IntegrityError,
    InvalidArgumentError,
    PickleNotAllowedError,
    UnsupportedObjectError,
)
from modelstore.folder import ModelFolder  # noqa: E402
from modelstore.managers.base import LoadRequest  # noqa: E402
from modelstore.managers.detection import all_managers  # noqa: E402
from modelstore.managers.pickling import PicklePolicy  # noqa: E402
from modelstore.managers.pytorch_lightning import CHECKPOINT, PyTorchLightningManager  # noqa: E402
from tests.managers.contract import BuiltinContract  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ROWS = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


def _define(package: Any) -> Any:
    class Module(package.LightningModule):  # type: ignore[misc, name-defined]
        """A module as a user writes one: hyperparameters, an optimizer, a schedule, something logged."""

        def __init__(self, units: int = 4, rate: float = 0.1, drop: float = 0.2) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.body = torch.nn.Sequential(
                torch.nn.Linear(4, units),
                torch.nn.BatchNorm1d(units),
                torch.nn.Dropout(drop),
                torch.nn.Linear(units, 1),
            )
            self.register_buffer("scale", torch.tensor(2.0), persistent=False)
            self.example_input_array = ROWS[:2]
            self.seen = 0

        def forward(self, x: Any) -> Any:
            """Scaled."""
            return self.body(x) * self.scale

        def training_step(self, batch: Any, index: int) -> Any:
            """The distance to the rows' sums."""
            loss = (self(batch).squeeze(1) - batch.sum(1)).square().mean()
            self.log("loss", loss)
            self.seen += 1
            return loss

        def configure_optimizers(self) -> Any:
            """With a schedule."""
            optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.rate)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

        def train_dataloader(self) -> Any:
            """In order."""
            return torch.utils.data.DataLoader(ROWS, batch_size=8)

    return Module


NewModule, OldModule = _define(L), _define(old)
# Both are found by import under these names.
NewModule.__qualname__ = NewModule.__name__ = "NewModule"
OldModule.__qualname__ = OldModule.__name__ = "OldModule"
NewModule.__module__ = OldModule.__module__ = __name__


class Manual(NewModule):
    """Two optimizers, stepped by hand; a part that is a Lightning module itself."""

    def __init__(self) -> None:
        super().__init__(units=3)
        self.automatic_optimization = False
        self.inner = NewModule(units=2)

    def training_step(self, batch: Any, index: int) -> None:
        """Both."""
        for optimizer in self.optimizers():
            loss = (self(batch) + self.inner(batch)).square().mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self) -> Any:
        """One each."""
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.body, self.inner)]


def trainer_of(package: Any, epochs: int = 2, **further: Any) -> Any:
    """A trainer that writes nothing."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return package.Trainer(max_epochs=epochs, accelerator="cpu", enable_model_summary=False, **quiet, **further)


def observe(module: Any) -> Any:
    """Outputs, hyperparameters, tensors, modes, and that no trainer came along."""
    torch.manual_seed(4)
    return {
        "tensors": {name: value.numpy() for name, value in module.state_dict().items()},
        "training": {name: part.training for name, part in module.named_modules()},
        "hyperparameters": dict(module.hparams),
        "initial": dict(module.hparams_initial),
        "seen": module.seen,
        "device": str(module.device),
        "dtype": str(module.dtype),
        "scale": module.scale.item(),
        "example": module.example_input_array.numpy(),
        "output": module(ROWS.to(module.dtype)).detach().numpy(),
    }


def build(package: Any = L, cls: Any = None, with_trainer: bool = False, fit: bool = True, **settings: Any) -> Any:
    """A module, and the trainer that has trained it."""
    torch.manual_seed(1)
    module = (cls or (NewModule if package is L else OldModule))(**settings)
    if not fit:
        return {"model": module}
    trainer = trainer_of(package)
    trainer.fit(module)
    return {"model": module, "trainer": trainer} if with_trainer else {"model": module}


def _bare(cls: Any) -> Any:
    module = cls()
    module.layer = torch.nn.Linear(4, 2)
    return {"model": module}


def observe_bare(module: Any) -> Any:
    """What a module has that is of Lightning's own class."""
    return module.layer(ROWS).detach().numpy(), dict(module.hparams), module.automatic_optimization, module.training


def _evaluated() -> Any:
    module = build()["model"].eval()
    module.freeze()
    return {"model": module}


@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestLightning(BuiltinContract):
    """Under both names, trained and not, with and without the trainer."""

    manager = PyTorchLightningManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        builds = {
            "lightning": functools.partial(build, units=6),
            "lightning with trainer": functools.partial(build, with_trainer=True),
            "pytorch_lightning": functools.partial(build, old, rate=0.01),
            "pytorch_lightning with trainer": functools.partial(build, old, with_trainer=True),
            "not trained": functools.partial(build, fit=False),
            "frozen": _evaluated,
            "by hand, nested": functools.partial(build, cls=Manual, with_trainer=True),
            "double": lambda: {"model": build(fit=False)["model"].double()},
        }
        bare = {"bare, of lightning": L.LightningModule, "bare, of pytorch_lightning": old.LightningModule}
        return {
            **{name: Case(each, observe) for name, each in builds.items()},
            **{name: Case(functools.partial(_bare, cls), observe_bare) for name, cls in bare.items()},
        }

    def result(self, objects: Mapping[str, Any]) -> Any:
        """The module alone."""
        return objects["model"]

    def objects(self, result: Any, keywords: tuple[str, ...]) -> Mapping[str, Any]:
        """The module alone: a trainer is not built again."""
        return {"model": result}


def test_training_is_resumed(store: ModelStore) -> None:
    """With with_optimizer=True a load gives the checkpoint too, and training goes on as it would have."""
    built = build(with_trainer=True)
    module, trainer = built["model"], built["trainer"]
    info = store.upload("nets", **built)
    assert info["model"]["model_type"]["library"] == "pytorch_lightning"
    assert info["model"]["parameters"]["hyperparameters"] == {"units": 4, "rate": 0.1, "drop": 0.2}
    assert info["model"]["parameters"]["trainer"] == {"epoch": 2, "global_step": 8}
    assert type(store.load("nets")) is NewModule
    loaded, checkpoint = store.load("nets", with_optimizer=True)
    trainers = [trainer_of(L, epochs=4) for _ in range(2)]
    torch.manual_seed(9)
    trainers[0].fit(loaded, ckpt_path=checkpoint)
    assert trainers[0].global_step == 16
    assert trainers[0].optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**4)
    original = checkpoint.parent / "original.ckpt"
    trainer.save_checkpoint(original)
    torch.manual_seed(9)
    trainers[1].fit(module, ckpt_path=original)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_checkpoint_is_what_lightning_itself_reads(store: ModelStore, tmp_path: Path) -> None:
    """`load_from_checkpoint` takes the file of a download, without unpickling more than weights."""
    built = build(with_trainer=True)
    store.upload("nets", **built)
    there = Path(store.download(tmp_path / "there", "nets"))
    by_hand = NewModule.load_from_checkpoint(there / CHECKPOINT, weights_only=True)
    expected = built["model"].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in by_hand.state_dict().items())


def test_into_needs_no_pickle(store: ModelStore) -> None:
    """A module that the caller built is filled where pickles are refused; resuming takes one."""
    built = build(with_trainer=True)
    store.upload("nets", **built)
    with pytest.raises(PickleNotAllowedError):
        store.load("nets", allow_pickle=False)
    mine = NewModule()
    assert store.load("nets", into=mine, allow_pickle=False) is mine
    assert torch.equal(mine.eval()(ROWS), built["model"].eval()(ROWS))
    with pytest.raises(PickleNotAllowedError, match="checkpoint"):
        store.load("nets", into=NewModule(), with_optimizer=True, allow_pickle=False)
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        store.load("nets", into=NewModule(units=9))


def test_weights_alone_hold_no_pickle(store: ModelStore) -> None:
    """`weights_only=True` stores a module as PyTorch's own are."""
    info = store.upload("nets", weights_only=True, **build())
    assert info["model"]["managers"][0]["pickled"] == []
    assert isinstance(store.load("nets", into=NewModule(), allow_pickle=False), NewModule)


def test_a_module_forgets_its_trainer_and_keeps_it_here(store: ModelStore) -> None:
    """The trainer, its data and its callbacks stay out of the pickle, and the module in memory keeps them."""
    built = build(with_trainer=True)
    info = store.upload("nets", model=built["model"])
    assert built["model"].trainer is built["trainer"]
    assert info["model"]["managers"][0]["pickled"] == ["skeleton.pkl"]
    assert store.load("nets")._trainer is None


def test_a_module_remembers_where_it_is(store: ModelStore) -> None:
    """`module.device` follows `device=`, and a module of a GPU that is not here says cpu."""
    module = build(fit=False)["model"]
    store.upload("nets", model=module)
    loaded = store.load("nets", device="meta")
    assert loaded.device.type == "meta"
    assert loaded.body[0].weight.is_meta
    module._device = torch.device("cuda:99")
    store.upload("nets", model=module)
    assert store.load("nets").device.type == "cpu"


def test_fabric_is_taken_off(store: ModelStore) -> None:
    """What Fabric has set up is stored as what it wraps, and a Lightning module forgets its Fabric."""
    fabric = Fabric(accelerator="cpu", devices=1)
    plain = torch.nn.Linear(4, 2)
    wrapped, optimizer = fabric.setup(plain, torch.optim.SGD(plain.parameters(), lr=0.1))
    info = store.upload("plain", model=wrapped, optimizer=optimizer)
    assert info["model"]["model_type"] == {"library": "pytorch", "type": "Linear", "models": None}
    loaded, again = store.load("plain", with_optimizer=True)
    assert torch.equal(loaded(ROWS), plain(ROWS))
    assert type(again) is torch.optim.SGD
    assert again.param_groups[0]["params"][0] is loaded.weight
    module = build(fit=False)["model"]
    wrapped = fabric.setup(module, module.configure_optimizers()[0][0])[0]
    assert module._fabric is fabric
    info = store.upload("module", model=wrapped)
    assert info["model"]["managers"][0]["wrappers"] == {"model": ["_FabricModule"]}
    assert store.load("module")._fabric is None
    assert module._fabric is fabric


class Data(L.LightningDataModule):  # type: ignore[misc]
    """Data, no model."""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (lambda: {"model": Data()}, "LightningDataModule, which is data"),
        (lambda: {"model": trainer_of(L)}, "is to be a LightningModule"),
        (lambda: {"trainer": trainer_of(L)}, "pass that as model="),
        (lambda: {"model": NewModule(), "trainer": trainer_of(L)}, "has trained nothing yet"),
        (lambda: {**build(with_trainer=True), "model": NewModule()}, "another module than model="),
    ],
)
def test_what_does_not_belong_together_is_refused(given: Any, text: str, store: ModelStore) -> None:
    """Data, a trainer in the module's place, a trainer alone, an idle one, another module's."""
    with pytest.raises(UnsupportedObjectError, match=text):
        store.upload("nets", **given())


def test_asking_for_a_checkpoint_that_was_never_stored(store: ModelStore, tmp_path: Path) -> None:
    """No trainer was uploaded; or its file is gone."""
    store.upload("nets", **build())
    with pytest.raises(InvalidArgumentError, match="without its trainer"):
        store.load("nets", with_optimizer=True)
    with ModelFolder() as files:
        saved = PyTorchLightningManager().save(build(), files, {})
        for file in files.contents().files:
            (tmp_path / file.name).write_bytes(b"".join(file.source.read(0, file.size)))
    request = LoadRequest(tmp_path, saved.state, ("model", "trainer"), PicklePolicy(True), with_optimizer=True)
    with pytest.raises(IntegrityError, match=CHECKPOINT):
        PyTorchLightningManager().load(request)


def test_metrics_are_modules_of_pytorch() -> None:
    """torchmetrics belong to PyTorch's manager, Lightning's modules to this one, whichever package they are of."""
    torchmetrics = pytest.importorskip("torchmetrics")
    managers = all_managers()
    owners = [managers.find(each) for each in (torchmetrics.MeanMetric(), NewModule(), OldModule())]
    assert [owner.name for owner in owners if owner] == ["pytorch", "pytorch_lightning", "pytorch_lightning"]


SCRIPT = """
    import os, sys
    import torch, lightning.pytorch as L
    from modelstore import ModelStore

    store = ModelStore.from_file_system(sys.argv[1])
    notebook = os.fork()  # after the imports, which take long
    if not notebook:
        class Net(L.LightningModule):
            def __init__(self, units):
                super().__init__()
                self.save_hyperparameters()
                self.layer = torch.nn.Linear(4, units)
            def forward(self, x):
                return self.layer(x)

        net = Net(2).eval()
        store.upload("notebook", model=net)
        print(net(torch.ones(1, 4)).tolist(), net.hparams.units, flush=True)
        os._exit(0)
    assert os.waitpid(notebook, 0)[1] == 0
    assert "Net" not in globals()
    net = store.load("notebook")
    print(net(torch.ones(1, 4)).tolist(), net.hparams.units)
"""


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A module class of `__main__` goes along by value."""
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "notebook.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(tmp_path / "notebook.py"), str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert first == second
