"""The life of a store, the same over every storage: what holds in a folder holds in a bucket."""

from __future__ import annotations

import gzip
import importlib.util
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from modelstore import ModelStore
from modelstore.exceptions import ModelDeletedException, ModelExistsException, ModelNotFoundException
from modelstore.registry import keys
from modelstore.registry.events import UPLOADED, Event, digest, parse_event
from modelstore.registry.gc import collect
from modelstore.storage.base import Created, Storage
from tests.registry.helpers import record_of
from tests.servers import backends
from tests.servers.backends import Backend, Running

MODELS = 1500
LATER = timedelta(minutes=-5)
"""A time of grace that lies ahead, so that gc takes what was deleted a moment ago."""

over_each = pytest.mark.parametrize("backend", backends.where())
over_each_shared = pytest.mark.parametrize("backend", backends.where(lambda backend: backend.shared))


class Machine:
    """A machine with an empty cache: nothing that it knows of the store comes from elsewhere than the storage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def open(self, storage: Storage) -> ModelStore:
        self._made += 1
        return ModelStore(storage, cache_directory=self._folder / f"machine-{self._made}")


@pytest.fixture
def machines(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def storage(backend: Backend, servers: Running) -> Storage:
    return servers.storage(backend)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(range(256)) * 40)
    return file


@over_each
def test_up_and_back(storage: Storage, machines: Machine, weights: Path, tmp_path: Path) -> None:
    """A model and its files go up and come back as they were, on the machine that sent them and on a fresh one."""
    store = machines.open(storage)
    sent = store.upload("fraud", "first", model=str(weights), extra_files=str(weights), metrics={"auc": 0.9}, note="é")
    other = machines.open(storage)
    assert other.list_domains() == ["fraud"]
    assert other.list_models("fraud") == ["first"]
    assert other.get_model_info("fraud", "first") == sent
    assert sent["storage"]["type"] == storage.kind
    for one in (store, other):
        assert one.load("fraud", "first").read_bytes() == weights.read_bytes()
        assert one.load("fraud", verify="full").read_bytes() == weights.read_bytes()
    downloaded = Path(other.download(tmp_path / "all", "fraud", "first"))
    assert (downloaded / "extras" / "weights.bin").read_bytes() == weights.read_bytes()
    part = Path(machines.open(storage).download(tmp_path / "part", "fraud", "first", include="*.json"))
    assert [path.name for path in part.rglob("*") if path.is_file()] == ["modelstore.json"]
    names = [file.name for file in other.files("fraud", "first")]
    assert "extras/weights.bin" in names
    with pytest.raises(ModelExistsException):
        other.upload("fraud", "first", model=str(weights))
    assert len(list(storage.list("archives/"))) == 1


@over_each
def test_large_models(storage: Storage, machines: Machine, tmp_path: Path) -> None:
    """A model of several parts that cannot be compressed is the same, bit by bit, when it is read in parallel."""
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(40 * 1024 * 1024 + 17))
    machines.open(storage).upload("big", "large", model=str(large))
    loaded = machines.open(storage).load("big", "large", verify="full")
    assert loaded.stat().st_size == large.stat().st_size
    assert loaded.read_bytes() == large.read_bytes()


@over_each
@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
def test_scikit_learn(storage: Storage, machines: Machine) -> None:
    """A trained classifier predicts the same after it has been in the storage."""
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression

    features, labels = make_classification(200, random_state=1)
    model = LogisticRegression().fit(features, labels)
    machines.open(storage).upload("fraud", model=model)
    loaded = machines.open(storage).load("fraud")
    assert (loaded.predict_proba(features) == model.predict_proba(features)).all()


@over_each
def test_names_of_all_kinds(storage: Storage, machines: Machine, weights: Path) -> None:
    """Domains and ids are any text: spaces, slashes, dots, percent signs and other alphabets come back as they were."""
    store = machines.open(storage)
    domains = ["fraud detection", "a/b/../c", ".hidden", "100%", "дата ☃", "a+b&c=d?e#f", "~tilde"]
    for domain in domains:
        store.upload(domain, f"id of {domain}", model=str(weights))
    other = machines.open(storage)
    assert other.list_domains() == sorted(domains)
    for domain in domains:
        assert other.list_models(domain) == [f"id of {domain}"]
        assert other.load(domain, f"id of {domain}").read_bytes() == weights.read_bytes()


@over_each
def test_states_and_deletion(storage: Storage, machines: Machine, weights: Path) -> None:
    """States, deletion, purging and gc mean the same as in a folder, and every machine sees them at once."""
    store, other = machines.open(storage), machines.open(storage)
    for number in range(5):
        store.upload("fraud", f"m{number}", model=str(weights))
    store.create_model_state("production")
    other.set_model_state("fraud", "m1", "production")
    other.set_model_state("fraud", "m2", "production")
    assert store.list_models("fraud", "production") == ["m2", "m1"]
    assert store.get_domain("fraud")["model"]["model_id"] == "m4"
    store.remove_model_state("fraud", "m2", "production")
    assert other.get_model_states("fraud", "m2") == []
    assert other.load("fraud", state="production").read_bytes() == weights.read_bytes()

    store.delete_model("fraud", "m3", skip_prompt=True)
    store.delete_model("fraud", "m4", skip_prompt=True, purge=True)
    assert other.list_models("fraud") == ["m2", "m1", "m0"]
    assert not other.model_exists("fraud", "m4")
    with pytest.raises(ModelDeletedException):
        other.load("fraud", "m4")
    with pytest.raises(ModelNotFoundException):
        other.load("fraud", "m9")
    assert len(list(storage.list("archives/"))) == 4, "what was purged is gone, what was deleted is not yet"

    storage.write("archives/fraud/m9/lost/artifacts.tar", [[b"of an upload that never ended"]])
    assert store.gc().garbage == (), "what is young is left alone"
    found = {(item.reason, item.key.split("/")[2]) for item in collect(other._registry, True, LATER).garbage}
    assert found == {("deleted", "m3"), ("orphan", "m9")}
    collect(other._registry, grace=LATER)
    assert [info.key.split("/")[2] for info in storage.list("archives/")] == ["m0", "m1", "m2"]

    store.upload("fraud", "m4", model=str(weights), note="again")
    assert other.get_model_info("fraud", "m4").note == "again"
    store.delete_model_state("production", skip_prompt=True)
    assert other.list_model_states() == []


@over_each
def test_many_models(storage: Storage, machines: Machine, weights: Path) -> None:
    """1,500 models: listed whole and in order by a fresh machine, from joined files and from events alike."""
    store = machines.open(storage)
    for number in range(4):
        store.upload("many", f"m{number}", model=str(weights))
    last_segment = MODELS // keys.SEGMENT * keys.SEGMENT
    extend_log(storage, "many", 5, last_segment)
    ids = [f"m{number}" for number in reversed(range(last_segment - 1))]
    assert machines.open(storage).list_models("many") == ids, "the last segment is not joined yet"

    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(
            lambda number: store.upload("many", f"m{number}", model=str(weights)), range(last_segment - 1, MODELS)
        )
        assert len(list(sent)) == MODELS - last_segment + 1
    joined = {keys.parse_compact_key(info.key) for info in storage.list(keys.compact_prefix("many"))}
    assert (1, keys.SEGMENT) in joined
    assert (last_segment - keys.SEGMENT + 1, last_segment) in joined
    for one in (store, machines.open(storage)):
        listed = one.list_models("many")
        assert len(listed) == MODELS
        assert set(listed) == {f"m{number}" for number in range(MODELS)}
        assert listed[-(last_segment - 1) :] == ids
        assert one.get_model_info("many", "m700")["model"]["model_id"] == "m700"
    assert machines.open(storage).load("many", "m3").read_bytes() == weights.read_bytes()


def extend_log(storage: Storage, domain: str, first: int, end: int) -> None:
    """Events first…end-1 of a log: uploads of models `m<number - 1>` whose archives are nowhere, with joined files."""
    raws = [storage.read(keys.event_key(domain, number)) for number in range(1, first)]
    known, previous = parse_event(raws[-1], domain, first - 1, None), digest(raws[-1])
    for number in range(first, end):
        name = f"m{number - 1}"
        body = {"model_id": name, "record": record_of(domain, name), "archive": {"key": f"archives/{number}"}}
        event = Event(domain, number, UPLOADED, known.time, "u", f"{number:032x}", previous, body)
        raws.append(event.encode())
        previous = digest(raws[-1])
    objects = [(keys.event_key(domain, number), raws[number - 1]) for number in range(first, end)]
    for start in range(1, end - keys.SEGMENT + 1, keys.SEGMENT):
        last = start + keys.SEGMENT - 1
        objects.append(
            (keys.compact_key(domain, start, last), gzip.compress(b"".join(raws[start - 1 : last]), mtime=0))
        )
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda made: storage.create(*made), objects)) == {Created.MADE}


@over_each
def test_a_pickled_store(storage: Storage, machines: Machine, weights: Path) -> None:
    """A store that went through pickle, as Spark and joblib send it, reads and writes the same models."""
    store = machines.open(storage)
    store.upload("fraud", "one", model=str(weights))
    copy: ModelStore = pickle.loads(pickle.dumps(store))
    assert copy.load("fraud", "one").read_bytes() == weights.read_bytes()
    copy.upload("fraud", "two", model=str(weights))
    assert store.list_models("fraud") == ["two", "one"]


@over_each_shared
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child(storage: Storage, machines: Machine, weights: Path) -> None:
    """A store works in a forked child, after its parent has used it and while the parent goes on using it."""
    store = machines.open(storage)
    store.upload("fraud", "parent", model=str(weights))
    store.load("fraud", "parent")

    def work() -> None:
        assert store.list_models("fraud") == ["parent"]
        assert machines.open(storage).load("fraud", "parent").read_bytes() == weights.read_bytes()
        store.upload("fraud", "child", model=str(weights))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: an SDK may have threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    store.upload("beside", "parent", model=str(weights))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.list_models("fraud") == ["child", "parent"]
    assert store.load("fraud", "child").read_bytes() == weights.read_bytes()
    assert store.list_models("beside") == ["parent"]
