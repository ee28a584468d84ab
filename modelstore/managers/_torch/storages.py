"""Storages: the memory under tensors, in one safetensors file per object.

Tensors are pickled as torch does it, with their storages left out: two tensors over one storage are two again when
they are loaded, a view is a view, and a tensor subclass keeps its state. The storages go from their own memory into the
file and come back as a private mapping of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder, Piece
from modelstore.managers._torch.devices import is_available
from modelstore.managers.safetensors_file import ALIGNMENT, METADATA, Entry, read_header, write_header

if TYPE_CHECKING:
    import torch

RESERVED = "__storage__."
"""Storages that no single tensor covers have names that start so."""

DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int16": "I16",
    "uint16": "U16", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "uint32": "U32", "float32": "F32",
    "int64": "I64", "uint64": "U64", "float64": "F64", "complex64": "C64",
}  # fmt: skip
"""The safetensors name of each torch type that has one; others are stored as bytes."""


class StorageWriter:
    """Collects the storages that an object's tensors refer to, and puts them into a folder as one file.

    Args:
        above: the writer of an object saved before, whose storages are referred to instead of being stored again.
    """

    def __init__(self, above: StorageWriter | None = None) -> None:
        self._above = above
        self._offered: dict[int, Entry] = {}
        self._names: set[str] = set()
        # The storages are kept: the address of a freed one could be taken by another.
        self._added: dict[int, tuple[Entry, torch.UntypedStorage]] = {}
        self._kept: list[Any] = []

    def offer(self, name: str, tensor: torch.Tensor) -> None:
        """Let a storage be stored under the name, type and shape of a tensor, if that covers exactly all of it."""
        dtype = DTYPES.get(dtype_name(tensor.dtype))
        if dtype is None or name in self._names or name == METADATA or name.startswith(RESERVED) or not _is_utf8(name):
            return
        storage = tensor.untyped_storage()
        if not tensor.is_contiguous() or tensor.storage_offset() or tensor.nbytes != storage.nbytes():
            return
        if storage._cdata not in self._offered:
            self._offered[storage._cdata] = Entry(name, dtype, tuple(tensor.shape))
            self._names.add(name)
            self._kept.append(storage)

    def add(self, storage: torch.UntypedStorage, reuse: bool = False) -> str:
        """Take in a storage, once; returns its name in the file.

        Args:
            reuse: refer to a storage of equal content where there is one. For tensors that are made anew whenever they
                are asked for, such as a quantized layer's, and are only read.
        """
        key = storage._cdata
        if key not in self._added:
            if reuse and (equal := self._equal(storage)) is not None:
                return equal
            entry = self._offered.get(key)
            if entry is None:
                entry = Entry(f"{RESERVED}{len(self._added)}", "U8", (storage.nbytes(),))
            self._added[key] = (entry, storage)
        return self._added[key][0].name

    def clear(self) -> None:
        """Forget all that was added; what was offered stays."""
        self._added.clear()

    def _equal(self, storage: torch.UntypedStorage) -> str | None:
        import torch

        wanted = as_bytes(storage)
        for entry, other in self._added.values():
            same_place = other.nbytes() == storage.nbytes() and other.device == storage.device
            if same_place and torch.equal(as_bytes(other), wanted):
                return entry.name
        return None

    def above(self, storage: torch.UntypedStorage) -> str | None:
        """The name of a storage in the file of the object saved before, if it lies there."""
        added = self._above._added.get(storage._cdata) if self._above is not None else None
        return None if added is None else added[0].name

    def write(self, folder: ModelFolder, name: str) -> None:
        """Put what was collected into the folder as the file `name`, without copying it."""
        storages = {entry.name: storage for entry, storage in self._added.values()}
        header, entries = write_header(entry for entry, _ in self._added.values())
        pieces = [_piece(storages[entry.name]) for entry in entries if entry.nbytes]
        folder.add_buffers(name, [header, *pieces])


class DevicePiece:
    """A storage in a device's memory; what is read of it is copied to the host, and no more."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._storage = storage
        self.nbytes = storage.nbytes()

    def read(self, start: int, stop: int) -> memoryview:
        """See `LazyPiece.read`."""
        return _view(as_bytes(self._storage)[start:stop].to("cpu", copy=True).untyped_storage())


def _piece(storage: torch.UntypedStorage) -> Piece:
    return _view(storage) if storage.device.type == "cpu" else DevicePiece(storage)


def _view(storage: torch.UntypedStorage) -> memoryview:
    """The memory of a host storage, which lives as long as the view does. Without numpy, which torch may lack."""
    memory: Any = (ctypes.c_ubyte * storage.nbytes()).from_address(storage.data_ptr())
    memory.storage = storage
    return memoryview(memory).cast("B")


class StorageReader:
    """The storages of a file, as private copy-on-write mappings: writing to one never reaches the file.

    Args:
        path: the safetensors file.
        above: the reader of the object whose storages this one's pickle may refer to.
        device: where all storages go; None sends each to the device that it is asked for on.

    Raises:
        IntegrityError: the file is missing or is not a sound safetensors file.
    """

    def __init__(self, path: Path, above: StorageReader | None = None, device: str | None = None) -> None:
        self._subject = path.name
        self._above = above
        self._device = device
        self._storages: dict[tuple[str, str], torch.UntypedStorage] = {}
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                self._entries = read_header(file, size, self._subject)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError as error:
            raise IntegrityError(self._subject, "file", "it is not there") from error

    def storage(self, name: str, device: str = "cpu") -> torch.UntypedStorage:
        """A storage by name; the same one every time.

        Args:
            name: as the pickle or `tensors.json` has it.
            device: where it was; it goes back there if nothing else was asked for and this machine has the device, and
                else to the CPU.

        Raises:
            IntegrityError: the file does not hold it.
        """
        if name not in self._entries:
            raise IntegrityError(self._subject, "tensors", f"the storage {name!r} is referred to and not there")
        device = self._device or (device if is_available(device) else "cpu")
        if (name, device) not in self._storages:
            storage = self._mapped(self._entries[name])
            if device != "cpu":
                storage = as_bytes(storage).to(device).untyped_storage()
            self._storages[name, device] = storage
        return self._storages[name, device]

    def _mapped(self, entry: Entry) -> torch.UntypedStorage:
        import torch

        if not entry.nbytes:
            return torch.UntypedStorage(0)
        data = torch.frombuffer(self._map, dtype=torch.uint8, count=entry.nbytes, offset=entry.start)
        # Weights that stand elsewhere than at multiples of 64 bytes make MKL round differently (measured for
        # matrix-vector products at multiples of 4 and 8), and torch itself never allocates such. Only storages of an
        # odd length lie so, which are small as a rule.
        return (data.clone() if data.data_ptr() % ALIGNMENT else data).untyped_storage()

    def storage_above(self, name: str, device: str) -> torch.UntypedStorage:
        """A storage of the object that was saved before.

        Raises:
            IntegrityError: there is no such object, or it does not hold the storage.
        """
        if self._above is None:
            raise IntegrityError(self._subject, "tensors", f"the storage {name!r} of another object is referred to")
        return self._above.storage(name, device)


def as_bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    """A tensor of bytes over all of a storage."""
    import torch

    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, 0, (storage.nbytes(),), (1,))


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for `torch.float32`; `torch_dtype` is its inverse."""
    return str(dtype).removeprefix("torch.")


def torch_dtype(name: Any) -> torch.dtype:
    """The type of this name.

    Raises:
        IntegrityError: this version of torch has no such type.
    """
    import torch

    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise IntegrityError("a tensor", "type", f"torch {torch.__version__} knows no type {name!r}")
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
