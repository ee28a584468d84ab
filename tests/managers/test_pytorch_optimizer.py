"""Optimizers: training goes on from what was loaded as it would have gone on from what was uploaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from modelstore.exceptions import InvalidArgumentError, PickleNotAllowedError, UnsupportedObjectError  # noqa: E402
from tests.managers.torch_helpers import digests, entry, restore, store  # noqa: E402

optim = torch.optim

OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1),
    "AdamW, tensor lr": lambda p: optim.AdamW(p, lr=torch.tensor(0.1)),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.1, momentum=0.5),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "LBFGS": lambda p: optim.LBFGS(p, lr=0.1, max_iter=3),
}


def train(model: Any, optimizer: Any, steps: int, seed: int) -> None:
    """Take some steps on data of this seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, 3, generator=generator)

        def closure(x: Any = x) -> Any:
            optimizer.zero_grad()
            loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)


def net() -> Any:
    """Something to train, with a tie."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    """The loaded pair trains exactly as the original pair does, and its groups hold the loaded model's parameters."""
    model = net()
    groups = [{"params": [*model[0].parameters()]}, {"params": [model[3].weight, model[3].bias], "lr": 0.05}]
    optimizer = OPTIMIZERS[name](model.parameters() if name == "LBFGS" else groups)
    train(model, optimizer, 3, seed=1)
    path = store(tmp_path / "m", model=model, optimizer=optimizer)
    before = digests(path)
    again, restored = restore(path, with_optimizer=True)
    assert type(restored) is type(optimizer)
    assert {id(p) for group in restored.param_groups for p in group["params"]} <= set(map(id, again.parameters()))
    train(model, optimizer, 3, seed=2)
    train(again, restored, 3, seed=2)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert str(restored) == str(optimizer)
    assert digests(path) == before


def test_the_model_alone_is_what_loads(tmp_path: Path) -> None:
    """Without with_optimizer the optimizer is left out, and its files are not even opened."""
    model = net()
    path = store(tmp_path / "m", model=model, optimizer=optim.Adam(model.parameters()))
    (path / "files" / "optimizer.pkl").unlink()
    assert type(restore(path)) is torch.nn.Sequential
    assert entry(path)["pickled"] == ["skeleton.pkl", "optimizer.pkl"]


def test_parameters_are_not_stored_again(tmp_path: Path) -> None:
    """The optimizer's file holds its state alone, and no weight of the model."""
    model = torch.nn.Linear(100, 100)
    path = store(tmp_path / "m", model=model, optimizer=optim.SGD(model.parameters(), lr=0.1))
    assert (path / "files" / "optimizer.safetensors").stat().st_size < 1000


def test_asking_for_an_optimizer_that_is_not_there(tmp_path: Path) -> None:
    """The error says that the model was uploaded without one."""
    with pytest.raises(InvalidArgumentError, match="without an optimizer"):
        restore(store(tmp_path / "m", model=net()), with_optimizer=True)


def test_an_optimizer_for_a_module_that_was_filled(tmp_path: Path) -> None:
    """With into= the optimizer trains the module that was given; its pickle asks the policy, the weights do not."""
    model = net()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 2, seed=1)
    path = store(tmp_path / "m", model=model, optimizer=optimizer, weights_only=True)
    assert entry(path)["pickled"] == ["optimizer.pkl"]
    target = net()
    with pytest.raises(PickleNotAllowedError):
        restore(path, allow_pickle=False, into=target, with_optimizer=True)
    filled, restored = restore(path, into=target, with_optimizer=True)
    assert filled is target
    train(model, optimizer, 2, seed=2)
    train(target, restored, 2, seed=2)
    assert torch.equal(model[3].weight, target[3].weight)


def test_an_optimizer_beside_a_state_dict(tmp_path: Path) -> None:
    """Its parameters lie over the storages of the loaded state dict."""
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer, 1, seed=1)
    state, restored = restore(store(tmp_path / "m", model=model.state_dict(), optimizer=optimizer), with_optimizer=True)
    assert restored.param_groups[0]["params"][0].data_ptr() == state["0.weight"].data_ptr()


@pytest.mark.parametrize("keyword", ["optimizer", "model"])
def test_an_optimizer_alone(tmp_path: Path, keyword: str) -> None:
    """Without a model it holds its parameters itself, and is what loads."""
    model = net()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 2, seed=1)
    restored = restore(store(tmp_path / "m", **{keyword: optimizer}))
    for one, other in zip(model.parameters(), restored.param_groups[0]["params"], strict=True):
        assert torch.equal(one, other)
        assert torch.equal(optimizer.state[one]["exp_avg"], restored.state[other]["exp_avg"])


def test_a_scheduled_optimizer(tmp_path: Path) -> None:
    """A scheduler's patched step does not come along; learning rates do, and a new scheduler can take over."""
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    train(model, optimizer, 1, seed=1)
    scheduler.step()
    _, restored = restore(store(tmp_path / "m", model=model, optimizer=optimizer), with_optimizer=True)
    assert restored.param_groups[0]["lr"] == 0.05
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        following = optim.lr_scheduler.StepLR(restored, 1, gamma=0.5, last_epoch=0)
        restored.step()
        following.step()


def test_an_optimizer_of_another_model_is_a_warning(tmp_path: Path) -> None:
    """An optimizer that shares no parameter with the model is stored, with a warning."""
    with pytest.warns(UserWarning, match="none of the optimizer's parameters"):
        store(tmp_path / "m", model=net(), optimizer=optim.SGD(net().parameters(), lr=0.1))


@pytest.mark.parametrize("swap", [True, False])
def test_wrong_objects_under_optimizer(tmp_path: Path, swap: bool) -> None:
    """A module as optimizer=, or an optimizer as model= beside another, is refused by name."""
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    given = {"model": optimizer, "optimizer": model} if swap else {"model": model, "optimizer": model}
    with pytest.raises(UnsupportedObjectError, match=r"optimizer"):
        store(tmp_path / "m", **given)
