"""GGUF: files as they are, readers as readers, and what a file says of itself."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")

import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian, GGUFReader, GGUFWriter, quants

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.managers._gguf.header import read_header
from modelstore.managers.detection import all_managers
from modelstore.managers.gguf import GGUFManager
from tests.managers.contract import BuiltinContract
from tests.managers.helpers import get, put

WEIGHTS = np.random.RandomState(0).normal(size=(4, 64)).astype("float32")


def file(name: str = "tiny.gguf", folder: Path | None = None, endian: Any = GGUFEndian.LITTLE) -> Path:
    """A model of three tensors, with metadata of every type."""
    path = (folder or Path(tempfile.mkdtemp())) / name
    writer = GGUFWriter(path, "llama", endianess=endian)
    writer.add_name("Tiny")
    writer.add_context_length(2048)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_float64("test.nan", float("nan"))
    writer.add_bool("test.flag", True)
    writer.add_int8("test.small", -3)
    writer.add_chat_template("x" * 10_000)
    writer.add_token_list([f"token {at}" for at in range(1000)])
    writer.add_token_scores([0.5] * 1000)
    writer.add_tensor("token_embd.weight", WEIGHTS)
    writer.add_tensor("norm.weight", WEIGHTS[0].astype("float16"))
    quantised = quants.quantize(WEIGHTS, GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", np.concatenate([quantised] * 4), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def observe(found: Any) -> Any:
    """All bytes of a file, after which it is overwritten: a copy may be changed."""
    data = found.read_bytes()
    found.write_bytes(b"changed")
    return [found.name, data]


def read(found: Any) -> Any:
    """Metadata and tensors as a reader gives them, after a change if it takes one."""
    tensors = {tensor.name: [tensor.tensor_type.name, np.array(tensor.data)] for tensor in found.tensors}
    if found.data.mode != "r":
        found.tensors[0].data[0, 0] = 99
    return {"tensors": tensors, "fields": list(found.fields), "mode": found.data.mode, "bytes": found.data.nbytes}


class TestGGUF(BuiltinContract):
    """Paths, texts, readers of every mode, and a model in several files."""

    manager = GGUFManager()

    def result(self, objects: Mapping[str, Any]) -> Any:
        """Paths, of the same names, to copies; readers of other files."""
        return super().result({keyword: _copied(value) for keyword, value in objects.items()})

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            "path": Case(lambda: {"model": file()}, observe),
            "text": Case(lambda: {"model": str(file("Kleines Modell.GGUF"))}, observe),
            "of another byte order": Case(lambda: {"model": file(endian=GGUFEndian.BIG)}, observe),
            "in two files": Case(lambda: {"model": _split()}, observe_all),
            "reader": Case(lambda: {"model": GGUFReader(file())}, read),
            "reader of a private copy": Case(lambda: {"model": GGUFReader(file(), "c")}, read),
            "reader that writes": Case(lambda: {"model": GGUFReader(file(), "r+")}, read),
            "two": Case(lambda: {"model": file(), "preprocessor": GGUFReader(file())}, observe_two),
        }

    def _seen(self, *arguments: Any) -> dict[str, Any]:
        # A path's class depends on whether a text or a path was given.
        return {**super()._seen(*arguments), "class": None}


def _split() -> Path:
    folder = Path(tempfile.mkdtemp())
    first, _ = (file(f"big-0000{at}-of-00002.gguf", folder) for at in (1, 2))
    return first


def _copied(value: Any) -> Any:
    if isinstance(value, (str, Path)):
        return Path(shutil.copytree(Path(value).parent, tempfile.mkdtemp(), dirs_exist_ok=True)) / Path(value).name
    return GGUFReader(shutil.copy(value.data.filename, tempfile.mkdtemp()), value.data.mode)


def observe_all(found: Path) -> Any:
    """All files of a model."""
    return [observe(path) for path in sorted(found.parent.glob("*.gguf"))]


def observe_two(found: Mapping[str, Any]) -> Any:
    """A path and a reader of one upload."""
    return [observe(found["model"]), read(found["preprocessor"])]


@pytest.mark.parametrize("endian", list(GGUFEndian))
def test_what_the_file_says_of_itself_becomes_the_parameters(endian: Any) -> None:
    """Architecture, sizes and single values; lists of tokens, long texts and NaN are left out."""
    path = file(endian=endian)
    assert GGUFManager().parameters({"model": path}) == {
        "architecture": "llama",
        "name": "Tiny",
        "quantization": "Q8_0",
        "context_length": 2048,
        "tensor_count": 3,
        "parameter_count": 4 * 64 + 64 + 16 * 64,
        "parameters_by_type": {"Q8_0": 16 * 64, "F32": 4 * 64, "F16": 64},
        "metadata": {
            "general.architecture": "llama", "general.name": "Tiny", "llama.context_length": 2048,
            "llama.rope.freq_base": 10000.0, "test.flag": True, "test.small": -3,
        },
    }  # fmt: skip


def test_only_files_of_that_name_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the suffix alone, in any case, and before the manager of all other paths."""
    path = file(folder=tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "folder.gguf").mkdir()
    recognises = GGUFManager().recognises
    assert all(recognises(each) for each in (path, str(path), "~/tiny.gguf"))
    others = (tmp_path / "no.gguf", tmp_path / "folder.gguf", tmp_path, b"tiny.gguf", 3, None)
    assert not any(recognises(each) for each in others)
    found = all_managers().find(path)
    assert found is not None
    assert found.name == "gguf"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """The error says how to store it nevertheless."""
    for data in (b"", b"GGML" + bytes(50), file().read_bytes()[:100]):
        (tmp_path / "other.gguf").write_bytes(data)
        with pytest.raises(UnsupportedObjectError, match="manager='model_file'"):
            put(GGUFManager(), tmp_path / "other.gguf", tmp_path / "model")


