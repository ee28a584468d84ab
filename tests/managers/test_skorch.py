"""skorch: a net comes back with its weights, callbacks, history and settings, and trains on."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
skorch = pytest.importorskip("skorch")

import numpy as np  # noqa: E402
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler  # noqa: E402
from skorch.dataset import ValidSplit  # noqa: E402

from modelstore import ModelStore  # noqa: E402
from modelstore.contracts.manager import Case, write_folder  # noqa: E402
from modelstore.exceptions import (  # noqa: E402
    IntegrityError,
    InvalidArgumentError,
    PickleNotAllowedError,
    UnsupportedObjectError,
)
from modelstore.folder import ModelFolder  # noqa: E402
from modelstore.managers.base import LoadRequest, Saved  # noqa: E402
from modelstore.managers.pickling import PicklePolicy  # noqa: E402
from modelstore.managers.skorch import HISTORY, SkorchManager  # noqa: E402
from tests.managers.contract import BuiltinContract  # noqa: E402

_RANDOM = np.random.RandomState(0)
X = _RANDOM.normal(size=(60, 4)).astype("float32")
LABELS = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.5, 0.5])]
CLASSES = np.digitize(X[:, 0], [-0.5, 0.5])
TARGET = (X[:, :1] * 2).astype("float32")


class Net(torch.nn.Module):
    """A module of the user's."""

    def __init__(self, units: int = 5, outputs: int = 3, softmax: bool = True, drop: float = 0.0) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, units)
        self.norm = torch.nn.BatchNorm1d(units)
        self.drop = torch.nn.Dropout(drop)
        self.last = torch.nn.Linear(units, outputs)
        self.softmax = softmax

    def forward(self, X: Any) -> Any:
        """Logits or probabilities."""
        y = self.last(self.drop(torch.relu(self.norm(self.first(X)))))
        return torch.softmax(y, dim=-1) if self.softmax else y


class Own(skorch.NeuralNetClassifier):
    """A net of the user's, with a second module."""

    def initialize_module(self) -> Any:
        """Make the second module too."""
        super().initialize_module()
        self.second_ = torch.nn.Linear(3, 3)
        return self

    def infer(self, x: Any, **further: Any) -> Any:
        """Both modules."""
        return torch.softmax(self.second_(super().infer(x, **further)), dim=-1)


def observe(net: Any) -> Any:
    """Predictions, settings, history, callbacks, labels, modes, and what one more epoch makes of it."""
    seen: dict[str, Any] = {
        "settings": {name: repr(type(value)) for name, value in sorted(vars(net).items())},
        "plain": {name: value for name, value in vars(net).items() if type(value) in (int, float, str, bool)},
        "initialized": net.initialized_,
    }
    if not net.initialized_:
        return seen
    seen["history"] = json.loads(json.dumps(list(net.history_), default=float))
    seen["callbacks"] = [[name, type(callback).__name__] for name, callback in net.callbacks_]
    seen["best"] = [getattr(callback, "best_score_", None) for _, callback in net.callbacks_]
    seen["training"] = net.module_.training
    seen["output"] = net.forward(X).numpy()
    seen["predict"] = net.predict(X)
    if hasattr(net, "predict_proba"):
        seen["probabilities"] = net.predict_proba(X)
    if isinstance(net, skorch.NeuralNetClassifier):
        seen["labels"] = net.classes_
    if len(net.history_):
        target = TARGET if isinstance(net, skorch.NeuralNetRegressor) else CLASSES
        if isinstance(net, skorch.NeuralNetBinaryClassifier):
            target = (CLASSES > 0).astype("float32")
        torch.manual_seed(5)
        net.partial_fit(X, target)
        seen["further"] = net.forward(X).numpy()
        seen["rates"] = [group["lr"] for group in net.optimizer_.param_groups]
        seen["loss"] = [float(value) for value in net.history_[:, "train_loss"]]
        trained = {id(parameter) for group in net.optimizer_.param_groups for parameter in group["params"]}
        assert trained >= {id(parameter) for parameter in net.module_.parameters()}
    return seen


