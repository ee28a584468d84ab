"""Every layer of `paddle.nn`, built with arguments that suit it, and an input for it."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import paddle
from paddle import nn

_OWN: dict[str, Callable[[], Any]] = {
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2, 4]),
    "LayerDict": lambda: nn.LayerDict({"a": nn.Linear(2, 2), "b": nn.PReLU()}),
    "LayerList": lambda: nn.LayerList([nn.Linear(2, 2), nn.Linear(2, 1)]),
    "ModuleDict": lambda: nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.PReLU()}),
    "ModuleList": lambda: nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 1)]),
    "ParameterDict": lambda: nn.ParameterDict({"a": nn.Linear(2, 2).weight}),
    "ParameterList": lambda: nn.ParameterList([nn.Linear(2, 2).weight]),
    "Sequential": lambda: nn.Sequential(("first", nn.Linear(2, 3)), ("second", nn.BatchNorm1D(3))),
    "Transformer": lambda: nn.Transformer(2, 1, 1, 1, 2),
    "TransformerDecoder": lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(2, 1, 2), 1),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(2, 1, 2), 1),
    "Unflatten": lambda: nn.Unflatten(1, [2, 1]),
    "Upsample": lambda: nn.Upsample(scale_factor=2),
    "UpsamplingBilinear2D": lambda: nn.UpsamplingBilinear2D(scale_factor=2),
    "UpsamplingNearest2D": lambda: nn.UpsamplingNearest2D(scale_factor=2),
}

_ARGUMENTS: tuple[Callable[[], tuple[Any, ...]], ...] = (
    lambda: (),
    lambda: (2,),
    lambda: (2, 2),
    lambda: (2, 2, 1),
    lambda: (2, 2, 2),
    lambda: (2, 1, 2),
    lambda: ([2],),
    lambda: ([2, 2],),
    lambda: ([2, 2], 2),
    lambda: (nn.SimpleRNNCell(2, 2),),
    lambda: (nn.SimpleRNNCell(2, 2), nn.SimpleRNNCell(2, 2)),
)


def names() -> list[str]:
    """The layers that `paddle.nn` lists."""
    return sorted(
        name
        for name in set(nn.__all__)
        if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), nn.Layer)
    )


def layer(name: str) -> Any:
    """A layer of this name."""
    paddle.seed(3)
    if name in _OWN:
        return _OWN[name]()
    for arguments in _ARGUMENTS:
        try:
            return getattr(nn, name)(*arguments())
        except Exception:
            continue
    raise AssertionError(f"no arguments suit paddle.nn.{name}")


@functools.cache
def _inputs() -> tuple[tuple[Any, ...], ...]:
    classes = paddle.to_tensor([0, 1])
    shapes = ((2, 2), (2, 2, 4), (2, 2, 4, 4), (2, 2, 4, 4, 4), (2, 4, 4, 4), (2, 4))
    pairs = tuple((_numbers(*shape), _numbers(*shape)) for shape in shapes[:2])
    triple = (_numbers(2, 2), _numbers(2, 2), _numbers(2, 2))
    return (
        *((_numbers(*shape),) for shape in shapes),
        (paddle.to_tensor([[0, 1], [1, 0]]),),
        *pairs,
        (_numbers(2, 2, 2), _numbers(2, 2, 2)),
        (_numbers(2, 2), classes),
        (_numbers(2, 4), classes),
        triple,
    )


def _numbers(*shape: int) -> Any:
    return paddle.arange(1, 1 + math.prod(shape), dtype="float32").reshape(shape) / 10


def answer(module: Any) -> Any:
    """What a layer makes of the first input that suits it; None if none does (losses of many parts, containers)."""
    paddle.seed(5)
    for given in _inputs():
        try:
            return arrays(module(*given))
        except Exception:
            continue
    return None


def arrays(value: Any) -> Any:
    """Arrays in the place of tensors."""
    if isinstance(value, paddle.Tensor):
        if not value._is_initialized() and value.size:
            return str(value.dtype), list(value.shape)
        return str(value.dtype), value.numpy()
    if isinstance(value, (list, tuple)):
        return [arrays(item) for item in value]
    return value


def observe(module: Any) -> Any:
    """Mode, weights and what is known of them, which of them are one tensor, and the answers in both modes."""
    parameters = dict(module.named_parameters(remove_duplicate=False)) if _takes_duplicates(module) else {}
    parameters = parameters or dict(module.named_parameters())
    buffers = dict(module.named_buffers())
    first = {id(value): name for name, value in reversed(list(parameters.items()))}
    seen = {
        "modes": [layer.training for layer in module.sublayers(include_self=True)],
        "classes": [type(layer).__qualname__ for layer in module.sublayers(include_self=True)],
        "state": {name: arrays(value) for name, value in module.state_dict().items()},
        "buffers": {name: arrays(value) for name, value in buffers.items()},
        "known": {
            name: (value.name, value.stop_gradient, value.persistable, repr(getattr(value, "optimize_attr", None)))
            for name, value in {**parameters, **buffers}.items()
        },
        "same": {name: first[id(value)] for name, value in parameters.items()},
    }
    seen["answer"] = answer(module)
    training = module.training
    module.eval()
    seen["answer in eval mode"] = answer(module)
    module.train() if training else module.eval()
    return seen


def _takes_duplicates(module: Any) -> bool:
    return "remove_duplicate" in inspect.signature(module.named_parameters).parameters
