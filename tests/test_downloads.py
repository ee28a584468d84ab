"""Downloads: what stands in the way is an error of ours, and then the target is as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import IntegrityError, ModelDeletedException, ModelNotFoundException, StorageError


@pytest.fixture
def full(store: ModelStore, tmp_path: Path) -> ModelStore:
    """A store with one model: a folder of two files."""
    (tmp_path / "net" / "sub").mkdir(parents=True)
    (tmp_path / "net" / "a.bin").write_text("a")
    (tmp_path / "net" / "sub" / "b.bin").write_text("b")
    store.upload("d", model_id="m", model=str(tmp_path / "net"))
    return store


def seen(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): path.is_file() and path.read_text() for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("way", ["net", "net/sub", "net/sub/b.bin"])
@pytest.mark.parametrize("cached", [False, True])
def test_what_stands_in_the_way_leaves_the_target_as_it_was(
    full: ModelStore, tmp_path: Path, way: str, cached: bool
) -> None:
    """A file where a folder is to be, or a folder where a file is: nothing of the download appears."""
    if cached:
        full.load("d")
    target = tmp_path / "out"
    (target / way).parent.mkdir(parents=True)
    if way.endswith("bin"):
        (target / way).mkdir()
    else:
        (target / way).write_text("mine")
    (target / "README.md").write_text("mine")
    before = seen(target)
    with pytest.raises(StorageError, match=Path(way).name):
        full.download(target, "d")
    assert seen(target) == before


def test_a_target_that_is_a_file_or_lies_below_one_is_an_error_of_ours(full: ModelStore, tmp_path: Path) -> None:
    """The folder cannot be made: the message names it."""
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(StorageError, match="file"):
            full.download(target, "d")


def test_nothing_is_written_through_links(full: ModelStore, tmp_path: Path) -> None:
    """A link to a folder in the target is refused; one in place of a file is replaced, and what it led to is kept."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sub").mkdir(parents=True)
    (elsewhere / "mine.txt").write_text("mine")
    target = tmp_path / "out"
    target.mkdir()
    (target / "net").symlink_to(elsewhere)
    with pytest.raises(StorageError, match="link"):
        full.download(target, "d")
    assert seen(elsewhere) == {"mine.txt": "mine", "sub": False}
    (target / "net").unlink()
    (target / "README.md").symlink_to(elsewhere / "mine.txt")
    full.download(target, "d")
    assert (elsewhere / "mine.txt").read_text() == "mine"
    assert not (target / "README.md").is_symlink()


def test_a_disk_that_is_full_is_an_error_of_ours(
    full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying from the cache fails: nothing is left in the target."""
    full.load("d")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(StorageError, match="No space left"):
        full.download(tmp_path / "out", "d")
    assert seen(tmp_path / "out") == {}


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "deleted and uploaded again"])
def test_a_model_purged_between_the_look_and_the_reading_is_reported_as_deleted(
    full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Its archive is gone, and its id may be another model's by now: that is no damage."""
    found = full._registry.find("d", "m")
    full.delete_model("d", "m", skip_prompt=True, purge=True)
    if again:
        full.upload("d", model_id="m", model=str(tmp_path / "net"))
    find = full._registry.find
    answers = [found]
    monkeypatch.setattr(full._registry, "find", lambda *a, **k: answers.pop() if answers else find(*a, **k))
    with pytest.raises(ModelDeletedException):
        full.load("d", "m")


def test_a_missing_archive_of_a_living_model_is_damage(full: ModelStore) -> None:
    """Somebody has deleted the object itself: the error says which one."""
    full.storage.delete([info.key for info in full.storage.list("archives/")])
    with pytest.raises(IntegrityError, match="archives/d/m"):
        full.load("d", "m")
    with pytest.raises(ModelNotFoundException):
        full.load("d", "x")


@pytest.mark.parametrize("part", ["archive_digest", "table", "size", "managers"])
def test_a_record_without_its_parts_is_damage(
    full: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """What load and download need of a record may be missing in one that came from a log."""
    found = full._registry.find("d", "m")
    (found.record["model"] if part == "managers" else found.archive).pop(part)
    monkeypatch.setattr(full._registry, "find", lambda *_, **__: found)
    with pytest.raises(IntegrityError, match=part):
        full.load("d", "m")
    if part != "managers":
        with pytest.raises(IntegrityError, match=part):
            full.download(tmp_path / "out", "d", "m")
