"""Paddle: every layer comes back as itself; weights without a pickle; optimizers and programs go on where they were."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("paddle")

import numpy as np
import paddle
from paddle import nn

from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    PickleNotAllowedError,
    UnsupportedObjectError,
)
from modelstore.folder import ModelFolder
from modelstore.managers._paddle import tensors as files
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.paddle import PaddleManager
from modelstore.managers.pickling import PicklePolicy
from tests.managers.contract import BuiltinContract
from tests.managers.paddle_layers import arrays, layer, names, observe

if TYPE_CHECKING:
    from modelstore import ModelStore

ROWS = np.arange(12, dtype="float32").reshape(6, 2) / 7
TARGET = ROWS[:, :1] * 2 - ROWS[:, 1:]
SPEC = [paddle.static.InputSpec([None, 2], "float32")]
DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
    "complex128", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip


class Twice(nn.Layer):
    """A user's layer: one weight in two places, a buffer that no state dict has, settings, a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.second.bias.stop_gradient = True
        self.register_buffer("scale", paddle.to_tensor([1.5]), persistable=False)
        self.settings = {"depth": 3, "names": ("a", "b")}

    def forward(self, rows: Any) -> Any:
        """Through both."""
        return self.second(self.first(rows)) * self.scale


def twice(module: Any, given: Any, answer: Any) -> Any:
    """A hook of the user's."""
    return answer * 2


def network() -> Any:
    """A small one."""
    paddle.seed(7)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1D(3), nn.ReLU(), nn.Linear(3, 1))


def step(model: Any, optimizer: Any) -> None:
    """One step of training."""
    rows = paddle.to_tensor(ROWS)

    def closure() -> Any:
        optimizer.clear_grad()
        loss = ((model(rows) - paddle.to_tensor(TARGET)) ** 2).mean()
        loss.backward()
        return loss

    if isinstance(optimizer, paddle.optimizer.LBFGS):
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()
        optimizer.clear_grad()
    if isinstance(optimizer._learning_rate, paddle.optimizer.lr.LRScheduler):
        optimizer._learning_rate.step()


class TestEveryLayer(BuiltinContract):
    """All that `paddle.nn` lists, each by itself."""

    manager = PaddleManager()

    def cases(self) -> Mapping[str, Case]:
        """One of each."""
        return {name: Case(functools.partial(_layer, name), observe) for name in names()}

    def test_only_the_skeleton_is_pickled(self, tmp_path_factory: Any) -> None:
        """No layer's pickle holds byte code, or a weight."""
        for name, outcome in self._outcomes(tmp_path_factory).items():
            assert outcome.saved.pickled == ["skeleton.pkl"], name
            assert not outcome.saved.by_value, name

    def test_most_layers_answer(self, tmp_path_factory: Any) -> None:
        """The answers that are compared are there, for all but losses of many parts and containers."""
        outcomes = self._outcomes(tmp_path_factory)
        silent = [name for name, outcome in outcomes.items() if outcome.before["probe"]["answer in eval mode"] is None]
        assert len(silent) < 25 < len(outcomes), silent


def _layer(name: str) -> dict[str, Any]:
    return {"model": layer(name)}


def _hooked() -> dict[str, Any]:
    model = network()
    model.eval()
    model[0].register_forward_post_hook(twice)
    return {"model": model}


def _trained(**parts: Any) -> dict[str, Any]:
    model = network()
    scheduler = paddle.optimizer.lr.StepDecay(0.1, 2)
    optimizer = paddle.optimizer.AdamW(scheduler, parameters=model.parameters(), grad_clip=nn.ClipGradByNorm(1.0))
    for _ in range(3):
        step(model, optimizer)
    return {"model": model, "optimizer": optimizer} if parts.get("optimizer") else {"model": model}


def _high_level() -> dict[str, Any]:
    model = paddle.Model(network())
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    model.prepare(optimizer, nn.MSELoss(), paddle.metric.Accuracy())
    model.train_batch([ROWS], [TARGET])
    return {"model": model}


def observe_high_level(model: Any) -> Any:
    """Predictions, and how training goes on."""
    before = model.predict_batch([ROWS])
    training = model.train_batch([ROWS], [TARGET])
    return before, np.asarray(training[0]), model.predict_batch([ROWS])


def _compiled(**settings: Any) -> dict[str, Any]:
    model = paddle.jit.to_static(network(), **settings)
    model.eval()
    model(paddle.to_tensor(ROWS))
    return {"model": model}


