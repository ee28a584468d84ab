"""State dicts, checkpoints and tensors; and modules filled by `into=`: none of it needs a pickle."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from modelstore.exceptions import (  # noqa: E402
    IntegrityError,
    InvalidArgumentError,
    PickleNotAllowedError,
    UnsupportedObjectError,
)
from modelstore.managers.pytorch import PyTorchManager  # noqa: E402
from tests.managers.torch_cases import Counting, Holder  # noqa: E402
from tests.managers.torch_helpers import digests, entry, fingerprint, read_elsewhere, restore, store  # noqa: E402


def files(path: Path) -> set[str]:
    """Names of what was stored."""
    return set(digests(path))


def net() -> Any:
    """A module with a version in its metadata, and a tie."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


def stepped(optimizer: Any) -> Any:
    """An optimizer with state."""
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


CHECKPOINTS: dict[str, Any] = {
    "state dict": lambda: net().state_dict(),
    "state dict with parameters": lambda: net().state_dict(keep_vars=True),
    "plain dict": lambda: dict(net().state_dict()),
    "views": lambda: {"whole": (whole := torch.arange(9.0)), "part": whole[2:4], "transposed": whole.view(3, 3).t()},
    "one tensor twice": lambda: {"a": (one := torch.ones(2)), "b": one},
    "checkpoint": lambda: {"model_state_dict": net().state_dict(), "epoch": 3, "loss": float("nan"), "done": False},
    "with optimizer state": lambda: {
        "optimizer": stepped(torch.optim.Adam(net().parameters(), betas=(0.5, 0.9))).state_dict(),
        "sizes": [torch.Size([2, 3]), (1, None)],
        "dtype": torch.float16,
        3: "three",
    },
    "empty names": lambda: {"": torch.ones(1), "__metadata__": torch.ones(2), "__storage__.0": torch.ones(3)},
    "no text": lambda: {"\udc80": torch.ones(1), "ü/\\\n": torch.zeros(1)},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_dicts_of_tensors_need_no_pickle(tmp_path: Path, name: str) -> None:
    """The same kinds of containers in the same order, metadata, values, ties and views, with pickles refused."""
    value = CHECKPOINTS[name]()
    assert PyTorchManager().recognises(value)
    path = store(tmp_path / "m", model=value)
    assert files(path) == {"model.safetensors", "tensors.json"}
    loaded = restore(path, allow_pickle=False)
    assert _shape(loaded) == _shape(value)


def _shape(value: Any) -> Any:
    """A value with tensors replaced by what has to be the same of them."""
    if isinstance(value, dict):
        found = {key: _shape(item) for key, item in value.items()}
        flat = fingerprint(value, None)["tensors"] if all(isinstance(key, str) for key in value) else None
        return type(value), list(found.items()), flat, getattr(value, "_metadata", None)
    if isinstance(value, (list, tuple)):
        return type(value), [_shape(item) for item in value]
    if isinstance(value, torch.Tensor):
        return fingerprint(value, None)
    return type(value), repr(value)


def test_a_state_dict_loads_elsewhere(tmp_path: Path) -> None:
    """A fresh process finds the state dict as it was."""
    state = net().state_dict()
    (there,) = read_elsewhere(store(tmp_path / "m", model=state))
    assert there == fingerprint(state, None)


def test_other_values_take_a_pickle(tmp_path: Path) -> None:
    """A checkpoint that holds an object of a class is pickled, tensors apart; its tensors keep their names."""
    value = {"model": torch.nn.Linear(2, 2), "state": {"weight": torch.ones(5)}, "set": {1, 2}}
    path = store(tmp_path / "m", model=value)
    assert entry(path)["pickled"] == ["skeleton.pkl"]
    with pytest.raises(PickleNotAllowedError):
        restore(path, allow_pickle=False)
    loaded = restore(path)
    assert loaded["set"] == {1, 2}
    assert torch.equal(loaded["model"].weight, value["model"].weight)
    assert b'"state.weight"' in (path / "files" / "model.safetensors").read_bytes()


def test_a_dict_in_two_places_stays_one(tmp_path: Path) -> None:
    """What JSON cannot say, shared containers and cycles, is pickled instead of being lost."""
    shared = {"a": torch.ones(1)}
    value: dict[str, Any] = {"x": shared, "y": shared}
    value["self"] = value
    loaded = restore(store(tmp_path / "m", model=value))
    assert loaded["x"] is loaded["y"]
    assert loaded["self"] is loaded


def test_a_bare_parameter_stays_one(tmp_path: Path) -> None:
    """A tensor alone is stored without a pickle, with its class and strides."""
    value = torch.nn.Parameter(torch.randn(3, 4).t(), requires_grad=False)
    loaded = restore(store(tmp_path / "m", model=value), allow_pickle=False)
    assert fingerprint(loaded, None) == fingerprint(value, None)


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ({"a": {"b": {"c": {"d": torch.ones(1)}}}}, True),
        ({"a": {"b": {"c": {"d": {"e": torch.ones(1)}}}}}, False),
        ([torch.ones(1)], False),
        ({"a": 1}, False),
        ({}, False),
        ({"epoch": 1, "net": torch.nn.ReLU()}, True),
        (dict.fromkeys(range(20_000), 0), False),
    ],
)
def test_what_counts_as_a_checkpoint(value: Any, known: bool) -> None:
    """A dict with a tensor or module at most four levels down; the search is bounded."""
    assert PyTorchManager().recognises(value) is known


