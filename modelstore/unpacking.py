"""From a model's archive to files: the local cache for loading, a folder of the user's for downloading."""

from __future__ import annotations

import fnmatch
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from modelstore.archive import Archive, ArchiveFile, ArchiveInfo, Cache
from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    ModelDeletedException,
    ModelStoreError,
    ObjectNotFoundError,
    OfflineError,
    StorageError,
)
from modelstore.registry.registry import Model
from modelstore.storage.base import Storage
from modelstore.storage.objects import ObjectSource


def open_archive(storage: Storage, model: Model) -> Archive:
    """Read the archive's table: one request."""
    return Archive.open(
        ObjectSource(storage, model.archive["key"]), subject(model), ArchiveInfo.from_dict(model.archive)
    )


def subject(model: Model) -> str:
    """How errors call a model."""
    return f"model {model.model_id!r} of {model.domain!r}"


def unpacked(
    storage: Storage, cache: Cache, model: Model, *, verify: str | None, offline: bool
) -> AbstractContextManager[Path]:
    """The model's files, unpacked in the cache, for as long as the context lasts. Shared: not to be written to.

    Raises:
        OfflineError: offline, and the model is not in the cache.
    """
    digest = ArchiveInfo.from_dict(model.archive, subject(model)).archive_digest

    def fill(target: Path) -> Sequence[ArchiveFile]:
        if offline:
            raise OfflineError(f"{subject(model)} is not in the cache of this machine; load it once online")
        return open_archive(storage, model).extract(target)

    return cache.open(digest, fill, verify_full=verify == "full")


def download(
    storage: Storage, cache: Cache, model: Model, target: Path, include: str | Sequence[str] | None, offline: bool
) -> None:
    """Put a model's files, or those whose names match a pattern, into a folder of the user's.

    Files of the same name are replaced, each in one step once all have been verified; others are left alone.

    Raises:
        InvalidArgumentError: no file matches.
    """
    digest = ArchiveInfo.from_dict(model.archive, subject(model)).archive_digest
    with _explained(target):
        target.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".modelstore-", dir=target))
        try:
            if offline or (include is None and cache.holds(digest)):
                with unpacked(storage, cache, model, verify=None, offline=offline) as folder:
                    _copy(folder, staging, include)
            else:
                archive = open_archive(storage, model)
                names = None if include is None else _matching([file.name for file in archive.files], include)
                archive.extract(staging, names)
            _move_into(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


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


def _move_into(staging: Path, target: Path) -> None:
    moves = [(Path(folder), target / Path(folder).relative_to(staging), files) for folder, _, files in os.walk(staging)]
    for folder, place, files in moves:  # all of them first, so that a target that cannot take all takes none
        if folder != staging and os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            what = "a link, and nothing is written through links" if place.is_symlink() else "a file"
            raise StorageError(f"{place} is to be a folder and is {what}: remove it")
        for name in files:
            if (place / name).is_dir() and not (place / name).is_symlink():
                raise StorageError(f"{place / name} is to be a file and is a folder: remove it")
    for folder, place, files in moves:
        place.mkdir(exist_ok=True)
        for name in files:
            os.replace(folder / name, place / name)


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
