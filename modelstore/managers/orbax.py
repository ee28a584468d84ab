"""Orbax: checkpoint folders, stored as they are and restored onto the devices of the machine that loads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._flax.arrays import find_device
from modelstore.managers.base import LoadRequest, ObjectManager, Saved

CHECKPOINT = "checkpoint"

_UNFINISHED = ".orbax-checkpoint-tmp"
_OF_CHECKPOINT = "_CHECKPOINT_METADATA"
_OF_TREE = "_METADATA"
_BESIDE_TREE = ("manifest.ocdbt", "_sharding", "array_metadatas", "checkpoint", _OF_CHECKPOINT)
_OF_JSON = "metadata"

_ONLY = ("default", "pytree")
"""Names that Orbax gives the one thing in a checkpoint itself."""


class OrbaxManager(ObjectManager):
    """Stores the path of an Orbax checkpoint; loads the tree in it."""

    name = "orbax"
    title = "Orbax"
    load_options = ("into", "device")
    distributions = ("orbax-checkpoint", "jax", "jaxlib", "tensorstore", "numpy")
    extra = "orbax"
    restores_as = (
        "the tree that was checkpointed, of nested dicts and lists, or in the structure of `into=`; of several items, "
        "a mapping by name"
    )
    limits = (
        "An object of several classes (a training state, optax' states) comes back as nested dicts and lists, as Orbax "
        "keeps no classes: `into=` takes a tree of the wanted structure, of arrays or of `jax.ShapeDtypeStruct`.",
        "Arrays lie on one device after loading, on whichever devices they were; `into=` spreads them as it is spread.",
        "Of items that are no trees, those of JSON are loaded; a checkpoint with others is refused. Upload such a "
        'folder, or that of a `CheckpointManager` with all its steps, with `manager="model_file"`.',
        "A checkpoint that is still being written is refused: `wait_until_finished()` waits for it.",
    )

    def recognises(self, obj: Any) -> bool:
        """Whether this is the path of a folder that has the names of an Orbax checkpoint, finished or not."""
        path = _folder(obj)
        return path is not None and (_UNFINISHED in path.name or (path / _OF_CHECKPOINT).is_file() or _is_tree(path))

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Take in the folder without copying it.

        Raises:
            UnsupportedObjectError: it is no checkpoint, is not finished, or has items that cannot be loaded again.
        """
        path = _folder(obj)
        if path is None:
            raise UnsupportedObjectError(f"{obj!r} is not the path of a folder that exists")
        if any(_UNFINISHED in each.name for each in (path, *path.rglob(f"*{_UNFINISHED}*"))):
            raise UnsupportedObjectError(
                f"{path} is a checkpoint that is not finished: call wait_until_finished() of what writes it, and "
                f"upload the path without {_UNFINISHED!r}"
            )
        kinds = {name: kind for name, kind, _ in _items(path)}
        others = sorted(name for name, kind in kinds.items() if kind is None)
        if others or not kinds:
            what = f"holds the items {others}, which are neither trees nor JSON" if others else "holds no tree"
            raise UnsupportedObjectError(
                f'the checkpoint {path} {what}: upload the folder of one item, or this one with manager="model_file"'
            )
        folder.add_path(CHECKPOINT, path)
        return Saved("orbax", {"items": kinds})

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Restore the items.

        Raises:
            IntegrityError: the files are not a sound checkpoint.
            InvalidArgumentError: `into` does not fit, or there is no such device.
        """
        items = list(_items(folder / CHECKPOINT))
        if not items or {name: kind for name, kind, _ in items} != dict(state["items"]):
            raise IntegrityError("the checkpoint", "files", f"it does not hold {sorted(state['items'])}")
        if len(items) == 1 and items[0][0] in _ONLY:
            return _restore(*items[0], request.into, request.device)
        into = {} if request.into is None else request.into
        if not isinstance(into, Mapping) or not set(into) <= {name for name, _, _ in items}:
            raise InvalidArgumentError("into", f"into= is to be a mapping of {sorted(state['items'])} to trees")
        return {name: _restore(name, kind, path, into.get(name), request.device) for name, kind, path in items}

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The items of a checkpoint, and how many arrays and numbers each has."""
        path = _folder(obj)
        found = list(_items(path)) if path is not None else []
        return {name: {"kind": kind, "leaves": len(_leaves(item))} for name, kind, item in found}