def test_weights_only_fills_a_module(tmp_path: Path) -> None:
    """Without a pickle in the archive, a module is filled, ties, versions and all; type and flags stay its own."""
    model = net()
    model[1].running_mean.fill_(3)
    path = store(tmp_path / "m", model=model, weights_only=True)
    assert files(path) == {"model.safetensors", "tensors.json"}
    assert entry(path)["pickled"] == []
    target = net().double()
    target[0].bias.requires_grad_(False)
    assert restore(path, allow_pickle=False, into=target) is target
    assert target[0].weight.dtype == torch.float64
    assert target[2].weight is target[0].weight
    assert not target[0].bias.requires_grad
    for name, value in model.state_dict().items():
        assert torch.equal(target.state_dict()[name], value.to(target.state_dict()[name].dtype))


def test_weights_only_needs_into(tmp_path: Path) -> None:
    """Loading weights alone without a module to fill says what to pass."""
    path = store(tmp_path / "m", model=net(), weights_only=True)
    with pytest.raises(InvalidArgumentError, match="into=module"):
        restore(path)


def test_into_never_reads_the_pickle(tmp_path: Path) -> None:
    """A module that was stored whole fills another one although pickles are refused, and byte code is of no matter."""
    path = store(tmp_path / "m", model=net())
    with pytest.raises(PickleNotAllowedError):
        restore(path, allow_pickle=False)
    (path / "files" / "skeleton.pkl").unlink()
    target = net()
    restore(path, allow_pickle=False, into=target)
    assert fingerprint(target, None)["tensors"] == fingerprint(restore(path, into=net()), None)["tensors"]


def test_into_takes_a_state_dict(tmp_path: Path) -> None:
    """An uploaded state dict fills a module as well; a checkpoint names the part to load."""
    model, target = net(), net()
    restore(store(tmp_path / "a", model=model.state_dict()), into=target)
    assert torch.equal(target[0].weight, model[0].weight)
    nested = store(tmp_path / "b", model={"epoch": 1, "model": model.state_dict()})
    with pytest.raises(InvalidArgumentError, match=r"checkpoint\['model'\]"):
        restore(nested, into=target)


