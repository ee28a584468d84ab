"""fastai: a learner comes back with its model, transforms and history, and without its data."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("fastai.learner")
tabular = pytest.importorskip("fastai.tabular.all")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback  # noqa: E402
from fastai.collab import CollabDataLoaders, collab_learner  # noqa: E402
from fastai.data.core import DataLoaders  # noqa: E402
from fastai.learner import Learner, load_learner  # noqa: E402
from fastai.optimizer import OptimWrapper  # noqa: E402

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
from modelstore.managers.fastai import FastaiManager  # noqa: E402
from modelstore.managers.pickling import PicklePolicy  # noqa: E402
from tests.managers.contract import BuiltinContract  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

_RANDOM = np.random.RandomState(0)
SIZE = _RANDOM.normal(size=60).astype("float32")
FRAME = pd.DataFrame(
    {
        "size": SIZE,
        "age": np.where(SIZE > 1, np.nan, _RANDOM.normal(size=60)).astype("float32"),
        "colour": np.array(["red", "green", "blue"])[np.digitize(_RANDOM.normal(size=60), [-0.5, 0.5])],
        "label": np.where(SIZE > 0, "yes", "no"),
        "price": SIZE * 2,
    }
)
ROWS = FRAME.drop(columns=["label", "price"])
STEPS = [tabular.Categorify, tabular.FillMissing, tabular.Normalize]


def tables(target: str = "label", **how: Any) -> Any:
    """Loaders of the frame."""
    names = {"cat_names": ["colour"], "cont_names": ["size", "age"], "y_names": target}
    return tabular.TabularDataLoaders.from_df(FRAME, procs=STEPS, bs=16, num_workers=0, seed=1, **names, **how)


def accuracy_of_mine(inputs: Any, targets: Any) -> Any:
    """A metric of the user's."""
    return (inputs.argmax(dim=-1) == targets.squeeze(-1)).float().mean()


def quiet(learner: Any, epochs: int = 1) -> Any:
    """Train without a bar."""
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, 0.05)
    return learner


class Tiny(torch.nn.Module):
    """A module of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        """One layer."""
        return self.layer(x)


def observe(learner: Any) -> Any:
    """Predictions of rows, the history, the settings, and that no rows of the training data came along."""
    seen: dict[str, Any] = {
        "weights": {name: value.detach().numpy() for name, value in learner.model.state_dict().items()},
        "training": {name: part.training for name, part in learner.model.named_modules()},
        "callbacks": [type(callback).__name__ for callback in learner.cbs],
        "history": [list(map(float, row)) for row in vars(learner.recorder).get("values", ())],
        "metrics": [metric.name for metric in learner.metrics],
        "settings": [learner.lr, learner.wd, learner.opt_func.__name__, str(learner.loss_func)],
        "same": all(callback.learn is learner for callback in learner.cbs),
    }
    if learner.opt is not None:
        seen["rates"] = [float(group["lr"]) for group in learner.opt.hypers]
        trained = {id(parameter) for parameter in learner.model.parameters()}
        seen["trains"] = {id(parameter) for parameter, *_ in learner.opt.all_params()} <= trained
    if type(learner).__name__ == "TabularLearner":
        row = ROWS.iloc[3]
        with learner.no_bar(), learner.no_logging():
            whole, decoded, output = learner.predict(row)
            seen["predict"] = [str(decoded), output.numpy(), whole.items.to_dict("list")]
            seen["batch"] = learner.get_preds(dl=learner.dls.test_dl(ROWS))[0].numpy()
    return seen


def observe_model(learner: Any) -> Any:
    """What the model computes, for learners whose data have no rows to predict from."""
    inputs = torch.tensor([[1, 1], [2, 3]]) if hasattr(learner.model, "u_weight") else torch.ones(2, 3)
    return {**observe(learner), "output": learner.model.eval()(inputs).detach().numpy()}


def classifier(trained: bool = True, **how: Any) -> Any:
    """A learner of labels."""
    torch.manual_seed(1)
    random.seed(1)
    learner = tabular.tabular_learner(tables(), layers=[6, 4], metrics=[tabular.accuracy, accuracy_of_mine], **how)
    return {"learner": quiet(learner) if trained else learner}


def _regressor() -> Any:
    torch.manual_seed(2)
    dls = tables("price", y_block=tabular.RegressionBlock())
    learner = tabular.tabular_learner(dls, layers=[5], y_range=(-5.0, 5.0), metrics=tabular.rmse)
    return {"model": quiet(learner)}


def _watched() -> Any:
    folder = Path(os.environ["MODELSTORE_CACHE"]) / "fastai"
    folder.mkdir(exist_ok=True)
    callbacks = [EarlyStoppingCallback(patience=5), SaveModelCallback(fname="best")]
    return classifier(cbs=callbacks, path=folder)


def _frozen() -> Any:
    built = classifier()
    learner = built["learner"]
    learner.splitter = split
    learner.opt = None
    learner.create_opt()
    learner.freeze()
    return built


def split(model: Any) -> Any:
    """Two groups of parameters."""
    parameters = list(model.parameters())
    return [parameters[:2], parameters[2:]]


def _wrapped() -> Any:
    return classifier(opt_func=torch_adam)


def torch_adam(parameters: Any, **settings: Any) -> Any:
    """PyTorch's own optimizer."""
    return OptimWrapper(parameters, torch.optim.Adam, **settings)


