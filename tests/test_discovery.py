"""Finding models again, and what was learnt on the way: searches, comparisons, the journal, through the facade."""

from __future__ import annotations

import json
import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import (
    DomainNotFoundException,
    InvalidArgumentError,
    ModelDeletedException,
    ModelNotFoundException,
    ModelPinnedError,
    NotJSONError,
    QueryError,
    StateConflictError,
    StateNotFoundError,
)
from modelstore.managers.safetensors_file import Entry, write_header


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that is taken for a model."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return str(path)


def now() -> datetime:
    """A moment after all that was done so far."""
    return datetime.now(timezone.utc)


def weights(path: Path, **tensors: list[float]) -> Path:
    """A safetensors file of float32 vectors."""
    header, entries = write_header(Entry(name, "F32", (len(values),)) for name, values in tensors.items())
    data = b"".join(struct.pack(f"<{len(tensors[entry.name])}f", *tensors[entry.name]) for entry in entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + data)
    return path


def test_what_was_in_production_then(store: ModelStore, model: str) -> None:
    """load, download's record and listings answer for any time of the past; a rollback is one call."""
    store.create_model_state("production", exclusive=True)
    before, times = now(), []
    for model_id in ("a", "b"):
        store.upload("fraud", model_id, model=model)
        store.set_model_state("fraud", model_id, "production", reason=f"{model_id} is better")
        times.append(now())
    store.delete_model("fraud", "a", skip_prompt=True)
    assert store.list_models("fraud", "production", at=times[0]) == ["a"]
    assert store.list_models("fraud", at=times[0].isoformat()) == ["a"]
    assert store.list_models("fraud", "production") == ["b"]
    assert store.load("fraud", state="production", at=times[0]).read_bytes() == b"weights"
    with pytest.raises(StateNotFoundError, match="there was no model state 'production' at 2"):
        store.load("fraud", state="production", at=times[0] - timedelta(days=1))
    with pytest.raises(ModelNotFoundException, match="held no model in state 'production' at 2"):
        store.load("fraud", state="production", at=before)
    store.restore_model("fraud", "a")
    assert store.rollback("fraud", "production", reason="b is too slow") == "a"
    assert [entry.reason for entry in store.history("fraud", state="production")] == [
        "a is better", "b is better", "b is too slow",
    ]  # fmt: skip
    for odd in ("yesterday", 5, "", "2026-13-01"):
        with pytest.raises(InvalidArgumentError, match="no time"):
            store.list_models("fraud", at=odd)  # type: ignore[arg-type]


def test_a_model_that_was_in_production_and_whose_bytes_are_gone(store: ModelStore, model: str) -> None:
    """That it was is told; that it cannot be loaded any more is an error that says why."""
    store.create_model_state("production")
    store.upload("fraud", "a", model=model)
    store.set_model_state("fraud", "a", "production")
    then = now()
    store.delete_model("fraud", "a", skip_prompt=True, purge=True)
    assert store.list_models("fraud", "production", at=then) == ["a"]
    with pytest.raises(ModelDeletedException):
        store.load("fraud", state="production", at=then)


def test_promoting_with_care(store: ModelStore, model: str) -> None:
    """expected= and requires= keep two people from overwriting each other's decision."""
    store.create_model_state("staging")
    store.create_model_state("production", exclusive=True, requires=["staging"])
    for model_id in ("a", "b"):
        store.upload("fraud", model_id, model=model)
    with pytest.raises(StateConflictError, match="'staging' first"):
        store.set_model_state("fraud", "a", "production")
    for model_id in ("a", "b"):
        store.set_model_state("fraud", model_id, "staging")
    store.set_model_state("fraud", "a", "production", expected=None)
    with pytest.raises(StateConflictError, match="model 'a' of 'fraud' is in 'production'"):
        store.set_model_state("fraud", "b", "production", expected="b")
    store.set_model_state("fraud", "b", "production", expected="a")
    assert store.list_models("fraud", "production") == ["b"]


