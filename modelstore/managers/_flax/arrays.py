"""JAX's and numpy's arrays in one safetensors file: bytes from where they lie, and back onto a device.

What the format has no type for (`int4`, further 8-bit floats, `complex128`) lies in it as bytes; the structure says
what they are.
"""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import class_name
from modelstore.managers.safetensors_file import METADATA, Entry, is_sizes, read_header, write_header

WEIGHTS = "weights.safetensors"

JAX_ARRAYS = frozenset({"jax:jaxlib._jax.Array", "jax:Array", "jax._src.basearray:Array", "jaxlib.xla_extension:Array"})
"""Names of the base class of all of JAX's arrays, as versions of JAX have called it."""


DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int16": "I16",
    "uint16": "U16", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "uint32": "U32", "float32": "F32",
    "int64": "I64", "uint64": "U64", "float64": "F64", "complex64": "C64",
}  # fmt: skip
"""The safetensors name of each type that has one."""

_WEAK = frozenset({"int32", "int64", "float32", "float64", "complex64", "complex128"})
"""Types that a Python number has in JAX, where they give way to those of other arrays."""

_WIDE = frozenset({"int64", "uint64", "float64", "complex128"})
"""Types that JAX narrows, unless it is told not to."""

_NAMES = {safetensors: name for name, safetensors in DTYPES.items()}


def is_jax_array(value: Any) -> bool:
    """Whether this is an array of JAX's; imports nothing."""
    return any(f"{base.__module__}:{base.__qualname__}" in JAX_ARRAYS for base in type(value).__mro__)


def is_tracer(value: Any) -> bool:
    """Whether this stands for an array while JAX traces a function; imports nothing."""
    return any(f"{base.__module__}:{base.__qualname__}" == "jax._src.core:Tracer" for base in type(value).__mro__)


def is_numpy_array(value: Any) -> bool:
    """Whether this is a plain array of numpy's whose elements are numbers."""
    if f"{type(value).__module__}:{type(value).__qualname__}" != "numpy:ndarray":
        return False
    return value.dtype.kind in "biufcmM" or value.dtype.type.__module__ == "ml_dtypes"


class ArrayWriter:
    """Collects arrays and puts them into a folder as one file. An array that is met twice is stored once."""

    def __init__(self) -> None:
        self._added: dict[str, tuple[Entry, memoryview]] = {}
        # The arrays are kept, so that no other one gets their id.
        self._known: dict[int, tuple[Any, dict[str, Any]]] = {}

    def add(self, array: Any, path: tuple[str, ...]) -> dict[str, Any]:
        """Take in an array under the name that its path gives; returns what `ArrayReader.get` needs to find it.

        Raises:
            UnsupportedObjectError: its bytes are not here: it is traced, deleted, or spread over other processes.
        """
        if id(array) not in self._known:
            self._known[id(array)] = (array, self._add(array, path))
        return self._known[id(array)][1]

    def _add(self, array: Any, path: tuple[str, ...]) -> dict[str, Any]:
        import numpy

        found: dict[str, Any] = {"": "array"}
        if is_jax_array(array):
            values, key = _to_host(array, ".".join(path))
            if key is not None:
                found["key"] = key
            # Of larger arrays that give way, which only some computations make, JAX has no way to make one again.
            if getattr(array, "weak_type", False) and not array.shape and values.dtype.name in _WEAK:
                found["weak"] = True
        else:
            values = array
            found["numpy"] = True
        name = found["name"] = self._name(path)
        dtype = DTYPES.get(values.dtype.name) if values.dtype.isnative else None
        data = numpy.ascontiguousarray(values).reshape(-1).view(numpy.uint8)
        if dtype is None:
            found["dtype"] = values.dtype.name if values.dtype.isnative else values.dtype.str
            found["shape"] = list(values.shape)
        entry = Entry(name, dtype or "U8", tuple(values.shape) if dtype else (data.size,))
        self._added[name] = (entry, memoryview(data))
        return found

    def _name(self, path: tuple[str, ...]) -> str:
        wanted = name = ".".join(path).encode("utf-8", "replace").decode() or "value"
        at = 1
        while name in self._added or name == METADATA:
            at += 1
            name = f"{wanted}#{at}"
        return name

    def write(self, folder: ModelFolder) -> bool:
        """Put the file into the folder, if there is anything to put into it; returns whether there was."""
        if self._added:
            header, entries = write_header(entry for entry, _ in self._added.values())
            folder.add_buffers(WEIGHTS, [header, *(self._added[entry.name][1] for entry in entries)])
        return bool(self._added)


def _to_host(array: Any, where: str) -> tuple[Any, str | None]:
    """A JAX array's values in this process' memory (on a CPU without a copy); of random keys, their generator too."""
    import jax
    import numpy

    if array.is_deleted():
        raise UnsupportedObjectError(
            f"{where} was deleted, as arrays are that a jitted function was given to reuse (donate_argnums): upload "
            "what that function returned",
            class_name(array),
        )
    if not array.is_fully_addressable:
        raise UnsupportedObjectError(
            f"{where} is spread over several processes: save an Orbax checkpoint and upload its path, or gather it "
            "with jax.experimental.multihost_utils.process_allgather",
            class_name(array),
        )
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        return numpy.asarray(jax.random.key_data(array)), str(jax.random.key_impl(array))
    return numpy.asarray(array), None