def _recommender() -> Any:
    torch.manual_seed(3)
    ratings = pd.DataFrame({"user": np.arange(40) % 5, "item": np.arange(40) % 7, "rating": np.arange(40) % 4 + 1.0})
    dls = CollabDataLoaders.from_df(ratings, bs=16, num_workers=0, seed=1)
    return {"model": quiet(collab_learner(dls, n_factors=3, y_range=(0.0, 5.0)))}


def _plain() -> Any:
    torch.manual_seed(4)
    rows = [(torch.ones(3) * at, torch.tensor(at % 2)) for at in range(8)]
    dls = DataLoaders.from_dsets(rows, rows, bs=4, num_workers=0, device="cpu")
    return {"model": quiet(Learner(dls, Tiny(), loss_func=torch.nn.CrossEntropyLoss()))}


@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestFastai(BuiltinContract):
    """Tables, recommendations, any module; what trains them and watches them."""

    manager = FastaiManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        cases = {
            "classifier": classifier,
            "regressor": _regressor,
            "not trained": lambda: classifier(trained=False),
            "callbacks": _watched,
            "frozen": _frozen,
            "optimizer of PyTorch's": _wrapped,
        }
        models = {"recommender": _recommender, "plain": _plain}
        return {
            **{name: Case(build, observe) for name, build in cases.items()},
            **{name: Case(build, observe_model) for name, build in models.items()},
        }


def _store(learner: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = FastaiManager().save({"learner": learner}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _load(folder: Path, saved: Saved, allow_pickle: bool = True, **how: Any) -> Any:
    return FastaiManager().load(LoadRequest(folder, saved.state, ("learner",), PicklePolicy(allow_pickle), **how))


def test_the_learner_is_as_it_was_after_an_upload(tmp_path: Path) -> None:
    """Unlike `export()`, an upload leaves optimizer, data, callbacks, last batch and random numbers alone."""
    learner = classifier()["learner"]
    before, state = dict(vars(learner)), random.getstate()
    _store(learner, tmp_path)
    assert vars(learner).keys() == before.keys()
    assert all(vars(learner)[name] is value for name, value in before.items())
    assert random.getstate() == state
    assert len(learner.dls.train_ds) > 0


def test_no_data_and_no_weights_are_in_the_pickle(tmp_path: Path) -> None:
    """The pickle knows the transforms, and neither rows nor weights."""
    learner = classifier()["learner"]
    saved = _store(learner, tmp_path)
    assert saved.pickled == ["skeleton.pkl"]
    for name in ("skeleton.pkl", "rest.safetensors"):
        assert SIZE[:20].tobytes() not in (tmp_path / name).read_bytes()
    weight = next(learner.model.parameters()).detach().numpy().tobytes()
    assert weight not in (tmp_path / "skeleton.pkl").read_bytes()
    assert weight in (tmp_path / "model.safetensors").read_bytes()
    assert len(_load(tmp_path, saved).dls.train_ds) == 0


def test_it_predicts_as_an_export_does(tmp_path: Path) -> None:
    """What fastai's own export gives back predicts the same."""
    learner = classifier()["learner"]
    saved = _store(learner, tmp_path / "ours")
    learner.path = tmp_path
    learner.export("theirs.pkl")
    ours, theirs = _load(tmp_path / "ours", saved), load_learner(tmp_path / "theirs.pkl")
    for each in (ours, theirs):
        with each.no_bar(), each.no_logging():
            each.found = each.predict(FRAME.iloc[7])[2].numpy().tobytes()
    assert ours.found == theirs.found


def test_training_goes_on_after_a_load(tmp_path: Path) -> None:
    """With data again, a loaded learner takes the same steps as the original, optimizer and all."""
    learner = classifier()["learner"]
    loaded = _load(tmp_path, _store(learner, tmp_path))
    for each in (learner, loaded):
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)
        each.dls = tables()
        with each.no_bar(), each.no_logging():
            each.fit(1)
    expected = learner.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.model.state_dict().items())


def test_into_fills_a_learner_without_a_pickle(tmp_path: Path) -> None:
    """A learner that the caller built gets the weights where pickles are refused."""
    learner = classifier()["learner"]
    saved = _store(learner, tmp_path)
    with pytest.raises(PickleNotAllowedError):
        _load(tmp_path, saved, allow_pickle=False)
    mine = classifier(trained=False)["learner"]
    assert _load(tmp_path, saved, allow_pickle=False, into=mine) is mine
    assert all(torch.equal(value, mine.model.state_dict()[name]) for name, value in learner.model.state_dict().items())
    with pytest.raises(InvalidArgumentError, match="takes a Learner"):
        _load(tmp_path, saved, into=mine.model)
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        _load(tmp_path, saved, into=_plain()["model"])


