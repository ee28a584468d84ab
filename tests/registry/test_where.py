"""The conditions of a search: what they find, and that nothing else can be said by them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, strategies as st

from modelstore.exceptions import QueryError
from modelstore.registry import annotations
from modelstore.registry.registry import Registry
from modelstore.registry.search import Question, find
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import add, open_registry


def filled() -> Registry:
    """Five models of one domain, and one of another."""
    registry = open_registry(MemoryStorage())
    add(registry, "d", "a", metrics={"auc": 0.9, "n": 3}, tags={"team": "fincrime", "labels": ["x", "yy"]})
    add(registry, "d", "b", metrics={"auc": 0.8, "base": 0.85}, tags={"team": "ops", "my team": "q"}, note="SMOTE: up")
    add(registry, "d", "c", metrics={"auc": "high"}, parameters={"model": {"depth": 3, "name": "it's"}})
    add(registry, "d", "e", parameters={"deep": {"er": {"x": True}}}, data={"labels": {"values": {"1": 5}}})
    add(registry, "d", "f", metrics={"auc": -1, "n": 1 << 70}, tags={"empty": "", "none": None})
    add(registry, "other", "z", metrics={"auc": 0.95})
    registry.states.create("production")
    registry.states.create("old")
    registry.states.set("d", "a", "production")
    registry.states.set("d", "b", "old")
    registry.states.delete("old")
    return registry


REGISTRY = filled()


def ids(registry: Registry = REGISTRY, **question: Any) -> list[str]:
    """The ids that a question finds, oldest first unless it has an order of its own."""
    index = registry.refresh(registry.domains())
    assert index is not None
    with index.read() as db:
        found = find(db, Question(**question))
    names = [registry.numbered(domain, number).model_id for domain, number in found]
    return names if "order_by" in question or "text" in question else names[::-1]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("metrics.auc > 0.85", "az"),
        ("metrics.auc >= 0.8 and tags.team == 'ops'", "b"),
        ("0.85 < metrics.auc < 0.92", "a"),
        ("0.85 < metrics.auc", "az"),
        ("metrics.auc == -1", "f"),
        ("metrics.auc != 0.9", "bcefz"),
        ("not metrics.auc > 0.5", "cef"),
        ("metrics.auc is None", "e"),
        ("metrics.auc is not None and domain == 'd'", "abcf"),
        ("metrics.auc == None", "e"),
        ("metrics.auc == 'high'", "c"),
        ("metrics.auc > 'a'", "c"),
        ("metrics.base > metrics.auc", "b"),
        ("metrics.auc in [0.8, 0.9, None]", "abe"),
        ("metrics.auc not in [0.8, 0.9]", "cefz"),
        ("tags.team in ('ops', 'fincrime')", "ab"),
        ("'x' in tags.labels", "a"),
        ("'y' in tags.labels", ""),
        ("contains(tags.team, 'crime')", "a"),
        ("startswith(tags.team, 'op')", "b"),
        ("contains(note, 'SMOTE')", "b"),
        ("tags['my team'] == 'q'", "b"),
        ("params.model.depth == 3", "c"),
        ('parameters.model.name == "it\'s"', "c"),
        ("params.deep.er.x", "e"),
        ("params.deep.er.x == True", "e"),
        ("tags.empty", ""),
        ("tags.empty is not None", "f"),
        ("tags.none is None and metrics.n > 10", "f"),
        ("data.labels.values['1'] == 5", "e"),
        ("state == 'production'", "a"),
        ("'production' in state or state in ['old']", "a"),
        ("state is None", "bcefz"),
        ("library == 'sklearn' and model_id in ['a', 'z']", "az"),
        ("created > '2020-01-01' and created < '2999-01-01T00:00Z'", "abcefz"),
        ("domain == 'other' or (metrics.n == 3 and not tags.team == 'ops')", "az"),
        ("metrics.nothing > 1 or tags.nothing == 'a'", ""),
        ("params == 1", None),
    ],
)
def test_a_condition_finds(where: str, found: str | None) -> None:
    """Comparisons are as in pandas: what a model lacks equals nothing, and is neither less nor more."""
    if found is None:
        with pytest.raises(QueryError):
            ids(where=where)
    else:
        assert "".join(ids(where=where)) == found


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("", "invalid syntax"),
        ("metrics.auc >", "invalid syntax"),
        ("metrics.auc > 1; import os", "invalid syntax"),
        ("__import__('os').system('true')", "only functions"),
        ("open('/etc/passwd')", "only functions"),
        ("contains(tags.team)", "only functions"),
        ("contains(tags.team, 'a', 'b')", "only functions"),
        ("contains('a', tags.team)", "path and a value"),
        ("metrics.auc.__class__ == 1", "two underscores"),
        ("metrics.__init__.__globals__ == 1", "two underscores"),
        ("tags['__class__'] == 1", "two underscores"),
        ("__class__ == 1", "two underscores"),
        ("metrics.keys() == 1", "only functions|a value is"),
        ("(lambda: 1)() == 1", "a value is|only functions"),
        ("[x for x in tags.labels] == 1", "a value is"),
        ("metrics.auc == f'{1}'", "a value is"),
        ("metrics.auc == 1 + 1", "a value is"),
        ("metrics.auc == 2 ** 10000", "a value is"),
        ("metrics.auc == (yield)", "a value is|invalid"),
        ("(x := 1) == metrics.auc", "a value is"),
        ("metrics.auc == b'a'", "a value is"),
        ("metrics.auc == 1j", "a value is"),
        ("metrics.auc == ...", "a value is"),
        ("metrics.auc == {1: 2}", "a value is"),
        ("metrics.auc is 1", "`is` compares"),
        ("metrics.auc < None", "less or more"),
        ("1 == 1", "a path and a value"),
        ("1", "a condition compares"),
        ("metrics[tags.team] == 1", "a path is names"),
        ("metrics[1:2] == 1", "a path is names"),
        ("metrics == 1", "say which"),
        ("auc > 0.5", "did you mean metrics.auc"),
        ("metric.auc > 0.5", "did you mean 'metrics'"),
        ("libary == 'sklearn'", "did you mean 'library'"),
        ("created > 'yesterday'", "a time such as"),
        ("state == tags.team", "compared with a name"),
        ("tags.a in tags.b", "`in` takes"),
        ("metrics.auc if 1 else 2", "a value is"),
        ("metrics.auc == '\\ud800'", "half a character"),
        ("(" * 5000 + "1", "longer|nested"),
        ("(" * 250 + "metrics.auc" + ")" * 250, "nested|too many"),
        ("not " * 900 + "metrics.auc", "nested"),
        ("-" * 3000 + "1 == metrics.auc", "nested|recursion"),
        (" or ".join(["metrics.a"] * 200), "parts"),
        ("metrics" + ".a" * 1000 + " == 1", "nested"),
        ("metrics.auc == 1 or x" + "a" * 5000, "longer"),
        (7, "a text"),
        (b"metrics.auc > 1", "a text"),
        ("metrics.auc\x00 > 1", "null bytes|invalid|source"),
    ],
)
def test_anything_else_is_a_clear_error(where: Any, reason: str) -> None:
    """Attributes, calls, huge nesting and whatever else Python can say is refused with the reason."""
    with pytest.raises(QueryError, match=reason):
        ids(where=where)


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE models; --", "\" OR 1=1 --", "a') UNION SELECT raw FROM events --", "%", "_", "\\", "?", ":x",
        "x\x1fy", "NULL", "é\u0301", "😀",
    ],
)  # fmt: skip
def test_sql_in_a_text_is_a_text(text: str) -> None:
    """Texts and names go into parameters: they match themselves, and harm nothing."""
    registry = open_registry(MemoryStorage())
    add(registry, "d", "a", tags={"t": text, text: "value"}, note=text)
    add(registry, "d", "b", tags={"t": "other"})
    for where in (
        f"tags.t == {text!r}", f"contains(tags.t, {text!r})", f"startswith(tags.t, {text!r})", f"note == {text!r}",
        f"tags[{text!r}] == 'value'", f"tags.t in [{text!r}]",
    ):  # fmt: skip
        if "\x1f" not in text or "tags[" not in where:
            assert ids(registry, where=where) == ["a"], where
    assert ids(registry) == ["a", "b"]


@given(st.text(alphabet="metrics.auctags()[]'\"<>=! andornotin0123456789-_,é\n", max_size=60))
def test_no_text_crashes(where: str) -> None:
    """Whatever is asked gives models or a QueryError."""
    with contextlib.suppress(QueryError):
        ids(where=where)


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ("metrics.auc", "fbazce"),
        ("-metrics.auc", "czabfe"),
        ("metrics.auc desc", "czabfe"),
        ("metrics.auc ASC", "fbazce"),
        ("-metrics['auc']", "czabfe"),
        ("model_id", "abcefz"),
        ("-model_id", "zfecba"),
    ],
)
def test_nothing_vanishes_by_an_order(order: str, found: str) -> None:
    """What lacks the field comes last, whatever the direction; texts come after numbers."""
    assert "".join(ids(order_by=order)) == found
    for limit in range(7):
        assert "".join(ids(order_by=order, limit=limit)) == found[:limit]


@pytest.mark.parametrize("order", ["", "metrics", "auc", "metrics.auc; DROP", "-", "--metrics.auc", "'a'", 5, "state"])
def test_an_order_that_is_none_is_refused(order: Any) -> None:
    """An order is one path, and a direction."""
    with pytest.raises(QueryError, match="order_by"):
        ids(order_by=order)


def test_words_are_found_in_notes_tags_and_names() -> None:
    """All words must be there, each as a beginning; quotes and operators of full-text search mean nothing."""
    registry = open_registry(MemoryStorage())
    add(registry, "d", "forest-1", note="SMOTE: recall up, precision down", tags={"team": "Fincrime"})
    add(registry, "d", "forest-2", note="class weights")
    add(registry, "e", "smote", note="a model of its own")
    annotations.add_note(registry, "d", "weights work better than SMOTE here", model_id="forest-2")
    annotations.describe(registry, "d", "forest-2", tags={"status": "promising"})
    assert sorted(ids(registry, text="smote", domain="d")) == ["forest-1", "forest-2"]
    assert sorted(ids(registry, text="Smote")) == ["forest-1", "forest-2", "smote"]
    assert ids(registry, text="recall preci") == ["forest-1"]
    assert ids(registry, text="promis") == ["forest-2"]
    assert ids(registry, text="fincrime forest") == ["forest-1"]
    for odd in ('smote" OR "', "smote NOT recall*", "smote AND (", "NEAR(smote recall)", "text:smote"):
        assert isinstance(ids(registry, text=odd), list)
    for empty in ("", "  ", "!?"):
        with pytest.raises(QueryError, match="no word"):
            ids(registry, text=empty)


def test_what_is_said_later_counts() -> None:
    """Metrics and tags that were added are found, the new value in place of the old, and none where they were taken."""
    registry = open_registry(MemoryStorage())
    add(registry, "d", "a", metrics={"auc": 0.5, "auc2": 1.0}, tags={"team": {"name": "x"}, "l": ["p"]})
    annotations.describe(registry, "d", "a", metrics={"auc": 0.9, "f1": 0.4}, tags={"team": None, "l": ["q", "r"]})
    true = ["metrics.auc == 0.9", "metrics.f1 > 0.3", "metrics.auc2 == 1", "tags.team.name is None", "'q' in tags.l"]
    for where in true:
        assert ids(registry, where=where) == ["a"], where
    for where in ("metrics.auc == 0.5", "'p' in tags.l"):
        assert ids(registry, where=where) == [], where
    record = registry.find("d", "a").record
    assert record["model"]["metrics"] == {"auc": 0.5, "auc2": 1.0}, "the record as uploaded stays"
    assert record["added"]["metrics"] == {"auc": 0.9, "f1": 0.4}


def test_a_model_that_was_deleted_is_not_found() -> None:
    """Searches are about what there is."""
    from modelstore.registry import removal

    registry = open_registry(MemoryStorage())
    add(registry, "d", "a", metrics={"auc": 1})
    removal.delete(registry, "d", "a")
    assert ids(registry, where="metrics.auc == 1") == []
    assert ids(registry, text="sklearn") == []
    removal.restore(registry, "d", "a")
    assert ids(registry, where="metrics.auc == 1") == ["a"]
