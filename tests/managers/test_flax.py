"""Flax: modules, variables and training states come back as they were, and take up training where they stood."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("flax")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn, nnx
from flax.core import FrozenDict, freeze
from flax.training.train_state import TrainState

from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, InvalidArgumentError, PickleNotAllowedError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._flax.arrays import WEIGHTS
from modelstore.managers._flax.encode import STRUCTURE
from modelstore.managers.bundle import Bundle, load_bundle
from modelstore.managers.detection import Managers
from modelstore.managers.flax import FlaxManager
from modelstore.managers.pickling import PicklePolicy
from tests.managers import flax_parts as parts
from tests.managers.contract import BuiltinContract
from tests.managers.flax_parts import IMAGES, LINEN, TABLE, Block, Config, Late, Loop, Net, init

if TYPE_CHECKING:
    from modelstore import ModelStore


def training(tx: Any = None, module: Any = None, steps: int = 1) -> Any:
    """A training state after some steps."""
    module = module or nn.Dense(2)
    params = module.init(jax.random.key(0), TABLE)["params"]
    state = TrainState.create(apply_fn=module.apply, params=params, tx=tx or parts.optimizer())
    for _ in range(steps):
        state = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, params))
    return {"model": state}


def trained_nnx() -> Any:
    """A module and its optimizer after a step."""
    model = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(3, 1, rngs=nnx.Rngs(1)))
    optimizer = nnx.Optimizer(model, parts.optimizer(), wrt=nnx.Param)
    optimizer.update(model, nnx.grad(lambda each: (each(TABLE) ** 2).mean())(model))
    return {"model": model, "optimizer": optimizer}


def evaluated() -> Any:
    """A module in evaluation mode."""
    model = Net(nnx.Rngs(0))
    model(TABLE)
    model.eval()
    return {"model": model}


def of_all_types() -> Any:
    """Arrays of all of JAX's types, empty ones, random keys, and numpy's own."""
    names = (
        "bool int2 int4 int8 int16 int32 uint2 uint4 uint8 uint16 uint32 float16 bfloat16 float32 complex64 "
        "float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz "
        "float8_e8m0fnu float4_e2m1fn"
    )
    arrays = {name: jnp.ones((2, 3), name) for name in names.split()}
    with jax.enable_x64(True):
        wide = {name: jnp.ones((2,), name) for name in ("int64", "uint64", "float64", "complex128")}
    keys = {
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(1, impl="rbg"), 3),
        "old": jax.random.PRNGKey(1),
    }
    return {
        "params": {
            **arrays, **wide, **keys, "empty": jnp.zeros((0, 3)), "number": jnp.asarray(2.0), "one": jnp.float16(1.5),
            "numpy": np.linspace(0, 1, 5)[::2], "swapped": np.arange(3, dtype=">i4"),
            "times": np.arange(3).astype("M8[s]"), "numbers": {3: [None, (True, 2, 2.5, float("nan"))]},
            "shared": arrays["int8"],
        }
    }  # fmt: skip


def partitioned() -> Any:
    """Variables in boxes that say how they are to be spread."""
    module = nn.Dense(2, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), ("data", None)))
    return init(module, TABLE)


class TestFlax(BuiltinContract):
    """Every public class of linen and nnx, training states and trees of arrays."""

    manager = FlaxManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        found: dict[str, Case] = {}
        for name, (make, inputs) in LINEN.items():
            build = functools.partial(_linen, make, inputs, name)
            found[f"linen {name}"] = Case(build, parts.observe_module if inputs is None else parts.observe_linen)
        for name, (make, _) in parts.nnx_modules().items():
            found[f"nnx {name}"] = Case(functools.partial(_model, make), parts.observe_nnx)
        block = functools.partial(Block, Config(3))
        found |= {
            "module of one's own": Case(lambda: init(block(), TABLE), parts.observe_linen),
            "nested modules": Case(lambda: init(block(inner=nn.Dense(2)), TABLE), parts.observe_linen),
            "function of one's own": Case(lambda: init(block(activation=parts.doubled), TABLE), parts.observe_linen),
            "lambda": Case(lambda: init(block(activation=lambda values: values + 1), TABLE), parts.observe_linen),
            "late fields": Case(lambda: init(Late(6), TABLE), parts.observe_linen),
            "rematerialized": Case(lambda: init(nn.remat(nn.Dense)(3), TABLE), parts.observe_linen),
            "frozen variables": Case(
                lambda: {"variables": freeze(init(block(), TABLE)["variables"])}, parts.observe_tree
            ),
            "variables alone": Case(lambda: {"variables": init(block(), TABLE)["variables"]}, parts.observe_tree),
            "boxed variables": Case(partitioned, parts.observe_linen),
            "all types": Case(of_all_types, parts.observe_tree),
            "a dataclass of arrays": Case(lambda: {"params": {"a": parts.Marked(jnp.ones(2))}}, parts.observe_tree),
            "optimizer's state": Case(
                lambda: {"opt_state": parts.optimizer().init({"w": jnp.ones((2, 2))})}, parts.observe_tree
            ),
            "state without arrays": Case(
                lambda: {"opt_state": optax.sgd(0.1).init({"w": jnp.ones(2)})}, parts.observe_tree
            ),
            "training state": Case(training, parts.observe_training),
            "untrained training state": Case(lambda: training(steps=0), parts.observe_training),
            "net": Case(lambda: {"model": Net(nnx.Rngs(0, dropout=3))}, parts.observe_nnx),
            "evaluated net": Case(evaluated, parts.observe_nnx),
            "a loop": Case(lambda: {"model": Loop(nnx.Rngs(0))}, parts.observe_nnx),
            "module and optimizer": Case(trained_nnx, parts.observe_nnx_training),
            "split state": Case(lambda: {"variables": nnx.state(Net(nnx.Rngs(0)))}, parts.observe_tree),
        }
        return found

    def test_every_public_class_is_among_the_cases(self) -> None:
        """Whatever linen and nnx export as a module is stored here, but for the roots themselves."""
        roots = {"Module", "Pytree", "Object", "Metric"}
        listed = {name for name in dir(nn) if _is_kind(getattr(nn, name), nn.Module)}
        assert listed - roots == set(LINEN)
        listed = {
            name for module in (nnx, nnx.metrics) for name in dir(module) if _is_kind(getattr(module, name), nnx.Pytree)
        }
        assert listed - roots == set(parts.nnx_modules()) - {"ToNNX"}

    def test_only_code_of_ones_own_takes_trust(self, tmp_path_factory: Any) -> None:
        """No class and no function of Flax', JAX's and optax' is pickled, whatever made it."""
        pickled = {name: outcome.saved.pickled for name, outcome in self._outcomes(tmp_path_factory).items()}
        own = "custom.pkl"
        assert {name: files for name, files in pickled.items() if files} == {
            "function of one's own": [f"model/{STRUCTURE}"],
            "lambda": [f"model/{own}"],
            "rematerialized": [f"model/{own}"],
            "training state": [STRUCTURE],
            "untrained training state": [STRUCTURE],
            "nnx Optimizer": [STRUCTURE],
            "nnx ModelAndOptimizer": [STRUCTURE],
            "module and optimizer": [f"optimizer/{STRUCTURE}"],
        }


