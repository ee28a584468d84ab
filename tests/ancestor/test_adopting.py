"""What a run takes in, and what it leaves out: the old library goes on writing, and our own log may know better."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.ancestor import layout
from modelstore.exceptions import (
    IntegrityError,
    ModelDeletedException,
    ModelNotFoundException,
    PickleNotAllowedError,
    StoreNotFoundError,
)
from tests.ancestor.helpers import ROOT, Ancestor, archive_of
from tests.registry.helpers import CountingStorage


@pytest.fixture
def old() -> Ancestor:
    """An old store with two models, one of them in production."""
    ancestor = Ancestor()
    ancestor.create_state("production")
    ancestor.upload("fraud", "m1")
    ancestor.upload("fraud", "m2")
    ancestor.set_state("fraud", "m1", "production")
    return ancestor


@pytest.fixture
def store(old: Ancestor, tmp_path: Path) -> ModelStore:
    """The same, adopted."""
    opened = old.open(tmp_path)
    opened.adopt()
    return opened


# -- the old library goes on writing ----------------------------------------------------------------------------------


def test_later_uploads_come_in_as_the_newest(old: Ancestor, store: ModelStore) -> None:
    """A second run takes in only what is new, and the latest is what the old library takes for it."""
    old.upload("fraud", "m3")
    old.upload("other", "x")
    report = store.adopt()
    assert (report.models, report.changed, report.deleted, report.moves) == (2, 0, 0, 0)
    assert store.list_models("fraud") == ["m3", "m2", "m1"]
    assert store.load("other").read_text() == "x"


def test_later_states_come_in(old: Ancestor, store: ModelStore) -> None:
    """A model that was put into a state, and one that was taken out."""
    old.set_state("fraud", "m2", "production")
    old.unset_state("fraud", "m1", "production")
    old.create_state("staging")
    old.set_state("fraud", "m1", "staging")
    report = store.adopt()
    assert (report.states, report.moves) == (1, 3)
    assert store.list_models("fraud", "production") == ["m2"]
    assert store.get_model_states("fraud", "m1") == ["staging"]
    assert store.adopt().moves == 0


def test_later_deletions_come_in(old: Ancestor, store: ModelStore) -> None:
    """A model that was deleted is deleted here, and its bytes are gone."""
    old.delete("fraud", "m2")
    assert store.adopt().deleted == 1
    with pytest.raises(ModelDeletedException):
        store.load("fraud", "m2")
    with pytest.raises(ModelDeletedException):
        store.restore_model("fraud", "m2")
    assert store.load("fraud").read_text() == "m1"
    assert store.adopt().deleted == 0


def test_metadata_that_vanished_is_a_deletion(old: Ancestor, store: ModelStore) -> None:
    """For the old library there is no such model any more. As its archive is there, it can be restored here."""
    old.storage.delete([f"{ROOT}/fraud/versions/m2.json"])
    assert store.adopt().deleted == 1
    assert store.list_models("fraud") == ["m1"]
    store.restore_model("fraud", "m2")
    assert store.load("fraud", "m2").read_text() == "m2"
    assert store.adopt().deleted == 0, "what was restored here is not deleted again"


def test_an_id_that_was_used_again(old: Ancestor, store: ModelStore) -> None:
    """The new model takes the place of the one that was deleted between two runs, in one event."""
    number = store._registry.find("fraud", "m1").number
    old.delete("fraud", "m1")
    old.unset_state("fraud", "m1", "production")
    old.forget_deletion("fraud", "m1")
    old.upload("fraud", "m1", archive_of({"model.bin": b"again"}))
    report = store.adopt()
    assert (report.models, report.deleted) == (1, 0)
    assert store.load("fraud", "m1").read_text() == "again"
    assert store._registry.find("fraud", "m1").number != number
    assert store.get_model_states("fraud", "m1") == []
    assert store.adopt().models == 0


def test_metadata_that_changed(old: Ancestor, store: ModelStore) -> None:
    """The same model tells something else of itself; what was said of it here stays."""
    store.add_metrics("fraud", "m2", {"auc": 0.7})
    store.set_model_state("fraud", "m2", "production")
    metadata = json.loads(old.contents()[f"{ROOT}/fraud/versions/m2.json"])
    old.describe("fraud", "m2", {**metadata, "extra": {"team": "fincrime"}})
    report = store.adopt()
    assert (report.models, report.changed) == (0, 1)
    record = store.get_model_info("fraud", "m2")
    assert record.extra == {"team": "fincrime"}
    assert record["added"]["metrics"] == {"auc": 0.7}
    assert [found.model_id for found in store.search("extra.team == 'fincrime' and metrics.auc > 0.5")] == ["m2"]
    assert store.get_model_states("fraud", "m2") == ["production"]
    assert store.list_models("fraud") == ["m2", "m1"]
    assert store.adopt().changed == 0


def test_a_deletion_that_was_cut_off(old: Ancestor, store: ModelStore) -> None:
    """The archive went and the mark was set, and then the old library was stopped: the model is deleted."""
    raw = old.contents()[f"{ROOT}/fraud/versions/m2.json"]
    old.delete("fraud", "m2")
    old.put("fraud/versions/m2.json", raw)
    assert store.adopt().deleted == 1
    assert store.list_models("fraud") == ["m1"]
    assert store.adopt().deleted == 0


# -- our own log knows better -----------------------------------------------------------------------------------------


def test_a_deletion_of_ours_stays(old: Ancestor, store: ModelStore) -> None:
    """A model that was deleted here is not brought back by its old files, nor are its states."""
    store.delete_model("fraud", "m1", skip_prompt=True, purge=True)
    assert store.adopt().models == 0
    old.set_state("fraud", "m1", "production")
    assert store.adopt().moves == 0
    assert store.list_models("fraud") == ["m2"]
    assert f"{ROOT}/fraud/versions/m1.json" in old.contents()


def test_a_state_of_ours_that_is_newer_stays(old: Ancestor, store: ModelStore) -> None:
    """The old library put m2 into the state, then somebody took it out here: it stays out, until that happens again."""
    old.set_state("fraud", "m2", "production")
    store.set_model_state("fraud", "m2", "production")
    store.remove_model_state("fraud", "m2", "production")
    assert store.adopt().moves == 0
    assert store.list_models("fraud", "production") == ["m1"]
    time.sleep(0.01)
    old.set_state("fraud", "m2", "production")
    assert store.adopt().moves == 1
    assert sorted(store.list_models("fraud", "production")) == ["m1", "m2"]


def test_a_state_that_was_set_here_too_stays(old: Ancestor, store: ModelStore) -> None:
    """When the old copy goes, only what it brought goes."""
    store.remove_model_state("fraud", "m1", "production")
    store.set_model_state("fraud", "m1", "production")
    old.unset_state("fraud", "m1", "production")
    assert store.adopt().moves == 0
    assert store.list_models("fraud", "production") == ["m1"]


def test_a_removal_of_ours_stays(old: Ancestor, store: ModelStore) -> None:
    """The file that brought the state is known, and brings it no second time."""
    store.remove_model_state("fraud", "m1", "production")
    assert store.adopt().moves == 0
    assert store.list_models("fraud", "production") == []


def test_a_restoration_of_ours_that_is_newer_stays(old: Ancestor, store: ModelStore) -> None:
    """Deleted and restored here after the old library had marked it: it lives."""
    raw = old.contents()[f"{ROOT}/fraud/versions/m2.json"]
    old.put("fraud/versions/modelstore-deleted/m2.json", raw)
    old.storage.delete([f"{ROOT}/fraud/versions/m2.json"])
    store.delete_model("fraud", "m2", skip_prompt=True)
    store.restore_model("fraud", "m2")
    assert store.adopt().deleted == 0
    assert store.list_models("fraud") == ["m2", "m1"]


def test_an_exclusive_state_of_ours(old: Ancestor, tmp_path: Path) -> None:
    """A state that exists here keeps its rules: the last one of the old holders is the one that is in it."""
    old.set_state("fraud", "m2", "production")
    opened = old.open(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened.create_model_state("production", exclusive=True)
    opened.adopt()
    assert opened.list_models("fraud", "production") == ["m2"]


def test_a_state_of_ours_with_requirements(old: Ancestor, store: ModelStore) -> None:
    """Whoever does not meet them is named as a problem and left out."""
    store.create_model_state("checked")
    store.create_model_state("released", requires=["checked"])
    old.create_state("released")
    old.set_state("fraud", "m1", "released")
    report = store.adopt()
    assert report.moves == 0
    assert "requires" in report.problems[0].reason
    assert store.list_models("fraud", "released") == []


def test_an_id_of_ours(old: Ancestor, store: ModelStore, tmp_path: Path) -> None:
    """A model of our own keeps its id; the old one that bears it too is named."""
    (tmp_path / "mine.bin").write_bytes(b"mine")
    store.upload("fraud", "both", model=str(tmp_path / "mine.bin"))
    old.upload("fraud", "both")
    report = store.adopt()
    assert report.models == 0
    assert [problem.key for problem in report.problems] == [f"{ROOT}/fraud/versions/both.json"]
    assert store.load("fraud", "both").read_bytes() == b"mine"
    old.delete("fraud", "both")
    assert store.adopt().problems == ()
    assert store.load("fraud", "both").read_bytes() == b"mine"


# -- the warning ------------------------------------------------------------------------------------------------------


def test_an_old_store_is_named_when_it_has_not_been_adopted(old: Ancestor, tmp_path: Path) -> None:
    """At the first use of each store object, once; not after adoption."""
    opened = old.open(tmp_path)
    with pytest.warns(UserWarning, match="adopt"):
        assert opened.list_domains() == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened.list_domains()
        opened.adopt()
        old.open(tmp_path).list_domains()
        ModelStore(old.storage, cache_directory=tmp_path / "elsewhere").list_models("fraud")


def test_an_old_store_is_named_beside_a_new_one(old: Ancestor, tmp_path: Path) -> None:
    """Also once somebody has uploaded, as the marker notes what lay there when it was made."""
    (tmp_path / "new.bin").write_bytes(b"new")
    with pytest.warns(UserWarning, match="adopt"):
        old.open(tmp_path).upload("new", model=str(tmp_path / "new.bin"))
    with pytest.warns(UserWarning, match="adopt"):
        old.open(tmp_path).list_models("new")


def test_what_the_look_costs(tmp_path: Path) -> None:
    """One listing while there is no store of ours, and nothing where no old store lay when ours was made."""
    storage = CountingStorage()
    opened = ModelStore(storage, cache_directory=tmp_path / "cache")
    opened.list_domains()
    opened.list_domains()
    assert [request for request in storage.requests if ROOT in request[1]] == [("list", f"{ROOT}/domains/")]
    (tmp_path / "new.bin").write_bytes(b"new")
    opened.upload("new", model=str(tmp_path / "new.bin"))
    storage.requests.clear()
    ModelStore(storage, cache_directory=tmp_path / "other").list_models("new")
    assert not [request for request in storage.requests if ROOT in request[1]]


def test_a_second_run_costs_listings_alone(tmp_path: Path) -> None:
    """Nothing is written when nothing is new, and none of the old files is read."""
    storage = CountingStorage()
    ancestor = Ancestor(storage)
    for number in range(5):
        ancestor.upload("fraud", f"m{number}")
    opened = ancestor.open(tmp_path)
    opened.adopt()
    storage.requests.clear()
    opened.adopt()
    assert not [key for verb, key in storage.requests if verb == "create" or (verb == "read" and ROOT in key)]
    assert [key for verb, key in storage.requests if verb == "list" and ROOT in key] == [f"{ROOT}/"]


# -- odd stores -------------------------------------------------------------------------------------------------------


def test_nothing_to_adopt(tmp_path: Path) -> None:
    """Where no old store lies, an error says where one would be looked for."""
    with pytest.raises(StoreNotFoundError, match="operatorai-model-store"):
        Ancestor().open(tmp_path).adopt()


def test_more_than_a_thousand_models(tmp_path: Path) -> None:
    """All of them come in, in their order; S3 lists a thousand at a time."""
    ancestor = Ancestor()
    for number in range(1_100):
        ancestor.upload("many", f"m{number}", b"")
    opened = ancestor.open(tmp_path)
    assert opened.adopt().models == 1_100
    assert opened.list_models("many") == [f"m{number}" for number in reversed(range(1_100))]
    assert opened.adopt().models == 0


def test_names_that_look_like_parts_of_keys(tmp_path: Path) -> None:
    """A domain below another one, a domain called `a/versions`, a state called `versions`: each is what it is."""
    ancestor = Ancestor()
    ancestor.create_state("versions")
    for domain in ("a", "a/b", "a/versions", "model_states", "with space"):
        ancestor.upload(domain, "m")
    ancestor.set_state("a/b", "m", "versions")
    opened = ancestor.open(tmp_path)
    assert opened.adopt().problems == ()
    assert opened.list_domains() == ["a", "a/b", "a/versions", "model_states", "with space"]
    assert [domain for domain in opened.list_domains() if opened.list_models(domain, "versions")] == ["a/b"]


@pytest.mark.parametrize(
    "path",
    [
        "C:\\models\\operatorai-model-store\\fraud\\2026.01.31-17.00.01\\m\\artifacts.tar.gz",
        "some/prefix/operatorai-model-store/fraud/2026.01.31-17.00.01/m/artifacts.tar.gz",
        "/mnt/operatorai-model-store/x/operatorai-model-store/fraud/2026.01.31-17.00.01/m/artifacts.tar.gz",
    ],
)
def test_where_the_metadata_say_that_the_archive_lies(path: str, tmp_path: Path) -> None:
    """The place is that of another machine, bucket or prefix; the archive is found below this root."""
    ancestor = Ancestor()
    ancestor.upload("fraud", "m", storage={"type": "file_system", "root": "…", "path": path})
    opened = ancestor.open(tmp_path)
    assert opened.adopt().problems == ()
    assert opened.load("fraud", "m").read_text() == "m"


@pytest.mark.parametrize(
    "path", ["archives/other/x/artifacts.tar", "/etc/passwd", "operatorai-model-store/../../x", "", None, 7]
)
def test_metadata_that_lead_elsewhere(path: Any, tmp_path: Path) -> None:
    """Only what lies in the old store's own tree is taken for one of its archives."""
    ancestor = Ancestor()
    ancestor.upload("fraud", "m", storage={"type": "file_system", "path": path})
    opened = ancestor.open(tmp_path)
    (problem,) = opened.adopt().problems
    assert problem.key == f"{ROOT}/fraud/versions/m.json"
    assert "archive" in problem.reason


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{}", b"[]", b"null", b'{"model": 7}', b'{"model": {"domain": "fraud"}}', b"\xff\xfe", DEEP,
        b'{"model": {"domain": "other", "model_id": "bad", "model_type": {"library": "sklearn"}}}',
        b'{"model": {"domain": "fraud", "model_id": "../bad", "model_type": {"library": "sklearn"}}}',
        b'{"model": {"domain": "fraud", "model_id": "bad", "model_type": {"library": ["sklearn"]}}}',
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_read(old: Ancestor, tmp_path: Path, raw: bytes) -> None:
    """Each is named as a problem, and all else comes in."""
    old.put("fraud/versions/bad.json", raw)
    opened = old.open(tmp_path)
    report = opened.adopt()
    assert [problem.key for problem in report.problems] == [f"{ROOT}/fraud/versions/bad.json"]
    assert opened.list_models("fraud") == ["m2", "m1"]