def build(cls: Any, target: Any = None, fit: bool = True, module: Any = Net, **settings: Any) -> Any:
    """A net, trained for two epochs."""
    torch.manual_seed(1)
    net = cls(module, **{"max_epochs": 2, "verbose": 0, "batch_size": 16, **settings})
    if fit:
        net.fit(X, CLASSES if target is None else target)
    return {"model": net}


def _regressor(**settings: Any) -> Any:
    return build(skorch.NeuralNetRegressor, TARGET, module__outputs=1, module__softmax=False, **settings)


def _binary() -> Any:
    target = (CLASSES > 0).astype("float32")
    net = functools.partial(build, skorch.NeuralNetBinaryClassifier, target)
    return net(module=torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Flatten(0)))


def _plain() -> Any:
    return build(skorch.NeuralNet, CLASSES, criterion=torch.nn.CrossEntropyLoss, module__softmax=False)


def _initialized() -> Any:
    net = build(skorch.NeuralNetRegressor, fit=False, module__outputs=1, module__softmax=False)["model"]
    return {"model": net.initialize()}


def _watched() -> Any:
    callbacks = [
        EarlyStopping(patience=3, load_best=True),
        ("rate", LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)),
        EpochScoring("f1_macro", lower_is_better=False, name="f1"),
        GradientNormClipping(1.0),
    ]
    optimizer = {"optimizer": torch.optim.Adam, "optimizer__amsgrad": True, "lr": 0.05}
    return build(skorch.NeuralNetClassifier, callbacks=callbacks, module__units=7, **optimizer)


@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestSkorch(BuiltinContract):
    """Every public class, initialized or not, and what belongs to a net."""

    manager = SkorchManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        classifier = functools.partial(build, skorch.NeuralNetClassifier)
        builds = {
            "classifier": classifier,
            "regressor": _regressor,
            "binary classifier": _binary,
            "plain net": _plain,
            "callbacks": _watched,
            "given classes": functools.partial(classifier, classes=[0, 1, 2]),
            "net of the user's": functools.partial(build, Own),
            "momentum": functools.partial(classifier, optimizer__momentum=0.9, optimizer__nesterov=True),
            "groups of parameters": functools.partial(
                classifier, optimizer__param_groups=[("first.*", {"lr": 0.2}), ("last.*", {"weight_decay": 0.1})]
            ),
            "split": functools.partial(classifier, train_split=ValidSplit(0.3, stratified=True, random_state=4)),
            "no split": functools.partial(classifier, train_split=None, iterator_train__shuffle=True),
            "module as an object": functools.partial(classifier, module=Net(units=6)),
            "initialized": _initialized,
            "not initialized": functools.partial(classifier, fit=False, module__units=9, lr=0.5),
            "warm start": functools.partial(classifier, warm_start=True, module__drop=0.3),
        }
        return {name: Case(each, observe) for name, each in builds.items()}


