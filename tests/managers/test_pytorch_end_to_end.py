"""PyTorch models through the facade: up from one process, down into another, out of a shared read-only cache."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from modelstore import ModelStore  # noqa: E402
from modelstore.exceptions import (  # noqa: E402
    InvalidArgumentError,
    ModelStoreError,
    PickleNotAllowedError,
    UnsupportedObjectError,
)


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 2)
    )


@pytest.fixture
def batch() -> Any:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def cached_bytes(cache: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in cache.rglob("files/*") if path.is_file()}


def test_training_a_loaded_model_leaves_the_cache_and_other_loads_as_they_were(
    store: ModelStore, batch: Any, own_settings: Path
) -> None:
    """Weights are mapped privately: an optimizer's steps reach neither the files nor the next load."""
    model = network().eval()
    expected = model(batch)
    store.upload("nets", model=model)
    first, second = store.load("nets"), store.load("nets")
    before = cached_bytes(own_settings)
    assert any(name.endswith(".safetensors") for name in before)
    optimizer = torch.optim.SGD(first.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        first(batch).square().sum().backward()
        optimizer.step()
    assert not torch.equal(first(batch), expected)
    assert torch.equal(second(batch), expected)
    assert torch.equal(store.load("nets", verify="full")(batch), expected)
    assert cached_bytes(own_settings) == before


def test_a_model_outlives_its_cache_entry(store: ModelStore, batch: Any, own_settings: Path) -> None:
    """Deleting the cache under a loaded model does it no harm."""
    model = network().eval()
    store.upload("nets", model=model)
    loaded = store.load("nets")
    for path in sorted(own_settings.rglob("*"), reverse=True):
        path.chmod(0o755)
        path.rmdir() if path.is_dir() else path.unlink()
    assert torch.equal(loaded(batch), model(batch))
    assert torch.equal(store.load("nets")(batch), model(batch))


def test_with_and_without_the_optimizer(store: ModelStore, batch: Any) -> None:
    """As the ancestor, a load gives the model; with_optimizer gives both, and training goes on where it was."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(module: Any, using: Any) -> Any:
        using.zero_grad()
        loss = module(batch).square().mean()
        loss.backward()
        using.step()
        return loss.detach()

    step(model, optimizer)
    info = store.upload("nets", model=model, optimizer=optimizer)
    assert info["model"]["model_type"] == {"library": "pytorch", "type": "Sequential", "models": None}
    assert type(store.load("nets")) is torch.nn.Sequential
    loaded, again = store.load("nets", with_optimizer=True)
    losses = [(step(model, optimizer), step(loaded, again)) for _ in range(3)]
    assert all(torch.equal(mine, theirs) for mine, theirs in losses)


def test_weights_only_and_into(store: ModelStore, batch: Any) -> None:
    """Weights alone need no pickle to save or to load, and fill a module that the caller built."""
    model = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(8, 2))
    with pytest.raises(UnsupportedObjectError, match="weights_only=True"):
        store.upload("nets", model=model)
    assert store.list_domains() == []
    info = store.upload("nets", model=model, weights_only=True)
    assert all(not manager["pickled"] for manager in info["model"]["managers"])
    target = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(8, 2))
    filled = store.load("nets", into=target, allow_pickle=False)
    assert filled is target
    assert torch.equal(target(batch), model(batch))
    with pytest.raises(ModelStoreError, match="into="):
        store.load("nets")
    with pytest.raises(ModelStoreError):
        store.load("nets", into=torch.nn.Linear(3, 3))


def test_a_pickled_module_fills_another_without_its_pickle(store: ModelStore, batch: Any) -> None:
    """Where pickles are refused, into= still takes the weights of a module that was stored whole."""
    model = network().eval()
    store.upload("nets", model=model)
    with pytest.raises(PickleNotAllowedError, match="allow_pickle"):
        store.load("nets", allow_pickle=False)
    target = network().eval()
    for parameter in target.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(store.load("nets", into=target, allow_pickle=False)(batch), model(batch))


def test_a_state_dict_is_stored_without_any_pickle(store: ModelStore) -> None:
    """A bare state_dict comes back with its keys in order and its tensors equal."""
    weights = network().state_dict()
    info = store.upload("nets", model=weights)
    assert info.library == "pytorch"
    loaded = store.load("nets", allow_pickle=False)
    assert list(loaded) == list(weights)
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_bad_uses_are_clear_errors(store: ModelStore) -> None:
    """Meta tensors, an optimizer alone, a missing optimizer: each is refused with advice."""
    with torch.device("meta"):
        hollow = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedObjectError, match="meta"):
        store.upload("nets", model=hollow)
    store.upload("nets", model=torch.nn.Linear(2, 2))
    with pytest.raises(InvalidArgumentError, match="optimizer"):
        store.load("nets", with_optimizer=True)


def test_no_temporary_copy_of_the_weights(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights go from memory to the archive: the folder for temporary files stays empty throughout."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    write = store.storage.write
    seen: list[int] = []

    def watched(key: str, chunks: Any, expected: int = 0) -> Any:
        seen.append(sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file()))
        return write(key, chunks, expected)

    monkeypatch.setattr(store.storage, "write", watched)
    store.upload("nets", model=torch.nn.Linear(512, 512))
    assert seen == [0]


NOTEBOOK = """
    import sys, torch
    from modelstore import ModelStore

    def scaled(x, by):
        return x * by

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)
            self.register_buffer("by", torch.tensor(2.5), persistent=False)
            self.layer.register_forward_hook(lambda module, inputs, output: output + 1)
        def forward(self, x):
            return scaled(self.layer(x), self.by)

    torch.manual_seed(3)
    net = Net().eval()
    ModelStore.from_file_system(sys.argv[1]).upload("notebook", model=net)
    print(net(torch.arange(8.0).reshape(2, 4)).detach().numpy().tobytes().hex())
"""

SERVICE = """
    import sys
    from modelstore import ModelStore
    net = ModelStore.from_file_system(sys.argv[1]).load("notebook")
    import torch
    assert not net.training
    print(net(torch.arange(8.0).reshape(2, 4)).detach().numpy().tobytes().hex())
"""


def test_a_module_defined_in_a_notebook_loads_where_it_was_never_seen(tmp_path: Path) -> None:
    """A class, a function and a hook of __main__ go up in one process and run in another."""
    root = tmp_path / "store"
    root.mkdir()

    def run(name: str, code: str) -> str:
        (tmp_path / name).write_text(textwrap.dedent(code))
        command = [sys.executable, str(tmp_path / name), str(root)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert run("notebook.py", NOTEBOOK) == run("service.py", SERVICE)