def _linen(make: Callable[[], Any], inputs: Any, name: str) -> Any:
    module = make()
    if inputs is None:
        return {"model": module}
    return init(module.clone(name=name), inputs)


def _model(make: Callable[[], Any]) -> Any:
    return {"model": make()}


def _is_kind(value: Any, root: type) -> bool:
    return isinstance(value, type) and issubclass(value, root)


def keep(folder: Path, **given: Any) -> Path:
    """Save what `upload` would be given."""
    with ModelFolder() as files:
        entries, _ = Bundle.of(Managers([FlaxManager()]), given).save(files)
        write_folder(files.contents(), folder)
    (folder / "entries.json").write_text(json.dumps(entries))
    return folder


def restore(folder: Path, allow_pickle: bool = False, trusted: Any = (), **how: Any) -> Any:
    """Load it, as `load` would."""
    entries = json.loads((folder / "entries.json").read_text())
    policy = PicklePolicy(allow_pickle, frozenset(trusted))
    return load_bundle(Managers([FlaxManager()]), entries, folder, policy, subject="the model", **how)


def same(left: Any, right: Any) -> bool:
    """Whether two trees are equal, bit for bit."""
    return parts.plain(left) == parts.plain(right)


@pytest.mark.parametrize(
    "name",
    ["adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad", "fromage", "lamb",
     "lars", "lbfgs", "lion", "nadam", "nadamw", "noisy_sgd", "novograd", "optimistic_gradient_descent", "polyak_sgd",
     "radam", "rmsprop", "rprop", "sgd", "sign_sgd", "sm3", "yogi"],
)  # fmt: skip
def test_optimizers_need_no_pickle(name: str, tmp_path: Path) -> None:
    """Each of optax' optimizers is rebuilt from optax' own code, and its state with it."""
    settings = {"key": 0} if name == "noisy_sgd" else {}
    if name == "adafactor":
        settings["min_dim_size_to_factor"] = 2
    state = training(getattr(optax, name)(0.1, **settings), steps=0)["model"]
    loaded = restore(keep(tmp_path / "a", model=state))
    assert same(loaded.opt_state, state.opt_state)
    if name not in ("lbfgs", "polyak_sgd"):  # those want the loss beside the gradients
        gradients = jax.tree.map(jnp.ones_like, state.params)
        after, before = (each.apply_gradients(grads=gradients) for each in (loaded, state))
        assert same((after.params, after.opt_state), (before.params, before.opt_state))


