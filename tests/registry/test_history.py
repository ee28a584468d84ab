"""What happened, and what is done about models afterwards: history, pins, restorations, retention, deleted domains."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from modelstore.exceptions import (
    InvalidArgumentError,
    ModelDeletedException,
    ModelPinnedError,
    QueryError,
    StateConflictError,
)
from modelstore.registry import annotations, gc, history, removal
from modelstore.registry.registry import Registry
from modelstore.registry.retention import retain, rules_of
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import CountingStorage, add, open_registry, record_of


@pytest.fixture
def registry() -> Registry:
    """An empty store in memory."""
    return open_registry(MemoryStorage())


def test_the_history_tells_what_when_by_whom_and_why(registry: Registry) -> None:
    """Every event of a domain with its reason, by model and by state too; also of what is gone."""
    add(registry, "d", "a")
    add(registry, "d", "b")
    registry.states.create("production", exclusive=True)
    registry.states.set("d", "a", "production", reason="approved")
    registry.states.set("d", "b", "production", reason="better")
    registry.states.roll_back("d", "production", reason="an outage")
    annotations.add_note(registry, "d", "calibrate", kind="next", model_id="b")
    annotations.describe(registry, "d", "b", metrics={"auc": 0.9})
    removal.delete(registry, "d", "b", reason="worse")
    registry.states.delete("production")
    entries = history.read(registry, "d")
    told = [(entry.kind, entry.model_id, entry.state, entry.reason) for entry in entries]
    assert told == [
        ("uploaded", "a", None, None),
        ("uploaded", "b", None, None),
        ("state-set", "a", "production", "approved"),
        ("state-set", "b", "production", "better"),
        ("state-set", "a", "production", "an outage"),
        ("noted", "b", None, None),
        ("described", "b", None, None),
        ("deleted", "b", None, "worse"),
    ]
    assert entries[4].details == {"rollback": True, "from": "b"}
    assert entries[5].details == {"text": "calibrate", "kind": "next"}
    assert entries[6].details == {"metrics": {"auc": 0.9}}
    assert all(entry.user and entry.time.tzinfo for entry in entries)
    assert [entry.number for entry in history.read(registry, "d", "b")] == [2, 4, 6, 7, 8]
    assert [entry.model_id for entry in history.read(registry, "d", state="production")] == ["a", "b", "a"]


def test_what_ends_several_models_is_in_the_history_of_each(registry: Registry) -> None:
    """A retention and the deletion of a domain are one event, and each of their models tells of it."""
    for model_id in "abc":
        add(registry, "d", model_id)
    retain(registry, "d", rules_of(1, ()), False, reason="old")
    assert [(entry.kind, entry.reason) for entry in history.read(registry, "d", "a")] == [
        ("uploaded", None),
        ("retired", "old"),
    ]
    assert history.read(registry, "d")[-1].details == {"models": ["b", "a"], "purge": False}
    removal.delete_domain(registry, "d", reason="over")
    assert history.read(registry, "d", "c")[-1].reason == "over"


def test_an_exclusive_state_moves_in_one_event(registry: Registry) -> None:
    """Whoever is put there takes the place of the one before, and no moment shows both or nobody."""
    registry.states.create("production", exclusive=True)
    for model_id in "abc":
        add(registry, "d", model_id)
        registry.states.set("d", model_id, "production")
        assert registry.models("d", "production") == [model_id]
    assert len(history.read(registry, "d")) == 6
    add(registry, "e", "x")
    registry.states.set("e", "x", "production")
    assert registry.models("d", "production") == ["c"], "each domain has its own"


def test_the_rules_of_a_state_never_change(registry: Registry) -> None:
    """Made again with other rules is an error, with the same or none a no-op; deleted and made again takes new ones."""
    registry.states.create("staging")
    registry.states.create("production", exclusive=True, requires=["staging"])
    registry.states.create("production")
    registry.states.create("production", exclusive=True, requires=["staging"])
    for rules in ({"exclusive": False}, {"requires": []}, {"requires": ["production"]}):
        with pytest.raises(InvalidArgumentError, match="other rules"):
            registry.states.create("production", **rules)  # type: ignore[arg-type]
    registry.states.delete("production")
    registry.states.create("production", exclusive=False)


def test_a_gate_is_checked_inside_the_commit(registry: Registry) -> None:
    """A model gets into a state that requires another only while it is in that one, also if it leaves meanwhile."""
    registry.states.create("staging")
    registry.states.create("production", requires=["staging"])
    add(registry, "d", "a")
    with pytest.raises(StateConflictError, match="has to be in 'staging' first") as caught:
        registry.states.set("d", "a", "production")
    assert caught.value.missing == ("staging",)
    registry.states.set("d", "a", "staging")
    registry.states.set("d", "a", "production")
    registry.states.remove("d", "a", "production")
    # Somebody takes it out of staging between this writer's look and its commit.
    other = open_registry(registry.storage)
    commit, done = registry.logs.commit, []

    def late(domain: Any, intent: Any) -> Any:
        if not done:
            done.append(other.states.remove("d", "a", "staging"))
        return commit(domain, intent)

    registry.logs.commit = late  # type: ignore[method-assign]
    with pytest.raises(StateConflictError):
        registry.states.set("d", "a", "production")
    registry.logs.commit = commit  # type: ignore[method-assign]
    registry.states.set("d", "a", "staging")
    registry.states.delete("staging")
    with pytest.raises(StateConflictError, match="was deleted"):
        registry.states.set("d", "a", "production")


def test_compare_and_set(registry: Registry) -> None:
    """A writer that is wrong about who is in a state changes nothing, and hears who is."""
    registry.states.create("production", exclusive=True)
    for model_id in "ab":
        add(registry, "d", model_id)
    registry.states.set("d", "a", "production", expected=None)
    with pytest.raises(StateConflictError) as caught:
        registry.states.set("d", "b", "production", expected=None)
    assert (caught.value.expected, caught.value.actual) == (None, "a")
    registry.states.set("d", "b", "production", expected="a")
    assert registry.models("d", "production") == ["b"]


def test_a_rollback_passes_over_deleted_models(registry: Registry) -> None:
    """It leads to the last one before that still exists; with none, it is an error and changes nothing."""
    registry.states.create("production", exclusive=True)
    for model_id in "abc":
        add(registry, "d", model_id)
        registry.states.set("d", model_id, "production")
    removal.delete(registry, "d", "b")
    assert registry.states.roll_back("d", "production") == "a"
    with pytest.raises(KeyError, match="was in 'production'"):
        registry.states.roll_back("d", "production")
    assert registry.models("d", "production") == ["a"]
    removal.delete(registry, "d", "a")
    with pytest.raises(KeyError):  # what a rollback took out is not what it leads back to
        registry.states.roll_back("d", "production")


def test_a_rollback_of_a_state_that_nobody_is_in_leads_to_the_last_who_was(registry: Registry) -> None:
    """The one in production was deleted or taken out: whoever was there before it takes its place."""
    registry.states.create("production", exclusive=True)
    for model_id in "abc":
        add(registry, "d", model_id)
        registry.states.set("d", model_id, "production")
    removal.delete(registry, "d", "c")
    assert registry.models("d", "production") == []
    assert registry.states.roll_back("d", "production") == "b"
    registry.states.remove("d", "b", "production")
    assert registry.states.roll_back("d", "production") == "b"


def test_a_restored_model_is_what_it_was_without_its_states(registry: Registry) -> None:
    """Its record, number and archive are the same; whoever had put it into a state has to say so again."""
    model = add(registry, "d", "a", note="n")
    registry.states.create("production")
    registry.states.set("d", "a", "production")
    removal.delete(registry, "d", "a")
    removal.restore(registry, "d", "a", reason="a mistake")
    found = registry.find("d", "a")
    assert (found.number, found.archive, found.record) == (model.number, model.archive, model.record)
    assert registry.states.of("d", "a") == []
    removal.restore(registry, "d", "a")
    assert len(history.read(registry, "d")) == 4, "nothing to do is no event"


def test_what_is_gone_cannot_be_restored(registry: Registry) -> None:
    """Neither what was purged nor what gc has freed comes back."""
    add(registry, "d", "a")
    add(registry, "d", "b")
    removal.delete(registry, "d", "a", purge=True)
    removal.delete(registry, "d", "b")
    registry.storage.clock = lambda: datetime.now(timezone.utc) + timedelta(days=8)  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="clock"):
        gc.collect(registry)
    for model_id in "ab":
        with pytest.raises(ModelDeletedException):
            removal.restore(registry, "d", model_id)


def test_nothing_deletes_a_pinned_model(registry: Registry) -> None:
    """Neither a deletion, nor that of its domain, nor a retention; a new model of the id is not pinned."""
    add(registry, "d", "a")
    add(registry, "d", "b")
    removal.pin(registry, "d", "a", True)
    for attempt in (lambda: removal.delete(registry, "d", "a"), lambda: removal.delete_domain(registry, "d")):
        with pytest.raises(ModelPinnedError, match="unpin_model"):
            attempt()
    assert retain(registry, "d", rules_of(1, ()), False).deleted == ()
    removal.pin(registry, "d", "a", False)
    removal.delete(registry, "d", "a")
    add(registry, "d", "a")
    removal.delete(registry, "d", "a")


def test_a_deleted_domain_is_not_listed_until_it_holds_a_model_again(registry: Registry) -> None:
    """All its models go in one event; uploads and restorations bring it back, and its history stays."""
    add(registry, "d", "a")
    add(registry, "d", "b")
    add(registry, "e", "x")
    removal.delete_domain(registry, "d")
    other = open_registry(registry.storage)
    assert registry.domains() == other.domains() == ["e"]
    assert other.models("d") == []
    assert len(history.read(other, "d")) == 3
    removal.restore(registry, "d", "a")
    assert other.domains() == registry.domains() == ["d", "e"]
    removal.delete_domain(registry, "d")
    add(other, "d", "c")
    assert registry.domains() == ["d", "e"]
    assert registry.models("d") == ["c"]


def test_retention_keeps_the_last_the_best_and_whatever_is_in_use(registry: Registry) -> None:
    """The report says what stays and why; the dry run is what would happen; a model without the metric is not best."""
    for at, auc in enumerate([0.9, 0.5, None, 0.7, 0.6, 0.1]):
        add(registry, "d", f"m{at}", metrics={} if auc is None else {"auc": auc})
    registry.states.create("production")
    registry.states.create("dead")
    registry.states.set("d", "m1", "production")
    registry.states.set("d", "m2", "dead")
    registry.states.delete("dead")
    rules = rules_of(1, ("metrics.auc", 2))
    dry = retain(registry, "d", rules, True)
    assert registry.models("d") == ["m5", "m4", "m3", "m2", "m1", "m0"]
    wet = retain(registry, "d", rules, False)
    assert wet.deleted == dry.deleted == ("m4", "m2")
    assert {kept.model_id: kept.reason for kept in wet.kept} == {
        "m5": "latest",
        "m3": "best by metrics.auc",
        "m1": "in production",
        "m0": "best by metrics.auc",
    }
    assert registry.models("d") == ["m5", "m3", "m1", "m0"]
    assert retain(registry, "d", rules_of(0, [("-metrics.auc", 1)]), False).deleted == ("m3", "m0")
    assert retain(registry, "d", rules_of(0, ()), False).deleted == ()


@pytest.mark.parametrize(
    ("last", "best"),
    [(-1, ()), (1.5, ()), (1, ("metrics.auc", -1)), (1, ("auc", 1)), (1, 7), (1, [("metrics.auc",)]), (True, ())],
)
def test_rules_that_mean_nothing_are_refused(last: Any, best: Any, registry: Registry) -> None:
    """Before anything is deleted."""
    with pytest.raises((InvalidArgumentError, QueryError, TypeError)):
        rules_of(last, best)


def test_gc_takes_a_length_of_time(registry: Registry) -> None:
    """older_than= is about deleted models, in days or as a length of time; anything else is an error."""
    gone = add(registry, "d", "a")
    removal.delete(registry, "d", "a")
    assert [item.key for item in gc.collect(registry, True, gc.grace_of(0)).garbage] == [gone.archive["key"]]
    assert gc.collect(registry, True, gc.grace_of(timedelta(days=30))).garbage == ()
    for odd in ("7", -1, float("nan"), 1e300):
        with pytest.raises(InvalidArgumentError):
            gc.grace_of(odd)  # type: ignore[arg-type]


def test_notes_are_answered_by_notes(registry: Registry) -> None:
    """A note that another one answers is settled; an answer to nothing is an error."""
    add(registry, "d", "a")
    first = annotations.add_note(registry, "d", "calibrate", kind="next")
    second = annotations.add_note(registry, "d", "done", kind="worked", answers=first, tags={"by": "me"})
    index = registry.refresh(["d"])
    assert index is not None
    with index.read() as db:
        rows = db.execute("SELECT number, answered FROM notes ORDER BY number").fetchall()
    assert rows == [(first, second), (second, None)]
    with pytest.raises(InvalidArgumentError, match="no note 1"):
        annotations.add_note(registry, "d", "x", answers=1)


def test_a_state_that_is_read_at_a_time_is_the_one_of_that_time(registry: Registry) -> None:
    """A state made again under its old name is empty now, and what it held then is still told."""
    add(registry, "d", "a")
    registry.states.create("production")
    registry.states.set("d", "a", "production")
    then = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    registry.states.delete("production")
    registry.states.create("production")
    assert registry.models("d", "production") == []
    assert registry.models("d", "production", at=then) == ["a"]
    assert registry.models("d", at="2000-01-01T00:00:00.000000Z") == []


def test_a_look_that_may_be_old_asks_the_storage_nothing() -> None:
    """With max_age=, what this process read a moment ago is taken; a process that has read nothing reads."""
    storage = CountingStorage()
    registry = open_registry(storage)
    add(registry, "d", "a")
    registry.refresh(registry.domains())
    storage.requests.clear()
    index = registry.refresh(registry.domains(max_age=60), max_age=60)
    assert index is not None
    assert storage.requests == []
    open_registry(storage).refresh(["d"], max_age=60)
    assert storage.requests


def test_old_events_stay_as_they_are(registry: Registry) -> None:
    """States, deletions and uploads as they were written before there were rules and reasons are folded alike."""
    from modelstore.registry import events as kinds

    registry.add("d", "a", record_of("d", "a"), {"key": "archives/d/a/1/artifacts.tar"})
    registry.logs.commit(None, lambda db: (kinds.STATE_CREATED, {"name": "production"}))
    registry.logs.commit("d", lambda db: (kinds.STATE_SET, {"model": 1, "state": 1}))
    assert registry.models("d", "production") == ["a"]
    registry.logs.commit("d", lambda db: (kinds.DELETED, {"model": 1, "purge": False}))
    assert registry.models("d") == []
