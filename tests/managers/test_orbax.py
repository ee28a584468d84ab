"""Orbax' checkpoints: the folder is stored as it is, and the tree in it is restored on the reader's devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("orbax.checkpoint")

import jax
import jax.numpy as jnp
import numpy as np
import optax

from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.bundle import Bundle, load_bundle
from modelstore.managers.detection import Managers, all_managers
from modelstore.managers.orbax import CHECKPOINT, OrbaxManager
from modelstore.managers.pickling import PicklePolicy
from modelstore.testing import ManagerContract
from tests.managers.orbax_parts import observe, save, tree, write

if TYPE_CHECKING:
    from modelstore import ModelStore

KINDS = ("standard", "zarr", "step", "items")


class TestOrbax(ManagerContract):
    """Each way in which Orbax writes a tree."""

    manager = OrbaxManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names; a path is not what comes back, so that the probe looks at what was written."""
        folder = Path(tempfile.mkdtemp())
        return {kind: Case(lambda kind=kind: {"model": str(write(folder, kind))}, observe) for kind in KINDS}

    def _seen(self, result: Any, keywords: tuple[str, ...], probe: Any) -> dict[str, Any]:
        return {"class": {}, "parameters": {}, "probe": probe(result)}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each kind."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {kind: write(folder, kind) for kind in KINDS}


def keep(folder: Path, path: Any) -> Path:
    """Save a checkpoint as `upload` would, read-only as the cache holds it."""
    with ModelFolder() as files:
        entries, _ = Bundle.of(Managers([OrbaxManager()]), {"model": path}).save(files)
        write_folder(files.contents(), folder)
    (folder / "entries.json").write_text(json.dumps(entries))
    return folder


def restore(folder: Path, **how: Any) -> Any:
    """Load it, as `load` would."""
    entries = json.loads((folder / "entries.json").read_text())
    return load_bundle(Managers([OrbaxManager()]), entries, folder, PicklePolicy(False), subject="the model", **how)


def test_a_checkpoint_goes_through_a_store(store: ModelStore, checkpoints: dict[str, Path]) -> None:
    """A path is found to be a checkpoint, and what is loaded is the tree; a download is the folder."""
    info = store.upload("orbax", model=checkpoints["standard"])
    assert info["model"]["model_type"]["library"] == "orbax"
    assert info["model"]["parameters"]["default"]["leaves"] == 8
    assert observe(store.load("orbax", info.model_id, allow_pickle=False)) == observe(tree())


