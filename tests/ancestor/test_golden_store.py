"""The store that operatorai/modelstore 0.0.82 wrote, as it is found after adoption."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.cli import main
from modelstore.exceptions import ModelDeletedException, PickleNotAllowedError

GOLDEN = Path(__file__).parent.parent / "golden" / "ancestor"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
DATA = [[float(i % 7), float(i % 3), float(i * i % 11)] for i in range(40)]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A copy, not yet adopted."""
    shutil.copytree(GOLDEN / "store", tmp_path / "store")
    return ModelStore.from_file_system(tmp_path / "store", cache_directory=tmp_path / "cache")


@pytest.fixture
def adopted(store: ModelStore) -> ModelStore:
    """The same, adopted."""
    assert store.adopt().problems == ()
    return store


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file of the ancestor's, with its digest and time."""
    files = [path for path in (folder / "operatorai-model-store").rglob("*") if path.is_file()]
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def test_domains_models_and_states(adopted: ModelStore) -> None:
    """All of them are found; a deleted model is deleted, and a state that was deleted has left nothing behind."""
    assert adopted.list_domains() == ["all gone", "emea/credit risk", "fraud", "größe", "libraries"]
    assert sorted(adopted.list_models("fraud")) == ["again", "m1", "m2", "m3", "m4"]
    assert adopted.list_models("emea/credit risk") == ["r1"]
    assert adopted.list_models("all gone") == []
    assert sorted(adopted.list_model_states()) == ["in shadow", "production", "staging"]
    assert sorted(adopted.list_models("fraud", "production")) == ["m1", "m2"]
    assert adopted.get_model_states("fraud", "m2") == ["production"]
    assert adopted.get_model_states("fraud", "m3") == ["in shadow"]
    for domain, gone in (("fraud", "latest"), ("all gone", "only")):
        with pytest.raises(ModelDeletedException):
            adopted.get_model_info(domain, gone)


def test_the_latest_is_one_that_is_there(adopted: ModelStore) -> None:
    """The ancestor's latest of this domain is a model that was deleted, and its own download fails."""
    assert adopted.load("fraud").read_text().startswith(("fraud", "second"))


def test_records(adopted: ModelStore) -> None:
    """What the ancestor noted stands where it stood; the local time is kept as it was given, without a zone."""
    record = adopted.get_model_info("libraries", "sklearn")
    assert record.library == "sklearn"
    assert record["model"]["model_type"]["type"] == "LogisticRegression"
    assert record.parameters["max_iter"] == 300
    assert record["model"]["data"]["features"]["shape"] == [40, 3]
    assert record.extra == {"team": "fincrime", "auc": 0.9}
    assert record["modelstore"] == "0.0.82"
    assert record["code"]["created"] == record["adopted"]["created"].replace("/", "-", 2).replace("/", "T")
    assert record["storage"]["path"].startswith("operatorai-model-store/libraries/")
    assert [found.model_id for found in adopted.search("extra.team == 'fincrime'")] == ["sklearn"]
    assert [found.model_id for found in adopted.search("params.max_depth == 2")] == ["xgboost"]


def test_files(adopted: ModelStore, tmp_path: Path) -> None:
    """Downloads have the files of the old archive, extra files among them."""
    folder = Path(adopted.download(tmp_path / "out", "libraries", "sklearn"))
    assert (folder / "extras" / "Größe.txt").read_text(encoding="utf-8") == "an extra file\n"
    assert {file.name for file in adopted.files("libraries", "sklearn")} == {
        "extras/Größe.txt", "model-info.json", "model.joblib"
    }  # fmt: skip
    some = Path(adopted.download(tmp_path / "some", "libraries", "sklearn", include="extras/*"))
    assert [path.name for path in some.rglob("*") if path.is_file()] == ["Größe.txt"]
    assert adopted.load("fraud", "again").read_text() == "second"
    assert adopted.load("emea/credit risk").read_text() == "a domain with a slash and a space"


def _proba(model: Any) -> Any:
    return model.predict_proba(DATA)


def _onnx(model: Any) -> Any:
    import numpy

    return model.run(None, {"x": numpy.array(DATA, dtype="float32")})[0]


LIBRARIES: dict[str, Callable[[Any], Any]] = {
    "sklearn": _proba,
    "xgboost": _proba,
    "lightgbm": lambda model: model.predict(DATA),
    "annoy": lambda model: model.get_nns_by_item(0, 3),
    "statsmodels": lambda model: model.predict(DATA),
    "onnx": _onnx,
}


@pytest.mark.filterwarnings("ignore:Trying to unpickle")
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_model_predicts_what_it_did(adopted: ModelStore, library: str) -> None:
    """What the ancestor saved predicts the same, by whatever version of the library is here."""
    pytest.importorskip("onnxruntime" if library == "onnx" else library)
    numpy = pytest.importorskip("numpy")
    model = adopted.load("libraries", library, verify="full")
    assert numpy.allclose(LIBRARIES[library](model), EXPECTED[f"libraries/{library}"], atol=1e-5)


