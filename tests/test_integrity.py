"""What is loaded is byte for byte what was uploaded, or an error says what is not; no store shows another's ghosts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelstore import ModelStore
from modelstore.exceptions import (
    DomainNotFoundException,
    IntegrityError,
    ModelDeletedException,
    ModelNotFoundException,
    ModelStoreError,
)

CONTENTS: dict[str, Callable[[], bytes]] = {
    "none": lambda: os.urandom(150_000),
    "zstd": lambda: b"weights and biases, " * 20_000,
}


def archive_of(root: Path) -> Path:
    (found,) = root.rglob("artifacts.*")
    return found


@pytest.mark.parametrize("form", CONTENTS)
def test_a_flipped_byte_in_an_archive_is_found_by_a_first_load(tmp_path: Path, form: str) -> None:
    """Wherever the byte is, the first load (nothing in the cache) raises IntegrityError and gives nothing."""
    source = tmp_path / "weights.bin"
    source.write_bytes(CONTENTS[form]())
    root = tmp_path / "store"
    store = ModelStore.from_file_system(root, create_directory=True)
    info = store.upload("fraud", model=str(source))
    assert info["storage"]["archive"]["compression"] == form
    path = archive_of(root)
    good = path.read_bytes()
    step = max(1, len(good) // 60)
    for at in sorted({*range(0, len(good), step), *range(len(good) - 40, len(good))}):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(IntegrityError):
            store.load("fraud")
    path.write_bytes(good)
    assert store.load("fraud").read_bytes() == source.read_bytes()


def test_damage_that_comes_later_is_found_by_a_full_verification(tmp_path: Path, own_settings: Path) -> None:
    """A file of the cache that changed with its size and times kept: `verify="full"` reads it and fetches it anew."""
    source = tmp_path / "weights.bin"
    source.write_bytes(b"good" * 1000)
    store = ModelStore.from_file_system(tmp_path / "store", create_directory=True)
    store.upload("fraud", model=str(source))
    store.load("fraud")
    (cached,) = own_settings.rglob("files/weights.bin")
    times = cached.stat()
    cached.chmod(0o644)
    cached.write_bytes(b"evil" * 1000)
    os.utime(cached, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.load("fraud", verify="full").read_bytes() == b"good" * 1000
    assert store.load("fraud").read_bytes() == b"good" * 1000


def test_a_partial_read_checks_its_own_chunks(tmp_path: Path) -> None:
    """With one large file damaged, another can still be fetched alone; the damaged one is an error."""
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "a.bin").write_bytes(os.urandom(5_000_000))
    (folder / "b.bin").write_bytes(os.urandom(5_000_000))
    root = tmp_path / "store"
    store = ModelStore.from_file_system(root, create_directory=True)
    store.upload("nets", model=str(folder))
    path = archive_of(root)
    data = bytearray(path.read_bytes())
    data[data.index((folder / "a.bin").read_bytes()) + 77] ^= 1
    path.write_bytes(data)
    out = store.download(tmp_path / "out", "nets", include="*b.bin")
    assert (Path(out) / "net" / "b.bin").read_bytes() == (folder / "b.bin").read_bytes()
    with pytest.raises(IntegrityError):
        store.download(tmp_path / "out", "nets", include="*a.bin")
    assert not (tmp_path / "out" / "net" / "a.bin").exists()


def test_a_missing_archive_is_damage_unless_the_model_was_deleted(tmp_path: Path) -> None:
    """A reader that finds no archive looks at the log again before it reports what is wrong."""
    source = tmp_path / "weights.bin"
    source.write_bytes(b"w")
    store = ModelStore.from_file_system(tmp_path / "store", create_directory=True)
    store.upload("fraud", model=str(source), model_id="lost")
    archive_of(tmp_path / "store").unlink()
    with pytest.raises(IntegrityError, match="archive"):
        store.load("fraud", "lost")
    find = store._registry.find

    def find_then_purge(*arguments: object, **options: object) -> object:
        store._registry.find = find  # type: ignore[method-assign]
        found = find(*arguments, **options)  # type: ignore[arg-type]
        ModelStore.from_file_system(tmp_path / "store").delete_model("fraud", "lost", skip_prompt=True, purge=True)
        return found

    store._registry.find = find_then_purge  # type: ignore[method-assign, assignment]
    with pytest.raises(ModelDeletedException):
        store.load("fraud", "lost")


def test_a_store_made_anew_at_the_same_address_shows_nothing_of_the_old_one(tmp_path: Path) -> None:
    """Removed and made again: a store object that is still open and a new one both see the new store only."""
    source = tmp_path / "weights.bin"
    source.write_bytes(b"old")
    root = tmp_path / "store"
    still_open = ModelStore.from_file_system(root, create_directory=True)
    still_open.create_model_state("production")
    still_open.upload("fraud", model=str(source), model_id="same")
    still_open.upload("churn", model=str(source), model_id="a")
    still_open.set_model_state("fraud", "same", "production")
    still_open.load("fraud")
    shutil.rmtree(root)
    source.write_bytes(b"new")
    ModelStore.from_file_system(root, create_directory=True).upload("fraud", model=str(source), model_id="same")
    for store in (still_open, ModelStore.from_file_system(root)):
        assert store.list_domains() == ["fraud"]
        assert store.load("fraud", "same").read_bytes() == b"new"
        assert store.list_model_states() == []
        with pytest.raises(DomainNotFoundException):
            store.list_models("churn")


def test_a_copied_store_opens_and_goes_its_own_way(tmp_path: Path) -> None:
    """A store copied to another address has all models; what happens to one is not seen in the other."""
    source = tmp_path / "weights.bin"
    source.write_bytes(b"w")
    original = ModelStore.from_file_system(tmp_path / "store", create_directory=True)
    original.upload("fraud", model=str(source), model_id="a")
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    copy = ModelStore.from_file_system(tmp_path / "copy")
    assert copy.load("fraud", "a").read_bytes() == b"w"
    assert copy.get_model_info("fraud", "a")["storage"]["root"] == str(tmp_path / "copy")
    copy.upload("fraud", model=str(source), model_id="b")
    original.upload("fraud", model=str(source), model_id="c")
    assert copy.list_models("fraud") == ["b", "a"]
    assert original.list_models("fraud") == ["c", "a"]
    with pytest.raises(ModelNotFoundException):
        original.load("fraud", "b")


def test_a_flipped_byte_in_the_log_is_found(tmp_path: Path) -> None:
    """Any byte of an event that is changed is an error for a fresh reader, never another model's name or bytes."""
    source = tmp_path / "weights.bin"
    source.write_bytes(b"w")
    root = tmp_path / "store"
    store = ModelStore.from_file_system(root, create_directory=True)
    for name in ("one", "two"):
        store.upload("fraud", model=str(source), model_id=name)
    first = min((root / "domains").rglob("*.json"))
    good = first.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 80)):
        first.write_bytes(good[:at] + bytes([good[at] ^ 0x01]) + good[at + 1 :])
        reader = ModelStore.from_file_system(root, cache_directory=tmp_path / f"cache-{at}")
        with pytest.raises(ModelStoreError):
            reader.list_models("fraud")
