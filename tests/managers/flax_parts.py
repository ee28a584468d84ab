"""Flax modules of one's own in a module that an import finds, one of each public class, and how to look at them."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn, nnx, struct

jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes the time

TABLE = jnp.linspace(-1, 1, 12).reshape(3, 4)
IMAGES = jnp.linspace(-1, 1, 2 * 5 * 5 * 4).reshape(2, 5, 5, 4)
SERIES = jnp.linspace(-1, 1, 2 * 3 * 4).reshape(2, 3, 4)
WORDS = jnp.arange(6).reshape(2, 3)
KEY = jax.random.key(7)


def doubled(values: Any) -> Any:
    """A function of one's own."""
    return values * 2


class Kind(enum.Enum):
    """A choice."""

    WIDE = "wide"


@dataclasses.dataclass(frozen=True)
class Config:
    """A configuration."""

    width: int
    kind: Kind = Kind.WIDE
    dtype: Any = jnp.bfloat16
    scale: float = float("inf")


@struct.dataclass
class Marked:
    """A dataclass of Flax' making."""

    weight: Any
    name: str = struct.field(pytree_node=False, default="marked")


class Block(nn.Module):
    """A linen module with fields of many kinds."""

    config: Config
    norm: Any = partial(nn.BatchNorm, use_running_average=True)
    start: Any = nn.initializers.truncated_normal(0.1)
    activation: Callable[[Any], Any] = nn.gelu
    shape: tuple[int, ...] = (2, 2)
    steps: Any = dataclasses.field(default_factory=lambda: {"a": [1, 2.5], "b": None})
    precision: Any = jax.lax.Precision.HIGHEST
    inner: nn.Module | None = None

    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        values = nn.Dense(self.config.width, kernel_init=self.start, dtype=self.config.dtype)(inputs)
        values = self.activation(self.norm()(values))
        count = self.variable("state", "count", lambda: jnp.zeros((), jnp.int32))
        count.value = count.value + 1
        return values if self.inner is None else self.inner(values)

    def first(self, inputs: Any) -> Any:
        return inputs[:1]


class Late(nn.Module):
    """A linen module with `setup` and a field that is not an argument."""

    width: int
    half: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.half = self.width // 2
        super().__post_init__()

    def setup(self) -> None:
        self.layers = [nn.Dense(self.half), nn.Dense(1)]

    def __call__(self, inputs: Any) -> Any:
        return self.layers[1](self.layers[0](inputs))


class Scaled(nnx.Param):
    """A kind of variables of one's own."""


