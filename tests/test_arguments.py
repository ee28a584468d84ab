"""What `upload` and its kin are given: taken as meant, or refused by an error of ours before anything is written."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import (
    FileChangedError,
    InvalidArgumentError,
    InvalidNameError,
    ModelExistsException,
    ModelStoreError,
    NotJSONError,
    OfflineError,
    RecordTooLargeError,
    StorageError,
    UnsupportedObjectError,
)

np = pytest.importorskip("numpy")


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    return str(path)


def objects(store: ModelStore) -> list[str]:
    return [info.key for info in store.storage.list("")]


@pytest.mark.parametrize("given", [7, np.int64(7), uuid.UUID(int=7)])
def test_ids_may_be_numbers_and_uuids_in_every_call(store: ModelStore, model: str, tmp_path: Path, given: Any) -> None:
    """An id that `upload` took is taken by all that ask for it."""
    store.create_model_state("s")
    assert store.upload("d", model_id=given, model=model).model_id == str(given)
    assert store.load("d", given).read_bytes() == b"weights"
    assert Path(store.download(tmp_path / "out", "d", given), "weights.bin").exists()
    assert store.files("d", given)
    assert store.get_model_info("d", given).model_id == str(given)
    assert store.model_exists("d", given)
    store.set_model_state("d", given, "s")
    assert store.get_model_states("d", given) == ["s"]
    store.remove_model_state("d", given, "s")
    with pytest.raises(ModelExistsException):
        store.upload("d", model_id=given, model=model)
    store.delete_model("d", given, skip_prompt=True)
    assert not store.model_exists("d", given)


def test_no_id_is_not_the_latest(store: ModelStore, model: str) -> None:
    """A None where an id belongs is a mistake, not a wish for some model."""
    store.upload("d", model=model)
    calls: list[Any] = [store.get_model_info, store.model_exists, store.get_model_states]
    for call in calls:
        with pytest.raises(InvalidNameError):
            call("d", None)
    with pytest.raises(InvalidNameError):
        store.delete_model("d", None, skip_prompt=True)  # type: ignore[arg-type]


def test_names_are_one_in_all_unicode_forms(store: ModelStore, model: str, tmp_path: Path) -> None:
    """A domain, id and state typed in the other normal form are the same ones, in every call."""
    nfc, nfd = "mod\u00e8le", "mode\u0300le"
    assert nfc != nfd
    store.create_model_state(nfd)
    assert store.upload(nfd, model_id=nfd, model=model).model_id == nfc
    store.set_model_state(nfd, nfd, nfd)
    for name in (nfc, nfd):
        assert store.list_models(name, state_name=name) == [nfc]
        assert store.get_domain(name).domain == nfc
        assert store.model_exists(name, name)
        assert store.get_model_states(name, name) == [nfc]
        assert store.load(name, name, state=name).read_bytes() == b"weights"
        with pytest.raises(ModelExistsException):
            store.upload(name, model_id=name, model=model)
    store.remove_model_state(nfd, nfd, nfd)
    store.delete_model_state(nfd, skip_prompt=True)
    store.delete_model(nfd, nfd, skip_prompt=True)
    assert store.list_models(nfc) == []


def test_names_at_the_limit_work_and_beyond_it_are_refused(store: ModelStore, model: str) -> None:
    """200 encoded bytes make a domain, an id and a state; 201 are an error."""
    longest = "é" * 33 + "ab"
    store.create_model_state(longest)
    store.upload(longest, model_id=longest, model=model)
    store.set_model_state(longest, longest, longest)
    assert store.load(longest, state=longest).read_bytes() == b"weights"
    for call in (store.create_model_state, store.list_models):
        with pytest.raises(InvalidNameError):
            call(longest + "c")


@pytest.mark.parametrize(
    "words",
    [
        {"extra_metadata": {"log": "x" * 300_000}},
        {"tags": {"log": "x" * 300_000}},
        {"note": "é" * 140_000},
    ],
)
def test_a_record_that_no_event_can_hold_is_refused_before_the_archive_is_written(
    store: ModelStore, model: str, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any]
) -> None:
    """The limit is known beforehand: no gigabytes are sent for nothing."""

    def written(*_: object) -> None:
        pytest.fail("the archive was written")

    monkeypatch.setattr(store.storage, "write", written)
    with pytest.raises(RecordTooLargeError, match=next(iter(words)).replace("extra_metadata", "extra")):
        store.upload("d", model=model, **words)
    assert objects(store) == []


def test_metrics_are_numbers_of_any_library(store: ModelStore, model: str) -> None:
    """What is a number comes out as one; NaN and infinity, in whatever type, are recorded as null with a warning."""

    class Tensor:  # as TensorFlow's: neither tolist() nor item()
        def __float__(self) -> float:
            return 0.5

    given = {"a": np.float32(0.5), "b": np.array(3), "c": Decimal("0.5"), "d": Tensor(), "e": True, "f": None}
    assert store.upload("d", model=model, metrics=given)["model"]["metrics"] == {
        "a": 0.5, "b": 3, "c": 0.5, "d": 0.5, "e": True, "f": None,
    }  # fmt: skip
    for value in (float("nan"), np.float32("nan"), np.float64("inf"), np.array(np.nan), Decimal("NaN")):
        with pytest.warns(UserWarning, match="auc") as caught:
            info = store.upload("d", model=model, metrics={"auc": value})
        assert info["model"]["metrics"] == {"auc": None}
        assert caught[0].filename == __file__


def test_metadata_is_recorded_as_json_has_it(store: ModelStore, model: str) -> None:
    """Numbers as keys become texts, tuples lists, as JSON does: what `upload` returns is what readers get."""
    info = store.upload("d", model=model, extra_metadata={1: "a", "b": (1, 2)}, tags={"a": {None: 1, "x": 2}})
    assert info["extra"] == {"1": "a", "b": [1, 2]}
    assert info["model"]["tags"] == {"a": {"null": 1, "x": 2}}
    assert store.get_model_info("d", info.model_id) == info


@pytest.mark.parametrize(
    "words",
    [
        {"note": "\ud800"},
        {"tags": {"\ud800": "x"}},
        {"metrics": {"\ud800": 1}},
        {"extra_metadata": ["\ud800"]},
        {"extra_metadata": {(1, 2): 3}},
        {"extra_metadata": float("nan")},
    ],
)
def test_what_json_cannot_hold_is_refused(store: ModelStore, model: str, words: dict[str, Any]) -> None:
    """Half characters, keys that are no texts, numbers that are none."""
    with pytest.raises(NotJSONError, match=next(iter(words))):
        store.upload("d", model=model, **words)
    assert objects(store) == []


@pytest.mark.parametrize("given", [7, [7], "~nobody-of-this-name/x", "a\0b", [""], object()])
def test_extra_files_that_are_no_paths_are_refused(store: ModelStore, model: str, given: Any) -> None:
    """Whatever is given, the error is ours and names the argument."""
    with pytest.raises(InvalidArgumentError, match="extra_files"):
        store.upload("d", model=model, extra_files=given)
    assert objects(store) == []


def test_extra_files_keep_the_names_they_were_given_by(store: ModelStore, model: str, tmp_path: Path) -> None:
    """A link is stored under its own name, not that of what it points to (a cache's hash, say); folders whole."""
    (tmp_path / "3f786850e387").write_text("blob")
    (tmp_path / "config.json").symlink_to(tmp_path / "3f786850e387")
    (tmp_path / "plots" / "empty").mkdir(parents=True)
    (tmp_path / "plots" / "roc.svg").write_text("svg")
    (tmp_path / "README.md").write_text("mine")
    given = [tmp_path / "config.json", str(tmp_path / "plots") + os.sep, tmp_path / "plots" / ".." / "README.md"]
    info = store.upload("d", model=model, extra_files=given)
    names = {file.name for file in store.files("d", info.model_id)}
    assert {"extras/config.json", "extras/plots/roc.svg", "extras/README.md", "README.md"} <= names
    assert (Path(store.download(tmp_path / "out", "d")) / "extras" / "config.json").read_text() == "blob"


def test_extra_files_whose_names_collide_are_refused(store: ModelStore, model: str, tmp_path: Path) -> None:
    """Names that differ in case only overwrite each other on some systems."""
    for folder, name in (("a", "x.csv"), ("b", "X.csv")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("x")
    with pytest.raises(InvalidArgumentError, match="extra_files"):
        store.upload("d", model=model, extra_files=[tmp_path / "a" / "x.csv", tmp_path / "b" / "X.csv"])
    assert objects(store) == []


@pytest.mark.skipif(os.name == "nt", reason="names are not bytes there")
def test_a_file_name_that_is_no_text_is_refused(store: ModelStore, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 cannot be unpacked everywhere."""
    path = os.path.join(os.fsencode(tmp_path), b"w\xff.bin")
    with open(path, "wb") as file:
        file.write(b"x")
    with pytest.raises(InvalidNameError, match="UTF-8"):
        store.upload("d", model=os.fsdecode(path))
    assert objects(store) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [(FileNotFoundError(2, "gone"), FileChangedError), (PermissionError(13, "denied"), UnsupportedObjectError)],
)
def test_a_file_that_cannot_be_read_is_an_error_of_ours(
    store: ModelStore, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, expected: Any
) -> None:
    """The file goes, or its permission does, between the look and the reading."""
    from modelstore import folder

    def fail(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(folder, "open", fail, raising=False)
    with pytest.raises(expected, match="weights.bin") as caught:
        store.upload("d", model=model)
    assert isinstance(caught.value, ModelStoreError)
    assert objects(store) == []


def test_the_reason_of_a_failed_upload_is_not_hidden_by_a_failed_clean_up(
    store: ModelStore, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id was taken meanwhile, and the bytes cannot be removed just now: the error is about the id."""
    store.upload("d", model_id="a", model=model)

    def fail(*_: object) -> None:
        raise StorageError("no answer")

    monkeypatch.setattr(store.storage, "delete", fail)
    monkeypatch.setattr(store._registry, "check_free", lambda *_: None)
    with pytest.raises(ModelExistsException):
        store.upload("d", model_id="a", model=model)


def test_offline_by_environment_holds_for_every_question(
    store: ModelStore, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With MODELSTORE_OFFLINE, listings and records come from the local index, and the store is left alone."""
    store.create_model_state("s")
    store.upload("d", model_id="a", model=model)
    store.set_model_state("d", "a", "s")
    store.get_model_states("d", "a")

    def asked(*_: object, **__: object) -> Any:
        raise StorageError("out of reach")

    for verb in ("read", "read_into", "list", "list_children"):
        monkeypatch.setattr(store.storage, verb, asked)
    with pytest.raises(StorageError):
        store.list_domains()
    monkeypatch.setenv("MODELSTORE_OFFLINE", "1")
    assert store.list_domains() == ["d"]
    assert store.list_models("d") == store.list_models("d", "s") == ["a"]
    assert store.get_domain("d") == store.get_model_info("d", "a")
    assert store.model_exists("d", "a")
    assert store.list_model_states() == ["s"]
    assert store.get_model_states("d", "a") == ["s"]
    with pytest.raises(OfflineError):
        store.files("d", "a")


def test_an_upload_interrupted_while_it_commits_keeps_its_bytes(store: ModelStore, model: str) -> None:
    """Ctrl-C arrives just after the event was made: nobody knows, so the archive stays, and the model can be loaded."""
    create = store.storage.create

    def interrupted(key: str, data: bytes) -> Any:
        create(key, data)
        if "log/" in key:
            raise KeyboardInterrupt
        return create(key, data)

    store.storage.create = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        store.upload("d", model_id="a", model=model)
    store.storage.create = create  # type: ignore[method-assign]
    assert store.load("d", "a").read_bytes() == b"weights"


def test_one_store_serves_many_threads(store: ModelStore, model: str) -> None:
    """Threads that share a store upload, load, mark and delete at once; each finds what it did."""

    def work(number: int) -> list[str]:
        name = f"m{number}"
        store.upload("d", model_id=name, model=model)
        store.create_model_state("s")
        store.set_model_state("d", name, "s")
        assert store.load("d", name).read_bytes() == b"weights"
        if number % 2:
            store.delete_model("d", name, skip_prompt=True, purge=True)
        return store.get_model_states("d", name) if not number % 2 else ["s"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [["s"]] * 24
    assert (
        set(store.list_models("d")) == {f"m{number}" for number in range(0, 24, 2)} == set(store.list_models("d", "s"))
    )
