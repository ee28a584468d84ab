"""The ancestor's states: files that define them, and copies of metadata that say who is in them."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from modelstore.ancestor import layout as keys_of
from modelstore.ancestor.layout import DomainFiles
from modelstore.exceptions import InvalidNameError
from modelstore.records import format_time
from modelstore.registry import adoptions, events as kinds, queries
from modelstore.registry.adoptions import Seen
from modelstore.registry.keys import clean_name
from modelstore.registry.logs import Intent
from modelstore.registry.states import State
from modelstore.storage.base import ObjectInfo

if TYPE_CHECKING:
    from modelstore.ancestor.adoption import Adoption


_ENDED = "SELECT deleted FROM states WHERE name = ? AND deleted > 0 ORDER BY deleted DESC LIMIT 1"


def defining(name: str, info: ObjectInfo) -> Intent:
    """The definition of a state; one that bears the name already stays as it is, with its rules."""

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        row = adoptions.seen(db, None, info.key)
        if queries.state_number(db, name) is not None or (row is not None and row.etag == info.etag):
            return None
        ended = queries.first_value(db, _ENDED, name) if row is not None else None
        if adoptions.is_newer(db, None, ended, format_time(info.modified)):
            return None
        return kinds.STATE_CREATED, {"name": name, "adopted": {"key": info.key, "etag": info.etag}}

    return intent


def follow(adoption: Adoption, domain: str, files: DomainFiles, known: dict[str, Seen]) -> None:
    """Take models out of the states that the ancestor has taken them out of, and put them into those that it has put
    them into, in the order in which that happened.
    """
    states = {state.name: state for state in adoption.registry.states.all()}
    valid = {key: info for key, info in files.holds.items() if key[0] in adoption.layout.states}
    kept = {info.key for info in valid.values()}
    for key, row in known.items():
        place = keys_of.parse(key, () if files.latest is None else (files.latest.key,))
        if place is not None and place.state not in (None, keys_of.DELETED) and row.etag and key not in kept:
            adoption.commit(domain, None, "moves", _leaving(domain, key, row))
    ordered = sorted(valid.items(), key=lambda item: (item[1].modified, item[1].key))
    for (name, model_id), info in ordered:
        main = files.models.get(model_id)
        found = known.get(info.key)
        if main is None or (found is not None and found.etag == info.etag):
            continue
        try:
            state = states.get(clean_name("model state", name))
        except InvalidNameError as error:
            adoption.problem(info.key, str(error))
            continue
        if state is not None:
            adoption.commit(domain, info, "moves", _entering(adoption, domain, main.key, info, state))


def _leaving(domain: str, key: str, row: Seen) -> Intent:
    """A copy of the metadata that is gone. It counts while the model is in the state because of that copy."""

    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        held = db.execute(
            "SELECT model, state FROM holds WHERE domain = ? AND since = ? AND until IS NULL", (domain, row.number)
        ).fetchone()
        if held is None:
            return None
        return kinds.STATE_REMOVED, {"model": held[0], "state": held[1], "adopted": {"key": key, "etag": ""}}

    return intent


def _entering(adoption: Adoption, domain: str, main_key: str, info: ObjectInfo, state: State) -> Intent:
    def intent(db: sqlite3.Connection) -> tuple[str, dict[str, Any]] | None:
        known, row = adoptions.seen(db, domain, main_key), adoptions.seen(db, domain, info.key)
        if known is None or known.model is None or (row is not None and row.etag == info.etag):
            return None
        model = known.model
        last, held = _last(db, domain, state.number, model)
        if held or not _lives(db, domain, model):
            return None
        if adoptions.is_newer(db, domain, last, format_time(info.modified)):
            return None
        if not set(state.requires) <= _states_of(db, domain, model):
            names = json.dumps([each.name for each in adoption.registry.states.all() if each.number in state.requires])
            adoption.problem(info.key, f"the state {state.name!r} of this store requires {names}")
            return None
        body = {"model": model, "state": state.number, "adopted": {"key": info.key, "etag": info.etag}}
        return kinds.STATE_SET, {**body, "exclusive": True} if state.exclusive else body

    return intent


def _last(db: sqlite3.Connection, domain: str, state: int, model: int) -> tuple[int | None, bool]:
    """The last event that put a model into a state or took it out, and whether it is in it."""
    row = db.execute(
        "SELECT since, until FROM holds WHERE domain = ? AND state = ? AND model = ? ORDER BY since DESC LIMIT 1",
        (domain, state, model),
    ).fetchone()
    return (None, False) if row is None else (row[1] or row[0], row[1] is None)


def _lives(db: sqlite3.Connection, domain: str, model: int) -> bool:
    query = "SELECT 1 FROM models WHERE domain = ? AND number = ? AND deleted = 0"
    return db.execute(query, (domain, model)).fetchone() is not None


def _states_of(db: sqlite3.Connection, domain: str, model: int) -> set[int]:
    rows = db.execute("SELECT state FROM holds WHERE domain = ? AND model = ? AND until IS NULL", (domain, model))
    return {row[0] for row in rows}
