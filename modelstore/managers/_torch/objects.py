"""One object of PyTorch and its files.

======================  ===========================================  =======================================
the object              its files, beside `model.safetensors`        loading it
======================  ===========================================  =======================================
a module                `skeleton.pkl`: all but the storages         unpickles
                        `tensors.json`: its state dict               fills `into=`
a module, weights only  `tensors.json`: its state dict               fills `into=`
a state dict, a tensor  `tensors.json`                               needs no pickle
anything else           `skeleton.pkl`                               unpickles
======================  ===========================================  =======================================

What a state dict holds beside tensors and plain values (`get_extra_state`, quantized tensors) is `extra_state.pkl`.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, ModelStoreError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers import pickling
from modelstore.managers._torch import refusals
from modelstore.managers._torch.persistent import PersistentIds, PersistentObjects
from modelstore.managers._torch.storages import StorageReader, StorageWriter
from modelstore.managers._torch.tree import TreeReader, TreeWriter, is_plain
from modelstore.managers.base import Saved, class_name
from modelstore.managers.pickling import PicklePolicy
from modelstore.notices import warn

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
SKELETON = "skeleton.pkl"
TENSORS = "tensors.json"
EXTRA_STATE = "extra_state.pkl"

MODULE, VALUES, PICKLE = "module", "values", "pickle"
"""The kinds of objects: with a state dict; plain all through; and those that only a pickle restores."""

_FORMAT = 1


def save_object(obj: Any, folder: ModelFolder, weights_only: bool) -> tuple[Saved, StorageWriter]:
    """Save a module, a state dict, a tensor, or something that holds such.

    Returns:
        What the record needs, and the storages, for an optimizer that refers to them.

    Raises:
        UnsupportedObjectError: it cannot be pickled, holds no data or a part of it; or `weights_only` asks for a form
            without a pickle and it has none.
    """
    import torch

    storages = StorageWriter()
    saved = Saved(format="safetensors")
    if isinstance(obj, torch.nn.Module):
        _save_module(obj, folder, storages, saved, weights_only)
    else:
        _save_values(obj, folder, storages, saved, weights_only)
    storages.write(folder, WEIGHTS)
    if saved.pickled:
        saved.format = "safetensors + pickle"
    return saved, storages


def _save_module(
    module: torch.nn.Module, folder: ModelFolder, storages: StorageWriter, saved: Saved, weights_only: bool
) -> None:
    refusals.refuse_module(module)
    if not weights_only:
        refusals.refuse_script(module)
    saved.state = {"kind": MODULE, "skeleton": not weights_only}
    state = _state_dict(module, required=weights_only)
    _offer_names(module, state, storages)
    # First the skeleton: a layer that makes the tensors of its state dict anew is then found to hold them already.
    if not weights_only:
        write_pickle(module, folder, SKELETON, PersistentIds(storages), saved)
    if state is not None:
        _save_state(state, folder, storages, saved, reuse=not weights_only)


def save_weights(module: torch.nn.Module, folder: ModelFolder, storages: StorageWriter, saved: Saved) -> None:
    """Write the state dict of a module whose pickle somebody else writes; `StoredObject.fill` reads it.

    Raises:
        UnsupportedObjectError: the module holds no data of its own, or is TorchScript.
    """
    refusals.refuse_module(module)
    refusals.refuse_script(module)
    state = _state_dict(module, required=False)
    _offer_names(module, state, storages)
    if state is not None:
        _save_state(state, folder, storages, saved, reuse=False)


def _save_state(state: Any, folder: ModelFolder, storages: StorageWriter, saved: Saved, reuse: bool) -> None:
    tree = TreeWriter(storages, reuse)
    fields = {"format": _FORMAT, "state_dict": tree.write(state), "tensors": tree.tensors}
    _add_json(folder, TENSORS, fields)
    if tree.others:
        write_pickle(tree.others, folder, EXTRA_STATE, PersistentIds(storages, reuse=reuse), saved)


def _state_dict(module: torch.nn.Module, required: bool) -> Any:
    try:
        return module.state_dict()
    except Exception as error:
        if required:
            raise UnsupportedObjectError(
                f"the state_dict() of this {class_name(module)} fails ({error!r}), and weights_only=True stores no more"
            ) from error
        warn(f"state_dict() fails ({error!r}), so this model cannot be loaded with into=")
        return None


def _offer_names(module: torch.nn.Module, state: Any, storages: StorageWriter) -> None:
    from torch.nn.parameter import is_lazy

    named = dict(state.items()) if isinstance(state, Mapping) else {}
    # Buffers that are not in the state dict have a name all the same.
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        named.setdefault(name, tensor)
    for name, tensor in named.items():
        if isinstance(name, str) and not is_lazy(tensor) and _has_storage(tensor):
            storages.offer(name, tensor)


def _has_storage(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and is_plain(value.detach())


def _save_values(obj: Any, folder: ModelFolder, storages: StorageWriter, saved: Saved, weights_only: bool) -> None:
    tree = TreeWriter(storages)
    value = tree.write(obj)
    if not tree.others:
        saved.state = {"kind": VALUES}
        _add_json(folder, TENSORS, {"format": _FORMAT, "value": value, "tensors": tree.tensors})
        return
    if weights_only:
        odd = class_name(tree.others[0])
        raise UnsupportedObjectError(
            f"weights_only=True stores tensors and plain values, and {tree.paths[0] or 'the object'} is a {odd}; "
            "leave it out or upload without weights_only",
            odd,
        )
    storages.clear()  # the pickle may need fewer; the names stay offered
    saved.state = {"kind": PICKLE}
    write_pickle(obj, folder, SKELETON, PersistentIds(storages), saved)


def write_pickle(obj: Any, folder: ModelFolder, name: str, persistent_id: Callable[[Any], Any], saved: Saved) -> None:
    """Pickle an object without its storages.

    Raises:
        UnsupportedObjectError: it cannot be pickled; names what is to blame where that can be found.
    """
    try:
        data, pickled = pickling.dumps(obj, persistent_id)
    except (ModelStoreError, MemoryError):
        raise
    except Exception as error:
        raise refusals.explain(obj, error) from error
    folder.add_bytes(name, data)
    saved.pickled.append(name)
    saved.modules |= pickled.modules
    saved.by_value = saved.by_value or pickled.by_value


def read_pickle(path: Path, policy: PicklePolicy, persistent_load: Callable[[Any], Any]) -> Any:
    """Load what `write_pickle` wrote.

    Raises:
        PickleNotAllowedError: the policy refuses.
        IntegrityError: the file is missing, or is no pickle.
    """
    import torch

    try:
        with open(path, "rb") as file:
            return pickling.load(file, path.name, policy, persistent_load)
    except FileNotFoundError as error:
        if error.filename != str(path):
            raise
        raise IntegrityError(path.name, "file", "it is not there") from error
    except (EOFError, pickle.UnpicklingError) as error:
        raise IntegrityError(path.name, "content", f"it cannot be unpickled: {error}") from error
    finally:
        # torch keeps every sparse tensor that it has rebuilt until it is asked to check them.
        torch._utils._validate_loaded_sparse_tensors()


class StoredObject:
    """The files of one object, opened.

    Args:
        folder: where they lie.
        state: what `save_object` said.
        policy: whether pickles may be loaded.
        device: where all tensors go; None is where they were.
    """

    def __init__(self, folder: Path, state: Mapping[str, Any], policy: PicklePolicy, device: str | None = None) -> None:
        self.storages = StorageReader(folder / WEIGHTS, device=device)
        self._folder = folder
        self._kind = state.get("kind")
        self._skeleton = state.get("skeleton", True)
        self._policy = policy

    def load(self) -> Any:
        """The object as it was.

        Raises:
            InvalidArgumentError: only the weights were stored.
            PickleNotAllowedError: it takes a pickle, and the policy refuses.
        """
        if self._kind == VALUES:
            return self._values("value")
        if self._kind not in (MODULE, PICKLE):
            raise IntegrityError("the record", "state", f"the PyTorch object is of the unknown kind {self._kind!r}")
        if not self._skeleton:
            raise InvalidArgumentError(
                "into", "only the weights of this model were uploaded: build the module and load with into=module"
            )
        return read_pickle(self._folder / SKELETON, self._policy, PersistentObjects(self.storages))

    def fill(self, module: Any) -> Any:
        """Copy the state dict into a module; its types and devices stay as they are. Returns the module.

        Raises:
            InvalidArgumentError: keys are missing or too many, shapes differ, or there is nothing to fill it from.
            PickleNotAllowedError: the state dict holds more than plain values, and the policy refuses.
        """
        import torch

        if not isinstance(module, torch.nn.Module):
            raise InvalidArgumentError("into", f"into= takes a torch.nn.Module to fill, not a {class_name(module)}")
        if empty := [name for name, tensor in module.state_dict(keep_vars=True).items() if _is_meta(tensor)]:
            raise InvalidArgumentError(
                "into",
                f"into= is a module on the meta device ({empty[0]} and {len(empty) - 1} more), which has no memory to "
                "fill: call module.to_empty(device='cpu') first",
            )
        state = self._state_dict()
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            # Missing keys, unexpected keys and shapes that differ: torch's text lists them all.
            raise InvalidArgumentError("into", f"what was uploaded does not fit into=: {error}") from error
        return module

    def _state_dict(self) -> Mapping[str, Any]:
        if self._kind == PICKLE or not (self._folder / TENSORS).exists():
            raise InvalidArgumentError("into", "this model was stored without a state dict: load it without into=")
        state = self._values("state_dict" if self._kind == MODULE else "value", device="cpu")
        if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
            raise InvalidArgumentError("into", f"into= needs a state dict, and a {class_name(state)} was uploaded")
        if self._kind == VALUES and (odd := [key for key, value in state.items() if isinstance(value, (dict, list))]):
            raise InvalidArgumentError(
                "into",
                f"a checkpoint was uploaded, not a state dict ({odd[0]!r} holds more than a tensor): load it "
                f"without into=, then module.load_state_dict(checkpoint[{odd[0]!r}])",
            )
        return state

    def _values(self, field: str, device: str | None = None) -> Any:
        try:
            fields = json.loads((self._folder / TENSORS).read_bytes())
            if fields["format"] != _FORMAT:
                raise ValueError(f"format {fields['format']!r}")
            others = None
            if (self._folder / EXTRA_STATE).exists() and field == "state_dict":
                others = read_pickle(self._folder / EXTRA_STATE, self._policy, PersistentObjects(self.storages))
            return TreeReader(self.storages, fields["tensors"], others, device).read(fields[field])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, ModelStoreError):
                raise
            raise IntegrityError(TENSORS, "content", f"{type(error).__name__}: {error}") from error


def _add_json(folder: ModelFolder, name: str, fields: dict[str, Any]) -> None:
    # Escaped, for names that are no UTF-8; in the given order, which is the state dict's.
    folder.add_bytes(name, (json.dumps(fields, separators=(",", ":"), allow_nan=False) + "\n").encode())


def _is_meta(tensor: Any) -> bool:
    return bool(getattr(tensor, "is_meta", False))