def test_variables_in_a_store_come_back_by_keyword(store: ModelStore) -> None:
    """A linen module and its variables are two objects of one library, and one upload."""
    given = init(nn.Dense(3), TABLE)
    info = store.upload("flax", **given)
    assert info["model"]["model_type"]["library"] == "flax"
    loaded = store.load("flax", info.model_id, allow_pickle=False)
    assert set(loaded) == {"model", "variables"}
    assert same(loaded["model"].apply(loaded["variables"], TABLE), given["model"].apply(given["variables"], TABLE))


def test_parameters_may_be_called_params(store: ModelStore) -> None:
    """`params=` takes the parameters alone, as training states hold them."""
    given = init(nn.Dense(3), TABLE)
    info = store.upload("flax", model=given["model"], params=given["variables"]["params"])
    loaded = store.load("flax", info.model_id)
    assert same(loaded["params"], given["variables"]["params"])


def test_the_file_opens_with_safetensors_alone(tmp_path: Path) -> None:
    """The weights lie in a plain safetensors file, under their paths."""
    safetensors = pytest.importorskip("safetensors.flax")
    given = init(nn.Dense(3), TABLE)
    path = keep(tmp_path / "a", **given)
    found = safetensors.load_file(path / "variables" / WEIGHTS)
    assert set(found) == {"params.kernel", "params.bias"}
    assert same(found["params.kernel"], given["variables"]["params"]["kernel"])


def test_a_module_that_uses_one_array_twice_stores_it_once(tmp_path: Path) -> None:
    """Shared layers are one layer after loading, and shared arrays lie in the file once."""
    path = keep(tmp_path / "a", model=Net(nnx.Rngs(0)))
    loaded = restore(path)
    assert loaded.again is loaded.first
    names = json.loads((path / WEIGHTS).read_bytes()[8:].partition(b"}}")[0] + b"}}")
    assert not [name for name in names if name.startswith("again")]


def test_frozen_dicts_stay_frozen(tmp_path: Path) -> None:
    """A FrozenDict, also in another, is one again; a dict is a dict."""
    tree = {"a": freeze({"b": {"c": jnp.ones(2)}}), "d": {"e": jnp.ones(1)}}
    loaded = restore(keep(tmp_path / "a", params=tree))
    assert type(loaded["a"]) is FrozenDict
    assert type(loaded["a"]["b"]) is FrozenDict
    assert type(loaded["d"]) is dict


def test_a_wide_type_comes_back_wide(tmp_path: Path) -> None:
    """64-bit numbers are not narrowed on loading, though this process has them turned off."""
    path = keep(tmp_path / "a", **of_all_types())
    loaded = restore(path)
    assert {str(loaded[name].dtype) for name in ("float64", "int64")} == {"float64", "int64"}


def test_references_of_variables_are_references_again(tmp_path: Path) -> None:
    """An nnx variable that is a mutable array of JAX's comes back as one, and one that JAX traces as a variable too."""
    model = nnx.Dict(a=nnx.Param(jnp.ones(2), ref=True), b=nnx.Param(jnp.ones(3), hijax=True))
    loaded = restore(keep(tmp_path / "a", model=model))
    loaded["a"][...] += 1
    assert loaded["a"].get_metadata()["ref"]
    assert type(loaded["b"]) is type(model["b"])
    assert loaded["a"][...].tolist() == [2, 2]
    assert loaded["b"][...].tolist() == [1, 1, 1]
    assert model["a"][...].tolist() == [1, 1]


