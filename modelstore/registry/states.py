"""Model states: names defined in the store's log, and the models in each domain's log that were put into them.

A state *is* its defining event. Domain events refer to it by number, so one that is deleted and made again is empty.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from modelstore.exceptions import InvalidNameError, StateNotFoundError
from modelstore.registry import events as kinds, fold, keys
from modelstore.registry.index import Index
from modelstore.registry.logs import Logs

RESERVED = frozenset({"modelstore-deleted"})
"""Names that the ancestor uses for itself in its stores."""


class States:
    """The states of one store.

    Args:
        logs: of the store.
        open_domain: gives a domain's normal name and its folded log, or raises DomainNotFoundException.
    """

    def __init__(self, logs: Logs, open_domain: Callable[..., tuple[str, Index]]) -> None:
        self.logs = logs
        self._open_domain = open_domain

    def names(self, offline: bool = False) -> list[str]:
        """The names of the states that exist, in the order in which they were created."""
        index = self.logs.refresh(None, offline)
        if index is None:
            return []
        with index.read() as db:
            return [row[0] for row in db.execute("SELECT name FROM states WHERE deleted = 0 ORDER BY number")]

    def create(self, state_name: str) -> None:
        """Define a state; nothing happens if it exists.

        Raises:
            InvalidNameError: empty, too long or reserved.
        """
        name = keys.clean_name("model state", state_name)
        if name in RESERVED:
            raise InvalidNameError("model state", name, "modelstore uses this name itself")

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
            return None if fold.state_number(db, name) is not None else (kinds.STATE_CREATED, {"name": name})

        self.logs.commit(None, intent)

    def delete(self, state_name: str) -> None:
        """Delete a state: no model holds it any more, and one made again under this name is empty.

        Raises:
            StateNotFoundError: there is no such state.
        """
        self.number(state_name)
        name = keys.clean_name("model state", state_name)

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]]:
            number = fold.state_number(db, name)
            if number is None:
                raise StateNotFoundError(name)
            return kinds.STATE_DELETED, {"state": number}

        self.logs.commit(None, intent)

    def set(self, domain: str, model_id: str, state_name: str) -> None:
        """Put a model into a state; nothing happens if it is the one that was put there last.

        Raises:
            StateNotFoundError: there is no such state.
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: as `find`.
        """
        state = self.number(state_name)
        name, _ = self._open_domain(domain)

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
            number = fold.require_live(db, name, model_id)
            last = fold.first_value(db, fold.LAST_HOLDER, name, state)
            return None if last == number else (kinds.STATE_SET, {"model": number, "state": state})

        self.logs.commit(name, intent)

    def remove(self, domain: str, model_id: str, state_name: str) -> None:
        """Take a model out of a state; nothing happens if it is not in it.

        Raises:
            StateNotFoundError: there is no such state.
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: as `find`.
        """
        state = self.number(state_name)
        name, _ = self._open_domain(domain)

        def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
            number = fold.require_live(db, name, model_id)
            held = db.execute(
                "SELECT 1 FROM holds WHERE domain = ? AND model = ? AND state = ?", (name, number, state)
            ).fetchone()
            return None if held is None else (kinds.STATE_REMOVED, {"model": number, "state": state})

        self.logs.commit(name, intent)

    def of(self, domain: str, model_id: str, offline: bool = False) -> list[str]:
        """The states that a model is in, in the order in which they were created.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: as `find`.
        """
        self.logs.refresh(None, offline)
        name, index = self._open_domain(domain, offline)
        with index.read() as db:
            number = fold.require_live(db, name, model_id)
            held = self.held(index, name, number)
            rows = db.execute("SELECT number, name FROM states WHERE deleted = 0 ORDER BY number").fetchall()
        return [state_name for state, state_name in rows if state in held]

    def held(self, index: Index, domain: str, model: int) -> frozenset[int]:
        """The numbers of all states that a model was put into, deleted states among them."""
        with index.read() as db:
            rows = db.execute("SELECT state FROM holds WHERE domain = ? AND model = ?", (domain, model))
            return frozenset(row[0] for row in rows)

    def number(self, state_name: str, offline: bool = False) -> int:
        """The event that defines the state which bears this name now.

        Raises:
            StateNotFoundError: there is no such state.
        """
        name = keys.clean_name("model state", state_name)
        index = self.logs.refresh(None, offline)
        if index is not None:
            with index.read() as db:
                number = fold.state_number(db, name)
            if number is not None:
                return number
        raise StateNotFoundError(name, self.names(offline))