def test_a_model_of_which_a_file_is_missing_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    path = _split()
    (path.parent / "big-00002-of-00002.gguf").unlink()
    with pytest.raises(UnsupportedObjectError, match="big-00002-of-00002.gguf does not lie beside it"):
        put(GGUFManager(), path, tmp_path)


def test_what_a_reader_has_in_memory_is_stored(tmp_path: Path) -> None:
    """A private reader's changes go along, though its file does not have them."""
    reader = GGUFReader(path := file(), "c")
    reader.tensors[0].data[0, 0] = 99
    loaded = get(GGUFManager(), put(GGUFManager(), reader, tmp_path), tmp_path)
    assert loaded.tensors[0].data[0, 0] == 99
    assert GGUFReader(path).tensors[0].data[0, 0] == WEIGHTS[0, 0]


class Own(GGUFReader):  # type: ignore[misc]
    """A user's reader."""


def test_a_subclass_comes_back_as_its_parent(tmp_path: Path) -> None:
    """With a warning at upload."""
    with pytest.warns(UserWarning, match="comes back as a GGUFReader"):
        saved = put(GGUFManager(), Own(file()), tmp_path)
    assert type(get(GGUFManager(), saved, tmp_path)) is GGUFReader


def _head(tensors: int = 0, entries: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + rest


KEY = struct.pack("<Q", 1) + b"k"
HOSTILE = {
    "version": _head(version=1),
    "many tensors": _head(tensors=1 << 60),
    "many entries": _head(entries=1 << 60),
    "tensors that are not there": _head(tensors=1000),
    "long name": _head(entries=1, rest=struct.pack("<Q", 1 << 62)),
    "long text": _head(entries=1, rest=KEY + struct.pack("<IQ", 8, 1 << 62)),
    "long list": _head(entries=1, rest=KEY + struct.pack("<IIQ", 9, 0, 1 << 62)),
    "list of nothing": _head(entries=1, rest=KEY + struct.pack("<IIQ", 9, 8, 20)),
    "lists in lists": _head(entries=1, rest=KEY + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 100),
    "unknown type": _head(entries=1, rest=KEY + struct.pack("<I", 77)),
    "many dimensions": _head(tensors=1, rest=KEY + struct.pack("<I", 1 << 30)),
    "no text": _head(entries=1, rest=struct.pack("<Q", 2) + b"\xff\xff" + struct.pack("<I", 0)),
    "end": b"GGUF\x03",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_head_is_an_error(data: bytes) -> None:
    """Numbers that a file claims are checked before they are believed."""
    with pytest.raises(IntegrityError, match="GGUF header"):
        read_header(memoryview(data), "the file")


@pytest.mark.parametrize("path", ["../x.gguf", "/etc/passwd", "model/../x", "a/b.gguf", "..", "", None, "no.gguf"])
@pytest.mark.parametrize("mode", [None, "r"])
def test_a_record_cannot_point_outside(path: Any, mode: str | None, tmp_path: Path) -> None:
    """A forged record does not make `load` read beside the archive."""
    saved = put(GGUFManager(), file(), tmp_path / "model")
    state = {"path": path} if mode is None else {"path": path, "mode": mode}
    with pytest.raises(IntegrityError):
        get(GGUFManager(), saved, tmp_path / "model", state=state)


def test_through_the_store(store: ModelStore) -> None:
    """One line up, one line back; the record names the library, and a path comes back as a path to a copy."""
    path = file()
    info = store.upload("chat", model=str(path))
    assert info.library == "gguf"
    assert info["model"]["parameters"]["quantization"] == "Q8_0"
    loaded = store.load("chat", allow_pickle=False)
    assert loaded.read_bytes() == path.read_bytes()
    assert loaded != path