def test_odd_values_in_metadata(tmp_path: Path) -> None:
    """NaN, lone surrogates, a time that is none and no code at all: kept as far as JSON has words for them."""
    ancestor = Ancestor()
    metadata = ancestor.upload("fraud", "m")
    model = {**metadata["model"], "parameters": {"missing": float("nan"), "text": "\ud800", "metrics": 3}, "metrics": 3}
    ancestor.describe("fraud", "m", {**metadata, "model": model, "code": {"created": "yesterday"}})
    opened = ancestor.open(tmp_path)
    assert opened.adopt().problems == ()
    record = opened.get_model_info("fraud", "m")
    assert record.parameters == {"missing": "nan", "text": "?", "metrics": 3}
    assert record.metrics is None
    assert record.created.tzinfo is not None
    assert record["adopted"]["created"] == "yesterday"
    del metadata["code"]
    ancestor.describe("fraud", "m", metadata)
    assert opened.adopt().changed == 1


def test_parameters_that_no_event_holds(tmp_path: Path) -> None:
    """They are left out, the record says so, and they stay in the old file that it names."""
    ancestor = Ancestor()
    metadata = ancestor.upload("fraud", "m")
    model = {**metadata["model"], "parameters": {"vocabulary": ["word"] * 60_000}}
    ancestor.describe("fraud", "m", {**metadata, "model": model})
    opened = ancestor.open(tmp_path)
    assert opened.adopt().problems == ()
    record = opened.get_model_info("fraud", "m")
    assert record.parameters is None
    assert record["adopted"]["left_out"] == ["parameters"]


