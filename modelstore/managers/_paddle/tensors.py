"""Tensors in a safetensors file, from their own memory, and what safetensors cannot say of them in `tensors.json`.

An entry bears the state dict's name of its tensor. Types that the format does not know (complex128) lie in it as bytes.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.safetensors_file import METADATA, Entry, is_sizes, read_header, write_header

if TYPE_CHECKING:
    import numpy
    import paddle

WEIGHTS = "model.safetensors"
TENSORS = "tensors.json"
RESERVED = "__tensor__."
"""Tensors that no state dict names have names that start so."""

DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int16": "I16",
    "float16": "F16", "bfloat16": "BF16", "int32": "I32", "float32": "F32", "int64": "I64", "float64": "F64",
    "complex64": "C64",
}  # fmt: skip
"""The safetensors name of each of Paddle's types that has one."""

_SAME_SIZE = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
"""What numpy calls an array of types that it does not know."""

_FORMAT = 1


def dtype_name(tensor: paddle.Tensor) -> str:
    """`float32` for `paddle.float32`."""
    return str(tensor.dtype).rpartition(".")[2]


class TensorWriter:
    """Collects an object's tensors, each once, and puts them into a folder.

    Args:
        above: the writer of an object saved before, whose tensors are referred to instead of being stored again.
    """

    def __init__(self, above: TensorWriter | None = None) -> None:
        self.above = above
        self._names: dict[int, str] = {}
        self._taken: set[str] = set()
        self._numbers: dict[int, int] = {}
        self._tensors: list[paddle.Tensor] = []
        self._offered: list[paddle.Tensor] = []  # kept: the address of one that has gone could be another's

    def offer(self, name: str, tensor: paddle.Tensor) -> None:
        """Let a tensor be stored under this name, if it is stored at all; the first name counts."""
        if id(tensor) not in self._names and name not in self._taken and not name.startswith((RESERVED, METADATA)):
            self._names[id(tensor)] = name
            self._taken.add(name)
            self._offered.append(tensor)

    def number(self, tensor: paddle.Tensor) -> int | None:
        """The number under which a tensor has been taken in, if it has been."""
        return self._numbers.get(id(tensor))

    def add(self, tensor: paddle.Tensor) -> int:
        """Take in a tensor; returns its number.

        Raises:
            UnsupportedObjectError: it is sparse or distributed, or has no values yet.
        """
        known = self.number(tensor)
        if known is not None:
            return known
        _refuse(tensor, self._names.get(id(tensor), tensor.name))
        self._numbers[id(tensor)] = len(self._tensors)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def write(self, folder: ModelFolder, state_dict: Mapping[str, paddle.Tensor], weights: str, tensors: str) -> None:
        """Put what was collected, and all of a state dict, into the folder.

        Args:
            folder: what to fill.
            state_dict: tensors by the names that `into=` matches.
            weights: the safetensors file's name.
            tensors: the JSON file's name.
        """
        named = {name: self.add(tensor) for name, tensor in state_dict.items()}
        described = [self._describe(tensor, number) for number, tensor in enumerate(self._tensors)]
        folder.add_json(tensors, {"format": _FORMAT, "tensors": described, "state_dict": list(named.items())})
        by_name = {entry["entry"]: tensor for entry, tensor in zip(described, self._tensors, strict=True)}
        header, placed = write_header(_entry(entry) for entry in described if not entry.get("unset"))
        folder.add_buffers(weights, [header, *(_memory(by_name[entry.name]) for entry in placed if entry.nbytes)])

    def _describe(self, tensor: paddle.Tensor, number: int) -> dict[str, Any]:
        described = {
            "entry": self._names.get(id(tensor), f"{RESERVED}{number}"),
            "dtype": dtype_name(tensor),
            "shape": [int(size) for size in tensor.shape],
            "name": tensor.name,
            "parameter": hasattr(tensor, "optimize_attr"),
            "stop_gradient": bool(tensor.stop_gradient),
            "persistable": bool(tensor.persistable),
        }
        if not _has_values(tensor):
            described["unset"] = True
        elif not tensor.place.is_cpu_place():
            described["device"] = str(tensor.place)[6:-1]
        return described


def _entry(described: Mapping[str, Any]) -> Entry:
    dtype = DTYPES.get(described["dtype"])
    if dtype is None:
        return Entry(described["entry"], "U8", (math.prod(described["shape"]) * _item_size(described["dtype"]),))
    return Entry(described["entry"], dtype, tuple(described["shape"]))


def _item_size(dtype: str) -> int:
    import numpy

    return int(numpy.dtype(_SAME_SIZE.get(dtype, dtype)).itemsize)


def _memory(tensor: paddle.Tensor) -> memoryview:
    """A tensor's memory, which lives as long as the view does; a copy only of what lies elsewhere or not in a row."""
    tensor = tensor.detach()
    if not tensor.place.is_cpu_place():
        tensor = tensor.cpu()
    tensor = tensor.contiguous()
    size = math.prod(tensor.shape) * tensor.element_size()
    memory: Any = (ctypes.c_ubyte * size).from_address(tensor.data_ptr())
    memory.tensor = tensor
    return memoryview(memory).cast("B")


def _has_values(tensor: paddle.Tensor) -> bool:
    """Whether there is memory, or need be none. An LSTM has a tensor that gets some only on a GPU."""
    return bool(tensor._is_initialized()) or math.prod(tensor.shape) == 0


