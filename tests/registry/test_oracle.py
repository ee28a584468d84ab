"""Any sequence of operations by several writers equals a plain in-memory oracle, now and at every past time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelstore.anybody import ANYBODY
from modelstore.exceptions import (
    DomainNotFoundException,
    InvalidArgumentError,
    ModelDeletedException,
    ModelExistsException,
    ModelNotFoundException,
    ModelPinnedError,
    StateConflictError,
    StateNotFoundError,
)
from modelstore.records import format_time, now
from modelstore.registry import annotations, keys, removal
from modelstore.registry.registry import Registry
from modelstore.registry.retention import Rules, retain
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import open_registry, record_of

DOMAINS = st.sampled_from(["fraud", "a/b", ".."])
IDS = st.sampled_from(["m1", "m2", "m3", "m 4"])
STATES = st.sampled_from(["production", "staging"])
WRITERS = st.integers(0, 2)
EXPECTED = st.just(ANYBODY) | st.none() | IDS


class Oracle:
    """What the registry is to be, in the simplest form."""

    def __init__(self) -> None:
        self.uploads: dict[str, list[str]] = {}  # uids of living models in the order of their uploads
        self.gone: dict[str, list[str]] = {}  # uids of deleted ones
        self.ids: dict[str, str] = {}  # by uid
        self.order: list[str] = []  # all uids ever
        self.states: list[str] = []
        self.rules: dict[str, tuple[bool, tuple[str, ...]]] = {}
        self.held: dict[tuple[str, str], list[str]] = {}  # (domain, state) -> uids, the last set at the end
        self.stacks: dict[tuple[str, str], list[str]] = {}  # the same with all who were there before
        self.pinned: set[str] = set()
        self.deleted_domains: set[str] = set()
        self.broken: set[tuple[str, str]] = set()  # (required state, state that requires it)

    def is_listed(self, domain: str) -> bool:
        """Whether a domain is listed: one that was deleted as a whole, only while it holds models."""
        return domain not in self.deleted_domains or bool(self.uploads[domain])

    def find(self, domain: str, model_id: str) -> str:
        if domain not in self.uploads:
            raise DomainNotFoundException(domain)
        for uid in self.uploads[domain]:
            if self.ids[uid] == model_id:
                return uid
        gone = any(self.ids[uid] == model_id for uid in self.gone.get(domain, []))
        raise (ModelDeletedException if gone else ModelNotFoundException)(domain, model_id)

    def check_state(self, state: str) -> None:
        if state not in self.states:
            raise StateNotFoundError(state)

    def end(self, domain: str, uid: str) -> None:
        self.uploads[domain].remove(uid)
        self.gone.setdefault(domain, []).append(uid)
        self.pinned.discard(uid)
        for (held_domain, _), uids in self.held.items():
            if held_domain == domain and uid in uids:
                uids.remove(uid)

    def put(self, domain: str, uid: str, state: str) -> None:
        held = self.held.setdefault((domain, state), [])
        if self.rules[state][0]:
            held.clear()
        if uid in held:
            held.remove(uid)
        held.append(uid)

    def living(self, domain: str, state: str | None = None) -> list[str]:
        """Ids, newest first."""
        uids = [uid for uid in self.order if uid in self.uploads.get(domain, [])]
        if state is not None:
            uids = [uid for uid in uids if uid in self.held.get((domain, state), [])]
        return [self.ids[uid] for uid in reversed(uids)]

    def snapshot(self) -> dict[str, Any]:
        """All that can be asked about a moment."""
        return {
            "models": {domain: self.living(domain) for domain in self.uploads},
            "states": {
                (domain, state): (
                    self.living(domain, state),
                    self.ids[held[-1]] if (held := self.held.get((domain, state), [])) else None,
                )
                for domain in self.uploads
                for state in self.states
            },
        }


class RegistryMachine(RuleBasedStateMachine):
    """Three writers, one of them without an index on disk, act on one store.

    Segments are of four events here, so that logs are compacted all the time, and segments joined to blocks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes = mock.patch.multiple(keys, SEGMENT=4, BLOCK=16)
        self.sizes.start()
        self.folder = tempfile.TemporaryDirectory()
        self.storage = MemoryStorage()
        index = Path(self.folder.name)
        self.writers = [
            open_registry(self.storage, index),
            open_registry(self.storage, index),
            open_registry(self.storage),
        ]
        self.oracle = Oracle()
        self.moments: list[tuple[str, dict[str, Any]]] = []

    def teardown(self) -> None:
        self.sizes.stop()
        for writer in self.writers:
            if writer.logs._index is not None:
                writer.logs._index.close()
        self.folder.cleanup()

    def same(self, real: object, ideal: object) -> None:
        """Both calls raise the same class, or neither raises."""
        try:
            ideal()  # type: ignore[operator]
        except Exception as error:
            with pytest.raises(type(error)):
                real()  # type: ignore[operator]
        else:
            real()  # type: ignore[operator]

    def done(self) -> None:
        """Remember how things are now."""
        self.moments.append((format_time(now()), self.oracle.snapshot()))

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS)
    def upload(self, writer: int, domain: str, model_id: str) -> None:
        def ideal() -> None:
            if model_id in self.oracle.living(domain):
                raise ModelExistsException(domain, model_id)
            uid = f"u{len(self.oracle.order)}"
            self.oracle.order.append(uid)
            self.oracle.ids[uid] = model_id
            self.oracle.uploads.setdefault(domain, []).append(uid)

        def real() -> None:
            key = f"archives/{len(list(self.storage.list('')))}"
            record = record_of(domain, model_id)
            self.writers[writer].add(domain, model_id, record, {"key": key})

        self.same(real, ideal)

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS)
    def delete(self, writer: int, domain: str, model_id: str) -> None:
        def ideal() -> None:
            uid = self.oracle.find(domain, model_id)
            if uid in self.oracle.pinned:
                raise ModelPinnedError(domain, model_id)
            self.oracle.end(domain, uid)

        self.same(lambda: removal.delete(self.writers[writer], domain, model_id), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS)
    def restore(self, writer: int, domain: str, model_id: str) -> None:
        def ideal() -> None:
            if domain not in self.oracle.uploads:
                raise DomainNotFoundException(domain)
            gone = [uid for uid in self.oracle.order if uid in self.oracle.gone.get(domain, [])]
            gone = [uid for uid in gone if self.oracle.ids[uid] == model_id]
            if model_id in self.oracle.living(domain):
                if gone:
                    raise ModelExistsException(domain, model_id)
                return
            if not gone:
                raise ModelNotFoundException(domain, model_id)
            self.oracle.gone[domain].remove(gone[-1])
            self.oracle.uploads[domain].append(gone[-1])

        self.same(lambda: removal.restore(self.writers[writer], domain, model_id), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS, pinned=st.booleans())
    def pin(self, writer: int, domain: str, model_id: str, pinned: bool) -> None:
        def ideal() -> None:
            uid = self.oracle.find(domain, model_id)
            (self.oracle.pinned.add if pinned else self.oracle.pinned.discard)(uid)

        self.same(lambda: removal.pin(self.writers[writer], domain, model_id, pinned), ideal)

    @rule(writer=WRITERS, domain=DOMAINS)
    def delete_domain(self, writer: int, domain: str) -> None:
        def ideal() -> None:
            if domain not in self.oracle.uploads:
                raise DomainNotFoundException(domain)
            pinned = [uid for uid in self.oracle.uploads[domain] if uid in self.oracle.pinned]
            if pinned:
                raise ModelPinnedError(domain, self.oracle.ids[pinned[0]])
            for uid in list(self.oracle.uploads[domain]):
                self.oracle.end(domain, uid)
            self.oracle.deleted_domains.add(domain)

        self.same(lambda: removal.delete_domain(self.writers[writer], domain), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, keep=st.integers(0, 2))
    def retain(self, writer: int, domain: str, keep: int) -> None:
        def ideal() -> None:
            if domain not in self.oracle.uploads:
                raise DomainNotFoundException(domain)
            last = [uid for uid in self.oracle.order if uid in self.oracle.uploads[domain]][-max(keep, 1) :]
            for uid in list(self.oracle.uploads[domain]):
                marked = any(
                    uid in uids and state in self.oracle.states for (_, state), uids in self.oracle.held.items()
                )
                if uid not in last and uid not in self.oracle.pinned and not marked:
                    self.oracle.end(domain, uid)

        self.same(lambda: retain(self.writers[writer], domain, Rules(keep), False), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, text=st.sampled_from(["one", "two"]))
    def note(self, writer: int, domain: str, text: str) -> None:
        def ideal() -> None:
            if domain not in self.oracle.uploads:
                raise DomainNotFoundException(domain)

        self.same(lambda: annotations.add_note(self.writers[writer], domain, text), ideal)

    @rule(writer=WRITERS, state=STATES, exclusive=st.booleans(), required=st.booleans())
    def create_state(self, writer: int, state: str, exclusive: bool, required: bool) -> None:
        requires = tuple(other for other in ("staging", "production") if other != state) if required else ()

        def ideal() -> None:
            for other in requires:
                self.oracle.check_state(other)
            if state not in self.oracle.states:
                self.oracle.states.append(state)
                self.oracle.rules[state] = (exclusive, requires)
            elif self.oracle.rules[state] != (exclusive, requires) or any(
                (other, state) in self.oracle.broken for other in requires
            ):
                raise InvalidArgumentError("exclusive", "other rules")

        self.same(lambda: self.writers[writer].states.create(state, exclusive, requires), ideal)

    @rule(writer=WRITERS, state=STATES)
    def delete_state(self, writer: int, state: str) -> None:
        def ideal() -> None:
            self.oracle.check_state(state)
            self.oracle.states.remove(state)
            self.oracle.broken = {pair for pair in self.oracle.broken if pair[1] != state}
            requiring = [other for other in self.oracle.states if state in self.oracle.rules[other][1]]
            self.oracle.broken |= {(state, other) for other in requiring}
            self.oracle.held = {key: uids for key, uids in self.oracle.held.items() if key[1] != state}
            self.oracle.stacks = {key: uids for key, uids in self.oracle.stacks.items() if key[1] != state}

        self.same(lambda: self.writers[writer].states.delete(state), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS, state=STATES, expected=EXPECTED)
    def set_state(self, writer: int, domain: str, model_id: str, state: str, expected: Any) -> None:
        def ideal() -> None:
            self.oracle.check_state(state)
            uid = self.oracle.find(domain, model_id)
            held = self.oracle.held.get((domain, state), [])
            if expected is not ANYBODY and (self.oracle.ids[held[-1]] if held else None) != expected:
                raise StateConflictError(domain, state)
            if held and held[-1] == uid:
                return
            for other in self.oracle.rules[state][1]:
                # A requirement names the state as it was; one that was deleted, and made again, is another one.
                if (other, state) in self.oracle.broken or uid not in self.oracle.held.get((domain, other), []):
                    raise StateConflictError(domain, state)
            self.oracle.put(domain, uid, state)
            self.oracle.stacks.setdefault((domain, state), []).append(uid)

        self.same(lambda: self.writers[writer].states.set(domain, model_id, state, None, expected), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, state=STATES)
    def roll_back(self, writer: int, domain: str, state: str) -> None:
        def ideal() -> None:
            self.oracle.check_state(state)
            if domain not in self.oracle.uploads:
                raise DomainNotFoundException(domain)
            stack = self.oracle.stacks.get((domain, state), [])
            held = self.oracle.held.get((domain, state), [])
            current = held[-1] if held else None
            end = len(stack) if current is None else len(stack) - 1 - stack[::-1].index(current)
            for at in range(end - 1, -1, -1):
                if stack[at] != current and stack[at] in self.oracle.uploads[domain]:
                    break
            else:
                raise ModelNotFoundException(domain)
            uid = stack[at]
            del stack[at + 1 :]
            if current is not None:
                held.remove(current)
            self.oracle.put(domain, uid, state)

        self.same(lambda: self.writers[writer].states.roll_back(domain, state), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS, state=STATES)
    def remove_state(self, writer: int, domain: str, model_id: str, state: str) -> None:
        def ideal() -> None:
            self.oracle.check_state(state)
            uid = self.oracle.find(domain, model_id)
            uids = self.oracle.held.get((domain, state), [])
            if uid in uids:
                uids.remove(uid)

        self.same(lambda: self.writers[writer].states.remove(domain, model_id, state), ideal)

    @rule(at=st.integers(0, 1000), reader=WRITERS)
    def the_past_is_as_it_was(self, at: int, reader: int) -> None:
        if not self.moments:
            return
        time, then = self.moments[at % len(self.moments)]
        registry = self.writers[reader]
        for domain, ids in then["models"].items():
            assert registry.models(domain, at=time) == ids
            if ids:
                assert registry.find(domain, at=time).model_id == ids[0]
        for (domain, state), (ids, last) in then["states"].items():
            assert registry.models(domain, state, at=time) == ids
            if last is not None:
                assert registry.find(domain, state_name=state, at=time).model_id == last

    @invariant()
    def every_reader_sees_what_the_oracle_says(self) -> None:
        self.done()
        for reader in [*self.writers, open_registry(self.storage)]:
            self.compare(reader)

    def compare(self, reader: Registry) -> None:
        oracle = self.oracle
        assert reader.states.names() == oracle.states
        assert reader.domains() == sorted(domain for domain in oracle.uploads if oracle.is_listed(domain))
        for domain, uids in oracle.uploads.items():
            ids = oracle.living(domain)
            assert reader.models(domain) == ids
            for model_id in ("m1", "m2", "m3", "m 4"):
                assert reader.exists(domain, model_id) == (model_id in ids)
            for uid in uids:
                expected = [state for state in oracle.states if uid in oracle.held.get((domain, state), [])]
                assert reader.states.of(domain, oracle.ids[uid]) == expected
            for state in oracle.states:
                assert reader.models(domain, state) == oracle.living(domain, state)
                held = oracle.held.get((domain, state), [])
                if held:
                    assert reader.find(domain, state_name=state).model_id == oracle.ids[held[-1]]
            if ids:
                assert reader.find(domain).model_id == ids[0]


RegistryMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestRegistryEqualsItsOracle = RegistryMachine.TestCase