@pytest.mark.parametrize("abstract", [False, True], ids=["concrete", "abstract"])
def test_into_fills_a_tree(abstract: bool, tmp_path: Path) -> None:
    """A tree of the caller's, or one that tells shapes only, gives the structure; no pickle is asked for."""
    state = training()["model"]
    path = keep(tmp_path / "a", model=state)
    with pytest.raises(PickleNotAllowedError):
        restore(path)
    mine = training(steps=0)["model"]
    if abstract:
        mine = jax.eval_shape(lambda: mine)
    filled = restore(path, into=mine)
    assert same((filled.params, filled.opt_state), (state.params, state.opt_state))
    assert int(filled.step) == 1
    assert filled.tx is mine.tx


def test_into_fills_an_nnx_module(tmp_path: Path) -> None:
    """Parameters, statistics and random state are copied into a module of the caller's, whatever class was stored."""
    model = Net(nnx.Rngs(0))
    model(TABLE)
    path = keep(tmp_path / "a", model=model)
    mine = Net(nnx.Rngs(5))
    assert restore(path, into=mine) is mine
    assert same(mine(TABLE), model(TABLE))


def test_of_two_objects_into_names_which_to_fill(tmp_path: Path) -> None:
    """With a module and variables, `into` is a mapping by keyword."""
    given = init(nn.Dense(3), TABLE)
    path = keep(tmp_path / "a", **given)
    target = jax.eval_shape(lambda: given["variables"])
    loaded = restore(path, into={"variables": target})
    assert same(loaded["variables"], given["variables"])
    assert isinstance(loaded["model"], nn.Dense)
    with pytest.raises(InvalidArgumentError, match="mapping"):
        restore(path, into=target)
    with pytest.raises(InvalidArgumentError, match="fill its variables"):
        restore(path, into={"model": given["model"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: {**tree, "more": jnp.ones(1)}, r"more"),
        (lambda tree: {"kernel": tree["kernel"]}, r"bias"),
        (lambda tree: {**tree, "bias": jnp.ones(4)}, r"bias of shape \(4,\)"),
        (lambda tree: {**tree, "bias": jnp.ones(3, "int32")}, r"type int32"),
    ],
    ids=["more", "less", "shape", "type"],
)
def test_into_refuses_what_does_not_fit(change: Any, message: str, tmp_path: Path) -> None:
    """Arrays that are missing, left over, or of another shape or type are named."""
    params = init(nn.Dense(3), TABLE)["variables"]["params"]
    path = keep(tmp_path / "a", params=params)
    with pytest.raises(InvalidArgumentError, match=message):
        restore(path, into=change(params))


def test_device_says_where_arrays_go(tmp_path: Path) -> None:
    """A device of this machine is heeded; another one is refused with the names of those there are."""
    path = keep(tmp_path / "a", params={"a": jnp.ones(3), "b": jnp.asarray(1.0)})
    loaded = restore(path, device="cpu:0")
    assert {str(device.platform) for leaf in jax.tree.leaves(loaded) for device in leaf.devices()} == {"cpu"}
    assert all(leaf.committed for leaf in jax.tree.leaves(loaded))
    assert not restore(path)["a"].committed
    for name in ("cpu:99", "cuda", "nothing", "cpu:x"):
        with pytest.raises(InvalidArgumentError, match="JAX has no device"):
            restore(path, device=name)


SPREAD = """
    import pathlib, sys
    import jax, jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec
    from tests.managers.test_flax import keep, restore

    mesh = jax.make_mesh((4,), ("data",))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    array = jax.device_put(jnp.arange(8.0), spread)
    path = keep(pathlib.Path(sys.argv[1]), params={"a": array})
    loaded = restore(path)["a"]
    back = restore(path, into={"a": array})["a"]
    placed = restore(path, device="cpu:3")["a"]
    print([len(array.devices()), len(loaded.devices()), len(back.devices()), [d.id for d in placed.devices()]])
    print(loaded.tolist() == back.tolist() == placed.tolist() == array.tolist())
"""


def test_arrays_on_several_devices_are_gathered(tmp_path: Path) -> None:
    """What lies on four devices loads on one, on a machine that has one, and `into` spreads it again."""
    script = tmp_path / "spread.py"
    output = _run(SPREAD, script, tmp_path / "a", XLA_FLAGS="--xla_force_host_platform_device_count=4").splitlines()
    assert output == ["[4, 1, 4, [3]]", "True"]
    assert restore(tmp_path / "a")["a"].tolist() == list(range(8))