def _store(model: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = SkorchManager().save({"model": model}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _load(folder: Path, saved: Saved, allow_pickle: bool = True, **how: Any) -> Any:
    return SkorchManager().load(LoadRequest(folder, saved.state, ("model",), PicklePolicy(allow_pickle), **how))


def test_the_files_are_what_skorch_itself_reads(tmp_path: Path) -> None:
    """`load_params` takes the weights and the history."""
    pytest.importorskip("safetensors")
    net = build(skorch.NeuralNetClassifier)["model"]
    _store(net, tmp_path)
    by_hand = build(skorch.NeuralNetClassifier, fit=False)["model"].initialize()
    by_hand.load_params(f_params=tmp_path / "model.safetensors", f_history=tmp_path / HISTORY, use_safetensors=True)
    assert by_hand.predict_proba(X).tobytes() == net.predict_proba(X).tobytes()
    assert by_hand.history_[:, "train_loss"] == net.history_[:, "train_loss"]


def test_no_weights_are_in_the_pickle(tmp_path: Path) -> None:
    """The skeleton is small, however large the module: its weights and the optimizer's lie beside it."""
    sizes = []
    for units in (5, 500):
        folder = tmp_path / str(units)
        _store(build(skorch.NeuralNetClassifier, module__units=units, optimizer=torch.optim.Adam)["model"], folder)
        sizes.append((folder / "skeleton.pkl").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 200


def test_into_fills_a_net_without_a_pickle(tmp_path: Path) -> None:
    """A net that the caller built, initialized or not, gets weights, history and class labels."""
    net = build(skorch.NeuralNetClassifier)["model"]
    saved = _store(net, tmp_path)
    with pytest.raises(PickleNotAllowedError):
        _load(tmp_path, saved, allow_pickle=False)
    for mine in (skorch.NeuralNetClassifier(Net), skorch.NeuralNetClassifier(Net).initialize()):
        assert _load(tmp_path, saved, allow_pickle=False, into=mine) is mine
        assert mine.predict_proba(X).tobytes() == net.predict_proba(X).tobytes()
        assert mine.predict(X).tobytes() == net.predict(X).tobytes()
        assert len(mine.history_) == 2


def test_what_into_cannot_fill_is_an_argument_error(tmp_path: Path) -> None:
    """No net, another shape, several modules, or nothing to fill it with."""
    saved = _store(build(skorch.NeuralNetClassifier)["model"], tmp_path / "net")
    for into, text in ((3, "skorch net"), (skorch.NeuralNetClassifier(Net, module__units=3), "does not fit")):
        with pytest.raises(InvalidArgumentError, match=text):
            _load(tmp_path / "net", saved, into=into)
    with pytest.raises(InvalidArgumentError, match="second_"):
        _load(tmp_path / "net", saved, into=Own(Net))
    bare = _store(build(skorch.NeuralNetClassifier, fit=False)["model"], tmp_path / "bare")
    with pytest.raises(InvalidArgumentError, match="before it was initialized"):
        _load(tmp_path / "bare", bare, into=skorch.NeuralNetClassifier(Net))


def test_a_device_can_be_asked_for(tmp_path: Path) -> None:
    """The tensors go there, and so does `net.device`; one that is not there is an error."""
    saved = _store(build(skorch.NeuralNetClassifier)["model"], tmp_path)
    net = _load(tmp_path, saved, device="meta")
    assert net.device == "meta"
    assert {parameter.device.type for parameter in net.module_.parameters()} == {"meta"}
    with pytest.raises(InvalidArgumentError, match="there are cpu"):
        _load(tmp_path, saved, device="cuda:99")


def test_a_net_of_an_absent_device_works_on_the_cpu(tmp_path: Path) -> None:
    """`net.device` is where the tensors are, not where they were."""
    net = build(skorch.NeuralNetClassifier)["model"]
    expected = net.predict_proba(X)
    vars(net)["device"] = "cuda:99"
    loaded = _load(tmp_path, _store(net, tmp_path))
    assert loaded.device == "cpu"
    assert loaded.predict_proba(X).tobytes() == expected.tobytes()


def test_the_net_is_as_it_was_after_an_upload(tmp_path: Path) -> None:
    """Storing a net changes nothing of it."""
    net = build(skorch.NeuralNetClassifier)["model"]
    before = dict(vars(net))
    _store(net, tmp_path)
    assert vars(net).keys() == before.keys()
    assert all(vars(net)[name] is value for name, value in before.items())


def test_a_compiled_net_is_refused(tmp_path: Path) -> None:
    """What torch.compile has made cannot be stored, and the error says what to do."""
    net = build(skorch.NeuralNetClassifier)["model"]
    # A class of that name, as importing torch.compile's own takes half a minute.
    compiled = type("OptimizedModule", (torch.nn.Module,), {"__module__": "torch._dynamo.eval_frame"})
    vars(net)["module_"] = compiled()
    with pytest.raises(UnsupportedObjectError, match="compile=False"):
        _store(net, tmp_path)


def test_what_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    """A callback that holds a connection is refused with a cause."""
    net = build(skorch.NeuralNetClassifier, fit=False)["model"]
    net.callbacks = [("watcher", EpochScoring((each for each in ()), name="it"))]
    with pytest.raises(UnsupportedObjectError, match="generator"):
        _store(net, tmp_path)


@pytest.mark.parametrize("name", ["skeleton.pkl", "rest.safetensors", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_damage_is_an_integrity_error(name: str, damage: str, tmp_path: Path) -> None:
    """Files that are cut or gone."""
    saved = _store(build(skorch.NeuralNetClassifier, fit=False)["model"].initialize(), tmp_path)
    file = tmp_path / name
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:20])
    else:
        file.unlink()
    with pytest.raises(IntegrityError):
        _load(tmp_path, saved)


def test_a_checkpoint_callback_goes_along(store: ModelStore, tmp_path: Path) -> None:
    """Through the facade, with a callback that writes files of its own."""
    callback = Checkpoint(dirname=str(tmp_path / "checkpoints"), monitor="valid_loss_best")
    net = build(skorch.NeuralNetClassifier, callbacks=[callback])["model"]
    info = store.upload("nets", model=net)
    assert info["model"]["model_type"] == {"library": "skorch", "type": "NeuralNetClassifier", "models": None}
    assert info["model"]["parameters"]["max_epochs"] == 2
    loaded = store.load("nets")
    assert loaded.predict_proba(X).tobytes() == net.predict_proba(X).tobytes()
    assert dict(loaded.callbacks_)["Checkpoint"].dirname == callback.dirname


SCRIPT = """
    import os, sys
    import numpy as np, torch, skorch
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from modelstore import ModelStore

    X = np.arange(40, dtype="float32").reshape(10, 4) / 40
    store = ModelStore.from_file_system(sys.argv[1])
    notebook = os.fork()  # after the imports, which take long
    if not notebook:
        class Mine(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(4, 2)
            def forward(self, X):
                return torch.softmax(self.layer(X), -1)

        class Careful(skorch.NeuralNetClassifier):
            pass

        net = Careful(Mine, max_epochs=1, verbose=0, train_split=None).fit(X, np.arange(10) % 2)
        store.upload("notebook", model=net)
        print(net.predict_proba(X).tobytes().hex(), flush=True)
        steps = make_pipeline(StandardScaler(), net).fit(X, np.arange(10) % 2)
        store.upload("steps", model=steps)
        print(steps.predict_proba(X).tobytes().hex(), flush=True)
        os._exit(0)
    assert os.waitpid(notebook, 0)[1] == 0
    assert "Mine" not in globals()
    net, steps = store.load("notebook"), store.load("steps")
    print(net.predict_proba(X).tobytes().hex(), steps.predict_proba(X).tobytes().hex(), sep="\\n")
    assert type(steps[-1].module_) is steps[-1].module
    steps[-1].partial_fit(steps[:-1].transform(X), np.arange(10) % 2)
"""


def test_classes_of_a_notebook_load_elsewhere(tmp_path: Path) -> None:
    """A module class and a net class of `__main__` go along by value, also of a net that is a pipeline's last step."""
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "notebook.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(tmp_path / "notebook.py"), str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr
    first, first_steps, second, second_steps = ended.stdout.splitlines()
    assert first == second
    assert first_steps == second_steps


def test_earlier_releases_refuse_a_notebooks_classes_within_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would read such a net from torch's own pickle, which takes no class by value."""
    from sklearn.pipeline import make_pipeline

    from modelstore.managers.sklearn import SklearnManager

    own = type("Own", (Net,), {"__module__": "__main__"})
    monkeypatch.delattr("skorch.utils._TorchLoadUnpickler")
    with ModelFolder() as files, pytest.raises(UnsupportedObjectError, match="takes skorch 1.2"):
        SklearnManager().save(
            {"model": make_pipeline(build(skorch.NeuralNetClassifier, module=own)["model"])}, files, {}
        )
