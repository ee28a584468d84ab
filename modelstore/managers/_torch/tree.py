"""Tensors in dicts, lists and tuples, and the plain values between them, as JSON beside a safetensors file.

This is how state dicts and checkpoints are stored: exactly (types of containers, order, shared tensors, views) and
without a pickle. What is not plain goes into a list of its own; the caller pickles it, or all of it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import IntegrityError
from modelstore.managers._torch.refusals import refuse_tensor
from modelstore.managers._torch.storages import StorageReader, StorageWriter, dtype_name, torch_dtype
from modelstore.managers.safetensors_file import is_sizes

if TYPE_CHECKING:
    import torch

_DEPTH = 32
_INTEGERS = 2**63  # larger ones are not numbers to other readers of JSON


class TreeWriter:
    """Turns values into JSON, and their tensors into entries that say where in which storage they lie.

    Args:
        storages: takes in the tensors' storages.
        reuse: see `StorageWriter.add`.
    """

    def __init__(self, storages: StorageWriter, reuse: bool = False) -> None:
        self.tensors: list[dict[str, Any]] = []
        self.others: list[Any] = []
        """The values that have no plain form, with their `paths`."""
        self.paths: list[str] = []
        self._storages = storages
        self._reuse = reuse
        self._known: dict[int, int] = {}
        self._containers: set[int] = set()

    def write(self, value: Any, path: str = "", depth: int = 0) -> Any:
        """The JSON form of a value; what has none is in `others`.

        Raises:
            UnsupportedObjectError: a tensor without data of its own.
        """
        kind = type(value)
        if value is None or kind in (bool, str) or (kind is int and abs(value) < _INTEGERS):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if depth < _DEPTH:
            if kind in (list, dict, OrderedDict):
                return self._container(value, path, depth)
            if kind is tuple:
                return {"tuple": [self.write(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]}
        return self._torch(value, path)

    def _container(self, value: Any, path: str, depth: int) -> Any:
        attributes = getattr(value, "__dict__", {})
        # A container that is met twice is one object in two places, or a cycle: JSON cannot say so.
        if id(value) in self._containers or set(attributes) - {"_metadata"}:
            return self._other(value, path)
        self._containers.add(id(value))
        if isinstance(value, list):
            return [self.write(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        items = []
        for key, item in value.items():
            if type(key) not in (str, int, bool):
                return self._other(value, path)
            items.append([key, self.write(item, f"{path}.{key}" if path else str(key), depth + 1)])
        if type(value) is dict:
            return {"dict": items}
        found: dict[str, Any] = {"ordered_dict": items}
        if "_metadata" in attributes:
            found["metadata"] = self.write(attributes["_metadata"], f"{path}._metadata", depth + 1)
        return found

    def _torch(self, value: Any, path: str) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            refuse_tensor(value, path)
            return {"tensor": self._tensor(value, path)} if is_plain(value) else self._other(value, path)
        if isinstance(value, torch.dtype):
            return {"dtype": dtype_name(value)}
        if isinstance(value, torch.Size):
            return {"size": list(value)}
        return self._other(value, path)

    def _tensor(self, tensor: torch.Tensor, path: str) -> int:
        import torch

        if id(tensor) not in self._known:
            self._storages.offer(path or "tensor", tensor)
            storage = tensor.untyped_storage()
            entry: dict[str, Any] = {
                "storage": self._storages.add(storage, self._reuse),
                "dtype": dtype_name(tensor.dtype),
                "shape": list(tensor.shape),
                "stride": list(tensor.stride()),
                "offset": tensor.storage_offset(),
            }
            if storage.device.type != "cpu":
                entry["device"] = str(storage.device)
            if tensor.requires_grad:
                entry["requires_grad"] = True
            if type(tensor) is torch.nn.Parameter:
                entry["parameter"] = True
            self._known[id(tensor)] = len(self.tensors)
            self.tensors.append(entry)
        return self._known[id(tensor)]

    def _other(self, value: Any, path: str) -> Any:
        self.others.append(value)
        self.paths.append(path)
        return {"pickled": len(self.others) - 1}


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether storage, type, shape, stride and offset say all about a tensor."""
    import torch

    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
        and not torch._utils._get_obj_state(tensor)
        and tensor.device.type not in ("xla", "maia", "mtia")  # these have no storage that could be read
    )