class ArrayReader:
    """The arrays of a file. What JAX takes as it is lies in a private mapping of the file and is not copied.

    Args:
        folder: where the file lies, if there is one.
        device: where arrays go, in JAX's words (`cpu`, `cuda:1`); None is JAX's default device.

    Raises:
        IntegrityError: the file is not a sound safetensors file.
        InvalidArgumentError: there is no such device.
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        self._entries: dict[str, Entry] = {}
        self._device = find_device(device)
        self._known: dict[str, Any] = {}
        path = folder / WEIGHTS
        if path.is_file():
            with open(path, "rb") as file:
                self._entries = read_header(file, path.stat().st_size, WEIGHTS)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def get(self, node: dict[str, Any]) -> Any:
        """The array that `ArrayWriter.add` told of; the same one every time.

        Raises:
            IntegrityError: it is not there, or is something else.
        """
        name = node.get("name")
        if not isinstance(name, str) or name not in self._entries:
            raise IntegrityError(WEIGHTS, "tensors", f"the array {name!r} is referred to and not there")
        if name not in self._known:
            self._known[name] = self._get(node, self._entries[name])
        return self._known[name]

    def shape_and_dtype(self, node: dict[str, Any]) -> tuple[tuple[int, ...], str]:
        """Shape and type of an array without reading it; of random keys, of what they are made of."""
        entry = self._entries.get(node.get("name", ""))
        if entry is None:
            raise IntegrityError(WEIGHTS, "tensors", f"the array {node.get('name')!r} is referred to and not there")
        if "dtype" not in node:
            return entry.shape, _NAMES[entry.dtype]
        if not is_sizes(node.get("shape")):
            raise IntegrityError(WEIGHTS, "tensors", f"the array {entry.name!r} has the shape {node.get('shape')!r}")
        return tuple(node["shape"]), str(node["dtype"])

    def _get(self, node: dict[str, Any], entry: Entry) -> Any:
        import numpy

        shape, name = self.shape_and_dtype(node)
        dtype = find_dtype(name)
        try:
            if entry.nbytes:
                count = entry.nbytes // dtype.itemsize
                values = numpy.frombuffer(self._map, dtype, count, entry.start).reshape(shape)
            else:
                values = numpy.empty(shape, dtype)
        except (ValueError, ZeroDivisionError) as error:
            raise IntegrityError(
                WEIGHTS, "tensors", f"{entry.name!r} is no {name} of shape {shape}: {error}"
            ) from error
        return values.copy() if node.get("numpy") else self._place(values, node)

    def _place(self, values: Any, node: dict[str, Any]) -> Any:
        import jax

        with _enable_x64() if values.dtype.name in _WIDE else contextlib.nullcontext():
            weak = node.get("weak") and not values.shape
            array = jax.device_put(jax.numpy.asarray(values.item()) if weak else values, self._device)
            if "key" not in node:
                return array
            try:
                return jax.random.wrap_key_data(array, impl=node["key"])
            except (ValueError, TypeError) as error:
                raise IntegrityError(WEIGHTS, "tensors", f"random keys of {node['key']!r}: {error}") from error


def find_dtype(name: Any) -> Any:
    """A type by the name that numpy gives it.

    Raises:
        IntegrityError: there is none, or not one of numbers.
    """
    import jax
    import numpy

    try:
        # Importing JAX has made the types of ml_dtypes known to numpy, all but a few by name.
        dtype = numpy.dtype(getattr(jax.numpy, name, name))
    except TypeError as error:
        raise IntegrityError(WEIGHTS, "tensors", f"there is no type {name!r}") from error
    if dtype.hasobject:
        raise IntegrityError(WEIGHTS, "tensors", f"{name!r} is no type of numbers")
    return dtype


def find_device(name: str | None) -> Any:
    """The device of this name; None, which is JAX's default, for None.

    Raises:
        InvalidArgumentError: this machine has none.
    """
    if name is None:
        return None
    import jax

    kind, _, number = name.partition(":")
    try:
        return jax.devices(kind)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        known = ", ".join(sorted({f"{device.platform}:{device.id}" for device in jax.devices()}))
        raise InvalidArgumentError("device", f"JAX has no device {name!r} here; it has {known}") from error


def _enable_x64() -> contextlib.AbstractContextManager[Any]:
    import jax

    if hasattr(jax, "enable_x64"):
        found: contextlib.AbstractContextManager[Any] = jax.enable_x64(True)
        return found
    from jax.experimental import enable_x64  # where it was before JAX 0.8

    older: contextlib.AbstractContextManager[Any] = enable_x64()
    return older