def bound() -> Any:
    given = init(nn.Dense(3), TABLE)
    return given["model"].bind(given["variables"])


def deleted() -> Any:
    array = jnp.ones(3)
    array.delete()
    return {"a": array}


def locked() -> Any:
    model = nnx.Dict(a=nnx.Param(jnp.ones(2)))
    model.lock = threading.Lock()
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [(bound, "unbind"), (deleted, "was deleted"), (locked, "cannot be pickled")],
    ids=["bound", "deleted", "lock"],
)
def test_what_cannot_be_stored_is_refused(build: Callable[[], Any], message: str, tmp_path: Path) -> None:
    """The error says what is wrong, and what to do."""
    with pytest.raises(UnsupportedObjectError, match=message):
        keep(tmp_path / "a", model=build())


def test_uploading_while_tracing_is_refused(tmp_path: Path) -> None:
    """Inside of `jit` there are no values to store."""

    def traced(values: Any) -> Any:
        keep(tmp_path / "a", params={"a": jnp.ones(2), "b": nnx.Variable(values)})
        return values

    with pytest.raises(UnsupportedObjectError, match="being traced"):
        jax.jit(traced)(jnp.ones(2))


@pytest.mark.parametrize(
    "other",
    [{}, {"a": np.ones(2)}, {"a": "text", "b": 1}, [1, 2], {"a": jnp.int32}, ("text", jnp.ones(1)), jnp.ones(2), 3],
    ids=["empty", "numpy's", "texts", "numbers", "types", "mixed", "an array", "a number"],
)
def test_other_containers_are_not_claimed(other: Any) -> None:
    """Only a tree in which there is an array of JAX's, and nothing but arrays and numbers, is this manager's."""
    assert Managers([FlaxManager()]).find(other) is None
    assert Managers([FlaxManager()]).find({"a": [jnp.ones(2), None, 3, np.ones(2)]}) is not None


def test_named_functions_take_trust(tmp_path: Path) -> None:
    """A function of one's own loads by its name for who trusts it."""
    path = keep(tmp_path / "a", **init(Block(Config(2), activation=parts.doubled), TABLE))
    with pytest.raises(PickleNotAllowedError, match="doubled"):
        restore(path)
    assert restore(path, trusted=["tests.managers.flax_parts:doubled"])["model"].activation is parts.doubled


def rewrite(path: Path, before: str, after: str) -> None:
    """Change a structure as somebody could who writes to the bucket."""
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    "name",
    ["os:system", "flax.core.lift:warnings.warn", "jax.numpy:load", "jax.numpy:save", "shutil:rmtree", "builtins:eval",
     "numpy:load", "jax.lax:map.__globals__"],
)  # fmt: skip
def test_a_record_cannot_name_other_code(name: str, tmp_path: Path) -> None:
    """A changed structure reaches no function but those that only compute."""
    path = keep(tmp_path / "a", model=nn.Dense(3))
    rewrite(path / STRUCTURE, "jax.nn.initializers:zeros", name)
    with pytest.raises((PickleNotAllowedError, IntegrityError)):
        restore(path)


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "flax.linen.linear:default_kernel_init", "nothing"])
def test_a_record_cannot_name_another_class(name: str, tmp_path: Path) -> None:
    """Classes that are not of Flax' kinds are not built."""
    path = keep(tmp_path / "a", model=nn.Dense(3))
    rewrite(path / STRUCTURE, "flax.linen.linear:Dense", name)
    with pytest.raises(IntegrityError):
        restore(path)
    path = keep(tmp_path / "b", model=nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    rewrite(path / STRUCTURE, "flax.nnx.nn.linear:Linear", name)
    with pytest.raises(IntegrityError):
        restore(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("variance_scaling.<locals>.init", "variance_scaling.<locals>.other"),
        ('"scale"', '"size"'),
        ("jax._src.nn.initializers:variance_scaling", "os:walk"),
        ('"": "closure"', '"": "call"'),
        ('"cells": [', '"cells": [1, '),
    ],
    ids=["function", "enclosed", "module", "kind", "number"],
)
def test_a_closure_is_the_frameworks_own_or_none(before: str, after: str, tmp_path: Path) -> None:
    """What a structure says of a closure has to fit the code of the installed package."""
    path = keep(tmp_path / "a", model=nn.Dense(3))
    rewrite(path / STRUCTURE, before, after)
    with pytest.raises(IntegrityError):
        restore(path)


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    """Missing, cut and swapped files are named, and nothing unexpected is raised."""
    path = keep(tmp_path / "a", params={"a": jnp.ones(3)})
    for name, data in ((STRUCTURE, b"{"), (STRUCTURE, None), (WEIGHTS, b"\0" * 9), (WEIGHTS, None)):
        broken = shutil.copytree(path, tmp_path / f"{name}{data!r:.4}".replace("/", ""))
        (broken / name).unlink() if data is None else (broken / name).write_bytes(data)
        with pytest.raises(IntegrityError):
            restore(broken)
    for before, after in (('"name": "a"', '"name": 3'), ('"name": "a"', '"name": "a", "dtype": "O", "shape": [3]')):
        broken = shutil.copytree(path, tmp_path / f"{after!r}".replace("/", ""))
        rewrite(broken / STRUCTURE, before, after)
        with pytest.raises(IntegrityError):
            restore(broken)