def test_a_device_can_be_asked_for(tmp_path: Path) -> None:
    """The weights go there, and what `dls` makes of items; one that is not there is an error."""
    saved = _store(classifier()["learner"], tmp_path)
    loaded = _load(tmp_path, saved, device="meta")
    assert {parameter.device.type for parameter in loaded.model.parameters()} == {"meta"}
    assert str(loaded.dls.device) == "meta"
    assert str(_load(tmp_path, saved, device="cpu").dls.device) == "cpu"
    with pytest.raises(InvalidArgumentError, match="there are cpu"):
        _load(tmp_path, saved, device="cuda:99")


def test_a_learner_of_an_absent_device_predicts_on_the_cpu(tmp_path: Path) -> None:
    """`dls.device` is a device that is here."""
    learner = classifier()["learner"]
    with learner.no_bar(), learner.no_logging():
        expected = learner.predict(FRAME.iloc[3])[2]
    saved = _store(learner, tmp_path)
    loaded = _load(tmp_path, saved)
    assert str(loaded.dls.device) == "cpu"
    with loaded.no_bar(), loaded.no_logging():
        assert torch.equal(loaded.predict(FRAME.iloc[3])[2], expected)


def test_loaders_without_an_empty_form_are_left_out(tmp_path: Path) -> None:
    """Plain PyTorch loaders are data and no more; a warning says that they are not kept."""
    rows = torch.utils.data.TensorDataset(torch.ones(8, 3), torch.zeros(8, dtype=torch.long))
    loaders = [torch.utils.data.DataLoader(rows, batch_size=4) for _ in range(2)]
    learner = Learner(DataLoaders(*loaders, device="cpu"), Tiny(), loss_func=torch.nn.CrossEntropyLoss())
    with pytest.warns(UserWarning, match="dls are left out"):
        saved = _store(learner, tmp_path)
    loaded = _load(tmp_path, saved)
    assert loaded.dls is None
    assert torch.equal(loaded.model(torch.ones(1, 3)), learner.model(torch.ones(1, 3)))


def test_what_cannot_be_pickled_is_refused(tmp_path: Path) -> None:
    """A learner that holds something alive is refused with a cause."""
    learner = _plain()["model"]
    learner.source = (each for each in ())
    with pytest.raises(UnsupportedObjectError, match="generator"):
        _store(learner, tmp_path)


@pytest.mark.parametrize("name", ["skeleton.pkl", "rest.safetensors", "model.safetensors"])
def test_a_missing_file_is_an_integrity_error(name: str, tmp_path: Path) -> None:
    """Files that are gone."""
    saved = _store(_plain()["model"], tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(IntegrityError):
        _load(tmp_path, saved)


def test_up_and_down(store: ModelStore) -> None:
    """Through the facade, with the ancestor's keyword."""
    learner = classifier()["learner"]
    info = store.upload("tables", learner=learner)
    assert info["model"]["model_type"] == {"library": "fastai", "type": "TabularLearner", "models": None}
    assert info["model"]["parameters"]["metrics"] == ["accuracy", "accuracy_of_mine"]
    loaded = store.load("tables")
    with loaded.no_bar(), loaded.no_logging(), learner.no_bar(), learner.no_logging():
        assert torch.equal(loaded.predict(FRAME.iloc[0])[2], learner.predict(FRAME.iloc[0])[2])


SCRIPT = """
    import os, sys
    import torch, fastai.callback.progress
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from modelstore import ModelStore

    store = ModelStore.from_file_system(sys.argv[1])
    notebook = os.fork()  # after the imports, which take long
    if not notebook:
        class Mine(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(3, 2)
            def forward(self, x):
                return self.layer(x)

        def loss(outputs, targets):
            return (outputs.sum(1) - targets).square().mean()

        rows = [(torch.ones(3) * at, torch.tensor(float(at))) for at in range(8)]
        dls = DataLoaders.from_dsets(rows, rows, bs=4, num_workers=0, device="cpu")
        learner = Learner(dls, Mine(), loss_func=loss)
        with learner.no_bar(), learner.no_logging():
            learner.fit(1)
        store.upload("notebook", learner=learner)
        print(learner.model(torch.ones(1, 3)).tolist(), flush=True)
        os._exit(0)
    assert os.waitpid(notebook, 0)[1] == 0
    assert "Mine" not in globals()
    print(store.load("notebook").model(torch.ones(1, 3)).tolist())
"""


def test_classes_of_a_notebook_load_elsewhere(tmp_path: Path) -> None:
    """A module and a loss of `__main__` go along by value."""
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "notebook.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(tmp_path / "notebook.py"), str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert first == second
