"""Stores written by earlier versions: each format version has one that must stay readable for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelstore import ModelStore
from modelstore.exceptions import ModelDeletedException

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir() and path.name.isdigit())


@pytest.fixture(params=VERSIONS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """A copy, since opening must not change what is checked in."""
    shutil.copytree(GOLDEN / request.param, tmp_path / "store")
    return ModelStore.from_file_system(tmp_path / "store")


def test_there_is_a_golden_store() -> None:
    """Format 1 has one."""
    assert "1" in VERSIONS


def test_listings_and_states(store: ModelStore) -> None:
    """All domains, models and states are as they were written, odd names among them."""
    assert store.list_domains() == ["a/b ../ü", "files", "iris", "many"]
    assert store.list_models("files") == ["noise", "folder"]
    assert store.list_models("many") == ["m4", "m3", "m2", "m1", "m0"]
    assert store.list_models("many", "staging") == ["m3"]
    assert [info.key for info in store.storage.list("domains/many/compact/")], "joined events are part of the format"
    assert store.list_model_states() == ["production", "staging", "in shadow/á"]
    assert store.get_model_states("files", "noise") == ["production"]
    assert store.list_models("files", "production") == ["noise", "folder"]
    assert store.list_models("files", "staging") == []
    for gone in ("deleted", "purged"):
        with pytest.raises(ModelDeletedException):
            store.get_model_info("files", gone)


def test_records(store: ModelStore) -> None:
    """What was recorded is still there."""
    record = store.get_model_info("a/b ../ü", ".. / id")
    assert record.metrics == {"auc": 0.5}
    assert record.extra == {"n": [1, None]}
    iris = store.get_model_info("iris", "both")
    assert [part["library"] for part in iris["model"]["model_type"]["models"]] == ["sklearn", "xgboost"]
    assert store.get_model_info("iris", "sklearn")["model"]["data"]["labels"]["values"] == {"0": 50, "1": 50, "2": 50}


def test_files_come_back_byte_for_byte(store: ModelStore, tmp_path: Path) -> None:
    """Both forms of archive unpack, with every digest checked; empty folders and names in other scripts are kept."""
    forms = {store.get_model_info("files", name)["storage"]["archive"]["compression"] for name in ("folder", "noise")}
    assert forms == {"none", "zstd"}
    folder = store.load("files", "folder", verify="full")
    assert (folder / "weights.bin").read_bytes() == bytes(range(256)) * 300
    assert (folder / "Größe.json").read_text(encoding="utf-8") == '{"layers": 3}\n'
    assert (folder / "empty").is_dir()
    noise = bytes((i * i * 2654435761 >> 7) & 255 for i in range(20_000))
    assert store.load("files", state="production").read_bytes() == noise
    out = Path(store.download(tmp_path / "out", "files", "folder", include="extras/*"))
    assert (out / "extras" / "noise.bin").read_bytes() == noise
    assert {file.name for file in store.files("iris", "sklearn")} >= {"model.skops", "README.md", "requirements.txt"}


def test_an_xgboost_model_loads(store: ModelStore) -> None:
    """XGBoost reads its own format of any earlier version."""
    pytest.importorskip("xgboost")
    pytest.importorskip("skops")
    loaded = store.load("iris", "both")
    assert type(loaded["xgboost"]).__name__ == "XGBClassifier"
    assert loaded["xgboost"].predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == [0]


def test_a_golden_store_takes_new_models(store: ModelStore, tmp_path: Path) -> None:
    """This version goes on writing where an earlier one left off."""
    (tmp_path / "new.bin").write_bytes(b"new")
    store.upload("many", model_id="new", model=str(tmp_path / "new.bin"))
    store.delete_model("many", "m0", skip_prompt=True)
    assert store.list_models("many")[:2] == ["new", "m4"]
    assert "m0" not in store.list_models("many")
