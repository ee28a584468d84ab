"""A probe for each Keras case, by a name of its own, as another process finds functions by name only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelstore.testing import Case
from tests.managers import tf_cases, tf_layers
from tests.managers.tf_helpers import fingerprint

CASES = {name: case for name, case in tf_cases.CASES.items() if name != "a graph"} | tf_layers.CASES


def _probe(name: str, at: int) -> Callable[[Any], Any]:
    def observe(obj: Any) -> Any:
        _, inputs, targets = CASES[name]
        return fingerprint(obj, inputs, targets)

    observe.__name__ = observe.__qualname__ = f"observe_{at}"
    globals()[observe.__name__] = observe
    return observe


_PROBES = {name: _probe(name, at) for at, name in enumerate(CASES)}


def _given(build: Callable[[], Any]) -> Callable[[], Mapping[str, Any]]:
    return lambda: {"model": build()}


def cases() -> dict[str, Case]:
    """The uploads of the contract."""
    return {name: Case(_given(build), _PROBES[name]) for name, (build, _, _) in CASES.items()}