def test_into_that_does_not_fit_lists_the_differences(tmp_path: Path) -> None:
    """Missing and unexpected keys and shapes that differ are all named."""
    path = store(tmp_path / "m", model=torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)))
    target = torch.nn.Sequential(OrderedDict({"0": torch.nn.Linear(2, 4), "other": torch.nn.Linear(3, 1)}))
    with pytest.raises(InvalidArgumentError) as caught:
        restore(path, into=target)
    for part in ('"1.weight"', '"other.weight"', "size mismatch for 0.weight"):
        assert part in str(caught.value)


@pytest.mark.parametrize("target", [{"a": 1}, "text"])
def test_into_takes_modules_only(tmp_path: Path, target: Any) -> None:
    """Anything but a module is refused by name."""
    path = store(tmp_path / "m", model=net())
    with pytest.raises(InvalidArgumentError, match=r"torch\.nn\.Module"):
        restore(path, into=target)


def test_into_a_meta_module_is_refused(tmp_path: Path) -> None:
    """A module without memory would stay empty without a word; the error says how to give it some."""
    path = store(tmp_path / "m", model=torch.nn.Linear(2, 2))
    with torch.device("meta"):
        target = torch.nn.Linear(2, 2)
    with pytest.raises(InvalidArgumentError, match="to_empty"):
        restore(path, into=target)
    restore(path, into=target.to_empty(device="cpu"))


def test_extra_state_is_a_pickle_of_its_own(tmp_path: Path) -> None:
    """What get_extra_state gives beside plain values is pickled apart, listed, and loaded under the policy."""
    model, target = Counting(), Counting()
    model.seen = {("b", 2): 3}
    path = store(tmp_path / "m", model=model, weights_only=True)
    assert entry(path)["pickled"] == ["extra_state.pkl"]
    with pytest.raises(PickleNotAllowedError):
        restore(path, allow_pickle=False, into=target)
    restore(path, into=target)
    assert target.seen == model.seen


def test_plain_extra_state_needs_no_pickle(tmp_path: Path) -> None:
    """Extra state that JSON can hold is not a pickle."""

    class Step(torch.nn.Linear):
        step = 0

        def get_extra_state(self) -> Any:
            return {"step": self.step, "pair": (1, 2)}

        def set_extra_state(self, state: Any) -> None:
            self.step = state["step"]
            assert state["pair"] == (1, 2)

    model, target = Step(2, 2), Step(2, 2)
    model.step = 7
    path = store(tmp_path / "m", model=model, weights_only=True)
    restore(path, allow_pickle=False, into=target)
    assert target.step == 7


@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
def test_a_quantized_module_fills_another(tmp_path: Path) -> None:
    """Packed weights go through the state dict."""
    quantize = torch.ao.quantization.quantize_dynamic
    model, target = (quantize(torch.nn.Sequential(torch.nn.Linear(4, 2)), dtype=torch.qint8) for _ in range(2))
    x = torch.randn(3, 4)
    for weights_only in (True, False):
        path = store(tmp_path / str(weights_only), model=model, weights_only=weights_only)
        restore(path, into=target)
        assert torch.equal(target(x), model(x))


def test_parametrized_modules_go_weights_only(tmp_path: Path) -> None:
    """torch refuses to pickle parametrizations: the error says what to do, and that works."""
    model, target = (torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 3)).eval() for _ in range(2))
    with pytest.raises(UnsupportedObjectError, match=r"parametrizations \(weight\).*weights_only=True.*into="):
        store(tmp_path / "a", model=torch.nn.Sequential(model))
    restore(store(tmp_path / "b", model=model, weights_only=True), allow_pickle=False, into=target)
    x = torch.randn(2, 4)
    assert torch.equal(target(x), model(x))


def test_weights_only_of_a_dict_with_objects_is_refused(tmp_path: Path) -> None:
    """A value without a plain form is named instead of being pickled."""
    with pytest.raises(UnsupportedObjectError, match=r"net.*torch\.nn"):
        store(tmp_path / "m", model={"a": torch.ones(1), "net": torch.nn.ReLU()}, weights_only=True)


