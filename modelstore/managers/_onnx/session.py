"""A session of onnxruntime: the file that it was made from, and another session made from that file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._onnx.options import describe, options_of, providers_of
from modelstore.managers._onnx.wire import external_files
from modelstore.managers.base import Saved, class_name

MODEL = "model.onnx"
ORT_MODEL = "model.ort"


def save_session(session: Any, folder: ModelFolder) -> Saved:
    """Write the bytes or the file that it was made from, and the files with its tensors.

    Raises:
        UnsupportedObjectError: they are not all there.
    """
    import onnxruntime

    state = {"of": "session", "version": onnxruntime.__version__, **describe(session)}
    if session._model_bytes is not None:
        data = memoryview(session._model_bytes)
        state["file"] = _name(data)
        if state["file"] == MODEL and external_files(data):
            raise UnsupportedObjectError(
                "this session was made from bytes whose tensors lie in other files: make it from a path",
                class_name(session),
            )
        folder.add_buffers(state["file"], [data])
        return Saved("onnx", {**state, "from": "bytes"})
    if session._model_path is None:
        raise UnsupportedObjectError(
            "this session has neither bytes nor a file that it was made from: make it from one of them, or pass the "
            "path of its file as model=",
            class_name(session),
        )
    path = Path(session._model_path)
    try:
        data = _mapped(path)
        state["file"] = _name(data)
        beside = external_files(data) if state["file"] == MODEL else []
    except (OSError, IntegrityError) as error:
        raise UnsupportedObjectError(
            f"the file that this session was made from cannot be stored ({error}): make the session from bytes",
            class_name(session),
        ) from error
    folder.add_path(state["file"], path)
    for name in beside:
        if name == state["file"] or not (path.parent / name).is_file():
            raise UnsupportedObjectError(
                f"{path.name} keeps tensors in {name!r}, and no such file lies beside it", class_name(session)
            )
        folder.add_path(name, path.parent / name)
    return Saved("onnx", {**state, "from": "path"})


def _name(data: memoryview) -> str:
    # The mark of onnxruntime's own format, in which a model lies optimised.
    return ORT_MODEL if bytes(data[4:8]) == b"ORTM" else MODEL


def _mapped(path: Path) -> memoryview:
    """The file's bytes; the mapping ends with the last view of it."""
    if not os.path.getsize(path):
        raise IntegrityError("the ONNX model", path.name, "it is empty")
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def load_session(folder: Path, state: Mapping[str, Any], device: str | None) -> Any:
    """Make a session from the stored file, with the recorded options.

    Raises:
        IntegrityError: onnxruntime cannot make it, or it would read files that were not stored with it.
        InvalidArgumentError: `device` is none that this machine has.
    """
    import onnxruntime

    if state["file"] not in (MODEL, ORT_MODEL):
        raise IntegrityError("the record", "managers", f"{state['file']!r} is no file of a session")
    path = folder / state["file"]
    try:
        options, providers = options_of(state), providers_of(state, device)
        data = path.read_bytes() if state["from"] == "bytes" else None
        _check_beside(folder, path)
        return onnxruntime.InferenceSession(data if data is not None else str(path), options, providers=providers)
    except (IntegrityError, InvalidArgumentError):
        raise
    except Exception as error:  # onnxruntime's errors have no class in common
        raise IntegrityError("the session", state["file"], f"onnxruntime cannot make it: {error}") from error


def _check_beside(folder: Path, path: Path) -> None:
    """Refuse a model that would read other files than those that were stored with it."""
    if path.name != MODEL:
        return
    for name in external_files(_mapped(path)):
        if not (folder / name).is_file():
            raise IntegrityError("the session", name, "a file with tensors is not there")