class Net(nnx.Module):
    """An nnx module with shared layers, statistics, randomness, and attributes of many kinds."""

    def __init__(self, rngs: nnx.Rngs, config: Config = Config(4)) -> None:
        self.first = nnx.Linear(4, config.width, rngs=rngs)
        self.norm = nnx.BatchNorm(config.width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.again = self.first
        self.scale = Scaled(jnp.full((4,), 2.0, jnp.bfloat16), sharding=None, note="mine")
        self.parts = nnx.List([nnx.Linear(4, 2, rngs=rngs), nnx.relu])
        self.named = nnx.Dict({"a": nnx.Param(jnp.ones(2, jnp.int8)), "b": nnx.Linear(2, 2, rngs=rngs)})
        self.config = config
        self.activation = nnx.gelu
        self.plain = {"a": (1, 2.5), "b": slice(None, 3)}
        self.seen = nnx.Variable(jnp.zeros((), jnp.int32))
        self.table = jnp.arange(3)

    def __call__(self, inputs: Any) -> Any:
        self.seen[...] += 1
        values = self.again(self.drop(self.norm(self.first(inputs)))) * self.scale[...]
        return self.named["b"](self.parts[1](self.parts[0](self.activation(values))))


class Loop(nnx.Module):
    """A module that refers to itself."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layer = nnx.Linear(4, 4, rngs=rngs)
        self.layer.owner = self

    def __call__(self, inputs: Any) -> Any:
        return self.layer(inputs)


LINEN: dict[str, tuple[Callable[[], Any], Any]] = {
    "BatchNorm": (lambda: nn.BatchNorm(use_running_average=False), TABLE),
    "Bidirectional": (lambda: nn.Bidirectional(nn.RNN(nn.GRUCell(2)), nn.RNN(nn.LSTMCell(2))), SERIES),
    "Conv": (lambda: nn.Conv(2, (3, 3), padding=[(1, 1), (0, 2)]), IMAGES),
    "ConvLSTMCell": (lambda: nn.RNN(nn.ConvLSTMCell(2, (3,))), IMAGES),
    "ConvLocal": (lambda: nn.ConvLocal(2, (3, 3)), IMAGES),
    "ConvTranspose": (lambda: nn.ConvTranspose(2, (2, 2), strides=(2, 2)), IMAGES),
    "Dense": (lambda: nn.Dense(3, dtype=jnp.bfloat16, param_dtype=jnp.float16), TABLE),
    "DenseGeneral": (lambda: nn.DenseGeneral((2, 3), axis=(-2, -1)), SERIES),
    "Dropout": (lambda: nn.Dropout(0.5, deterministic=False), TABLE),
    "Einsum": (lambda: nn.Einsum((4, 2), "...a,ab->...b"), TABLE),
    "Embed": (lambda: nn.Embed(6, 3), WORDS),
    "Fp8DirectDotGeneralOp": (lambda: nn.Dense(4, dot_general_cls=partial(nn.Fp8DirectDotGeneralOp)), TABLE),
    "Fp8DotGeneral": (lambda: nn.Dense(4, dot_general_cls=nn.Fp8DotGeneral), TABLE),
    "Fp8DotGeneralOp": (lambda: nn.Dense(4, dot_general_cls=nn.Fp8DotGeneralOp), TABLE),
    "Fp8Einsum": (lambda: nn.Fp8Einsum(8), None),
    "GRUCell": (lambda: nn.RNN(nn.GRUCell(3), return_carry=True), SERIES),
    "GroupNorm": (lambda: nn.GroupNorm(2), IMAGES),
    "InstanceNorm": (lambda: nn.InstanceNorm(), IMAGES),
    "LSTMCell": (lambda: nn.RNN(nn.LSTMCell(3, gate_fn=nn.hard_sigmoid), reverse=True), SERIES),
    "LayerNorm": (lambda: nn.LayerNorm(), TABLE),
    "MGUCell": (lambda: nn.RNN(nn.MGUCell(3)), SERIES),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(2), SERIES),
    "MultiHeadDotProductAttention": (lambda: nn.MultiHeadDotProductAttention(2, normalize_qk=True), SERIES),
    "NANOOFp8DotGeneralOp": (lambda: nn.NANOOFp8DotGeneralOp(8), None),
    "OptimizedLSTMCell": (lambda: nn.RNN(nn.OptimizedLSTMCell(3)), SERIES),
    "PReLU": (lambda: nn.PReLU(), TABLE),
    "RMSNorm": (lambda: nn.RMSNorm(), TABLE),
    "RNN": (lambda: nn.RNN(nn.SimpleCell(2), time_major=True), SERIES),
    "RNNCellBase": (lambda: nn.RNNCellBase(), None),
    "SelfAttention": (lambda: nn.SelfAttention(2, dropout_rate=0.5, deterministic=False), SERIES),
    "Sequential": (lambda: nn.Sequential([nn.Dense(3), nn.relu, jnp.tanh, partial(nn.elu, alpha=0.5)]), TABLE),
    "SimpleCell": (lambda: nn.RNN(nn.SimpleCell(3, activation_fn=nn.relu)), SERIES),
    "SpectralNorm": (lambda: Normed(nn.Dense(3)), TABLE),
    "WeightNorm": (lambda: nn.WeightNorm(nn.Dense(3)), TABLE),
}  # fmt: skip
"""A module of each public class of linen, with what to call it with; None for one that is called by others only."""


class Normed(nn.Module):
    """Spectral normalization, which wants to be told whether to update its statistics."""

    layer: nn.Module

    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        return nn.SpectralNorm(self.layer)(inputs, update_stats=True)


def nnx_modules() -> dict[str, tuple[Callable[[], Any], Any]]:
    """A module of each public class of nnx, with what to call it with; None for one that is looked at only."""
    rngs = nnx.Rngs(0, dropout=1)
    linear = partial(nnx.Linear, 4, 3, rngs=rngs)
    return {
        "BatchNorm": (lambda: nnx.BatchNorm(4, rngs=rngs), TABLE),
        "Bidirectional": (
            lambda: nnx.Bidirectional(nnx.RNN(nnx.GRUCell(4, 2, rngs=rngs)), nnx.RNN(nnx.LSTMCell(4, 2, rngs=rngs))),
            SERIES,
        ),
        "Conv": (lambda: nnx.Conv(4, 2, (3, 3), padding="VALID", rngs=rngs), IMAGES),
        "ConvTranspose": (lambda: nnx.ConvTranspose(4, 2, (2, 2), strides=(2, 2), rngs=rngs), IMAGES),
        "Dict": (lambda: nnx.Dict(a=linear(), b=nnx.Param(jnp.ones(2))), None),
        "Dropout": (lambda: nnx.Dropout(0.5, rngs=rngs), TABLE),
        "EMA": (lambda: nnx.EMA(linear(), decay=0.9), None),
        "Einsum": (lambda: nnx.Einsum("ab,bc->ac", (4, 3), (3,), rngs=rngs), TABLE),
        "Embed": (lambda: nnx.Embed(6, 3, rngs=rngs), WORDS),
        "GRUCell": (lambda: nnx.RNN(nnx.GRUCell(4, 2, rngs=rngs)), SERIES),
        "GroupNorm": (lambda: nnx.GroupNorm(4, num_groups=2, rngs=rngs), IMAGES),
        "InstanceNorm": (lambda: nnx.InstanceNorm(4, rngs=rngs), IMAGES),
        "LSTMCell": (lambda: nnx.RNN(nnx.LSTMCell(4, 2, rngs=rngs)), SERIES),
        "LayerNorm": (lambda: nnx.LayerNorm(4, rngs=rngs), TABLE),
        "Linear": (lambda: nnx.Linear(4, 3, dtype=jnp.bfloat16, param_dtype=jnp.float16, rngs=rngs), TABLE),
        "LinearGeneral": (lambda: nnx.LinearGeneral(4, (2, 2), rngs=rngs), TABLE),
        "List": (lambda: nnx.List([linear(), nnx.Param(jnp.ones(2)), 3]), None),
        "LoRA": (lambda: nnx.LoRA(4, 2, 3, base_module=linear(), rngs=rngs), TABLE),
        "LoRALinear": (lambda: nnx.LoRALinear(4, 3, lora_rank=2, rngs=rngs), TABLE),
        "ModelAndOptimizer": (lambda: nnx.ModelAndOptimizer(linear(), optimizer(), wrt=nnx.Param), None),
        "MultiHeadAttention": (
            lambda: nnx.MultiHeadAttention(2, 4, decode=False, deterministic=False, rngs=rngs), SERIES,
        ),
        "MultiMetric": (lambda: measured(nnx.MultiMetric(a=nnx.metrics.Average(), b=nnx.metrics.Welford())), None),
        "OptimizedLSTMCell": (lambda: nnx.RNN(nnx.OptimizedLSTMCell(4, 2, rngs=rngs)), SERIES),
        "Optimizer": (lambda: nnx.Optimizer(linear(), optimizer(), wrt=nnx.Param), None),
        "PReLU": (lambda: nnx.PReLU(), TABLE),
        "RMSNorm": (lambda: nnx.RMSNorm(4, rngs=rngs), TABLE),
        "RNN": (lambda: nnx.RNN(nnx.SimpleCell(4, 2, rngs=rngs), time_major=True), SERIES),
        "RNNCellBase": (lambda: nnx.RNNCellBase(), None),
        "RngStream": (lambda: drawn(nnx.RngStream(3, tag="a")), None),
        "Rngs": (lambda: nnx.Rngs(0, params=jax.random.key(1, impl="rbg")), None),
        "Sequential": (lambda: nnx.Sequential(linear(), nnx.relu, jnp.tanh, partial(nnx.elu, alpha=0.5)), TABLE),
        "SimpleCell": (lambda: nnx.RNN(nnx.SimpleCell(4, 2, activation_fn=nnx.relu, rngs=rngs)), SERIES),
        "SpectralNorm": (lambda: nnx.SpectralNorm(linear(), rngs=rngs), TABLE),
        "WeightNorm": (lambda: nnx.WeightNorm(linear(), rngs=rngs), TABLE),
        "Accuracy": (lambda: nnx.metrics.Accuracy(), None),
        "Average": (lambda: measured(nnx.metrics.Average("a"), "a"), None),
        "Welford": (lambda: nnx.metrics.Welford(), None),
        "ToNNX": (lambda: nnx.bridge.ToNNX(nn.Dense(3), rngs=rngs).lazy_init(TABLE), TABLE),
    }  # fmt: skip


def optimizer() -> Any:
    """An optimizer that takes the rate from a schedule and clips."""
    import optax

    rate = optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 10)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, mask=weights_only))


def weights_only(tree: Any) -> Any:
    """Which parameters decay."""
    return jax.tree.map(lambda value: value.ndim > 1, tree)


def drawn(stream: Any) -> Any:
    """A stream after one draw."""
    stream()
    return stream


def measured(metric: Any, *names: str) -> Any:
    """A metric after an update."""
    metric.update(**{name: jnp.arange(3.0) for name in names or ("values",)})
    return metric


def plain(tree: Any) -> Any:
    """A tree as texts and bytes: structure, types, and the bits of each array."""
    leaves, treedef = jax.tree_util.tree_flatten(tree)
    return [re_addressed(str(treedef)), [_leaf(leaf) for leaf in leaves]]


def re_addressed(text: str) -> str:
    """A text without addresses in memory."""
    import re

    return re.sub(r"0x[0-9a-f]+", "", text)


def _leaf(leaf: Any) -> Any:
    if not hasattr(leaf, "shape"):
        return type(leaf).__name__, repr(leaf)
    kind = type(leaf).__name__, str(leaf.dtype), leaf.shape, bool(getattr(leaf, "weak_type", False))
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return *kind, np.asarray(leaf).tobytes()


def init(module: Any, inputs: Any) -> dict[str, Any]:
    """What is uploaded of a linen module; its variables have the right shapes, and are cheaper than initial ones."""
    keys = {"params": KEY, "dropout": KEY}
    shapes = jax.eval_shape(lambda: module.init(keys, inputs))
    return {"model": module, "variables": jax.tree.map(_filled, shapes)} if shapes else {"model": module}


def _filled(shape: Any) -> Any:
    return jnp.asarray(np.linspace(0.1, 1, math.prod(shape.shape)).reshape(shape.shape).astype(shape.dtype))


def observe_linen(result: Any) -> Any:
    """Outputs, changed collections, and the variables' own bits."""
    module, variables = (result["model"], result["variables"]) if isinstance(result, dict) else (result, {})
    inputs = INPUTS.get(module.name or type(module).__name__, TABLE)
    outputs = jax.jit(partial(module.apply, mutable=True))(variables, inputs, rngs={"dropout": KEY, "params": KEY})
    return {"outputs": plain(outputs), "variables": plain(variables), "module": re_addressed(repr(module))}


INPUTS = {name: inputs for name, (_, inputs) in LINEN.items() if inputs is not None}


def observe_module(module: Any) -> Any:
    """A linen module without variables: what it says of itself."""
    return re_addressed(repr(module))


def observe_nnx(module: Any) -> Any:
    """The outputs of two calls in a row, as the first changes random state and statistics; then the state, the mode."""
    inputs = NNX_INPUTS.get(type(module).__name__)
    outputs = [plain(module(inputs)) for _ in range(2)] if inputs is not None else None
    return {"outputs": outputs, "state": look(module), "repr": re_addressed(repr(module))}


NNX_INPUTS: dict[str, Any] = {name: inputs for name, (_, inputs) in nnx_modules().items() if inputs is not None} | {
    "Net": TABLE, "Loop": TABLE,
}  # fmt: skip


def look(module: Any) -> Any:
    """Graph and state of an nnx object."""
    graphdef, state = nnx.split(module)
    return plain(nnx.to_pure_dict(state)), re_addressed(repr(graphdef))


def observe_tree(tree: Any) -> Any:
    """Structure and bits."""
    return plain(tree)


def observe_training(state: Any) -> Any:
    """A training state, its next two steps and an output."""
    inputs = TABLE
    found = [plain((state.params, state.opt_state, state.step))]
    for _ in range(2):
        state = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, state.params))
        found.append(plain((state.params, state.opt_state)))
    return found, plain(state.apply_fn({"params": state.params}, inputs))


def observe_nnx_training(result: Any) -> Any:
    """Two steps of training, and all that they change."""
    model, optimizer = result["model"], result["optimizer"]
    for _ in range(2):
        gradients = nnx.grad(lambda each: (each(TABLE) ** 2).mean())(model)
        optimizer.update(model, gradients)
    return look(model), look(optimizer)