def test_the_files_open_with_orbax_alone(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """The stored folder is the checkpoint, file for file."""
    import orbax.checkpoint as ocp

    path = keep(tmp_path / "a", checkpoints["standard"])
    with ocp.StandardCheckpointer() as checkpointer:
        assert observe(checkpointer.restore(path / CHECKPOINT)) == observe(tree())


def test_it_comes_before_other_paths(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Only folders with a checkpoint's files are this manager's; recognising one imports nothing."""
    managers = all_managers()
    for path in (*checkpoints.values(), str(checkpoints["zarr"])):
        found = managers.find(path)
        assert found is not None
        assert found.name == "orbax"
    (tmp_path / "_METADATA").write_text("{}")
    for other in (tmp_path, tmp_path / "_METADATA", checkpoints["step"].parent, 3, "nothing", "a\0b"):
        assert not OrbaxManager().recognises(other)


@pytest.mark.parametrize("abstract", [False, True], ids=["concrete", "abstract"])
def test_into_gives_the_structure(abstract: bool, tmp_path: Path) -> None:
    """Classes, which Orbax does not keep, come from a tree of the caller's."""
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    state = optax.adam(0.1).init(params)
    state = jax.tree.map(lambda leaf: leaf + 2, state)
    save(tmp_path / "checkpoint", {"params": params, "state": state})
    path = keep(tmp_path / "a", tmp_path / "checkpoint")
    target = {"params": params, "state": optax.adam(0.1).init(params)}
    loaded = restore(path, into=jax.eval_shape(lambda: target) if abstract else target)
    assert observe(loaded) == observe({"params": params, "state": state})
    assert type(loaded["state"][0]) is type(state[0])
    wrong = {**target, "params": {"w": jnp.ones((3, 3)), "b": jnp.zeros(3)}}
    with pytest.raises(InvalidArgumentError, match=r"params\.w"):
        restore(path, into=wrong)
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        restore(path, into={**target, "more": jnp.ones(1)})


def test_of_several_items_into_is_a_mapping(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Items are loaded by name, and filled by name."""
    path = keep(tmp_path / "a", checkpoints["items"])
    loaded = restore(path, into={"state": tree()})
    assert loaded["notes"] == {"a": [1, "text"]}
    assert observe(loaded["state"]) == observe(tree())
    with pytest.raises(InvalidArgumentError, match="mapping"):
        restore(path, into={"other": tree()})


def test_device_says_where_arrays_go(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A device of this machine is heeded, another one is refused."""
    path = keep(tmp_path / "a", checkpoints["standard"])
    assert {device.platform for device in restore(path, device="cpu:0")["flags"].devices()} == {"cpu"}
    with pytest.raises(InvalidArgumentError, match="JAX has no device"):
        restore(path, device="cuda")


SPREAD = """
    import pathlib, sys
    import jax, jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec
    from tests.managers.test_orbax import keep, restore, save

    spread = NamedSharding(jax.make_mesh((4,), ("data",)), PartitionSpec("data"))
    array, target = jax.device_put(jnp.arange(8.0), spread), pathlib.Path(sys.argv[1])
    save(target / "checkpoint", {"a": array})
    path = keep(target / "kept", target / "checkpoint")
    loaded, back = restore(path)["a"], restore(path, into={"a": array})["a"]
    print(len(loaded.devices()), len(back.devices()), loaded.tolist() == back.tolist() == array.tolist())
"""


def test_a_checkpoint_of_several_devices_loads_on_one(tmp_path: Path) -> None:
    """What lay on four devices is restored on a machine that has one, and `into` spreads it again."""
    script = tmp_path / "spread.py"
    script.write_text(textwrap.dedent(SPREAD))
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": paths, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 4 True\n"
    assert restore(tmp_path / "kept")["a"].tolist() == list(range(8))


def test_an_unfinished_checkpoint_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A folder that Orbax is still writing, or holds such a one, is recognised and refused with advice."""
    unfinished = shutil.copytree(checkpoints["standard"], tmp_path / "step.orbax-checkpoint-tmp")
    step = shutil.copytree(checkpoints["step"], tmp_path / "step")
    (step / "default").rename(step / "default.orbax-checkpoint-tmp")
    for path in (unfinished, step):
        with pytest.raises(UnsupportedObjectError, match="wait_until_finished"):
            keep(tmp_path / "a", path)


def test_items_of_other_kinds_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """What could not be loaded again is named; so is a checkpoint without anything."""
    step = shutil.copytree(checkpoints["items"], tmp_path / "step")
    (step / "notes" / "metadata").rename(step / "notes" / "other")
    with pytest.raises(UnsupportedObjectError, match="notes"):
        keep(tmp_path / "a", step)
    for name in ("notes", "state"):
        shutil.rmtree(step / name)
    with pytest.raises(UnsupportedObjectError, match="no tree"):
        keep(tmp_path / "a", step)


def test_damaged_files_are_errors(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Missing and changed files raise nothing unexpected."""
    path = keep(tmp_path / "a", checkpoints["standard"])
    for at, name in enumerate(("_METADATA", "manifest.ocdbt")):
        for data in (None, b"{"):
            broken = shutil.copytree(path, tmp_path / f"{at}{data}")
            file = broken / CHECKPOINT / name
            file.unlink() if data is None else file.write_bytes(data)
            with pytest.raises(IntegrityError):
                restore(broken)


def test_what_is_restored_is_the_caller_s_own(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Changing a restored array of numpy's changes no file."""
    path = keep(tmp_path / "a", checkpoints["standard"])
    loaded = restore(path)
    loaded["more"][1]["numpy"] += 1
    assert np.array_equal(restore(path)["more"][1]["numpy"], np.arange(4.0))
