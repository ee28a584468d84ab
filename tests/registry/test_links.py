"""Links between models of one store: complete at the upload, followed at the load, never to another model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import (
    DomainNotFoundException,
    IntegrityError,
    ModelDeletedException,
    ModelNotFoundException,
)
from modelstore.folder import ModelFolder
from modelstore.managers import detection
from modelstore.managers.base import LoadRequest, ObjectManager, Saved
from modelstore.registry import links
from modelstore.storage.memory import MemoryStorage
from tests.registry.helpers import add, open_registry


class Patch:
    """An object that needs another model of the store."""

    def __init__(self, *needs: tuple[str, str], asks: tuple[str, str] | None = None) -> None:
        self.needs = list(needs)
        self.asks = asks


class PatchManager(ObjectManager):
    """Stores which models a patch needs, and loads them along."""

    name = "patches"
    claims = (f"{Patch.__module__}:Patch",)
    load_options = ("device",)

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        folder.add_bytes("patch.txt", b"a patch")
        asked = [list(each) for each in ([obj.asks] if obj.asks else obj.needs)]
        return Saved("text", {"asks": asked}, references=obj.needs)

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        return [request.load_model(domain, model_id) for domain, model_id in state["asks"]], request.device


@pytest.fixture
def patched(store: ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelStore:
    """A store that knows patches, with one model."""
    managers = detection.Managers([*detection.all_managers().by_name.values(), PatchManager()])
    monkeypatch.setattr(detection, "all_managers", lambda: managers)
    put(store, tmp_path, "bases", "a", "one")
    return store


def put(store: ModelStore, folder: Path, domain: str, model_id: str, text: str) -> None:
    """A model that is a file."""
    file = folder / f"{text}.txt"
    file.write_text(text)
    store.upload(domain, model_id=model_id, model=str(file))


def read(path: Any) -> str:
    """What such a model loads as."""
    return Path(path).read_text()


def test_a_link_notes_which_content_it_means() -> None:
    """The record gets the digest of the model that bears the id at the upload."""
    registry = open_registry(MemoryStorage())
    add(registry, "bases", "a")
    model = registry.find("bases", "a")
    model.archive["content_digest"] = "abc"
    registry.find = lambda *_, **__: model  # type: ignore[method-assign]
    entries = [{"name": "x", "references": [{"domain": "bases", "model_id": "a"}]}, {"name": "y"}]
    links.complete(registry, entries)
    assert entries[0]["references"] == [{"domain": "bases", "model_id": "a", "content_digest": "abc"}]
    assert links.follow(registry, entries[0]["references"][0], "it", False) is model
    with pytest.raises(IntegrityError, match="another one by now"):
        links.follow(registry, {**entries[0]["references"][0], "content_digest": "other"}, "it", False)


def test_a_linked_model_loads_along(patched: ModelStore) -> None:
    """A manager is given what its upload referred to, as `load` would give it."""
    info = patched.upload("patches", model=Patch(("bases", "a")))
    (base,), device = patched.load("patches", info.model_id)
    assert (read(base), device) == ("one", None)
    assert info["model"]["managers"][0]["references"][0]["content_digest"]


def test_links_lead_through_other_links(patched: ModelStore) -> None:
    """A linked model may need another one itself."""
    patched.upload("patches", model_id="first", model=Patch(("bases", "a")))
    patched.upload("patches", model_id="second", model=Patch(("patches", "first"), ("bases", "a")))
    (first, base), _ = patched.load("patches", "second")
    assert read(first[0][0]) == read(base) == "one"


@pytest.mark.parametrize(
    ("needs", "error"),
    [(("bases", "b"), ModelNotFoundException), (("nowhere", "a"), DomainNotFoundException)],
)
def test_a_link_to_nothing_is_refused_at_the_upload(patched: ModelStore, needs: Any, error: Any) -> None:
    """Neither model nor domain has to be guessed later, and nothing is stored."""
    with pytest.raises(error):
        patched.upload("patches", model=Patch(needs))
    with pytest.raises(DomainNotFoundException):
        patched.list_models("patches")


def test_a_model_cannot_be_linked_to_itself(patched: ModelStore) -> None:
    """There are no circles: a link leads to what was there before."""
    with pytest.raises((ModelNotFoundException, DomainNotFoundException)):
        patched.upload("patches", model_id="x", model=Patch(("patches", "x")))


def test_a_deleted_model_is_named(patched: ModelStore) -> None:
    """What a model needs may be deleted; loading it then says so."""
    patched.upload("patches", model_id="p", model=Patch(("bases", "a")))
    patched.delete_model("bases", "a", skip_prompt=True)
    with pytest.raises(ModelDeletedException, match="'a'"):
        patched.load("patches", "p")


def test_another_model_of_the_same_id_is_not_taken(patched: ModelStore, tmp_path: Path) -> None:
    """An id is free after a deletion, so its new bearer is told from the old one; the same content is as good."""
    patched.upload("patches", model_id="p", model=Patch(("bases", "a")))
    patched.delete_model("bases", "a", skip_prompt=True)
    put(patched, tmp_path, "bases", "a", "two")
    with pytest.raises(IntegrityError, match="another one by now"):
        patched.load("patches", "p")
    patched.delete_model("bases", "a", skip_prompt=True)
    put(patched, tmp_path, "bases", "a", "one")
    assert read(patched.load("patches", "p")[0][0]) == "one"


def test_a_manager_reaches_no_other_models(patched: ModelStore, tmp_path: Path) -> None:
    """A state that asks for a model beside those that the record refers to is refused."""
    put(patched, tmp_path, "bases", "secret", "secret")
    patched.upload("patches", model_id="p", model=Patch(("bases", "a"), asks=("bases", "secret")))
    with pytest.raises(IntegrityError, match="does not refer"):
        patched.load("patches", "p")


def test_a_link_is_followed_offline(patched: ModelStore) -> None:
    """What is held locally, links among it, loads without the store."""
    patched.upload("patches", model_id="p", model=Patch(("bases", "a")))
    patched.load("patches", "p")
    assert read(patched.load("patches", "p", offline=True)[0][0]) == "one"