def _refuse(tensor: paddle.Tensor, name: str) -> None:
    import paddle

    advice = None
    if type(tensor) not in (paddle.Tensor, paddle.base.framework.EagerParamBase):
        advice = f"is of the class {type(tensor).__qualname__}; replace it by a plain paddle.Tensor"
    elif tensor.is_sparse():
        advice = "is sparse; store it as tensor.to_dense()"
    elif tensor.is_dist():
        advice = "is distributed; gather it on one process, as paddle.distributed.unshard_dtensor does"
    elif getattr(tensor, "_init_func", None) is not None:
        advice = "has no values yet; give it some, as parameter.initialize() does"
    if advice is not None:
        raise UnsupportedObjectError(f"the tensor {name!r} {advice}", f"{type(tensor).__module__}:Tensor")


class TensorReader:
    """The tensors of a folder, each built once.

    Args:
        folder: where they lie.
        weights: the safetensors file's name.
        tensors: the JSON file's name.
        device: where all of them go; None sends each back to its own where that is here, else to the CPU.
        above: the reader of the object whose tensors are referred to.

    Raises:
        IntegrityError: a file is missing or damaged.
        InvalidArgumentError: there is no such device here.
    """

    def __init__(
        self, folder: Path, weights: str, tensors: str, device: str | None, above: TensorReader | None = None
    ) -> None:
        self.above = above
        self._subject = tensors
        self._device = device
        self._built: dict[int, paddle.Tensor] = {}
        if device is not None and place_of(device) is None:
            raise InvalidArgumentError("device", f"device={device!r} is not here, or names no device of Paddle's")
        try:
            fields = json.loads((folder / tensors).read_bytes())
            self._described: list[dict[str, Any]] = list(fields["tensors"])
            self._state_dict: dict[str, int] = dict(fields["state_dict"])
            with open(folder / weights, "rb") as file:
                self._entries = read_header(file, os.fstat(file.fileno()).st_size, weights)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, IntegrityError):
                raise
            raise IntegrityError("the Paddle model", tensors, f"it cannot be read: {error!r}") from error

    def tensor(self, number: Any, attributes: Mapping[str, Any] | None = None) -> paddle.Tensor:
        """A tensor by number; the same one every time.

        Args:
            number: what `TensorWriter.add` returned.
            attributes: a parameter's own attributes.

        Raises:
            IntegrityError: there is none, or its data do not fit its description.
        """
        if number not in self._built:
            try:
                self._built[number] = self._build(self._described[number], attributes or {})
            except (KeyError, IndexError, TypeError, ValueError) as error:
                if isinstance(error, IntegrityError):
                    raise
                raise IntegrityError("the Paddle model", self._subject, f"tensor {number!r}: {error!r}") from error
        return self._built[number]

    def state_dict(self) -> dict[str, paddle.Tensor]:
        """What was given to `TensorWriter.write`."""
        return {name: self.tensor(number) for name, number in self._state_dict.items()}

    def _build(self, described: Mapping[str, Any], attributes: Mapping[str, Any]) -> paddle.Tensor:
        import paddle

        if described.get("unset"):
            return self._unset(described)
        array = self._array(described)
        place = place_of(self._device or described.get("device", "cpu")) or paddle.CPUPlace()
        tensor = paddle.to_tensor(array, place=place)
        dtype = described["dtype"]
        if dtype.startswith("float8"):
            tensor = tensor.view(dtype)
        name, trainable = str(described["name"]), not described["stop_gradient"]
        reserve_name(name)
        if described["parameter"]:
            tensor = paddle.base.framework.EagerParamBase.from_tensor(tensor, name=name, trainable=trainable)
            vars(tensor).update(attributes)
        else:
            tensor.name = name
            tensor.stop_gradient = not trainable
        tensor.persistable = bool(described["persistable"])
        return tensor

    def _unset(self, described: Mapping[str, Any]) -> paddle.Tensor:
        import paddle

        name, kind = str(described["name"]), paddle.base.core.VarDesc.VarType
        reserve_name(name)
        dtype = paddle.base.framework.convert_np_dtype_to_dtype_(described["dtype"])
        shape, persistable = described["shape"], bool(described["persistable"])
        tensor: paddle.Tensor = paddle.base.core.eager.Tensor(dtype, shape, name, kind.DENSE_TENSOR, persistable)
        tensor.stop_gradient = bool(described["stop_gradient"])
        return tensor

    def _array(self, described: Mapping[str, Any]) -> numpy.ndarray[Any, Any]:
        import numpy

        wanted, shape = _entry(described), described["shape"]
        found = self._entries.get(wanted.name)
        if found is None or not is_sizes(shape) or (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            raise IntegrityError("the Paddle model", self._subject, f"{wanted.name!r} does not lie there as described")
        dtype = numpy.dtype(_SAME_SIZE.get(described["dtype"], described["dtype"]))
        # A copy: the mapping cannot be written to, and Paddle may go on using the memory of an array.
        return numpy.frombuffer(self._map, dtype, math.prod(shape), found.start).reshape(shape).copy()


def place_of(device: str) -> Any:
    """Paddle's place for a device's name (`cpu`, `gpu:0`); None if it is not here."""
    import paddle

    try:
        place = paddle.CPUPlace() if device == "cpu" else paddle.device._convert_to_place(device)
        paddle.to_tensor([0], place=place)
    except Exception:  # each kind of device has its own error
        return None
    return place


def reserve_name(name: str) -> None:
    """Keep layers that are built later from taking this name.

    An optimizer finds what it knows of a parameter by the parameter's name, so a new layer must not bear the name of a
    loaded one.
    """
    from paddle.base import unique_name

    found = re.fullmatch(r"(.+)_(\d{1,9})", name)
    ids = getattr(getattr(unique_name, "generator", None), "ids", None)
    if found is not None and ids is not None:
        prefix, number = found.groups()
        ids[prefix] = max(ids[prefix], int(number) + 1)
