"""The ancestor's keys, below the root that both libraries share::

    operatorai-model-store/domains/<domain>.json                      the metadata of the latest upload
    operatorai-model-store/model_states/<state>.json                  a state
    operatorai-model-store/<domain>/versions/<id>.json                the metadata of a model
    operatorai-model-store/<domain>/versions/<state>/<id>.json        a copy of it: the model is in that state
    operatorai-model-store/<domain>/versions/modelstore-deleted/…     a copy of it: the model was deleted
    operatorai-model-store/<domain>/<time>/<id>/artifacts.tar.gz      the archive

Nothing in them is encoded, so a domain `a/b` lies in a folder of `a`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from modelstore.registry.keys import ANCESTOR
from modelstore.storage.base import ObjectInfo, Storage

DELETED = "modelstore-deleted"
"""The state of deleted models."""

_JSON = ".json"
_VERSIONS, _DOMAINS, _STATES = "versions", "domains", "model_states"
_SHORTEST_STATE = 3  # the ancestor takes and lists no shorter names


@dataclass
class DomainFiles:
    """What lies there of one domain."""

    models: dict[str, ObjectInfo] = field(default_factory=dict)
    """The metadata of its models, by id."""
    deleted: dict[str, ObjectInfo] = field(default_factory=dict)
    """The marks of deleted models, by id."""
    holds: dict[tuple[str, str], ObjectInfo] = field(default_factory=dict)
    """The copies that say which model is in which state, by state and id."""
    latest: ObjectInfo | None = None


@dataclass
class Layout:
    """A whole store of the ancestor's."""

    domains: dict[str, DomainFiles] = field(default_factory=dict)
    states: dict[str, ObjectInfo] = field(default_factory=dict)
    others: dict[str, ObjectInfo] = field(default_factory=dict)
    """All that is no metadata, by key: the archives."""


@dataclass(frozen=True)
class Place:
    """What a key says: the metadata of a model, or with a state a copy of it."""

    domain: str
    model_id: str
    state: str | None = None


def read_layout(storage: Storage) -> Layout:
    """All that lies there. Costs one listing."""
    found = list(storage.list(ANCESTOR))
    latest = {info.key for info in found if info.key.startswith(f"{ANCESTOR}{_DOMAINS}/")}
    layout = Layout()
    for info in found:
        parts = info.key[len(ANCESTOR) :].split("/")
        if parts[0] == _STATES and len(parts) == 2 and parts[1].endswith(_JSON):
            name = parts[1][: -len(_JSON)]
            if len(name) >= _SHORTEST_STATE and name != DELETED:
                layout.states[name] = info
            continue
        place = parse(info.key, latest)
        if place is not None:
            _put(layout, place, info)
        elif parts[0] == _DOMAINS and parts[-1].endswith(_JSON):
            _files(layout, "/".join(parts[1:])[: -len(_JSON)]).latest = info
        else:
            layout.others[info.key] = info
    return layout


def parse(key: str, latest: Iterable[str] = ()) -> Place | None:
    """What a key of metadata says; None for any other.

    Args:
        key: the key.
        latest: the keys below `domains/`, which tell a domain `a/versions` from a state `versions` of the domain `a`.
    """
    parts = key[len(ANCESTOR) :].split("/")
    if not key.startswith(ANCESTOR) or not parts[-1].endswith(_JSON) or len(parts) < 3:
        return None
    model_id = parts[-1][: -len(_JSON)]
    if parts[-2] == _VERSIONS:
        domain = "/".join(parts[:-2])
        if len(parts) > 3 and parts[-3] == _VERSIONS and _latest(domain) not in latest:
            return Place(_normal("/".join(parts[:-3])), model_id, _VERSIONS)
        if domain != _DOMAINS:  # which the ancestor takes for no domain
            return Place(_normal(domain), model_id)
    elif len(parts) > 3 and parts[-3] == _VERSIONS:
        return Place(_normal("/".join(parts[:-3])), model_id, parts[-2])
    return None


def _latest(domain: str) -> str:
    return f"{ANCESTOR}{_DOMAINS}/{domain}{_JSON}"


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _files(layout: Layout, domain: str) -> DomainFiles:
    return layout.domains.setdefault(_normal(domain), DomainFiles())


def _put(layout: Layout, place: Place, info: ObjectInfo) -> None:
    files = _files(layout, place.domain)
    if place.state is None:
        files.models[place.model_id] = info
    elif place.state == DELETED:
        files.deleted[place.model_id] = info
    else:
        files.holds[place.state, place.model_id] = info


def archive_key(told: object, domain: str, model_id: str, others: Iterable[str]) -> str | None:
    """The key of an archive, relative to our root, from where the metadata says that it lies.

    What they say starts at the root of a file system or bucket, or at that of another machine from which the store was
    copied, and on Windows it has backslashes. Only what lies in the ancestor's own tree is taken.

    Args:
        told: `path` or `prefix` of the metadata.
        domain: of the model.
        model_id: of the model.
        others: the keys that are there.
    """
    if not isinstance(told, str):
        return None
    parts = told.replace("\\", "/").split("/")
    starts = [at for at, part in enumerate(parts) if f"{part}/" == ANCESTOR]
    candidates = ["/".join(parts[at:]) for at in starts]
    there = next((key for key in candidates if key in others), None)
    if there is not None:
        return there
    # Not there any more; where it lay is part of what is known of it all the same.
    depth = len(domain.split("/")) + 4
    usual = (key for key in candidates if len(key.split("/")) == depth and key.split("/")[-2] == model_id)
    return next((key for key in usual if not {"", ".", ".."} & set(key.split("/"))), None)