def test_an_xgboost_booster(adopted: ModelStore) -> None:
    """A `Booster` comes back as one."""
    xgboost = pytest.importorskip("xgboost")
    assert type(adopted.load("libraries", "xgboost-booster")) is xgboost.Booster


def test_pickles_are_refused_before_anything_is_read(adopted: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With allow_pickle=False nothing of a pickled model is even fetched; the safe formats load."""
    with pytest.raises(PickleNotAllowedError):
        adopted.load("libraries", "sklearn", allow_pickle=False)
    with pytest.raises(PickleNotAllowedError):
        adopted.load("libraries", "statsmodels", allow_pickle=False)
    assert not list((Path(str(adopted._cache.root))).glob("??/*")), "the archive was unpacked"
    monkeypatch.setenv("MODELSTORE_ALLOW_PICKLE", "0")
    with pytest.raises(PickleNotAllowedError):
        adopted.load("libraries", "sklearn")
    pytest.importorskip("xgboost")
    adopted.load("libraries", "xgboost")


def test_nothing_of_the_ancestors_changes(store: ModelStore, tmp_path: Path) -> None:
    """Adoption, loads, deletions that free their bytes, retention and gc leave every old file as it was."""
    before = contents(tmp_path / "store")
    store.adopt()
    store.load("fraud", "m1")
    store.delete_model("fraud", "m1", skip_prompt=True, purge=True)
    store.retention("fraud", keep_last=1, dry_run=False, purge=True)
    store.delete_domain("größe", skip_prompt=True, purge=True)
    report = store.gc(older_than=0)
    assert report.garbage == ()
    assert contents(tmp_path / "store") == before
    assert store.list_models("größe") == []


def test_twice_changes_nothing(adopted: ModelStore, tmp_path: Path) -> None:
    """A second run writes no event, and another machine's neither."""

    def events() -> set[str]:
        return {info.key for info in adopted.storage.list("") if "/log/" in f"/{info.key}"}

    before = events()
    assert str(adopted.adopt()).endswith("nothing that is new")
    other = ModelStore.from_file_system(tmp_path / "store", cache_directory=tmp_path / "other")
    assert str(other.adopt()).endswith("nothing that is new")
    assert events() == before


def test_a_copy_of_an_adopted_store(adopted: ModelStore, tmp_path: Path) -> None:
    """In a copied folder every old file has another etag; its models load, and nothing is taken in a second time."""
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    copy = ModelStore.from_file_system(tmp_path / "copy", cache_directory=tmp_path / "cache")
    assert copy.load("fraud", "m2").read_text() == "fraud 2"
    assert str(copy.adopt()).endswith("nothing that is new")


def test_history_and_journal(adopted: ModelStore) -> None:
    """Each event says from which file it was taken in."""
    entries = adopted.history("fraud", "m1")
    assert [entry.kind for entry in entries] == ["adopted", "state-set"]
    assert entries[0].details["adopted"]["key"] == "operatorai-model-store/fraud/versions/m1.json"
    assert entries[1].details["adopted"]["key"] == "operatorai-model-store/fraud/versions/production/m1.json"
    assert "m1" in adopted.journal("fraud").to_markdown()


def test_it_goes_on_as_a_store(adopted: ModelStore, tmp_path: Path) -> None:
    """Adopted models take states, notes, metrics and deletion as others do, and new uploads stand beside them."""
    (tmp_path / "new.bin").write_bytes(b"new")
    adopted.upload("fraud", "new", model=str(tmp_path / "new.bin"))
    adopted.set_model_state("fraud", "new", "production")
    adopted.set_model_state("fraud", "m4", "production")
    assert adopted.rollback("fraud", "production") == "new"
    adopted.add_metrics("fraud", "m4", {"auc": 0.8})
    assert [found.model_id for found in adopted.search("metrics.auc > 0.5", domain="fraud")] == ["m4"]
    adopted.delete_model("fraud", "m4", skip_prompt=True)
    adopted.restore_model("fraud", "m4")
    assert adopted.load("fraud", "m4").read_text() == "fraud 4"
    assert adopted.compare("fraud", "m4", "new") is not None


def test_the_command_line(store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`adopt` tells what came in on stdout, and names on stderr what could not."""
    (tmp_path / "store" / "operatorai-model-store" / "fraud" / "versions" / "bad.json").write_text("{")
    for told in ("16 models, 3 states, 4 changes of states, 1 problem", "1 problem"):
        assert main(["adopt", "--store", str(tmp_path / "store")]) == 0
        out, err = capsys.readouterr()
        assert out == f"5 domains; adopted: {told}\n"
        assert "fraud/versions/bad.json" in err
    (tmp_path / "empty").mkdir()
    assert main(["adopt", "--store", str(tmp_path / "empty")]) == 1
    assert "operatorai-model-store" in capsys.readouterr().err
