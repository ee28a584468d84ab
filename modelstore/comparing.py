"""Puts a comparison of models together: their records, the tables of their archives and, where they differ, weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from modelstore.archive import ArchiveFile, Cache
from modelstore.managers import tensor_files
from modelstore.progress import Advance
from modelstore.registry.registry import Model
from modelstore.reports.comparison import Comparison, FileDifference, TensorDifference
from modelstore.storage.base import Storage
from modelstore.unpacking import list_files, unpacked


def compare(storage: Storage, cache: Cache, models: Sequence[Model], tensors: bool, offline: bool) -> Comparison:
    """What differs between the first model and the others.

    Raises:
        StorageError: an archive cannot be read.
    """
    listed = [_files(storage, cache, model) for model in models] if not offline else [{} for _ in models]
    names = sorted({name for files in listed for name in files})
    different = [name for name in names if len({_digest(files.get(name)) for files in listed}) > 1]
    moved: dict[str, tuple[TensorDifference, ...]] = {}
    weights = [name for name in different if name.endswith(tensor_files.SUFFIX)]
    if tensors and weights:
        with ExitStack() as stack:
            folders = [
                stack.enter_context(unpacked(storage, cache, model, _no_bar, verify=None, offline=offline))
                for model in models
            ]
            for model, files, folder in zip(models[1:], listed[1:], folders[1:], strict=True):
                shared = [name for name in weights if name in files and name in listed[0]]
                found = tuple(each for name in shared for each in _tensors(folders[0], folder, name))
                if found:
                    moved[model.model_id] = found
    return Comparison(
        tuple(model.record for model in models),
        tuple(FileDifference(name, tuple(_size(files.get(name)) for files in listed)) for name in different),
        moved,
    )


def _files(storage: Storage, cache: Cache, model: Model) -> dict[str, ArchiveFile]:
    """What belongs to the model itself or was given with it; the files that tell of it differ always."""
    told = ("modelstore.json", "README.md", "model-info.json")
    return {file.name: file for file in list_files(storage, cache, model, _no_bar) if file.name not in told}


def _tensors(before: Path, after: Path, name: str) -> Iterator[TensorDifference]:
    for each in tensor_files.compare(before / name, after / name):
        yield TensorDifference(each.name, name, each.before, each.after, each.distance, each.relative)


@contextlib.contextmanager
def _no_bar(size: int) -> Iterator[Advance]:
    yield lambda count: None


def _digest(file: ArchiveFile | None) -> str | None:
    return None if file is None else file.digest


def _size(file: ArchiveFile | None) -> int | None:
    return None if file is None else file.size
