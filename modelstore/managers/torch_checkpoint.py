"""Sharded checkpoints: a folder that `torch.distributed.checkpoint` has written, of any number of processes.

The folder goes in as it is, and one process assembles the whole state dict from it, without a process group. Its
`.metadata` is a pickle, and so is what the shards hold beside tensors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name

CHECKPOINT = "checkpoint"
METADATA = ".metadata"

_SHARDS = ".distcp"


class TorchCheckpointManager(ObjectManager):
    """Stores the path of a checkpoint's folder; loads its state dict."""

    name = "torch_checkpoint"
    title = "torch.distributed.checkpoint"
    load_options = ("into", "device")
    distributions = ("torch", "numpy")
    extra = "torch"
    restores_as = (
        "the whole state dict, assembled in one process; `into=` fills a state dict or a module (of any sharding), and "
        "`download` gives the folder"
    )
    limits = (
        "checkpoints that Hugging Face's writer of `torch.distributed.checkpoint` has made hold no `.metadata` and are "
        "stored as files",
        "loading in several processes at once, each its shards: `download` the folder and use "
        "`torch.distributed.checkpoint.load`",
    )

    def recognises(self, obj: Any) -> bool:
        """Whether this is the path of a folder that holds `.metadata` and shards."""
        path = _path(obj)
        return path is not None and any(name.endswith(_SHARDS) for name in os.listdir(path))

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Take in the folder without copying it.

        Raises:
            UnsupportedObjectError: it is no such folder.
        """
        path = _path(obj)
        if path is None:
            raise UnsupportedObjectError(f"{obj!r} is not the folder of a checkpoint: it holds no {METADATA}")
        folder.add_path(CHECKPOINT, path)
        pickled = sorted(name for name in os.listdir(path) if name == METADATA or name.endswith(_SHARDS))
        return Saved("distcp", pickled=[f"{CHECKPOINT}/{name}" for name in pickled])

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read the checkpoint.

        Raises:
            PickleNotAllowedError: the policy refuses; `.metadata` is always a pickle.
            InvalidArgumentError: `into` is neither a state dict nor a module, or does not fit; or the device is not
                there.
            IntegrityError: files are missing or damaged.
        """
        from modelstore.managers._torch.devices import checked_device

        if request.into is not None and request.device is not None:
            raise InvalidArgumentError(
                "device", "into= is filled on the devices that it lies on: move it there instead"
            )
        device = checked_device(request.device)
        request.policy.require(f"the checkpoint's {METADATA}")
        checkpoint = folder / CHECKPOINT
        if not (checkpoint / METADATA).is_file():
            raise IntegrityError("the checkpoint", METADATA, "it is not there")
        if request.into is None:
            return _moved(_assembled(checkpoint), device)
        return _fill(checkpoint, request.into)


def _path(obj: Any) -> str | None:
    if not isinstance(obj, (str, os.PathLike)):
        return None
    text = os.fspath(obj)
    if not isinstance(text, str) or not text or "\0" in text:
        return None
    for candidate in (text, os.path.expanduser(text)):
        if os.path.isfile(os.path.join(candidate, METADATA)):
            return candidate
    return None


def _assembled(checkpoint: Path) -> dict[str, Any]:
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner

    found: dict[str, Any] = {}
    _read(checkpoint, found, _EmptyStateDictLoadPlanner())
    return found


def _fill(checkpoint: Path, into: Any) -> Any:
    import torch
    from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader

    if isinstance(into, dict):
        _read(checkpoint, into, DefaultLoadPlanner())
        return into
    if not isinstance(into, torch.nn.Module):
        raise InvalidArgumentError("into", f"into= is to be a state dict or a module, not a {class_name(into)}")
    stored = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    state = into.state_dict()
    prefixes = ["", *sorted({name.partition(".")[0] + "." for name in stored})]
    prefix = next((prefix for prefix in prefixes if all(prefix + name in stored for name in state)), None)
    if prefix is None:
        missing = next(name for name in state if name not in stored)
        raise InvalidArgumentError(
            "into",
            f"the checkpoint does not fit into=: it holds no {missing!r}, nor a part that holds all of the module",
        )
    if prefix:
        _read(checkpoint, {prefix[:-1]: state}, DefaultLoadPlanner())
    else:
        _read(checkpoint, state, DefaultLoadPlanner())
    into.load_state_dict(state)
    return into


def _read(checkpoint: Path, state: dict[str, Any], planner: Any) -> None:
    from torch.distributed.checkpoint import CheckpointException, FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    try:
        # Its public form warns of a missing process group; to read without one is what is wanted here.
        _load_state_dict(state, storage_reader=FileSystemReader(checkpoint), planner=planner, no_dist=True)
    except (CheckpointException, RuntimeError, ValueError, KeyError, AssertionError, OSError) as error:
        raise _explained(error) from error


def _explained(error: Exception) -> IntegrityError | InvalidArgumentError:
    causes = [str(cause[0]) for cause in getattr(error, "failures", {}).values()] or [str(error)]
    if any("Missing key" in cause or "Size mismatch" in cause for cause in causes):
        return InvalidArgumentError("into", f"the checkpoint does not fit into=: {causes[0]}")
    return IntegrityError("the checkpoint", "content", f"torch cannot read it: {causes[0]}")


def _moved(value: Any, device: str | None) -> Any:
    import torch

    if device is None:
        return value
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_moved(item, device) for item in value)
    return value