def test_searching_all_domains(store: ModelStore, model: str) -> None:
    """By metrics, tags, words, states and times, in an order that loses nothing; results are records and frames."""
    store.upload("fraud", "a", model=model, metrics={"auc": 0.9}, tags={"team": "x"}, note="SMOTE: recall up")
    middle = now()
    store.upload("churn", "b", model=model, metrics={"auc": 0.95}, tags={"team": "x"})
    store.upload("fraud", "c", model=model, extra_metadata={"ticket": 42})
    store.create_model_state("production")
    store.set_model_state("churn", "b", "production")
    assert store.search("metrics.auc > 0.8 and tags.team == 'x'", order_by="-metrics.auc").ids == ["b", "a"]
    assert store.search(order_by="metrics.auc").ids == ["a", "b", "c"]
    assert store.search(domain="fraud", order_by="-metrics.auc", limit=1).ids == ["a"]
    assert store.search(text="smote").ids == ["a"]
    assert store.search(state="production").ids == ["b"]
    assert store.search("extra.ticket == 42").ids == ["c"]
    assert store.search(created_after=middle).ids == ["c", "b"]
    assert store.search(created_before=middle).ids == ["a"]
    found = store.search(order_by="model_id")
    assert found[0] == store.get_model_info("fraud", "a")
    assert [record.model_id for record in found[1:]] == ["b", "c"]
    assert "metrics.auc" in found._repr_html_()
    assert "3 models" in repr(found)
    frame: Any = pytest.importorskip("pandas") and found.to_pandas()
    assert list(frame["model_id"]) == ["a", "b", "c"]
    assert frame["metrics.auc"].isna().tolist() == [False, False, True]
    assert len(store.search("metrics.auc > 1").to_pandas()) == 0
    with pytest.raises(QueryError):
        store.search("auc > 1")
    with pytest.raises(DomainNotFoundException):
        store.search(domain="nowhere")
    with pytest.raises(InvalidArgumentError):
        store.search(limit=-1)


def test_a_store_without_models_has_nothing_to_find(tmp_path: Path) -> None:
    """An empty folder gives no models, and no error."""
    store = ModelStore.from_file_system(tmp_path / "empty", create_directory=True)
    assert store.search("metrics.auc > 0").ids == []
    assert len(store.search(text="x")) == 0


def test_the_leaderboard(store: ModelStore, model: str) -> None:
    """The best first, by whatever the metric's name; what lacks it comes last; a loss is best when it is low."""
    for model_id, metrics in {"a": {"log loss": 0.5}, "b": {"log loss": 0.3}, "c": {}}.items():
        store.upload("fraud", model_id, model=model, metrics=metrics)
    assert store.leaderboard("fraud", "log loss").ids == ["a", "b", "c"]
    assert store.leaderboard("fraud", "log loss", lowest_first=True).ids == ["b", "a", "c"]
    assert store.leaderboard("fraud", "metrics.log loss", limit=1).ids == ["a"]
    assert store.leaderboard("fraud", "log loss", where="model_id != 'a'").ids == ["b", "c"]
    store.add_metrics("fraud", "c", {"log loss": 0.9})
    assert store.leaderboard("fraud", "log loss").ids == ["c", "a", "b"]


def test_the_journal_of_a_domain(store: ModelStore, model: str) -> None:
    """Uploads with what changed since their parents, notes, states with reasons; as text, Markdown, HTML and JSON."""
    store.upload("fraud", "a", model=model, metrics={"auc": 0.8}, extra_metadata=1)
    store.upload("fraud", "b", model=model, metrics={"auc": 0.7}, note="SMOTE <b>hurts</b> here")
    info = store.upload("fraud", "c", model=model, metrics={"auc": 0.85}, tags={"x": "1"}, parent="a")
    assert info.parent == "a"
    idea = store.note("fraud", "tune the *threshold*", kind="next")
    store.note("fraud", "calibrate", kind="next", tags={"by": "ana"})
    store.note("fraud", "0.3 is best", kind="worked", model_id="c", answers=idea)
    store.create_model_state("production")
    store.set_model_state("fraud", "c", "production", reason="approved by risk")
    store.add_metrics("fraud", "c", {"recall": 0.5})
    journal = store.journal("fraud")
    assert [entry.kind for entry in journal] == [
        "upload", "upload", "upload", "next", "next", "worked", "state-set", "described",
    ]  # fmt: skip
    third = journal[2]
    assert third.since == "a"
    assert third.changes is not None
    assert [(change.name, round(change.delta or 0, 6)) for change in third.changes["metrics"]] == [("auc", 0.05)]
    assert journal[0].since is None
    assert journal[1].since == "a"
    text = journal.to_markdown()
    assert "auc 0.85 (+0.05)" in text
    assert "is now in **production**: approved by risk" in text
    assert r"tune the \*threshold\*" in text
    page = journal.to_html()
    assert "<b>hurts</b>" not in page
    assert "&lt;b&gt;hurts&lt;/b&gt;" in page
    assert "tune the *threshold*" in page
    assert json.loads(json.dumps(journal.to_dict()))["entries"][3]["text"] == "tune the *threshold*"