def test_an_archive_that_is_missing(tmp_path: Path) -> None:
    """The model is known; loading it says what is not there."""
    ancestor = Ancestor()
    ancestor.upload("fraud", "m")
    (key,) = [key for key in ancestor.contents() if key.endswith(".tar.gz")]
    ancestor.storage.delete([key])
    opened = ancestor.open(tmp_path)
    assert opened.adopt().models == 1
    with pytest.raises(IntegrityError, match="artifacts.tar.gz"):
        opened.load("fraud", "m")


def test_states_that_no_name_allows(old: Ancestor, tmp_path: Path) -> None:
    """Names that are too short, or the ancestor's own, are no states; copies of a state that is gone do not count."""
    old.create_state("no")
    old.create_state("modelstore-deleted")
    old.set_state("fraud", "m2", "never created")
    opened = old.open(tmp_path)
    opened.adopt()
    assert opened.list_model_states() == ["production"]
    assert opened.get_model_states("fraud", "m2") == []


def test_keras_is_a_library(tmp_path: Path) -> None:
    """Before 0.0.73 Keras had a name of its own: its models are TensorFlow's, and a SavedModel takes trust."""
    ancestor = Ancestor()
    model = {"domain": "net", "model_id": "m", "model_type": {"library": "keras", "type": "Sequential"}}
    ancestor.upload("net", "m", archive_of({"model/saved_model.pb": b"?", "model_config.json": b"{}"}), model=model)
    opened = ancestor.open(tmp_path)
    opened.adopt()
    assert opened.get_model_info("net", "m").library == "keras"
    with pytest.raises(PickleNotAllowedError):
        opened.load("net", "m", allow_pickle=False)


def test_models_of_a_moment(old: Ancestor, store: ModelStore) -> None:
    """Before they were adopted, our log knows of no models; the answer of each moment stays what it was."""
    entry = store.history("fraud")[-1]
    old.delete("fraud", "m2")
    store.adopt()
    assert store.list_models("fraud", at=entry.time) == ["m2", "m1"]
    with pytest.raises(ModelNotFoundException):
        store.load("fraud", at="2026-02-01T00:00Z")


def test_keys_that_are_none_of_the_ancestors() -> None:
    """Only metadata are taken for metadata."""
    assert layout.parse("elsewhere/fraud/versions/m.json") is None
    assert layout.parse(f"{ROOT}/fraud/versions/m.json") == layout.Place("fraud", "m")
    assert layout.parse(f"{ROOT}/fraud/versions/production/m.json") == layout.Place("fraud", "m", "production")
    assert layout.parse(f"{ROOT}/fraud/2026.01.31-17.00.01/m/artifacts.tar.gz") is None