def damage(path: Path, change: Any) -> None:
    """Rewrite tensors.json."""
    file = path / "files" / "tensors.json"
    fields = json.loads(file.read_text())
    change(fields)
    file.chmod(0o644)
    file.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f["tensors"][0].update(offset=1), id="offset beyond"),
        pytest.param(lambda f: f["tensors"][0].update(shape=[100]), id="shape beyond"),
        pytest.param(lambda f: f["tensors"][0].update(stride=[2**40]), id="stride beyond"),
        pytest.param(lambda f: f["tensors"][0].update(shape=[2**70], stride=[0]), id="shape of no integer"),
        pytest.param(lambda f: f["tensors"][0].update(shape=[0], offset=2**50), id="empty, far out"),
        pytest.param(lambda f: f["tensors"][0].update(stride=[-1]), id="negative stride"),
        pytest.param(lambda f: f["tensors"][0].update(shape=[1, 1]), id="shape without stride"),
        pytest.param(lambda f: f["tensors"][0].update(dtype="load"), id="no type"),
        pytest.param(lambda f: f["tensors"][0].update(dtype=7), id="type is a number"),
        pytest.param(lambda f: f["tensors"][0].update(dtype="float64"), id="type too wide"),
        pytest.param(lambda f: f["tensors"][0].update(storage="c"), id="no storage"),
        pytest.param(lambda f: f["tensors"][0].update(storage=[1]), id="storage is a list"),
        pytest.param(lambda f: f["tensors"][0].update(device=["cpu"]), id="device is a list"),
        pytest.param(lambda f: f["tensors"][0].update(requires_grad=True, dtype="int32"), id="gradient of integers"),
        pytest.param(lambda f: f["tensors"].clear(), id="no tensors"),
        pytest.param(lambda f: f.update(tensors={"0": 1}), id="tensors of another kind"),
        pytest.param(lambda f: f.update(tensors=[1]), id="tensors are numbers"),
        pytest.param(lambda f: f.update(value={"tensor": -1}), id="negative index"),
        pytest.param(lambda f: f.update(value={"dict": [["a"]]}), id="no value"),
        pytest.param(lambda f: f.update(value={"dict": [[[], 1]]}), id="a list as key"),
        pytest.param(lambda f: f.update(value={"float": "1"}), id="a float of no kind"),
        pytest.param(lambda f: f.update(value={"pickled": 0}), id="nothing pickled"),
        pytest.param(lambda f: f.update(value={"other": 1}), id="unknown tag"),
        pytest.param(lambda f: f.update(value={"size": ["a"]}), id="size of texts"),
        pytest.param(lambda f: f.update(format=2), id="unknown format"),
        pytest.param(lambda f: f.clear(), id="nothing"),
    ],
)
def test_a_lying_index_is_refused(tmp_path: Path, change: Any) -> None:
    """tensors.json is not trusted: whatever it claims beside the truth is an IntegrityError."""
    # "b" stands first in the file, so that "a" is copied to memory that torch could enlarge.
    path = store(tmp_path / "m", model={"a": torch.ones(3), "b": torch.ones(4)})
    damage(path, change)
    with pytest.raises(IntegrityError):
        restore(path)


@pytest.mark.parametrize("name", ["model.safetensors", "tensors.json"])
def test_a_missing_file_is_damage(tmp_path: Path, name: str) -> None:
    """A file that is not there is an IntegrityError that names it."""
    path = store(tmp_path / "m", model={"a": torch.ones(3)})
    (path / "files" / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        restore(path)


def test_a_module_without_a_state_dict_still_loads(tmp_path: Path) -> None:
    """A state_dict() that fails is a warning at the upload, and an error only for into=."""

    class Odd(Holder):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("not now")

    model = Odd()
    model.register_buffer("a", torch.ones(2))
    with pytest.warns(UserWarning, match="not now"):
        path = store(tmp_path / "m", model=model)
    assert torch.equal(restore(path).a, model.a)
    with pytest.raises(InvalidArgumentError, match="without a state dict"):
        restore(path, into=torch.nn.Linear(1, 1))
