"""Model states: names defined in the store's log, and the models in each domain's log that were put into them.

A state *is* its defining event. Domain events refer to it by number, so one that is deleted and made again is empty.
Its rules (exclusive, requires) are part of that event and never change. Events of a domain repeat what the fold needs
of them, as a domain's log is folded by itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modelstore.anybody import ANYBODY, Anybody
from modelstore.exceptions import (
    InvalidArgumentError,
    InvalidNameError,
    ModelNotFoundException,
    StateConflictError,
    StateNotFoundError,
)
from modelstore.registry import events as kinds, keys, queries
from modelstore.registry.index import Index
from modelstore.registry.logs import Logs

RESERVED = frozenset({"modelstore-deleted"})
"""Names that the ancestor uses for itself in its stores."""


@dataclass(frozen=True)
class State:
    """A state and its rules."""

    number: int
    """Of the event that defined it."""
    name: str
    exclusive: bool = False
    """Whether at most one model of each domain is in it."""
    requires: tuple[int, ...] = ()
    """Other states, by number, in which a model must be before it is put into this one."""


class States:
    """The states of one store.

    Args:
        logs: of the store.
        open_domain: gives a domain's normal name and its folded log, or raises DomainNotFoundException.
    """

    def __init__(self, logs: Logs, open_domain: Callable[..., tuple[str, Index]]) -> None:
        self.logs = logs
        self._open_domain = open_domain

    def all(self, offline: bool = False) -> list[State]:
        """The states that exist, in the order in which they were created."""
        index = self.logs.refresh(None, offline)
        if index is None:
            return []
        with index.read() as db:
            query = "SELECT number, name, exclusive, requires FROM states WHERE deleted = 0 ORDER BY number"
            return [State(row[0], row[1], bool(row[2]), tuple(json.loads(row[3]))) for row in db.execute(query)]

    def names(self, offline: bool = False) -> list[str]:
        """The names of the states that exist, in the order in which they were created."""
        return [state.name for state in self.all(offline)]

    def create(self, state_name: str, exclusive: bool | None = None, requires: Sequence[str] | None = None) -> None:
        """Define a state; nothing happens if it exists with these rules.

        Args:
            exclusive: whether at most one model of a domain may be in it; None takes what there is, else no.
            requires: names of other states; None takes what there is, else none.

        Raises:
            InvalidNameError: empty, too long or reserved.
            InvalidArgumentError: it exists with other rules.
            StateNotFoundError: a state that is required does not exist.
        """
        name = keys.clean_name("model state", state_name)
        if name in RESERVED:
            raise InvalidNameError("model state", name, "modelstore uses this name itself")
        wanted = None if requires is None else [keys.clean_name("model state", each) for each in requires]

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
            numbers = None if wanted is None else [_required(db, each) for each in wanted]
            row = db.execute(
                "SELECT exclusive, requires FROM states WHERE name = ? AND deleted = 0", (name,)
            ).fetchone()
            if row is None:
                body: dict[str, Any] = {"name": name}
                if exclusive:
                    body["exclusive"] = True
                if numbers:
                    body["requires"] = numbers
                return kinds.STATE_CREATED, body
            _check_rules(name, bool(row[0]), json.loads(row[1]), exclusive, numbers)
            return None

        self.logs.commit(None, intent)

    def delete(self, state_name: str) -> None:
        """Delete a state: no model holds it any more, and one made again under this name is empty.

        Raises:
            StateNotFoundError: there is no such state.
        """
        self.get(state_name)
        name = keys.clean_name("model state", state_name)

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
            return kinds.STATE_DELETED, {"state": _required(db, name)}

        self.logs.commit(None, intent)

    def set(
        self,
        domain: str,
        model_id: str,
        state_name: str,
        reason: str | None = None,
        expected: str | Anybody | None = ANYBODY,
    ) -> None:
        """Put a model into a state; nothing happens if it is the one that was put there last.

        Args:
            expected: the id of the model that the caller believes was put there last, None for nobody.

        Raises:
            StateNotFoundError: there is no such state.
            StateConflictError: another model than the expected one is in it, or the model lacks a required state.
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: as `find`.
        """
        states = self.all()
        state = self._named(states, state_name)
        name, _ = self._open_domain(domain)

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
            number = queries.require_live(db, name, model_id)
            last = queries.first_value(db, queries.LAST_HOLDER, name, state.number)
            if not isinstance(expected, Anybody):
                _check_holder(db, name, state, last, expected)  # in the commit: nobody can change it in between
            if last == number:
                return None
            _check_requirements(db, name, number, state, states)
            return kinds.STATE_SET, _body(number, state, reason)

        self.logs.commit(name, intent)

    def roll_back(self, domain: str, state_name: str, reason: str | None = None) -> str:
        """Put the model back that was in a state before the one that is in it now; deleted ones are passed over.

        Doing it again goes back further: a model that a rollback took out is not put back by the next one.

        Returns:
            The id of the model that is in the state now.

        Raises:
            StateNotFoundError, DomainNotFoundException: no such thing.
            ModelNotFoundException: no living model was in it before.
        """
        state = self.get(state_name)
        name, _ = self._open_domain(domain)

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
            current = queries.first_value(db, queries.LAST_HOLDER, name, state.number)
            before = _before(db, name, state.number, current)
            if before is None:
                raise ModelNotFoundException(
                    name, None, f"no model that still exists was in {state.name!r} of {name!r} before"
                )
            body = {**_body(before, state, reason), "rollback": True}
            return kinds.STATE_SET, body if current is None else {**body, "from": current}

        event = self.logs.commit(name, intent)
        assert event is not None
        index = self.logs.refresh(name)
        assert index is not None
        with index.read() as db:
            return queries.id_of(db, name, event.body["model"]) or ""

    def remove(self, domain: str, model_id: str, state_name: str, reason: str | None = None) -> None:
        """Take a model out of a state; nothing happens if it is not in it.

        Raises:
            StateNotFoundError: there is no such state.
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: as `find`.
        """
        state = self.get(state_name).number
        name, _ = self._open_domain(domain)

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
            number = queries.require_live(db, name, model_id)
            if state not in _held(db, name, number):
                return None
            return kinds.STATE_REMOVED, {"model": number, "state": state, **_reason(reason)}

        self.logs.commit(name, intent)

    def of(self, domain: str, model_id: str, offline: bool = False) -> list[str]:
        """The states that a model is in, in the order in which they were created.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: as `find`.
        """
        states = self.all(offline)
        name, index = self._open_domain(domain, offline)
        with index.read() as db:
            held = _held(db, name, queries.require_live(db, name, model_id))
        return [state.name for state in states if state.number in held]

    def held(self, index: Index, domain: str, model: int) -> frozenset[int]:
        """The numbers of all states that a model is in, deleted states among them."""
        with index.read() as db:
            return _held(db, domain, model)

    def get(self, state_name: str, offline: bool = False) -> State:
        """The state that bears this name now.

        Raises:
            StateNotFoundError: there is none.
        """
        return self._named(self.all(offline), state_name)

    def number(self, state_name: str, offline: bool = False, at: str | None = None) -> int:
        """The event that defines the state which bears this name now, or bore it at a time.

        Raises:
            StateNotFoundError: there is no such state.
        """
        if at is None:
            return self.get(state_name, offline).number
        name = keys.clean_name("model state", state_name)
        index = self.logs.refresh(None, offline)
        if index is not None:
            with index.read() as db:
                number = queries.state_at(db, name, at)
            if number is not None:
                return number
        raise StateNotFoundError(name, at=at)

    @staticmethod
    def _named(states: list[State], state_name: str) -> State:
        name = keys.clean_name("model state", state_name)
        found = next((state for state in states if state.name == name), None)
        if found is None:
            raise StateNotFoundError(name, [state.name for state in states])
        return found


def _required(db: sqlite3.Connection, name: str) -> int:
    number = queries.state_number(db, name)
    if number is None:
        raise StateNotFoundError(name)
    return number


def _check_rules(
    name: str, is_exclusive: bool, has: list[int], exclusive: bool | None, requires: list[int] | None
) -> None:
    other = exclusive is not None and exclusive != is_exclusive
    if other or (requires is not None and sorted(requires) != sorted(has)):
        raise InvalidArgumentError(
            "exclusive" if other else "requires",
            f"the model state {name!r} exists with other rules, which never change; delete it first, or choose another "
            "name",
        )


def _body(model: int, state: State, reason: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "state": state.number, **_reason(reason)}
    return {**body, "exclusive": True} if state.exclusive else body


def _reason(reason: str | None) -> dict[str, str]:
    return {} if reason is None else {"reason": reason}


def _held(db: sqlite3.Connection, domain: str, model: int) -> frozenset[int]:
    rows = db.execute(
        "SELECT state FROM holds INDEXED BY holds_of_model WHERE domain = ? AND model = ? AND until IS NULL",
        (domain, model),
    )
    return frozenset(row[0] for row in rows)


def _check_holder(db: sqlite3.Connection, domain: str, state: State, last: int | None, expected: str | None) -> None:
    actual = None if last is None else queries.id_of(db, domain, last)
    if actual != expected:
        raise StateConflictError(domain, state.name, expected=expected, actual=actual)


def _check_requirements(db: sqlite3.Connection, domain: str, model: int, state: State, states: Sequence[State]) -> None:
    held = _held(db, domain, model)
    living = {each.number: each.name for each in states}
    missing = [number for number in state.requires if number not in held or number not in living]
    if missing:
        names = [living.get(number, "a state that was deleted") for number in missing]
        raise StateConflictError(domain, state.name, missing=names, actual=queries.id_of(db, domain, model))


def _before(db: sqlite3.Connection, domain: str, state: int, current: int | None) -> int | None:
    """The living model to which a rollback leads.

    The holders are a stack: who is put into the state goes on top, and a rollback takes off all above whom it puts
    back.
    """
    stack: list[int] = []
    rows = db.execute("SELECT model, back FROM holds WHERE domain = ? AND state = ? ORDER BY since", (domain, state))
    for model, back in rows:
        if back and model in stack:
            while stack.pop() != model:
                pass
        stack.append(model)
    if current is not None:
        while stack and stack.pop() != current:
            pass
    query = "SELECT 1 FROM models WHERE domain = ? AND number = ? AND deleted = 0"
    while stack:
        model = stack.pop()
        if model != current and db.execute(query, (domain, model)).fetchone():
            return model
    return None
