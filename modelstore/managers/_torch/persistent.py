"""What a pickle of ours leaves out and what stands in its place; one object of each class per pickle."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from modelstore.managers._torch.refusals import refuse_tensor
from modelstore.managers._torch.storages import StorageReader, StorageWriter, dtype_name, torch_dtype

if TYPE_CHECKING:
    import torch


class PersistentIds:
    """For `pickle.Pickler.persistent_id`: storages by name, subclasses of `Parameter`, and objects known otherwise.

    Args:
        storages: takes in the storages.
        known: what stands for objects that are stored elsewhere, by their `id()`.
        reuse: see `StorageWriter.add`.
    """

    def __init__(
        self, storages: StorageWriter, known: Mapping[int, tuple[Any, ...]] | None = None, reuse: bool = False
    ) -> None:
        self._storages = storages
        self._known = known or {}
        self._reuse = reuse
        self._parameters: dict[int, int] = {}
        self._pickled: set[type] = set()

    def __call__(self, obj: Any) -> tuple[Any, ...] | None:
        """What stands for the object; None if it is to be pickled.

        Raises:
            UnsupportedObjectError: a tensor that holds no data of its own.
        """
        cls = type(obj)
        if cls in self._pickled:  # asked for every object of a model, which can be hundreds of thousands
            return None
        import torch

        if id(obj) in self._known:
            return self._known[id(obj)]
        if isinstance(obj, torch.Tensor):
            refuse_tensor(obj)
            return self._subclass(obj) if _would_lose_class(obj) else None
        if isinstance(obj, torch.storage.TypedStorage):
            return self._storage(obj._untyped_storage, dtype_name(obj.dtype))
        if isinstance(obj, torch.UntypedStorage):
            # torch's own rebuilding functions expect a typed storage here, too.
            return self._storage(obj, "uint8")
        if not isinstance(obj, torch.nn.Module):
            self._pickled.add(cls)
        return None

    def _storage(self, storage: torch.UntypedStorage, dtype: str) -> tuple[Any, ...]:
        above = self._storages.above(storage)
        if above is not None:
            return "storage above", above, dtype, str(storage.device)
        return "storage", self._storages.add(storage, self._reuse), dtype, str(storage.device)

    def _subclass(self, parameter: torch.nn.Parameter) -> tuple[Any, ...]:
        import torch

        # The pickler does not remember what is pickled as a part of an id, so that we have to.
        if id(parameter) in self._parameters:
            return "subclass again", self._parameters[id(parameter)]
        number = self._parameters[id(parameter)] = len(self._parameters)
        state = torch._utils._get_obj_state(parameter)
        return "subclass", number, type(parameter), parameter.data, parameter.requires_grad, state


def _would_lose_class(tensor: torch.Tensor) -> bool:
    """Whether torch would rebuild a subclass of `Parameter` as a plain one."""
    import torch

    cls = type(tensor)
    # __reduce_ex__ is the plain one's unless the class has a way of its own.
    return cls is not torch.nn.Parameter and getattr(cls, "__reduce_ex__", None) is torch.nn.Parameter.__reduce_ex__


class PersistentObjects:
    """For `pickle.Unpickler.persistent_load`: the objects that `PersistentIds` left out.

    Args:
        storages: the storages' file.
        resolve: what gives the objects that are stored elsewhere; None for what it does not know.
    """

    def __init__(self, storages: StorageReader, resolve: Callable[[Any], Any] | None = None) -> None:
        self._storages = storages
        self._resolve = resolve
        self._parameters: dict[int, torch.nn.Parameter] = {}

    def __call__(self, pid: Any) -> Any:
        """The object that an id stands for.

        Raises:
            IntegrityError: it is not stored.
            pickle.UnpicklingError: the id is none of ours.
        """
        import torch

        match pid:
            case ("storage", name, dtype, device):
                return self._typed(self._storages.storage(name, device), dtype)
            case ("storage above", name, dtype, device):
                return self._typed(self._storages.storage_above(name, device), dtype)
            case ("subclass", number, cls, data, requires_grad, state):
                parameter = torch.Tensor._make_subclass(cls, data, requires_grad)
                self._parameters[number] = torch._utils._set_obj_state(parameter, state)
                return parameter
            case ("subclass again", number) if number in self._parameters:
                return self._parameters[number]
        found = self._resolve(pid) if self._resolve is not None else None
        if found is None:
            raise pickle.UnpicklingError(f"this pickle refers to {pid!r}, which is not there")
        return found

    @staticmethod
    def _typed(storage: torch.UntypedStorage, dtype: str) -> torch.storage.TypedStorage:
        import torch

        return torch.storage.TypedStorage(wrap_storage=storage, dtype=torch_dtype(dtype), _internal=True)