def test_loaded_arrays_are_the_caller_s_own(tmp_path: Path) -> None:
    """Giving a loaded array to a function that reuses its memory changes no file."""
    path = keep(tmp_path / "a", params={"a": jnp.arange(64.0), "b": np.arange(64.0)})
    before = (path / WEIGHTS).read_bytes()
    loaded = restore(path)
    jax.jit(lambda values: values * 0, donate_argnums=0)(loaded["a"]).block_until_ready()
    loaded["b"] += 1
    assert (path / WEIGHTS).read_bytes() == before


SCRIPT = """
    import pathlib, sys
    import flax.linen as nn, jax, jax.numpy as jnp, numpy as np
    from flax import nnx
    from tests.managers.test_flax import keep

    def bent(values):
        return jnp.tanh(values) + 1

    class Tower(nn.Module):
        width: int
        @nn.compact
        def __call__(self, inputs):
            return bent(nn.Dense(self.width)(inputs))

    class Graph(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(4, 3, rngs=rngs)
            self.bend = bent
        def __call__(self, inputs):
            return self.bend(self.first(inputs))

    target, inputs = pathlib.Path(sys.argv[1]), jnp.ones((2, 4))
    tower, graph = Tower(3), Graph(nnx.Rngs(0))
    variables = tower.init(jax.random.key(0), inputs)
    keep(target / "linen", model=tower, variables=variables)
    keep(target / "nnx", model=graph)
    np.savez(target / "expected.npz", linen=tower.apply(variables, inputs), nnx=graph(inputs))
"""


def test_classes_of_a_notebook_load_elsewhere(tmp_path: Path) -> None:
    """Classes and functions of `__main__` are stored by value, and only with the reader's leave come back."""
    _run(SCRIPT, tmp_path / "notebook.py", tmp_path)
    for kind in ("linen", "nnx"):
        entries = json.loads((tmp_path / kind / "entries.json").read_text())
        assert "python" in entries[0]
        with pytest.raises(PickleNotAllowedError):
            restore(tmp_path / kind)
    inputs = jnp.ones((2, 4))
    expected = np.load(tmp_path / "expected.npz")
    linen, graph = restore(tmp_path / "linen", True), restore(tmp_path / "nnx", True)
    assert np.array_equal(linen["model"].apply(linen["variables"], inputs), expected["linen"])
    assert np.array_equal(graph(inputs), expected["nnx"])


def _run(code: str, script: Path, *arguments: Path, **environment: str) -> str:
    script.write_text(textwrap.dedent(code))
    paths = ":".join([str(Path(__file__).parents[2]), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
        env={"PYTHONPATH": paths, "PATH": "", "JAX_PLATFORMS": "cpu", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_parameters_tell_fields_and_sizes() -> None:
    """They are small JSON: fields of linen modules, attributes of nnx ones, and how many numbers there are."""
    manager = FlaxManager()
    given = init(nn.BatchNorm(use_running_average=True), IMAGES)
    found = manager.parameters(given)
    assert found["model"]["fields"]["epsilon"] == 1e-05
    assert found["variables"]["arrays"] == {
        "params": {"arrays": 2, "numbers": 8},
        "batch_stats": {"arrays": 2, "numbers": 8},
    }
    found = manager.parameters({"model": nnx.Linear(4, 3, rngs=nnx.Rngs(0))})
    assert found["arrays"] == {"Param": {"arrays": 2, "numbers": 15}}
    assert found["attributes"]["out_features"] == 3
