"""Nothing in a log is trusted: whatever JSON lies there ends in an IntegrityError or has no effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelstore import journaling
from modelstore.exceptions import IntegrityError, ModelStoreError
from modelstore.registry import gc, history, keys, removal, search
from modelstore.registry.events import FIRST_PREVIOUS, digest, seal
from modelstore.registry.registry import Registry
from modelstore.registry.retention import retain, rules_of
from modelstore.reports.results import SearchResults
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import add, open_registry, record_of

HUGE = 1 << 80
ODD: list[Any] = [None, True, 7, HUGE, 1.5, "x", "\ud800", [], [1], {}, {"a": []}]
"""What may stand where something else should."""


def uploaded(model_id: Any = "a", record: Any = None, archive: Any = None) -> dict[str, Any]:
    body = {"model_id": model_id, "record": record_of("d", "a"), "archive": {"key": "archives/d/a/1/artifacts.tar"}}
    return {**body, **({"record": record} if record is not None else {}), **({"archive": archive} if archive else {})}


def write(storage: MemoryStorage, events: list[dict[str, Any]], domain: str | None = "d") -> None:
    """A log of these events, numbered and chained as they should be, with whatever else they hold."""
    storage.create(keys.MARKER, b'{"format":1,"store":"abc"}\n')
    previous = FIRST_PREVIOUS
    for number, event in enumerate(events, start=1):
        whole = {
            "domain": domain, "number": number, "kind": "uploaded", "critical": True,
            "time": "2026-01-01T00:00:00.000000Z", "user": "u", "mark": "m", "previous": previous, "body": {}, **event,
        }  # fmt: skip
        raw = seal(json.dumps(whole).encode())
        storage.create(keys.event_key(domain, number), raw)
        previous = digest(raw)


def said_by(question: Any) -> str:
    """What an error of ours said; others pass through."""
    try:
        question()
    except ModelStoreError as error:
        return str(error)
    return ""


def found(registry: Registry) -> None:
    """All that a search gives, as a frame would have it."""
    index = registry.refresh(registry.domains())
    assert index is not None
    with index.read() as db:
        models = search.find(db, search.Question("metrics.auc > 0 or not tags.x", order_by="-metrics.auc"))
    SearchResults(models, lambda domain, number: registry.numbered(domain, number).record).rows()


def ask_everything(registry: Registry) -> None:
    """Every question; of errors only ours pass."""
    questions: list[Any] = [
        lambda: registry.models("d"),
        lambda: registry.find("d"),
        lambda: registry.find("d", "a").record.created,
        lambda: registry.find("d", "a").record._repr_html_(),
        lambda: registry.exists("d", "a"),
        lambda: registry.states.names(),
        lambda: registry.models("d", "s"),
        lambda: registry.states.of("d", "a"),
        lambda: gc.collect(registry, dry_run=True),
        lambda: removal.delete(registry, "d", "a", purge=True),
        lambda: registry.domains(),
        lambda: str(history.read(registry, "d")),
        lambda: str(history.read(registry, "d", "a")),
        lambda: history.read(registry, "d", state="s"),
        lambda: journaling.read_journal(registry, "d", journaling.Wanted(), False).to_html(),
        lambda: journaling.read_journal(registry, "d", journaling.Wanted(text="x"), False).to_markdown(),
        lambda: found(registry),
        lambda: retain(registry, "d", rules_of(1, ("metrics.auc", 1)), True),
        lambda: registry.states.roll_back("d", "s"),
        lambda: removal.restore(registry, "d", "a"),
        lambda: registry.models("d", "s", at="2026-01-01T00:00:00.000000Z"),
    ]
    for question in questions:
        said = said_by(question)
        assert "index" not in said, "damage in the log is not blamed on the index"
        assert "keeps changing" not in said


FIELDS = ["domain", "number", "kind", "critical", "time", "user", "mark", "previous", "body"]


@pytest.mark.parametrize("field", FIELDS)
def test_any_field_of_an_event_may_be_anything(field: str) -> None:
    """A field of the wrong type, or none, is never a crash."""
    for odd in ODD:
        storage = MemoryStorage()
        write(storage, [{"body": uploaded()}, {"body": uploaded("b"), field: odd}])
        ask_everything(open_registry(storage))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("uploaded", ["model_id", "record", "archive"]),
        ("deleted", ["model", "purge"]),
        ("state-set", ["model", "state"]),
        ("state-removed", ["model", "state"]),
        ("state-set", ["reason", "from", "exclusive", "rollback"]),
        ("retired", ["models", "purge", "reason"]),
        ("restored", ["model", "reason"]),
        ("pinned", ["model", "pinned"]),
        ("noted", ["text", "kind", "model", "tags", "answers"]),
        ("described", ["model", "metrics", "tags"]),
        ("uploaded", ["parent"]),
        ("condemned", ["archives"]),
    ],
)
def test_any_part_of_a_body_may_be_anything(kind: str, names: list[str]) -> None:
    """The same for what the kinds of events say."""
    for name in names:
        for odd in ODD:
            good = {
                **uploaded("b"), "model": 1, "purge": True, "state": 1, "archives": [], "models": [1], "pinned": True,
                "text": "x", "kind": "note", "metrics": {"auc": 1}, "tags": {"x": "y"},
            }  # fmt: skip
            storage = MemoryStorage()
            write(storage, [{"kind": "state-created", "body": {"name": "s"}}], None)
            write(storage, [{"body": uploaded()}, {"kind": kind, "body": {**good, name: odd}}])
            ask_everything(open_registry(storage))


@pytest.mark.parametrize("kind", ["state-created", "state-deleted"])
def test_the_stores_own_log_may_hold_anything(kind: str) -> None:
    """The same for the definitions of states."""
    for odd in ODD:
        storage = MemoryStorage()
        write(
            storage,
            [{"kind": "state-created", "body": {"name": "s"}}, {"kind": kind, "body": {"name": odd, "state": odd}}],
            None,
        )
        write(storage, [{"body": uploaded()}])
        ask_everything(open_registry(storage))


@pytest.mark.parametrize("path", [(), ("model",), ("code",), *((("model", name)) for name in
                         ("model_id", "domain", "model_type", "metrics", "tags", "managers"))])  # fmt: skip
def test_any_part_of_a_record_may_be_anything(path: tuple[str, ...]) -> None:
    """A record is read whole or refused: what is returned can be shown."""
    for odd in ODD:
        record: Any = record_of("d", "a")
        if not path:
            record = odd
        else:
            inner = record
            for name in path[:-1]:
                inner = inner[name]
            inner[path[-1]] = odd
        storage = MemoryStorage()
        write(storage, [{"body": {**uploaded(), "record": record}}])
        ask_everything(open_registry(storage))


def test_a_states_definition_in_a_domains_log_has_no_effect() -> None:
    """Events count in the log that they belong to: a domain's can neither define the store's states nor delete them."""
    storage = MemoryStorage()
    write(storage, [{"kind": "state-created", "body": {"name": "s"}}], None)
    write(
        storage,
        [
            {"body": uploaded()},
            {"kind": "state-created", "body": {"name": "x"}},
            {"kind": "state-deleted", "body": {"state": 1}},
        ],
    )
    registry = open_registry(storage)
    assert registry.models("d") == ["a"]
    assert registry.states.names() == ["s"]
    assert registry.models("d", "s") == []


@pytest.mark.parametrize(
    "key", ["modelstore.json", "domains/d/log/000000000001/000000000001.json", "archives/e/b/1/artifacts.tar"]
)
def test_a_purge_deletes_nothing_but_the_domains_own_archives(key: str) -> None:
    """An upload event that names another object as its archive does not have that deleted."""
    storage = MemoryStorage()
    add(open_registry(storage), "e", "b")
    write(storage, [{"body": uploaded(archive={"key": key})}])
    assert removal.delete(open_registry(storage), "d", "a", purge=True) is None


def test_a_purge_spares_the_archive_that_another_model_has_too() -> None:
    """Two models of one archive: it goes with the last of them."""
    storage = MemoryStorage()
    write(storage, [{"body": uploaded("a")}, {"body": uploaded("b")}])
    registry = open_registry(storage)
    assert removal.delete(registry, "d", "a", purge=True) is None
    assert removal.delete(registry, "d", "b", purge=True) == "archives/d/a/1/artifacts.tar"


@pytest.mark.parametrize("part", ["%FF", "%zz", "a b", "%2e", "d%C3%A9".lower()])
def test_folders_that_are_no_domains_are_passed_over(part: str) -> None:
    """Somebody has put other things into the store: listings and gc do not mind."""
    storage = MemoryStorage()
    add(open_registry(storage), "d", "a")
    for key in (f"domains/{part}/x", f"archives/{part}/x/1/artifacts.tar"):
        storage.write(key, [[b"x"]])
    registry = open_registry(storage)
    assert registry.domains() == ["d"]
    assert gc.collect(registry).garbage == ()


def test_a_marker_without_an_end_is_found() -> None:
    """Brackets by the thousand are no crash."""
    storage = MemoryStorage()
    storage.create(keys.MARKER, b"[" * 60_000)
    with pytest.raises(IntegrityError):
        open_registry(storage).models("d")
