"""Every public layer of torch.nn: what saves must load, in a process that has never seen it, and compute the same."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from modelstore.contracts.manager import Case  # noqa: E402
from modelstore.managers.pytorch import PyTorchManager  # noqa: E402
from tests.managers.contract import BuiltinContract  # noqa: E402
from tests.managers.torch_helpers import fingerprint  # noqa: E402

LAYERS = sorted(
    name for name, cls in vars(nn).items() if inspect.isclass(cls) and issubclass(cls, nn.Module) and name[0] != "_"
)
WRAPPERS = {"DataParallel"}  # what is inside is stored; tested with the other wrappers

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "AdaptiveLogSoftmaxWithLoss": (8, 12, [4, 8]),
    "Bilinear": (8, 8, 3),
    "ChannelShuffle": (2,),
    "CrossMapLRN2d": (2,),
    "Embedding": (7, 3),
    "EmbeddingBag": (7, 3),
    "Fold": ((4, 4), 2),
    "FractionalMaxPool2d": (2, 3),
    "FractionalMaxPool3d": (2, 3),
    "GRU": (8, 3),
    "GRUCell": (8, 3),
    "GroupNorm": (2, 4),
    "LSTM": (8, 3),
    "LSTMCell": (8, 3),
    "LayerNorm": (8,),
    "LazyLinear": (3,),
    "Linear": (8, 3),
    "LinearCrossEntropyLoss": (8, 5),
    "LocalResponseNorm": (2,),
    "ModuleDict": ({"a": nn.Linear(2, 2)},),
    "ModuleList": ([nn.Linear(2, 2)],),
    "MultiheadAttention": (8, 2),
    "ParameterDict": ({"a": torch.randn(2)},),
    "ParameterList": ([torch.randn(2)],),
    "PixelShuffle": (2,),
    "PixelUnshuffle": (2,),
    "RMSNorm": (8,),
    "RNN": (8, 3),
    "RNNBase": ("LSTM", 8, 3),
    "RNNCell": (8, 3),
    "RNNCellBase": (8, 3, True, 4),
    "Sequential": (nn.Linear(8, 2), nn.ReLU()),
    "SyncBatchNorm": (4,),
    "Threshold": (0.1, 20),
    "Transformer": (8, 2, 1, 1, 16),
    "TransformerDecoder": (nn.TransformerDecoderLayer(8, 2, 16), 1),
    "TransformerDecoderLayer": (8, 2, 16),
    "TransformerEncoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1),
    "TransformerEncoderLayer": (8, 2, 16),
    "Unflatten": (1, (2, 2)),
    "Unfold": (2,),
    "Upsample": (None, 2),
    "UpsamplingBilinear2d": (None, 2),
    "UpsamplingNearest2d": (None, 2),
}
PREFIXES: dict[str, tuple[Any, ...]] = {
    "AdaptiveAvgPool": (2,),
    "AdaptiveMaxPool": (2,),
    "AvgPool": (2,),
    "BatchNorm": (4,),
    "CircularPad": (1,),
    "ConstantPad": (1, 0.5),
    "ConvTranspose": (4, 3, 2),
    "Conv": (4, 3, 2),
    "InstanceNorm": (4, 1e-5, 0.1, True, True),
    "LPPool": (2, 2),
    "LazyConvTranspose": (3, 2),
    "LazyConv": (3, 2),
    "MaxPool": (2,),
    "MaxUnpool": (2,),
    "ReflectionPad": (1,),
    "ReplicationPad": (1,),
    "ZeroPad": (1,),
}

NO_INPUT = {
    "Container",
    "Module",
    "ModuleDict",
    "ModuleList",
    "ParameterDict",
    "ParameterList",
    "RNNBase",
    "RNNCellBase",
}
"""Layers that cannot be called; all others are, and their outputs compared."""


def build(name: str) -> nn.Module:
    """A layer with small arguments."""
    prefixed = next((args for prefix, args in PREFIXES.items() if name.startswith(prefix) and name.endswith("d")), ())
    layer: nn.Module = getattr(nn, name)(*ARGUMENTS.get(name, prefixed))
    return layer


def candidates() -> list[tuple[Any, ...]]:
    """Inputs of all kinds; a layer is called with the first that it takes."""
    line, plane, space = torch.randn(2, 4, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 4, 6, 6, 6)
    flat, ids, labels = torch.randn(4, 8), torch.tensor([[1, 2, 3]]), torch.tensor([0, 1, 2, 3])
    p, q, signs = torch.rand(4, 8), torch.rand(4, 8), torch.ones(4)
    pooled = [pool(x, 2, return_indices=True) for pool, x in (
        (nn.functional.max_pool1d, line), (nn.functional.max_pool2d, plane), (nn.functional.max_pool3d, space),
    )]  # fmt: skip
    log_probabilities = torch.randn(6, 2, 5).log_softmax(2)
    return [
        (line,), (plane,), (space,), (flat,), (ids,), (torch.randn(3, 6),), (torch.randn(1, 16, 9),),
        (flat, labels), (p, q), (flat, flat), (p, q, p), (p, q, signs), (signs, signs, signs),
        (p, torch.zeros(4, 8, dtype=torch.int64)), (torch.randn(2, 5, 3, 3), torch.zeros(2, 3, 3, dtype=torch.int64)),
        (line, line), (line, line, line), *pooled,
        (log_probabilities, torch.ones(2, 3, dtype=torch.int64), torch.tensor([6, 6]), torch.tensor([3, 2])),
    ]  # fmt: skip


def first_taken(layer: nn.Module) -> tuple[Any, ...] | None:
    """The first of the inputs that the layer takes."""
    for inputs in candidates():
        try:
            with torch.no_grad():
                layer(*inputs)
        except Exception:  # whatever a layer says of an input that is not for it
            continue
        return inputs
    return None


def eager(name: str) -> dict[str, Any]:
    """A layer whose lazy tensors, if it has any, know their shapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated layers
        torch.manual_seed(0)
        layer = build(name).eval()
        first_taken(layer)
    return {"model": layer}


def observe(layer: nn.Module) -> Any:
    """All tensors, and the outputs for the first inputs that the layer takes."""
    torch.manual_seed(1)
    return fingerprint(layer, first_taken(layer))


class TestEveryLayer(BuiltinContract):
    """A layer's class, tensors and outputs are the same, bit for bit, in a fresh process."""

    manager = PyTorchManager()

    def cases(self) -> Mapping[str, Case]:
        """One case a layer."""
        return {name: Case(functools.partial(eager, name), observe) for name in LAYERS if name not in WRAPPERS}

    def test_all_that_can_be_called_were(self, tmp_path_factory: Any) -> None:
        """There are outputs to compare of every layer but those that have none."""
        outcomes = self._outcomes(tmp_path_factory)
        assert {name for name, outcome in outcomes.items() if "output" not in outcome.before["probe"]} == NO_INPUT