def _folder(obj: Any) -> Path | None:
    if not isinstance(obj, (str, os.PathLike)):
        return None
    text = os.fspath(obj)
    if not isinstance(text, str) or not text or "\0" in text:
        return None
    path = Path(text).expanduser()
    return path.absolute() if path.is_dir() else None


def _is_tree(path: Path) -> bool:
    # Beside another file, as `_metadata` alone, which file systems that ignore case find too, is Parquet's.
    return (path / _OF_TREE).is_file() and any((path / name).exists() for name in _BESIDE_TREE)


def _items(path: Path) -> Iterator[tuple[str, str | None, Path]]:
    """What a checkpoint consists of: name, kind (None if unknown) and folder."""
    if _is_tree(path):
        yield _ONLY[0], "tree", path
        return
    for child in sorted(path.iterdir()) if path.is_dir() else ():
        if child.is_dir():
            kind = "tree" if _is_tree(child) else "json" if (child / _OF_JSON).is_file() else None
            # Orbax keeps what it learnt while saving in folders that are not items.
            if kind is not None or not child.name.startswith("_"):
                yield child.name, kind, child


def _leaves(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / _OF_TREE).read_bytes())["tree_metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _restore(name: str, kind: str | None, path: Path, into: Any, device: str | None) -> Any:
    subject = f"the item {name!r} of the checkpoint"
    if kind == "json":
        try:
            return json.loads((path / _OF_JSON).read_bytes())
        except ValueError as error:
            raise IntegrityError(subject, _OF_JSON, f"it is no JSON: {error}") from error
    import jax
    import orbax.checkpoint as ocp

    place = jax.sharding.SingleDeviceSharding(find_device(device) or jax.numpy.zeros(()).device)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        try:
            stored = checkpointer.metadata(path).item_metadata.tree
            if into is None:
                arguments = jax.tree.map(lambda leaf: _as_stored(leaf, place), stored)
                return checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=arguments))
        except ModuleNotFoundError:
            raise
        except Exception as error:  # tensorstore's, msgpack's, and those of a tree that is none
            raise IntegrityError(subject, "files", f"Orbax cannot restore it: {error!r:.500}") from error
        arguments = jax.tree.map(lambda leaf: _as_wanted(leaf, place, device), into)
        _check_fits(into, stored)
        try:
            return checkpointer.restore(path, args=ocp.args.PyTreeRestore(item=into, restore_args=arguments))
        except Exception as error:
            raise InvalidArgumentError("into", f"into= does not fit {subject}: {error!s:.500}") from error


def _as_stored(leaf: Any, place: Any) -> Any:
    """How to restore a leaf without a wish: what was an array of JAX's on `place`, all else as it was."""
    import orbax.checkpoint as ocp

    if getattr(leaf, "sharding", None) is None:
        return ocp.RestoreArgs()
    return ocp.ArrayRestoreArgs(sharding=place, dtype=leaf.dtype)


def _as_wanted(leaf: Any, place: Any, device: str | None) -> Any:
    """How to restore a leaf of the caller's tree: spread as that is, unless a device is asked for."""
    import jax
    import numpy
    import orbax.checkpoint as ocp

    if isinstance(leaf, numpy.ndarray):
        return ocp.RestoreArgs(restore_type=numpy.ndarray)
    if not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return ocp.RestoreArgs(restore_type=type(leaf))
    sharding = getattr(leaf, "sharding", None)
    if device is not None or sharding is None or not getattr(leaf, "committed", True):
        sharding = place
    return ocp.ArrayRestoreArgs(sharding=sharding, global_shape=leaf.shape, dtype=leaf.dtype)


def _check_fits(into: Any, stored: Any) -> None:
    """Orbax would cut and convert arrays of other shapes and types."""
    import jax

    def shapes(tree: Any) -> dict[str, Any]:
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        named = {".".join(_key(key) for key in keys): leaf for keys, leaf in leaves}
        return {
            name: (tuple(leaf.shape), str(leaf.dtype))
            for name, leaf in named.items()
            if getattr(leaf, "shape", None) is not None and not isinstance(leaf, (bool, int, float))
        }

    wanted, found = shapes(into), shapes(stored)
    wrong = sorted(name for name, shape in wanted.items() if name in found and found[name] != shape)
    if wrong:
        raise InvalidArgumentError(
            "into", f"into= has {wrong[0]} of shape and type {wanted[wrong[0]]}; stored are {found[wrong[0]]}"
        )


def _key(key: Any) -> str:
    return str(next(getattr(key, name) for name in ("key", "idx", "name") if hasattr(key, name)))