def observe_compiled(model: Any) -> Any:
    """Answers, and that it is compiled still."""
    return type(model.forward).__name__, arrays(model(paddle.to_tensor(ROWS))), model.training


def _program() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        paddle.jit.save(_compiled()["model"], f"{folder}/m", input_spec=SPEC)
        return {"model": paddle.jit.load(f"{folder}/m")}


def observe_program(model: Any) -> Any:
    """Answers and mode."""
    return arrays(model(paddle.to_tensor(ROWS))), model.training


def _tensors() -> dict[str, Any]:
    whole = {name: paddle.to_tensor([1.0, 0.0, 3.0]).astype(name) for name in DTYPES}
    odd = {"empty": paddle.zeros([0, 3]), "number": paddle.to_tensor(2.5), "view": paddle.arange(6.0)[1:4]}
    return {"model": {**whole, **odd, "turned": paddle.arange(6.0).reshape([2, 3]).t()}}


def observe_tensors(found: Any) -> Any:
    """All of a dict of tensors, in order."""
    return [(name, arrays(value), list(value.shape), value.stop_gradient) for name, value in found.items()]


def observe_tensor(tensor: Any) -> Any:
    """A tensor."""
    return arrays(tensor), list(tensor.shape), tensor.name


class TestPaddle(BuiltinContract):
    """What layers are put together to, and what is no layer."""

    manager = PaddleManager()

    def result(self, objects: Mapping[str, Any]) -> Any:
        """An optimizer is left out unless it is asked for."""
        return objects["model"]

    def objects(self, result: Any, keywords: tuple[str, ...]) -> Mapping[str, Any]:
        """The inverse."""
        return {"model": result}

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            "user's layer": Case(lambda: {"model": Twice()}, observe),
            "hook, eval mode": Case(_hooked, observe),
            "trained": Case(_trained, observe),
            "with its optimizer": Case(functools.partial(_trained, optimizer=True), observe),
            "other types": Case(lambda: {"model": network().to(dtype="bfloat16")}, observe),
            "double": Case(lambda: {"model": network().to(dtype="float64")}, observe),
            "high-level model": Case(_high_level, observe_high_level),
            "compiled": Case(_compiled, observe_compiled),
            "compiled whole": Case(functools.partial(_compiled, full_graph=True, input_spec=SPEC), observe_compiled),
            "program": Case(_program, observe_program),
            "state dict": Case(lambda: {"model": network().state_dict()}, observe_tensors),
            "tensors of all types": Case(_tensors, observe_tensors),
            "tensor": Case(lambda: {"model": paddle.to_tensor([1.5], dtype="bfloat16")}, observe_tensor),
        }

    def test_what_needs_no_pickle_has_none(self, tmp_path_factory: Any) -> None:
        """Programs, state dicts and tensors load where pickles are refused, and only they."""
        safe = {name for name, outcome in self._outcomes(tmp_path_factory).items() if not outcome.saved.pickled}
        assert safe == {"program", "state dict", "tensors of all types", "tensor"}

    def test_no_pickle_holds_byte_code(self, tmp_path_factory: Any) -> None:
        """Nothing here is tied to a Python version."""
        assert not [name for name, outcome in self._outcomes(tmp_path_factory).items() if outcome.saved.by_value]


def _store(folder: Path, options: Mapping[str, Any] | None = None, **objects: Any) -> Saved:
    with ModelFolder() as made:
        saved = PaddleManager().save(objects, made, options or {})
        write_folder(made.contents(), folder)
    return saved


def _load(folder: Path, saved: Saved, *keywords: str, pickle: bool = True, **asked: Any) -> Any:
    request = LoadRequest(folder, saved.state, keywords or ("model",), PicklePolicy(pickle), **asked)
    return PaddleManager().load(request)


@pytest.mark.parametrize("name", [name for name in paddle.optimizer.__all__ if name != "Optimizer"])
def test_training_goes_on_with_every_optimizer(name: str, tmp_path: Path) -> None:
    """A model and its optimizer, loaded, take the step that the originals take, on the loaded model's weights."""
    model = network()
    optimizer = getattr(paddle.optimizer, name)(learning_rate=0.1, parameters=model.parameters())
    step(model, optimizer)
    saved = _store(tmp_path / "m", model=model, optimizer=optimizer)
    assert not saved.by_value
    loaded, further = _load(tmp_path / "m", saved, "model", "optimizer", with_optimizer=True)
    assert type(further) is type(optimizer)
    for _ in range(2):
        step(model, optimizer)
        step(loaded, further)
    for mine, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        assert mine.numpy().tobytes() == theirs.numpy().tobytes()


