"""What the record says of a PyTorch model: numbers of parameters and the optimizer's settings. No tensors."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from modelstore.managers._torch.storages import dtype_name
from modelstore.managers.base import class_name

if TYPE_CHECKING:
    import torch

_GROUPS = 50
"""At most so many parameter groups are described."""
_TEXT = 200


def describe_object(obj: Any) -> dict[str, Any]:
    """Numbers of elements, by type: of a module's parameters, or of the tensors in a dict."""
    import torch

    if isinstance(obj, torch.nn.Module):
        tensors: list[Any] = list(obj.parameters())
        count, trainable = _count(tensors), _count([tensor for tensor in tensors if tensor.requires_grad])
        return {"parameters": count.total(), "trainable": trainable.total(), "dtypes": dict(sorted(count.items()))}
    if isinstance(obj, torch.Tensor):
        tensors = [obj]
    elif isinstance(obj, dict):
        tensors = [value for value in obj.values() if isinstance(value, torch.Tensor)]
    else:
        return {}
    count = _count(tensors)
    return {"parameters": count.total(), "dtypes": dict(sorted(count.items()))}


def _count(tensors: list[Any]) -> Counter[str]:
    from torch.nn.parameter import is_lazy

    count: Counter[str] = Counter()
    for tensor in tensors:
        # The shape of a lazy parameter is not known yet.
        count[dtype_name(tensor.dtype)] += 0 if is_lazy(tensor) else tensor.numel()
    return count


def describe_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's class and the settings of its parameter groups."""
    groups = [
        {**{name: _plain(value) for name, value in group.items() if name not in ("params", "param_names")},
         "tensors": len(group["params"])}
        for group in optimizer.param_groups[:_GROUPS]
    ]  # fmt: skip
    described: dict[str, Any] = {"type": class_name(optimizer), "param_groups": groups}
    if len(optimizer.param_groups) > _GROUPS:
        described["further_groups"] = len(optimizer.param_groups) - _GROUPS
    return described


def _plain(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):  # a learning rate may be one
        value = value.item() if value.numel() == 1 else f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)) and len(value) <= 20:
        return [_plain(item) for item in value]
    return str(value)[:_TEXT]
