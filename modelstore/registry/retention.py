"""Which models of a domain may go: all but the latest, the best, those in a state and those that are pinned."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelstore.exceptions import InvalidArgumentError
from modelstore.registry import facts, queries, removal
from modelstore.registry.registry import Registry
from modelstore.registry.search import parse_order

Best = tuple[str, int]
"""A path such as `metrics.auc` (the highest are the best) or `-metrics.loss` (the lowest are), and how many to keep."""


@dataclass(frozen=True)
class Kept:
    """A model that stays, and why: `latest`, `best by metrics.auc`, `in production`, `pinned`."""

    model_id: str
    reason: str


@dataclass(frozen=True)
class RetentionReport:
    """What a retention deleted, or would delete in a dry run."""

    domain: str
    deleted: tuple[str, ...] = ()
    """Ids, newest first."""
    kept: tuple[Kept, ...] = ()
    """Newest first."""
    dry_run: bool = False
    archives: tuple[str, ...] = field(default=(), repr=False)
    """Keys whose bytes are to go now."""

    def __str__(self) -> str:
        verb = "could be deleted" if self.dry_run else "deleted"
        return f"{self.domain}: {len(self.deleted)} models {verb}, {len(self.kept)} kept"


@dataclass(frozen=True)
class Rules:
    """What to keep, beside what is always kept."""

    last: int = 1
    best: tuple[Best, ...] = ()

    def __post_init__(self) -> None:
        for count in (self.last, *(count for _, count in self.best)):
            if type(count) is not int or count < 0:
                raise InvalidArgumentError("keep_last", f"{count!r} is no number of models to keep")
        for path, _ in self.best:
            parse_order(path)


def rules_of(keep_last: int, keep_best: Best | Sequence[Best]) -> Rules:
    """The rules that a caller gave, one pair or several.

    Raises:
        QueryError, InvalidArgumentError: they cannot be understood.
    """
    listed: Any = [keep_best] if len(keep_best) == 2 and isinstance(keep_best[0], str) else keep_best
    try:
        best = tuple((path, count) for path, count in listed)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError("keep_best", f"keep_best={keep_best!r} is no ('metrics.auc', 3)") from error
    return Rules(keep_last, best)


def retain(
    registry: Registry, domain: str, rules: Rules, dry_run: bool, purge: bool = False, reason: str | None = None
) -> RetentionReport:
    """Delete what the rules do not keep, in one event; what holds a state, is pinned or is the latest always stays.

    Raises:
        DomainNotFoundException: there is no such domain.
        QueryError, InvalidArgumentError: the rules cannot be understood.
    """
    living_states = {state.number: state.name for state in registry.states.all()}
    report = RetentionReport(domain)

    def choose(db: sqlite3.Connection, name: str) -> list[int]:
        nonlocal report
        kept = _kept(db, name, rules, living_states)
        models = queries.living(db, name, queries.NOW)
        gone = [(number, model_id) for number, model_id in models if number not in kept]
        report = RetentionReport(
            name,
            tuple(model_id for _, model_id in gone),
            tuple(Kept(model_id, kept[number]) for number, model_id in models if number in kept),
            dry_run,
        )
        return [number for number, _ in gone]

    if dry_run:
        name, index = registry.open_domain(domain)
        with index.read() as db:
            choose(db, name)
        return report
    archives = removal.retire(registry, domain, choose, purge, reason)
    return RetentionReport(report.domain, report.deleted, report.kept, False, tuple(archives))


def _kept(db: sqlite3.Connection, domain: str, rules: Rules, states: dict[int, str]) -> dict[int, str]:
    """Why each model stays that does, by number."""
    kept: dict[int, str] = {}
    for at, (number, _) in enumerate(queries.living(db, domain, queries.NOW)[: max(rules.last, 1)]):
        kept[number] = "latest" if at == 0 else f"among the last {rules.last}"
    for path, count in rules.best:
        for number in _best(db, domain, path, count):
            kept.setdefault(number, f"best by {path}")
    holds = db.execute("SELECT model, state FROM holds WHERE domain = ? AND until IS NULL", (domain,))
    for number, state in holds:
        if state in states:
            kept[number] = f"in {states[state]}"
    for (number,) in db.execute("SELECT number FROM models WHERE domain = ? AND deleted = 0 AND pinned = 1", (domain,)):
        kept[number] = "pinned"
    return kept


def _best(db: sqlite3.Connection, domain: str, path: str, count: int) -> list[int]:
    lowest, parts = parse_order(path)
    rows = db.execute(
        "SELECT m.number FROM facts f JOIN models m ON m.id = f.model WHERE f.path = ? AND f.at = 0 AND m.domain = ?"
        " AND m.deleted = 0 AND typeof(f.value) <> 'text'"
        f" ORDER BY f.value {'ASC' if lowest else 'DESC'}, m.number DESC LIMIT ?",
        (facts.known_number(db, parts), domain, count),
    )
    return [row[0] for row in rows]
