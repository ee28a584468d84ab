"""A model that lies on disk already: one file, or a folder with all below it."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder, fold_name
from modelstore.managers.base import LoadRequest, ObjectManager, Saved

_TAKEN = frozenset(
    {"modelstore.json", "modelstore-parameters.json", "requirements.txt", "readme.md", "extras", ".modelstore-table"}
)
_BESIDE = "model"
"""Where a file goes whose name the archive needs for itself."""


class ModelFileManager(ObjectManager):
    """Stores the file or folder under its own name, so that a download finds it where one looks for it."""

    name = "model_file"
    title = "Files and folders"
    exactness = "the same bytes"
    limits = ("devices, sockets and cycles of links; links are stored as what they point to",)
    restores_as = "a `pathlib.Path` to a private copy"

    def recognises(self, obj: Any) -> bool:
        """Whether this is a path at which something lies."""
        return _path(obj) is not None

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Take in the file or folder without copying it.

        Raises:
            UnsupportedObjectError: nothing lies at that path any more.
        """
        path = _path(obj)
        if path is None:
            raise UnsupportedObjectError(f"{obj!r} is not the path of a file or a folder that exists")
        name = os.path.basename(os.path.abspath(path)) or _BESIDE
        # `model` itself moves aside too, as a file of that name would keep others from lying below it.
        if fold_name(name) in _TAKEN or fold_name(name) == _BESIDE:
            name = f"{_BESIDE}/{name}"
        folder.add_path(name, path)
        return Saved("folder" if path.is_dir() else "file", {"path": name})

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Path:
        """A writable copy below a temporary folder, which is removed when this process ends."""
        name = state["path"]
        if not isinstance(name, str) or os.path.isabs(name) or ".." in name.split("/"):
            raise IntegrityError("the record", "managers", f"the path {name!r} does not lie in the archive")
        return private_copy(folder / name)


def private_copy(source: Path) -> Path:
    """A writable copy of a file or folder below a temporary folder, which is removed when this process ends."""
    target = Path(tempfile.mkdtemp(dir=_copies(os.getpid()))) / source.name
    _copy(source, target)
    return target


def _path(obj: Any) -> Path | None:
    if not isinstance(obj, (str, os.PathLike)):
        return None
    text = os.fspath(obj)
    if not isinstance(text, str) or not text or "\0" in text:
        return None
    for candidate in (text, os.path.expanduser(text)):
        if os.path.exists(candidate):
            return Path(candidate)
    return None


@functools.cache
def _copies(process: int) -> str:
    """The folder of this process's copies; a child by fork makes its own and leaves its parent's alone."""
    folder = tempfile.mkdtemp(prefix="modelstore-loaded-")
    atexit.register(_remove, folder, process)
    return folder


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir()
        for child in source.iterdir():
            _copy(child, target / child.name)
        return
    _copy_bytes(source, target)
    target.chmod(source.stat().st_mode & 0o777 | 0o600)


def _copy_bytes(source: Path, target: Path) -> None:
    """Copy one file, sharing its blocks on disk where the file system can."""
    if hasattr(os, "copy_file_range"):
        try:
            with open(source, "rb") as reader, open(target, "xb") as writer:
                while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                    pass
            if target.stat().st_size == source.stat().st_size:
                return
        except OSError:
            pass  # another file system, or one that cannot: copy by hand
    shutil.copyfile(source, target)