def test_the_weights_are_a_safetensors_file_by_the_names_of_the_state_dict(tmp_path: Path) -> None:
    """`model.safetensors` opens with the safetensors package alone."""
    safetensors = pytest.importorskip("safetensors.numpy")
    model = network()
    _store(tmp_path, model=model)
    found = safetensors.load_file(tmp_path / files.WEIGHTS)
    assert found.keys() == model.state_dict().keys()
    assert all(found[name].tobytes() == value.numpy().tobytes() for name, value in model.state_dict().items())


def test_into_needs_no_pickle(tmp_path: Path) -> None:
    """`into=` fills a layer, or the network of a high-level model, where pickles are refused."""
    model = network()
    saved = _store(tmp_path, {"weights_only": True}, model=model)
    assert saved.pickled == []
    for target in (network(), paddle.Model(network())):
        assert _load(tmp_path, saved, pickle=False, into=target) is target
        filled = target.network if isinstance(target, paddle.Model) else target
        assert filled[3].weight.numpy().tobytes() == model[3].weight.numpy().tobytes()
    with pytest.raises(InvalidArgumentError, match="only the weights were stored"):
        _load(tmp_path, saved)


def test_of_several_into_names_which_to_fill(tmp_path: Path) -> None:
    """Two layers of one upload lie in a folder each; a mapping fills both, anything else is refused."""
    made = {"model": network(), "preprocessor": nn.Linear(2, 2)}
    saved = _store(tmp_path, {"weights_only": True}, **made)
    targets = {"model": network(), "preprocessor": nn.Linear(2, 2)}
    loaded = _load(tmp_path, saved, *made, pickle=False, into=targets)
    assert loaded == targets
    assert loaded["preprocessor"].weight.numpy().tobytes() == made["preprocessor"].weight.numpy().tobytes()
    with pytest.raises(InvalidArgumentError, match="mapping from model, preprocessor"):
        _load(tmp_path, saved, *made, pickle=False, into=network())


@pytest.mark.parametrize(
    "target", [lambda: nn.Linear(2, 3), lambda: network().to(dtype="float64"), lambda: paddle.ones([2])]
)
def test_into_must_fit(target: Any, tmp_path: Path) -> None:
    """A target of other names, shapes or types is left alone."""
    saved = _store(tmp_path, model=network())
    with pytest.raises(InvalidArgumentError, match="into="):
        _load(tmp_path, saved, into=target())


def test_a_layer_with_an_input_spec_is_a_program(tmp_path: Path) -> None:
    """`input_spec=` stores what `paddle.jit.save` writes, and leaves the layer as it was."""
    model = network()
    saved = _store(tmp_path, {"input_spec": SPEC}, model=model)
    assert saved.pickled == []
    assert model.training
    by_hand = paddle.jit.load(str(tmp_path / "program" / "model"))
    loaded = _load(tmp_path, saved, pickle=False)
    for each in (model, by_hand, loaded):
        each.eval()
    answers = {each(paddle.to_tensor(ROWS)).numpy().tobytes() for each in (model, by_hand, loaded)}
    assert len(answers) == 1


def test_a_program_that_writes_files_counts_as_a_pickle(tmp_path: Path) -> None:
    """An operation of a stored program that touches files asks for the reader's policy, whatever the record says."""
    saved = _store(tmp_path, {"input_spec": SPEC}, model=network())
    program = tmp_path / "program" / "model.json"
    program.write_text(program.read_text().replace('"1.relu"', '"1.save_combine"'))
    with pytest.raises(PickleNotAllowedError, match="save_combine"):
        _load(tmp_path, saved, pickle=False)


def test_a_program_of_the_old_format_is_never_read(tmp_path: Path) -> None:
    """Files that Paddle would unpickle make a program damaged."""
    saved = _store(tmp_path, {"input_spec": SPEC}, model=network())
    (tmp_path / "program" / "model.pdiparams.info").write_bytes(b"cos\nsystem\n.")
    with pytest.raises(IntegrityError, match=r"model\.pdiparams\.info"):
        _load(tmp_path, saved)


@pytest.mark.parametrize("name", [files.WEIGHTS, files.TENSORS, "skeleton.pkl"])
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    """Each file is asked for by name."""
    saved = _store(tmp_path, model=network())
    (tmp_path / name).unlink()
    with pytest.raises(IntegrityError, match=r"skeleton\.pkl|safetensors|tensors\.json"):
        _load(tmp_path, saved)


