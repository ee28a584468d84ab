"""From a model's archive to files: the local cache for loading, a folder of the user's for downloading."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from modelstore.ancestor.metadata import is_adopted
from modelstore.ancestor.unpack import identity, listed, unpack
from modelstore.archive import Archive, ArchiveFile, ArchiveInfo, Cache, staged
from modelstore.archive.trees import with_parents
from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    ModelDeletedException,
    ModelStoreError,
    ObjectNotFoundError,
    OfflineError,
    StorageError,
)
from modelstore.progress import Advance
from modelstore.registry.keys import ANCESTOR
from modelstore.registry.registry import Model
from modelstore.storage.base import Storage
from modelstore.storage.objects import ObjectSource

Bars = Callable[[int], AbstractContextManager[Advance]]
"""Makes a bar for a transfer of so many bytes."""


def open_archive(storage: Storage, model: Model, advance: Advance | None = None) -> Archive:
    """Read the archive's table: one request."""
    source = ObjectSource(storage, model.archive["key"], advance)
    return Archive.open(source, subject(model), ArchiveInfo.from_dict(model.archive))


def subject(model: Model) -> str:
    """How errors call a model."""
    return f"model {model.model_id!r} of {model.domain!r}"


def unpacked(
    storage: Storage, cache: Cache, model: Model, bars: Bars, *, verify: str | None, offline: bool
) -> AbstractContextManager[Path]:
    """The model's files, unpacked in the cache, for as long as the context lasts. Shared: not to be written to.

    Raises:
        OfflineError: offline, and the model is not in the cache.
    """
    digest = _identity(storage, model)

    def fill(target: Path, journal: Path | None) -> Sequence[ArchiveFile]:
        if offline:
            raise OfflineError(f"{subject(model)} is not in the cache of this machine; load it once online")
        if is_adopted(model.archive):
            return _unpack_adopted(storage, model, bars, target)
        with bars(model.archive["size"]) as advance:
            archive = open_archive(storage, model, advance)
            return archive.extract(target, journal=journal, threads=storage.streams or None)

    return cache.open(digest, fill, verify_full=verify == "full")


def _identity(storage: Storage, model: Model) -> str:
    """Under what the cache keeps the model's files."""
    if is_adopted(model.archive):
        return identity(storage.address, model.archive)
    return ArchiveInfo.from_dict(model.archive, subject(model)).archive_digest


def _unpack_adopted(storage: Storage, model: Model, bars: Bars, target: Path) -> Sequence[ArchiveFile]:
    key, size = model.archive["key"], model.archive.get("size")
    if not isinstance(size, int) or not key.startswith(ANCESTOR):
        raise IntegrityError(subject(model), "archive", f"{key} was not there when the model was adopted")
    with bars(size) as advance:
        return unpack(ObjectSource(storage, key, advance).read_into, size, target, subject(model))


def list_files(storage: Storage, cache: Cache, model: Model, bars: Bars) -> list[ArchiveFile]:
    """The files in a model's archive. Costs one read; of an adopted model what a load costs, as there is no table."""
    if not is_adopted(model.archive):
        return list(open_archive(storage, model).files)
    with unpacked(storage, cache, model, bars, verify=None, offline=False) as folder:
        return listed(folder)


def download(
    storage: Storage,
    cache: Cache,
    model: Model,
    bars: Bars,
    target: Path,
    include: str | Sequence[str] | None,
    offline: bool,
) -> None:
    """Put a model's files, or those whose names match a pattern, into a folder of the user's.

    Files of the same name are replaced, each in one step once all have been verified; others are left alone. A download
    that was cut off leaves a hidden folder in the target, with which the next one of the same model goes on.

    Raises:
        InvalidArgumentError: no file matches.
    """
    digest, adopted = _identity(storage, model), is_adopted(model.archive)
    with _explained(target):
        target.mkdir(parents=True, exist_ok=True)
        with staged(target, digest) as place:
            if offline or adopted or (include is None and cache.holds(digest)):
                with unpacked(storage, cache, model, bars, verify=None, offline=offline) as folder:
                    place.clear()
                    _copy(folder, place.files, include)
            else:
                advance: Advance | None = None
                archive = open_archive(storage, model, lambda count: advance(count) if advance else None)
                names = [file.name for file in archive.files]
                chosen = None if include is None else _matching(names, include)
                _check_way(target, chosen or names, () if chosen else archive.empty_folders)  # before it is fetched
                size = sum(file.size for file in archive.files if chosen is None or file.name in chosen)
                with bars(size) as shown:
                    advance = shown
                    archive.extract(place.files, chosen, journal=place.journal, threads=storage.streams or None)
            _move_into(place.files, target)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except ModelStoreError:
        raise
    except OSError as error:
        raise StorageError(f"the files cannot be put into {target}: {error.strerror or error}") from error


def _matching(names: list[str], include: str | Sequence[str]) -> list[str]:
    patterns = [include] if isinstance(include, str) else list(include)
    found = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not found:
        raise InvalidArgumentError(
            "include", f"no file of the model matches {include!r}; files(domain, model_id) lists them"
        )
    return found


def _copy(source: Path, target: Path, include: str | Sequence[str] | None) -> None:
    # Copied, never linked: editing a download must not reach the cache.
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    for name in names if include is None else _matching(names, include):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    if include is None:
        for folder in source.rglob("*"):
            if folder.is_dir():
                (target / folder.relative_to(source)).mkdir(parents=True, exist_ok=True)


def _check_way(target: Path, files: Sequence[str], folders: Iterable[str]) -> None:
    """See that nothing in the target keeps these files and folders out: it takes all of them, or none.

    Raises:
        StorageError: a link or a file is where a folder is to be, or a folder where a file is.
    """
    for folder in sorted(with_parents([*(name.rpartition("/")[0] for name in files), *folders])):
        place = target / folder
        if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            what = "a link, and nothing is written through links" if place.is_symlink() else "a file"
            raise StorageError(f"{place} is to be a folder and is {what}: remove it")
    for name in files:
        if (target / name).is_dir() and not (target / name).is_symlink():
            raise StorageError(f"{target / name} is to be a file and is a folder: remove it")


def _move_into(staging: Path, target: Path) -> None:
    found = {path.relative_to(staging).as_posix(): path.is_dir() for path in sorted(staging.rglob("*"))}
    folders = [name for name, is_folder in found.items() if is_folder]
    files = [name for name, is_folder in found.items() if not is_folder]
    _check_way(target, files, folders)
    for name in folders:
        (target / name).mkdir(exist_ok=True)
    for name in files:
        os.replace(staging / name, target / name)


@contextmanager
def archive_errors(model: Model, number_now: Callable[[], int]) -> Iterator[None]:
    """A missing archive means that somebody deleted the model a moment ago: fold anew before that is reported."""
    try:
        yield
    except ObjectNotFoundError as error:
        # The look itself raises ModelDeletedException, unless the id is another model's already.
        if number_now() != model.number:
            raise ModelDeletedException(model.domain, model.model_id) from error
        raise IntegrityError(subject(model), "archive", f"there is no object {error.key!r}") from error
