"""Any sequence of registry operations by several writers equals a plain in-memory oracle."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelstore.exceptions import (
    DomainNotFoundException,
    ModelDeletedException,
    ModelExistsException,
    ModelNotFoundException,
    StateNotFoundError,
)
from modelstore.registry import removal
from modelstore.registry.registry import Registry
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import open_registry, record_of

DOMAINS = st.sampled_from(["fraud", "a/b", ".."])
IDS = st.sampled_from(["m1", "m2", "m3", "m 4"])
STATES = st.sampled_from(["production", "staging"])
WRITERS = st.integers(0, 2)


class Oracle:
    """What the registry is to be, in the simplest form."""

    def __init__(self) -> None:
        self.uploads: dict[str, list[str]] = {}  # ids of living models, oldest first
        self.ever: set[tuple[str, str]] = set()
        self.states: list[str] = []
        self.held: dict[tuple[str, str], list[str]] = {}  # (domain, state) -> ids, the last set at the end

    def check(self, domain: str, model_id: str) -> None:
        if domain not in self.uploads:
            raise DomainNotFoundException(domain)
        if model_id not in self.uploads[domain]:
            gone = (domain, model_id) in self.ever
            raise (ModelDeletedException if gone else ModelNotFoundException)(domain, model_id)

    def check_state(self, state: str) -> None:
        if state not in self.states:
            raise StateNotFoundError(state)

    def leave(self, domain: str, model_id: str) -> None:
        for (held_domain, _), ids in self.held.items():
            if held_domain == domain and model_id in ids:
                ids.remove(model_id)


class RegistryMachine(RuleBasedStateMachine):
    """Three writers, one of them without an index on disk, act on one store."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.storage = MemoryStorage()
        index = Path(self.folder.name)
        self.writers = [
            open_registry(self.storage, index),
            open_registry(self.storage, index),
            open_registry(self.storage),
        ]
        self.oracle = Oracle()

    def teardown(self) -> None:
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

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS)
    def upload(self, writer: int, domain: str, model_id: str) -> None:
        def ideal() -> None:
            if model_id in self.oracle.uploads.get(domain, []):
                raise ModelExistsException(domain, model_id)
            self.oracle.uploads.setdefault(domain, []).append(model_id)
            self.oracle.ever.add((domain, model_id))

        def real() -> None:
            key = f"archives/{len(list(self.storage.list('')))}"
            record = record_of(domain, model_id)
            self.writers[writer].add(domain, model_id, record, {"key": key})

        self.same(real, ideal)

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS)
    def delete(self, writer: int, domain: str, model_id: str) -> None:
        def ideal() -> None:
            self.oracle.check(domain, model_id)
            self.oracle.uploads[domain].remove(model_id)
            self.oracle.leave(domain, model_id)

        self.same(lambda: removal.delete(self.writers[writer], domain, model_id), ideal)

    @rule(writer=WRITERS, state=STATES)
    def create_state(self, writer: int, state: str) -> None:
        self.writers[writer].states.create(state)
        if state not in self.oracle.states:
            self.oracle.states.append(state)

    @rule(writer=WRITERS, state=STATES)
    def delete_state(self, writer: int, state: str) -> None:
        def ideal() -> None:
            self.oracle.check_state(state)
            self.oracle.states.remove(state)
            self.oracle.held = {key: ids for key, ids in self.oracle.held.items() if key[1] != state}

        self.same(lambda: self.writers[writer].states.delete(state), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS, state=STATES)
    def set_state(self, writer: int, domain: str, model_id: str, state: str) -> None:
        def ideal() -> None:
            self.oracle.check_state(state)
            self.oracle.check(domain, model_id)
            ids = self.oracle.held.setdefault((domain, state), [])
            if model_id in ids:
                ids.remove(model_id)
            ids.append(model_id)

        self.same(lambda: self.writers[writer].states.set(domain, model_id, state), ideal)

    @rule(writer=WRITERS, domain=DOMAINS, model_id=IDS, state=STATES)
    def remove_state(self, writer: int, domain: str, model_id: str, state: str) -> None:
        def ideal() -> None:
            self.oracle.check_state(state)
            self.oracle.check(domain, model_id)
            ids = self.oracle.held.get((domain, state), [])
            if model_id in ids:
                ids.remove(model_id)

        self.same(lambda: self.writers[writer].states.remove(domain, model_id, state), ideal)

    @invariant()
    def every_reader_sees_what_the_oracle_says(self) -> None:
        for reader in [*self.writers, open_registry(self.storage)]:
            self.compare(reader)

    def compare(self, reader: Registry) -> None:
        oracle = self.oracle
        assert reader.states.names() == oracle.states
        assert reader.domains() == sorted(oracle.uploads)
        for domain, ids in oracle.uploads.items():
            assert reader.models(domain) == ids[::-1]
            for model_id in ("m1", "m2", "m3", "m 4"):
                assert reader.exists(domain, model_id) == (model_id in ids)
            for model_id in ids:
                expected = [state for state in oracle.states if model_id in oracle.held.get((domain, state), [])]
                assert reader.states.of(domain, model_id) == expected
            for state in oracle.states:
                held = oracle.held.get((domain, state), [])
                assert reader.models(domain, state) == [model_id for model_id in ids[::-1] if model_id in held]
                if held:
                    assert reader.find(domain, state_name=state).model_id == held[-1]
            if ids:
                assert reader.find(domain).model_id == ids[-1]


RegistryMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestRegistryEqualsItsOracle = RegistryMachine.TestCase