def test_have_we_tried_this(store: ModelStore, model: str) -> None:
    """The journal by words, by kind, by model, by time, and what is still to be done."""
    store.upload("fraud", "a", model=model, note="SMOTE: recall up")
    store.create_model_state("production")
    store.set_model_state("fraud", "a", "production", reason="smote wins")
    middle = now()
    first = store.note("fraud", "try class weights instead of SMOTE", kind="next")
    store.note("fraud", "calibrate", kind="next")
    store.note("fraud", "weights are worse", kind="failed", answers=first, model_id="a")
    assert [entry.kind for entry in store.journal("fraud", text="smote")] == ["upload", "state-set", "next"]
    assert [entry.text for entry in store.journal("fraud", kind="next", open=True)] == ["calibrate"]
    assert [entry.id for entry in store.journal("fraud", kind="next", open=False)] == [first]
    assert [entry.kind for entry in store.journal("fraud", model_id="a")] == ["upload", "state-set", "failed"]
    assert len(store.journal("fraud", before=middle)) == 2
    assert len(store.journal("fraud", after=middle)) == 3
    assert [entry.kind for entry in store.journal("fraud", kind="upload")] == ["upload"]


@pytest.mark.parametrize(
    "say",
    [
        lambda store: store.note("fraud", ""),
        lambda store: store.note("fraud", "x", kind="thought"),
        lambda store: store.note("fraud", "x", answers=99),
        lambda store: store.note("fraud", 5),
        lambda store: store.note("fraud", "x", model_id="nobody"),
        lambda store: store.note("nowhere", "x"),
        lambda store: store.note("fraud", "x", tags={"a": object()}),
        lambda store: store.add_metrics("fraud", "a", {}),
        lambda store: store.add_metrics("fraud", "a", {"auc": "high"}),
        lambda store: store.tag("fraud", "a", {}),
        lambda store: store.tag("fraud", "nobody", {"a": 1}),
        lambda store: store.compare("fraud", "a"),
        lambda store: store.compare("fraud", "a", "nobody"),
        lambda store: store.upload("fraud", "z", model=store.path, parent="nobody"),
        lambda store: store.journal("nowhere"),
        lambda store: store.history("nowhere"),
        lambda store: store.rollback("fraud", "nowhere"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_changes_nothing(say: Any, store: Any, model: str) -> None:
    """A clear error before anything is written."""
    store.upload("fraud", "a", model=model)
    store.path = model
    before = store.history("fraud")
    with pytest.raises((InvalidArgumentError, NotJSONError, KeyError, ValueError)):
        say(store)
    assert store.history("fraud") == before


def test_comparing_models(store: ModelStore, tmp_path: Path) -> None:
    """Parameters, metrics, data, tags, files and how far tensors moved: as a table, in a notebook, as JSON."""
    for name, values in {"a": [3.0, 4.0], "b": [3.0, 5.0]}.items():
        folder = tmp_path / name / "net"
        weights(folder / "model.safetensors", w=values, same=[1.0], **({"new": [1.0]} if name == "b" else {}))
        (folder / "config.json").write_text("{}")
        metrics, labels = ({"auc": 0.9}, [0, 0, 1]) if name == "a" else ({"auc": 0.8}, [1, 1, 1, 0])
        store.upload("nets", name, model=folder, metrics=metrics, y_train=labels)
    found = store.compare("nets", "a", "b")
    assert found.ids == ("a", "b")
    assert found.table()["metrics"] == {"auc": (0.9, 0.8)}
    assert found.table()["data"]["labels.share.1"] == (0.3333, 0.75)
    assert [each.name for each in found.files] == ["net/model.safetensors"]
    moved = {each.name: each for each in found.tensors["b"]}
    assert set(moved) == {"w", "new"}
    assert moved["new"].before is None
    assert moved["w"].after == "F32 [2]"
    if moved["w"].distance is not None:  # numpy is there
        assert (moved["w"].distance, moved["w"].relative) == (1.0, 0.2)
    assert "net/model.safetensors" in str(found)
    assert "labels.share.1" in found._repr_html_()
    assert json.loads(found.to_json())["differences"]["metrics"] == {"auc": [0.9, 0.8]}
    assert store.compare("nets", "a", "b", tensors=False).tensors == {}
    assert str(store.compare("nets", "a", "a")).endswith("no difference")


def test_three_models_at_once(store: ModelStore, model: str) -> None:
    """What is the same in all is left out; what one lacks is told as absent."""
    for model_id, metrics in {"a": {"auc": 1}, "b": {"auc": 2}, "c": {}}.items():
        store.upload("fraud", model_id, model=model, metrics=metrics, tags={"same": "yes"})
    assert store.compare("fraud", "a", "b", "c").table() == {"metrics": {"auc": (1, 2, None)}}


def test_deletion_is_safe(store: ModelStore, model: str) -> None:
    """What is pinned stays, what was deleted comes back with its bytes, a retention only reports unless it is told."""
    for model_id in "abc":
        store.upload("fraud", model_id, model=model)
    store.pin_model("fraud", "a")
    with pytest.raises(ModelPinnedError):
        store.delete_model("fraud", "a", skip_prompt=True)
    assert store.retention("fraud", keep_last=1).deleted == ("b",)
    assert store.list_models("fraud") == ["c", "b", "a"]
    assert store.retention("fraud", keep_last=1, dry_run=False, reason="old").deleted == ("b",)
    store.restore_model("fraud", "b")
    assert store.load("fraud", "b").read_bytes() == b"weights"
    assert store.retention("fraud", keep_last=1, dry_run=False, purge=True).deleted == ("b",)
    with pytest.raises(ModelDeletedException):
        store.restore_model("fraud", "b")
    assert store.gc().garbage == ()
    store.unpin_model("fraud", "a")
    store.delete_domain("fraud", skip_prompt=True, purge=True)
    assert store.list_domains() == []
    with pytest.raises(ModelDeletedException):
        store.load("fraud", "c")


def test_gc_never_frees_what_may_be_an_upload_under_way(store: ModelStore, model: str) -> None:
    """older_than= is about deleted models: fresh bytes that no model refers to are kept for seven days regardless."""
    store.upload("fraud", "a", model=model)
    store.delete_model("fraud", "a", skip_prompt=True)
    store.storage.write("archives/fraud/x/1/artifacts.tar", [[b"in flight"]])
    assert [item.reason for item in store.gc(older_than=0).garbage] == ["deleted"]
    assert len(list(store.storage.list("archives/fraud/x/"))) == 1
    assert store.gc(dry_run=True, older_than=timedelta(days=30)).garbage == ()


def test_offline_questions_are_answered_from_the_index(
    store: ModelStore, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches, journals and histories work without the storage once it was read."""
    store.upload("fraud", "a", model=model, metrics={"auc": 1}, note="hello")
    store.search()
    monkeypatch.setenv("MODELSTORE_OFFLINE", "1")
    monkeypatch.setattr(type(store.storage), "list", None)
    monkeypatch.setattr(type(store.storage), "read", None)
    assert store.search("metrics.auc == 1").ids == ["a"]
    assert len(store.journal("fraud", text="hello")) == 1
    assert len(store.history("fraud")) == 1
