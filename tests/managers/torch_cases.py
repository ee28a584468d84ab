"""Models with something special about them. Each case is a function that gives a model and what to call it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

CASES: dict[str, Callable[[], tuple[Any, tuple[Any, ...] | None]]] = {}

DTYPES = [
    *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
]


def case(build: Callable[[], tuple[Any, tuple[Any, ...] | None]]) -> Callable[[], Any]:
    """Register a case under its function's name."""
    CASES[build.__name__] = build
    return build


class Holder(nn.Module):
    """Holds whatever a test sets; calling it adds up its floating-point tensors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sum."""
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point() and tensor.numel():
                x = x + tensor.double().sum()
        return x


class Scaled(nn.Parameter):
    """A tensor subclass with state of its own."""

    scale = 1.0


class TaggedTensor(torch.Tensor):
    """A tensor subclass that is no parameter."""


class Counting(nn.Module):
    """Extra state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.seen: dict[Any, Any] = {("a", 1): 2}

    def get_extra_state(self) -> Any:
        """A dict with a tuple as key, which JSON has no form for."""
        return {"seen": self.seen, "set": {1, 2}}

    def set_extra_state(self, state: Any) -> None:
        """Take it back."""
        self.seen = state["seen"]


def double_output(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
    """Serve as a hook."""
    return output * 2


@case
def tied_weights() -> Any:
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7, bias=False))
    model[1].weight = model[0].weight
    return model, (torch.tensor([1, 2]),)


@case
def views() -> Any:
    model = Holder()
    model.register_buffer("whole", torch.arange(12.0))
    model.register_buffer("part", model.whole[3:7])
    model.column = nn.Parameter(model.whole.view(3, 4)[:, 1])
    model.plain_attribute = model.whole[8:]
    return model, (torch.zeros(1),)


@case
def non_contiguous() -> Any:
    model = nn.Linear(4, 3)
    model.weight = nn.Parameter(torch.randn(4, 3).t())
    model.register_buffer("expanded", torch.ones(1).expand(5))
    model.register_buffer("last", torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
    return model, (torch.randn(2, 4),)


@case
def zero_size() -> Any:
    model = Holder()
    model.empty = nn.Parameter(torch.empty(0, 5))
    model.register_buffer("none_left", torch.empty(3, 0, dtype=torch.int64))
    model.scalar = nn.Parameter(torch.tensor(3.5))
    model.register_buffer("end", torch.arange(4.0)[4:])
    return model, (torch.zeros(1),)


@case
def dtypes() -> Any:
    model = Holder()
    for name in DTYPES:
        values = torch.tensor([0.0, 1.0, 2.0, 0.5, 4.0])
        model.register_buffer(f"as_{name}", values.to(getattr(torch, name)))
    model.small = nn.Parameter(torch.randn(3).bfloat16())
    model.register_buffer("odd", torch.tensor([float("nan"), float("inf"), -0.0]))
    return model, (torch.zeros(1),)


@case
def conjugate() -> Any:
    model = Holder()
    value = torch.randn(3, dtype=torch.complex64)
    model.register_buffer("value", value)
    model.register_buffer("conjugate", value.conj())
    model.register_buffer("negative", value.conj().imag)
    return model, None


@case
def sparse() -> Any:
    model = Holder()
    model.register_buffer("coo", torch.eye(4).to_sparse())
    model.register_buffer("csr", torch.eye(3).to_sparse_csr())
    return model, None


@case
def quantized_dynamic() -> Any:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8), (torch.randn(2, 6),)


@case
def quantized_tensors() -> Any:
    model = Holder()
    model.register_buffer("each", torch.quantize_per_tensor(torch.randn(4), 0.1, 3, torch.quint8))
    scales, zeros = torch.tensor([0.1, 0.2]), torch.tensor([0, 1])
    model.register_buffer("channel", torch.quantize_per_channel(torch.randn(2, 3), scales, zeros, 0, torch.qint8))
    return model, None


@case
def lazy_uninitialised() -> Any:
    return nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()), None


@case
def lazy_initialised() -> Any:
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    model(torch.randn(4, 5))
    return model, (torch.randn(2, 5),)


@case
def forward_hook() -> Any:
    model = nn.Linear(2, 2)
    model.register_forward_hook(double_output)
    return model, (torch.randn(1, 2),)


@case
def hook_with_tensor() -> Any:
    model = nn.Linear(2, 2)
    held = model.bias  # shared with the hook: must be one tensor again
    other = torch.full((2,), 7.0)
    model.register_forward_hook(lambda module, args, output: output * held + other)
    return model, (torch.randn(1, 2),)


@case
def compiled_in_place() -> Any:
    model = nn.Linear(2, 2)
    model.compile(backend="eager")
    model(torch.randn(1, 2))
    return model, (torch.randn(1, 2),)


@case
def compiled_inside() -> Any:
    return nn.Sequential(nn.Linear(2, 3), torch.compile(nn.Linear(3, 2), backend="eager")), (torch.randn(1, 2),)


@case
def subclass_of_tensor() -> Any:
    model = Holder()
    model.scaled = Scaled(torch.randn(3))
    model.scaled.scale = 2.5
    model.register_buffer("tagged", torch.randn(2).as_subclass(TaggedTensor))
    return model, None


@case
def non_persistent_buffer() -> Any:
    model = Holder()
    model.register_buffer("kept", torch.randn(2))
    model.register_buffer("cached", torch.randn(3), persistent=False)
    return model, (torch.zeros(1),)


@case
def eval_mode_and_frozen() -> Any:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    return model, (torch.randn(3, 2),)


@case
def lists_and_dicts() -> Any:
    model = Holder()
    model.values = nn.ParameterList([torch.randn(2), torch.randn(3)])
    model.table = nn.ParameterDict({"ü \\ \n": torch.randn(2), "z": torch.randn(1)})
    model.children_by_name = nn.ModuleDict({"x": nn.Linear(1, 1)})
    return model, (torch.zeros(1),)


@case
def lstm() -> Any:
    return nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True), (torch.randn(2, 5, 3),)


@case
def encoder() -> Any:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    return nn.TransformerEncoder(layer, 2).eval(), (torch.randn(2, 3, 8),)


@case
def attention() -> Any:
    return nn.MultiheadAttention(8, 2), (torch.randn(3, 1, 8), torch.randn(3, 1, 8), torch.randn(3, 1, 8))


@case
def averaged() -> Any:
    inner = nn.Linear(2, 2)
    model = torch.optim.swa_utils.AveragedModel(inner, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    inner.weight.data.fill_(1)
    model.update_parameters(inner)
    return model, (torch.randn(1, 2),)


@case
def old_weight_norm() -> Any:
    return torch.nn.utils.weight_norm(nn.Linear(2, 3)).eval(), (torch.randn(1, 2),)


@case
def traced_graph() -> Any:
    return torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU())), (torch.randn(1, 2),)


@case
def extra_state() -> Any:
    return Counting(), None


@case
def no_tensors() -> Any:
    return nn.ReLU(), (torch.randn(3),)


@case
def reserved_names() -> Any:
    model = Holder()
    for name in ("__metadata__", "__storage__", "", "\udc80 no text", "名前"):
        model._parameters[name] = nn.Parameter(torch.randn(2))
    model.inner = Holder()
    model.inner.register_buffer("x", torch.arange(6.0)[1:4])
    model._modules["__storage__"] = nn.Linear(1, 1)
    del model._parameters["__storage__"]
    return model, (torch.zeros(1),)