@pytest.mark.parametrize("change", [{"shape": [9, 9]}, {"dtype": "float64"}, {"entry": "other"}, {"dtype": "object"}])
def test_a_tensor_lies_as_it_is_described(change: dict[str, Any], tmp_path: Path) -> None:
    """A description that asks for other bytes than lie there is damage."""
    saved = _store(tmp_path, model=network())
    described = json.loads((tmp_path / files.TENSORS).read_text())
    described["tensors"][0] |= change
    (tmp_path / files.TENSORS).write_text(json.dumps(described))
    with pytest.raises(IntegrityError):
        _load(tmp_path, saved)


def test_layers_that_are_built_later_have_names_of_their_own(tmp_path: Path) -> None:
    """A new layer does not take a loaded parameter's name, by which an optimizer would confuse the two."""
    saved = _store(tmp_path, model=network())
    with paddle.utils.unique_name.guard():  # as in a process that has built nothing
        loaded = _load(tmp_path, saved)
        new = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1D(2))
    shared = {each.name for each in loaded.parameters()} & {each.name for each in new.parameters()}
    assert not shared


def test_a_device_that_is_not_here_is_refused_when_asked_for(tmp_path: Path) -> None:
    """`device="cpu"` loads; another that this machine lacks is an error, and a recorded one becomes the CPU."""
    saved = _store(tmp_path, model=network())
    assert _load(tmp_path, saved, device="cpu")[0].weight.place.is_cpu_place()
    with pytest.raises(InvalidArgumentError, match="is not here"):
        _load(tmp_path, saved, device="npu:7")
    described = json.loads((tmp_path / files.TENSORS).read_text())
    for tensor in described["tensors"]:
        tensor["device"] = "npu:7"
    (tmp_path / files.TENSORS).write_text(json.dumps(described))
    assert _load(tmp_path, saved)[0].weight.place.is_cpu_place()


def _lazy() -> Any:
    with paddle.LazyGuard():
        return nn.Linear(2, 2)


def _with_a_generator() -> Any:
    model = network()
    model.rows = (row for row in ROWS)
    return model


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (_lazy, "has no values yet"),
        (lambda: paddle.sparse.sparse_coo_tensor([[0, 1], [1, 0]], [1.0, 2.0], [2, 2]), "is sparse"),
        (_with_a_generator, "rows: cannot pickle 'generator'"),
        (lambda: paddle.optimizer.SGD(0.1, parameters=network().parameters()), "given as optimizer="),
        (lambda: {1: paddle.ones([2])}, "are to be texts"),
    ],
)
def test_what_cannot_be_stored_is_refused(build: Any, says: str, tmp_path: Path) -> None:
    """The error names the part that is to blame and what to do."""
    with pytest.raises(UnsupportedObjectError, match=says):
        _store(tmp_path, model=build())


SCRIPT = """
    import pathlib, sys
    import numpy as np, paddle
    from paddle import nn
    from modelstore import ModelStore

    class Doubled(nn.Layer):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 1)

        @paddle.jit.to_static
        def forward(self, rows):
            return 2 * self.inner(rows)

    model = Doubled()
    store = ModelStore.from_file_system(sys.argv[1], create_directory=True)
    store.upload("notebook", model=model, model_id="it")
    np.save(sys.argv[1] + ".npy", model(paddle.ones([3, 2])).numpy())
"""

READER = """
    import sys
    from modelstore import ModelStore
    model = ModelStore.from_file_system(sys.argv[1]).load("notebook", "it")
    import numpy as np, paddle
    assert model(paddle.ones([3, 2])).numpy().tobytes() == np.load(sys.argv[1] + ".npy").tobytes()
    print(type(model).__name__)
"""


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A layer from `__main__`, with a compiled method, is stored by value and answers the same in another process."""
    store = tmp_path / "store"
    _run(SCRIPT, tmp_path / "notebook.py", store)
    assert _run(READER, tmp_path / "service.py", store).endswith("Doubled\n")


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_end_to_end_with_the_optimizer(store: ModelStore) -> None:
    """The ancestor's keywords: model and optimizer go up; the model comes back, and both when asked for."""
    made = _trained(optimizer=True)
    info = store.upload("domain", **made)
    assert info["model"]["model_type"]["library"] == "paddle"
    alone = store.load("domain", info.model_id)
    assert alone[0].weight.numpy().tobytes() == made["model"][0].weight.numpy().tobytes()
    model, optimizer = store.load("domain", info.model_id, with_optimizer=True)
    assert optimizer.get_lr() == made["optimizer"].get_lr()
    assert optimizer._parameter_list[0] is model[0].weight