class TreeReader:
    """Turns JSON back into the values that `TreeWriter` was given; trusts nothing of it.

    Args:
        storages: the safetensors file.
        tensors: the entries of the tensors.
        others: the values that had no plain form.
        device: where all tensors go; None sends each back to its own.
    """

    def __init__(
        self, storages: StorageReader, tensors: Any, others: list[Any] | None = None, device: str | None = None
    ) -> None:
        self._storages = storages
        self._entries = tensors
        self._others = others or []
        self._device = device
        self._tensors: dict[int, torch.Tensor] = {}

    def read(self, value: Any) -> Any:
        """The value of a JSON form.

        Raises:
            IntegrityError: it is not one, or a tensor does not lie within its storage.
        """
        if isinstance(value, list):
            return [self.read(item) for item in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"tensor": int(index)}:
                return self._tensor(index)
            case {"dict": list(items)}:
                return dict(self._items(items))
            case {"ordered_dict": list(items)}:
                found: Any = OrderedDict(self._items(items))
                if "metadata" in value:
                    found._metadata = self.read(value["metadata"])
                return found
            case {"tuple": list(items)}:
                return tuple(self.read(item) for item in items)
            case {"float": "nan" | "inf" | "-inf" as text}:
                return float(text)
            case {"dtype": str(name)}:
                return torch_dtype(name)
            case {"size": sizes} if is_sizes(sizes):
                import torch

                return torch.Size(sizes)
            case {"pickled": int(index)} if 0 <= index < len(self._others):
                return self._others[index]
        raise _damaged(f"{str(value)[:80]} stands for nothing")

    def _items(self, items: list[Any]) -> list[tuple[Any, Any]]:
        found = []
        for item in items:
            match item:
                case [str() | int() as key, value]:
                    found.append((key, self.read(value)))
                case _:
                    raise _damaged(f"{str(item)[:80]} is not a key with a value")
        return found

    def _tensor(self, index: int) -> torch.Tensor:
        if index not in self._tensors:
            if not isinstance(self._entries, list) or not 0 <= index < len(self._entries):
                raise _damaged(f"there is no tensor {index}")
            entry = self._entries[index]
            try:
                self._tensors[index] = self._build(entry)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                if isinstance(error, IntegrityError):
                    raise
                raise _damaged(f"tensor {index} cannot be built ({type(error).__name__}: {error})") from error
        return self._tensors[index]

    def _build(self, entry: Mapping[str, Any]) -> torch.Tensor:
        import torch

        dtype = torch_dtype(entry["dtype"])
        shape, stride, offset = entry["shape"], entry["stride"], entry["offset"]
        storage = self._storages.storage(entry["storage"], self._device or entry.get("device", "cpu"))
        if not (is_sizes(shape) and is_sizes(stride) and is_sizes([offset]) and len(shape) == len(stride)):
            raise _damaged(f"shape {shape}, stride {stride} and offset {offset} do not make a tensor")
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        # torch would enlarge the storage instead of refusing.
        if math.prod(shape) and (last + 1) * dtype.itemsize > storage.nbytes():
            raise _damaged(f"a tensor reaches beyond the {storage.nbytes()} bytes of {entry['storage']!r}")
        if not math.prod(shape) and offset * dtype.itemsize > storage.nbytes():
            raise _damaged(f"a tensor starts beyond the {storage.nbytes()} bytes of {entry['storage']!r}")
        tensor = torch.empty(0, dtype=dtype, device=storage.device).set_(storage, offset, shape, stride)
        requires_grad = entry.get("requires_grad", False) is True
        if entry.get("parameter"):
            return torch.nn.Parameter(tensor, requires_grad)
        return tensor.requires_grad_(requires_grad)


def _damaged(detail: str) -> IntegrityError:
    return IntegrityError("tensors.json", "content", detail)
