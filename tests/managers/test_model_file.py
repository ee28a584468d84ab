"""Files and folders on disk: stored under their own names, loaded as private copies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelstore.contracts.manager import Case, ManagerContract, write_folder
from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest
from modelstore.managers.model_file import ModelFileManager
from modelstore.managers.pickling import PicklePolicy

TAKEN = ["modelstore.json", "requirements.txt", "README.md", "Readme.MD", "extras", ".modelstore-table", "model"]


def observe(path: Path) -> Any:
    """All that lies below a path, after writing to it: a copy may be changed."""
    found = {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}
    (path / "scratch" if path.is_dir() else path).write_bytes(b"changed")
    return [path.name, path.is_dir(), found]


def observe_file(path: Path) -> Any:
    """A file's bytes, after which it is overwritten."""
    data = path.read_bytes()
    path.write_bytes(b"changed")
    return [path.name, data]


class TestModelFile(ManagerContract):
    """Files, folders, and names that the archive needs for itself."""

    manager = ModelFileManager()

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        type(self).root = tmp_path_factory.getbasetemp() / "model-files"
        self.root.mkdir(exist_ok=True)

    root: Path

    def result(self, objects: Mapping[str, Any]) -> Any:
        """Paths, of the same names, to copies."""
        paths = {keyword: _copied(Path(path)) for keyword, path in objects.items()}
        return super().result(paths)

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            "file": Case(lambda: {"model": self._file("weights.bin")}, observe_file),
            "text path": Case(lambda: {"model": str(self._file("Gewichte ü.bin"))}, observe_file),
            "empty file": Case(lambda: {"model": self._file("empty", b"")}, observe_file),
            "folder": Case(lambda: {"model": self._folder("saved_model")}, observe),
            "folder with a slash": Case(lambda: {"model": f"{self._folder('slash')}/"}, observe),
            "empty folder": Case(lambda: {"model": self._empty("hollow")}, observe),
            **{f"taken {name}": Case(self._taken(name), observe_file) for name in TAKEN},
            "two": Case(lambda: {"model": self._file("a"), "explainer": self._folder("b")}, observe_two),
        }

    def _seen(self, *arguments: Any) -> dict[str, Any]:
        # A path's class depends on whether a text or a path was given.
        return {**super()._seen(*arguments), "class": None}

    def _file(self, name: str, data: bytes = b"weights") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def _taken(self, name: str) -> Any:
        return lambda: {"model": self._file(f"taken/{name}")}

    def _folder(self, name: str) -> Path:
        self._file(f"{name}/graph.pb")
        self._file(f"{name}/deep/er/part", b"more")
        (self.root / name / "empty" / "nested").mkdir(parents=True, exist_ok=True)
        script = self._file(f"{name}/run.sh", b"#!/bin/sh\n")
        script.chmod(0o755)
        return self.root / name

    def _empty(self, name: str) -> Path:
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name


def observe_two(paths: Mapping[str, Path]) -> Any:
    """Both paths of one upload."""
    return [observe_file(paths["model"]), observe(paths["explainer"])]


def _copied(path: Path) -> Path:
    import shutil
    import tempfile

    target = Path(tempfile.mkdtemp()) / path.name
    return Path(shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target))


def _names(path: Any) -> list[str]:
    with ModelFolder() as files:
        ModelFileManager().save({"model": path}, files, {})
        return [file.name for file in files.contents().files]


def test_a_file_stands_at_the_top_under_its_own_name(tmp_path: Path) -> None:
    """What a download gives is found where it is looked for."""
    (tmp_path / "weights.bin").write_bytes(b"1")
    assert _names(tmp_path / "weights.bin") == ["weights.bin"]


@pytest.mark.parametrize("name", TAKEN)
def test_names_of_the_archive_move_aside(name: str, tmp_path: Path) -> None:
    """A file that is called as a member of the archive itself, in any case, goes below `model`."""
    (tmp_path / name).write_bytes(b"1")
    assert _names(tmp_path / name) == [f"model/{name}"]


def test_only_paths_that_exist_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Existing paths are, as text, path or below `~`; missing ones, bytes and other objects are not."""
    (tmp_path / "a").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    recognises = ModelFileManager().recognises
    assert all(recognises(path) for path in (tmp_path, str(tmp_path / "a"), "~/a"))
    assert not any(recognises(path) for path in (tmp_path / "b", "", "~/b", "a\0b", os.fsencode(tmp_path), 3, None))


def test_a_path_that_vanished_is_an_error(tmp_path: Path) -> None:
    """With `manager="model_file"`, a path at which nothing lies is refused by name."""
    with pytest.raises(UnsupportedObjectError, match="nowhere"):
        _names(tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", None])
def test_a_record_cannot_point_outside(path: Any, tmp_path: Path) -> None:
    """A forged record does not make `load` read beside the archive."""
    request = LoadRequest(tmp_path, {"path": path}, ("model",), PicklePolicy(False))
    with pytest.raises(IntegrityError):
        ModelFileManager().load(request)


def test_a_copy_is_writable_though_the_cache_is_not(tmp_path: Path) -> None:
    """Files and folders that are read-only in the cache can be changed in the copy; scripts stay executable."""
    with ModelFolder() as files:
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "run.sh").write_text("echo")
        saved = ModelFileManager().save({"model": tmp_path / "m"}, files, {})
        stored = write_folder(files.contents(), tmp_path / "stored")
    (stored / "m" / "run.sh").chmod(0o555)
    (stored / "m").chmod(0o555)
    loaded = ModelFileManager().load(LoadRequest(stored, saved.state, ("model",), PicklePolicy(False)))
    assert (loaded / "run.sh").stat().st_mode & 0o777 == 0o755
    assert loaded.stat().st_mode & 0o200


def test_copies_go_with_their_process_and_not_with_its_child(tmp_path: Path) -> None:
    """The temporary folder lives until the loading process ends, even when a fork of it ends before."""
    code = """
import os, sys, pathlib
from modelstore.managers.base import LoadRequest
from modelstore.managers.model_file import ModelFileManager
from modelstore.managers.pickling import PicklePolicy
folder = pathlib.Path(sys.argv[1])
load = lambda: ModelFileManager().load(LoadRequest(folder, {"path": "f"}, ("model",), PicklePolicy(False)))
path = load()
if (child := os.fork()) == 0:
    assert load().parent.parent != path.parent.parent
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
assert path.read_text() == "x"
print(path)
"""
    (tmp_path / "f").write_text("x")
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, check=True
    )
    assert not Path(done.stdout.strip()).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
