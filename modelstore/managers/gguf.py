"""GGUF, the file format of llama.cpp: a path to such a file, or a reader of one.

The files are stored as they are. What they say of themselves, such as architecture and quantisation, becomes the
model's parameters; that takes no package.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._gguf.header import read_header
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.model_file import private_copy
from modelstore.notices import warn

SUFFIX = ".gguf"
FOLDER = "model"
"""Where the files of a model lie that is split over several."""

_READER = "gguf.gguf_reader:GGUFReader"
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_MOST = 100  # entries of metadata in the record


class GGUFManager(ObjectManager):
    """Stores the file under its own name; of a model that is split over several files, all of them."""

    name = "gguf"
    title = "GGUF (llama.cpp)"
    claims = (_READER,)
    distributions = ("gguf", "numpy")
    extra = "gguf"
    restores_as = "a path as a `pathlib.Path` to a private copy, a `GGUFReader` as a `GGUFReader`"
    exactness = "the same bytes"
    limits = (
        "files of version 1, which `gguf` does not read either: pass `manager='model_file'`",
        "a subclass of `GGUFReader` comes back as a `GGUFReader`",
    )

    def recognises(self, obj: Any) -> bool:
        """Whether this is the path of a file that is called `….gguf`."""
        return isinstance(obj, (str, os.PathLike)) and str(obj).lower().endswith(SUFFIX) and os.path.isfile(_path(obj))

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Take in the file or files without copying them; of a reader, what it has in memory.

        Raises:
            UnsupportedObjectError: it is no GGUF file, or parts of it are not there.
        """
        data = _data(obj)
        try:
            read_header(data, f"{obj}")
        except IntegrityError as error:
            raise UnsupportedObjectError(
                f"{error}; if it is to be stored nevertheless, pass manager='model_file'", class_name(obj)
            ) from error
        if isinstance(obj, (str, os.PathLike)):
            return _save_files(Path(os.path.abspath(_path(obj))), folder)
        if class_name(obj) != _READER:
            warn(f"this {class_name(obj)} comes back as a GGUFReader")
        name = os.path.basename(obj.data.filename or "")
        name = name if name.lower().endswith(SUFFIX) else f"model{SUFFIX}"
        folder.add_buffers(name, [data])
        return Saved("gguf", {"path": name, "mode": obj.data.mode})

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """A private copy of the file, or a reader that maps the stored one."""
        name = str(state["path"])
        parts = name.split("/")
        inside = len(parts) == 1 or (len(parts) == 2 and parts[0] == FOLDER)
        if not inside or parts[-1] in ("", ".", "..") or "\\" in name:
            raise IntegrityError("the record", "managers", f"the path {name!r} does not lie in the archive")
        path = folder / name
        if not path.is_file():
            raise IntegrityError("the GGUF file", parts[-1], "it is not there")
        if "mode" not in state:
            return private_copy(path.parent) / path.name if len(parts) == 2 else private_copy(path)
        from gguf import GGUFReader

        # A reader that may write to its file gets one of its own.
        mode = state["mode"] if state["mode"] in ("r", "c") else "r+"
        try:
            return GGUFReader(private_copy(path) if mode == "r+" else path, mode)
        except (ValueError, KeyError, IndexError, OSError) as error:
            raise IntegrityError("the GGUF file", path.name, f"it cannot be read: {error}") from error

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """Architecture, name, quantisation, sizes, and the metadata that are single values."""
        head = read_header(_data(obj), "this model")
        metadata = head["metadata"]
        architecture = metadata.get("general.architecture")
        return {
            "architecture": architecture,
            "name": metadata.get("general.name"),
            "quantization": next(iter(head["types"]), None),
            "context_length": metadata.get(f"{architecture}.context_length"),
            "tensor_count": head["tensors"],
            "parameter_count": head["elements"],
            "parameters_by_type": head["types"],
            "metadata": dict(list(metadata.items())[:_MOST]),
        }


def _path(obj: Any) -> str:
    text = os.path.expanduser(str(obj))
    return str(obj) if os.path.exists(str(obj)) else text


def _data(obj: Any) -> memoryview:
    """The whole file, which is not read until it is looked at."""
    if not isinstance(obj, (str, os.PathLike)):
        return memoryview(obj.data).cast("B")
    path = _path(obj)
    try:
        if not os.path.getsize(path):
            return memoryview(b"")
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UnsupportedObjectError(f"{obj} cannot be read: {error}") from error


def _save_files(path: Path, folder: ModelFolder) -> Saved:
    split = _SPLIT.search(path.name)
    if split is None:
        folder.add_path(path.name, path)
        return Saved("gguf", {"path": path.name})
    stem, number = path.name[: split.start()], int(split[2])
    names = [f"{stem}-{at:05}-of-{number:05}.gguf" for at in range(1, number + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise UnsupportedObjectError(f"{path.name} is one of {number} files, and {missing[0]} does not lie beside it")
    for name in names:
        folder.add_path(f"{FOLDER}/{name}", path.parent / name)
    return Saved("gguf", {"path": f"{FOLDER}/{path.name}"})
