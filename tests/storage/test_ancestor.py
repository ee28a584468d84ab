"""A store of operatorai/modelstore over every storage: its keys hold spaces and letters of all kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ancestor.helpers import Ancestor
from tests.servers import backends
from tests.servers.backends import Backend, Running


@pytest.mark.parametrize("backend", backends.where())
def test_an_old_store_is_adopted(backend: Backend, servers: Running, tmp_path: Path) -> None:
    """Its models load from where they lie, a second run finds nothing new, and no old object has changed."""
    storage = servers.storage(backend)
    ancestor = Ancestor(storage, root="elsewhere/prefix")
    ancestor.create_state("in shadow")
    ancestor.upload("fraud", "m1")
    ancestor.upload("emea/credit risk", "größe")
    ancestor.set_state("emea/credit risk", "größe", "in shadow")
    ancestor.upload("fraud", "m2")
    ancestor.delete("fraud", "m2")
    before = ancestor.contents()
    store = ancestor.open(tmp_path)
    report = store.adopt()
    assert report.problems == ()
    assert (report.models, report.states, report.moves) == (3, 1, 1)
    assert store.list_models("fraud") == ["m1"]
    assert store.load("fraud").read_text() == "m1"
    assert store.load("emea/credit risk", state="in shadow").read_text() == "größe"
    store.delete_model("fraud", "m1", skip_prompt=True, purge=True)
    store.gc()
    assert str(store.adopt()).endswith("nothing that is new")
    assert ancestor.contents() == before
