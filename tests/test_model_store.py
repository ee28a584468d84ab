"""The facade: what a user does with a store in a folder, from upload to gc, with real scikit-learn models."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import textwrap
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import modelstore
from modelstore import ModelStore
from modelstore.exceptions import (
    ConfirmationRequiredError,
    DomainNotFoundException,
    InvalidArgumentError,
    InvalidNameError,
    ModelDeletedException,
    ModelExistsException,
    ModelNotFoundException,
    ModelStoreError,
    NotAFolderError,
    OfflineError,
    StateNotFoundError,
    StoreNotFoundError,
    UnknownKeywordError,
    UnsupportedObjectError,
)

np = pytest.importorskip("numpy")
pytest.importorskip("sklearn")
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

X, Y = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def clf() -> Any:
    return LogisticRegression(max_iter=500).fit(X, Y)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> ModelStore:
    return ModelStore.from_file_system(root_directory=str(root), create_directory=True)


def test_the_main_job(store: ModelStore, clf: Any, tmp_path: Path) -> None:
    """A model goes up with all that is known about it and comes back equal, by id and as the latest."""
    (tmp_path / "predictions.csv").write_text("1,2,3\n")
    info = store.upload(
        "fraud",
        model=clf,
        extra_files=[str(tmp_path / "predictions.csv")],
        extra_metadata={"ticket": 42},
        metrics={"auc": 0.93, "n": np.int64(3), "loss": np.float32(0.5)},
        tags={"team": "fincrime"},
        note="SMOTE: recall up",
        X_train=X,
        y_train=Y,
    )
    assert info["model"]["model_id"] == info.model_id
    assert info == store.get_model_info("fraud", info.model_id) == store.get_domain("fraud")
    assert json.loads(json.dumps(info)) == info
    assert isinstance(info, dict)
    assert info["model"]["model_type"] == {"library": "sklearn", "type": "LogisticRegression", "models": None}
    assert info["model"]["parameters"]["max_iter"] == 500
    assert info["model"]["metrics"] == {"auc": 0.93, "n": 3, "loss": 0.5}
    assert info["model"]["tags"] == {"team": "fincrime"}
    assert info["model"]["data"]["features"]["shape"] == [150, 4]
    assert info["model"]["data"]["labels"]["shape"] == [150]
    assert info["model"]["data"]["labels"]["values"] == {"0": 50, "1": 50, "2": 50}
    assert info["extra"] == {"ticket": 42}
    assert info["modelstore"] == modelstore.__version__
    assert info.created.tzinfo == timezone.utc
    assert info["code"]["dependencies"]["scikit-learn"]
    for loaded in (store.load("fraud", info.model_id), store.load("fraud")):
        assert type(loaded) is LogisticRegression
        assert (loaded.predict_proba(X) == clf.predict_proba(X)).all()
    path = store.download(str(tmp_path / "out"), "fraud", info.model_id)
    assert path == str(tmp_path / "out")
    assert (Path(path) / "extras" / "predictions.csv").read_text() == "1,2,3\n"
    assert "scikit-learn==" in (Path(path) / "requirements.txt").read_text()
    assert "SMOTE" in (Path(path) / "README.md").read_text()
    manifest = json.loads((Path(path) / "modelstore.json").read_text())
    assert manifest["model"]["metrics"]["auc"] == 0.93


def test_listings(store: ModelStore, clf: Any) -> None:
    """Domains by name; ids newest first; the latest model's record stands for the domain."""
    ids = [store.upload("fraud", model=clf).model_id for _ in range(3)]
    store.upload("churn", model=clf, model_id="one")
    assert store.list_domains() == ["churn", "fraud"]
    assert store.list_models("fraud") == ids[::-1]
    assert store.get_domain("fraud").model_id == ids[-1]
    assert store.model_exists("fraud", ids[0])
    assert not store.model_exists("fraud", "one")
    assert not store.model_exists("nothing", "one")
    with pytest.warns(DeprecationWarning, match="list_models"):
        assert store.list_versions("churn") == ["one"]


def test_states(store: ModelStore, clf: Any) -> None:
    """States are created, set, listed, loaded by, removed and deleted; one made again is empty."""
    old = store.upload("fraud", model=clf).model_id
    new = store.upload("fraud", model=clf).model_id
    assert store.list_model_states() == []
    store.create_model_state("production")
    store.create_model_state("production")
    store.create_model_state("in shadow/á")
    assert store.list_model_states() == ["production", "in shadow/á"]
    store.set_model_state("fraud", new, "production")
    store.set_model_state("fraud", old, "production")
    assert store.list_models("fraud", state_name="production") == [new, old]
    assert store.load("fraud", state="production").get_params() == clf.get_params()
    assert store._registry.find("fraud", state_name="production").model_id == old  # the last that was set
    assert store.get_model_states("fraud", old) == ["production"]
    store.remove_model_state("fraud", old, "production")
    store.remove_model_state("fraud", old, "production")
    assert store.get_model_states("fraud", old) == []
    with pytest.raises(ConfirmationRequiredError):
        store.delete_model_state("production")
    store.delete_model_state("production", skip_prompt=True)
    with pytest.raises(StateNotFoundError):
        store.list_models("fraud", "production")
    store.create_model_state("production")
    assert store.list_models("fraud", "production") == []
    with pytest.raises(ModelNotFoundException):
        store.load("fraud", state="production")
    with pytest.raises(ValueError, match="created|create_model_state"):
        store.set_model_state("fraud", old, "prod")
    with pytest.raises(ValueError, match="cannot be used"):
        store.create_model_state("modelstore-deleted")


def test_deletion(store: ModelStore, clf: Any) -> None:
    """A deleted model is gone from every listing, its id is free, and the one before is the latest again."""
    first = store.upload("fraud", model=clf, model_id="first").model_id
    store.create_model_state("production")
    store.upload("fraud", model=clf, model_id="second")
    store.set_model_state("fraud", "second", "production")
    with pytest.raises(ConfirmationRequiredError):
        store.delete_model("fraud", "second")
    store.delete_model("fraud", "second", skip_prompt=True)
    assert not store.model_exists("fraud", "second")
    assert store.list_models("fraud") == store.list_models("fraud") == [first]
    assert store.list_models("fraud", "production") == []
    assert store.get_domain("fraud").model_id == first
    for call in (store.get_model_info, store.load, store.get_model_states):
        with pytest.raises(ModelDeletedException):
            call("fraud", "second")
    with pytest.raises(ModelDeletedException):
        store.delete_model("fraud", "second", skip_prompt=True)
    again = store.upload("fraud", model=clf, model_id="second", note="again")
    assert store.get_model_info("fraud", "second")["model"]["note"] == "again" == again.note
    assert store.get_model_states("fraud", "second") == []


def test_deletion_asks_in_a_terminal(store: ModelStore, clf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With somebody there to ask, the answer decides."""
    store.upload("fraud", model=clf, model_id="a")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    store.delete_model("fraud", "a")
    assert store.model_exists("fraud", "a")
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    store.delete_model("fraud", "a")
    assert not store.model_exists("fraud", "a")


def test_purge_frees_the_bytes_at_once(store: ModelStore, clf: Any, root: Path) -> None:
    """The archive of a purged model is gone when delete_model returns; that of another deleted one is kept."""
    for name in ("purged", "deleted"):
        store.upload("fraud", model=clf, model_id=name)
    store.delete_model("fraud", "purged", skip_prompt=True, purge=True)
    store.delete_model("fraud", "deleted", skip_prompt=True)
    archives = list(root.rglob("artifacts.*"))
    assert len(archives) == 1
    assert "deleted" in archives[0].parts
    report = store.gc(dry_run=True)
    assert report.garbage == ()
    later = store.storage.clock() + timedelta(days=8)
    store.storage.clock = lambda: later  # type: ignore[method-assign]
    assert [item.reason for item in store.gc(dry_run=True).garbage] == ["deleted"]
    assert archives[0].exists()


@pytest.mark.parametrize(
    "domain", ["a b", "a/b", "..", "../../up", ".hidden", "modèle", "名前", "C:\\x", "%2e%2e", "versions"]
)
def test_domains_and_states_hold_any_text(store: ModelStore, clf: Any, root: Path, domain: str) -> None:
    """Odd names stay names: nothing is written outside of the store, and they come back as typed."""
    store.upload(domain, model=clf, model_id=domain)
    store.create_model_state(domain)
    store.set_model_state(domain, domain, domain)
    assert store.list_domains() == [domain]
    assert store.list_models(domain, domain) == [domain]
    assert store.list_model_states() == [domain]
    assert (store.load(domain, state=domain).predict(X) == clf.predict(X)).all()
    assert [path.name for path in root.parent.iterdir()] == ["models"]


def test_bad_input_is_refused_before_anything_is_written(
    store: ModelStore, clf: Any, root: Path, tmp_path: Path
) -> None:
    """Each mistake has its own clear error, and the folder is as empty as before."""
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UnknownKeywordError, "did you mean 'model'", {"modle": clf}),
        (UnknownKeywordError, "extra_metdata", {"model": clf, "extra_metdata": {}}),
        (TypeError, "unexpected keyword", {"model": clf, "colour": "red"}),
        (UnsupportedObjectError, "builtins:object", {"model": object()}),
        (UnsupportedObjectError, "no file or folder", {"model": str(tmp_path / "missing.bin")}),
        (ValueError, "nothing to store", {}),
        (InvalidArgumentError, "missing.csv", {"model": clf, "extra_files": ["missing.csv"]}),
        (InvalidArgumentError, "does not exist", {"model": clf, "extra_files": "missing.csv"}),
        (InvalidArgumentError, "metric", {"model": clf, "metrics": {"auc": "good"}}),
        (InvalidArgumentError, "mapping", {"model": clf, "metrics": [1]}),
        (TypeError, "JSON", {"model": clf, "extra_metadata": {"a": object()}}),
        (InvalidArgumentError, "tags", {"model": clf, "tags": "x"}),
        (InvalidArgumentError, "note", {"model": clf, "note": 7}),
        (InvalidArgumentError, "no manager", {"model": clf, "manager": "sklaern"}),
        (UnsupportedObjectError, "weights_only", {"model": clf, "weights_only": True}),
    ]
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=message) as caught:
            store.upload("fraud", **arguments)
        assert isinstance(caught.value, ModelStoreError), message
    for domain in ("", "   ", "x" * 300):
        with pytest.raises(InvalidNameError):
            store.upload(domain, model=clf)
    assert list(root.iterdir()) == []
    assert store.list_domains() == []


def test_missing_things_have_their_errors(store: ModelStore, clf: Any) -> None:
    """Unknown domains, models and states are told apart."""
    with pytest.raises(DomainNotFoundException):
        store.get_domain("fraud")
    with pytest.raises(DomainNotFoundException):
        store.list_models("fraud")
    store.upload("fraud", model=clf, model_id="a")
    with pytest.raises(KeyError):
        store.get_model_info("fraud", "b")
    with pytest.raises(ModelNotFoundException):
        store.load("fraud", "b")
    with pytest.raises(DomainNotFoundException, match="did you mean 'fraud'"):
        store.load("fruad", "b")
    with pytest.raises(ModelExistsException):
        store.upload("fraud", model=clf, model_id="a")
    with pytest.raises(StateNotFoundError):
        store.load("fraud", state="production")
    store.delete_model("fraud", "a", skip_prompt=True)
    with pytest.raises(ModelNotFoundException):
        store.get_domain("fraud")
    assert store.list_models("fraud") == []


def test_opening(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clf: Any) -> None:
    """A folder is named by argument or environment; what cannot be a store is an error that says so."""
    with pytest.raises(FileNotFoundError):
        ModelStore.from_file_system(str(root))
    with pytest.raises(StoreNotFoundError, match="above"):
        ModelStore.from_file_system(str(root / "a" / "b"), create_directory=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        ModelStore.from_file_system(tmp_path / "file")
    with pytest.raises(NotAFolderError):
        ModelStore.from_file_system(tmp_path / "file")
    monkeypatch.delenv("MODEL_STORE_ROOT_PREFIX", raising=False)
    with pytest.raises(ValueError, match="MODEL_STORE_ROOT_PREFIX"):
        ModelStore.from_file_system()
    monkeypatch.setenv("MODEL_STORE_ROOT_PREFIX", str(tmp_path))
    ModelStore.from_file_system().upload("fraud", model=clf, model_id="a")
    assert ModelStore.from_file_system(tmp_path).list_models("fraud") == ["a"]


def test_several_objects(store: ModelStore, clf: Any) -> None:
    """Objects of one library come back by keyword."""
    scaler = StandardScaler().fit(X)
    info = store.upload("fraud", model=clf, preprocessor=scaler)
    loaded = store.load("fraud", info.model_id)
    assert set(loaded) == {"model", "preprocessor"}
    assert (loaded["preprocessor"].transform(X) == scaler.transform(X)).all()


def test_several_libraries(store: ModelStore, clf: Any) -> None:
    """Objects of several libraries come back by library, and the record lists their types as the ancestor did."""
    xgboost = pytest.importorskip("xgboost")
    booster = xgboost.XGBClassifier(n_estimators=3).fit(X, Y)
    info = store.upload("fraud", model=booster, explainer=clf)
    assert info["model"]["model_type"]["library"] == "multiple-models"
    assert [m["library"] for m in info["model"]["model_type"]["models"]] == ["sklearn", "xgboost"]
    loaded = store.load("fraud", info.model_id)
    assert (loaded["sklearn"].predict(X) == clf.predict(X)).all()
    assert (loaded["xgboost"].predict_proba(X) == booster.predict_proba(X)).all()
    assert set(info["model"]["parameters"]) == {"sklearn", "xgboost"}


def test_files_and_folders(store: ModelStore, tmp_path: Path) -> None:
    """A file or folder goes up as it is; `files` lists the archive and `include` fetches some of it."""
    folder = tmp_path / "net"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights.bin").write_bytes(bytes(1000))
    info = store.upload("nets", model=str(folder))
    assert info.library == "model_file"
    names = {file.name: file.size for file in store.files("nets", info.model_id)}
    assert names["net/sub/weights.bin"] == 1000
    path = Path(store.download(tmp_path / "some", "nets", include="net/*.json"))
    assert sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()) == ["net/config.json"]
    with pytest.raises(InvalidArgumentError, match=r"\*\.csv"):
        store.download(tmp_path / "none", "nets", include="*.csv")
    loaded = store.load("nets")
    assert (loaded / "sub" / "weights.bin").read_bytes() == bytes(1000)


def test_a_download_replaces_files_and_leaves_others(store: ModelStore, clf: Any, tmp_path: Path) -> None:
    """Downloading twice into one folder is no error; files that are not the model's stay as they are."""
    store.upload("fraud", model=clf, model_id="a", note="first")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    store.download(out, "fraud", "a")
    (out / "README.md").write_text("edited")
    store.download(out, "fraud", "a")
    assert "first" in (out / "README.md").read_text()
    assert (out / "mine.txt").read_text() == "mine"
    assert not [path for path in out.iterdir() if path.name.startswith(".modelstore-")]


def test_editing_a_download_or_training_a_loaded_model_leaves_the_cache_as_it_was(
    store: ModelStore, clf: Any, tmp_path: Path
) -> None:
    """What a user does with what they got never reaches what the next load gives."""
    info = store.upload("fraud", model=clf)
    first = store.load("fraud")
    first.coef_[:] = 0
    first.fit(X[:100], Y[:100])
    path = Path(store.download(tmp_path / "out", "fraud"))
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(b"edited")
    assert (store.load("fraud", info.model_id).predict_proba(X) == clf.predict_proba(X)).all()
    assert (store.load("fraud", info.model_id, verify="full").predict_proba(X) == clf.predict_proba(X)).all()


def test_extras_is_a_deprecated_spelling(store: ModelStore, clf: Any, tmp_path: Path) -> None:
    """extras= still works, warns, and takes a single path too."""
    (tmp_path / "a.txt").write_text("a")
    with pytest.warns(DeprecationWarning, match="extra_files"):
        info = store.upload("fraud", model=clf, extras=str(tmp_path / "a.txt"))
    assert "extras/a.txt" in [file.name for file in store.files("fraud", info.model_id)]


def test_offline(store: ModelStore, clf: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was loaded once loads with the store out of reach; one that never was is an OfflineError."""
    store.upload("fraud", model=clf, model_id="a")
    store.upload("fraud", model=clf, model_id="b")
    store.load("fraud", "a")
    store.list_models("fraud")
    root.rename(tmp_path / "unplugged")
    root.mkdir()
    offline = ModelStore.from_file_system(root)
    assert (offline.load("fraud", "a", offline=True).predict(X) == clf.predict(X)).all()
    monkeypatch.setenv("MODELSTORE_OFFLINE", "1")
    assert (offline.load("fraud", "a").predict(X) == clf.predict(X)).all()
    assert Path(offline.download(tmp_path / "out", "fraud", "a"), "README.md").exists()
    with pytest.raises(OfflineError):
        offline.load("fraud", "b")


def test_a_store_pickles(store: ModelStore, clf: Any) -> None:
    """A store can be sent to another process (joblib, Spark)."""
    store.upload("fraud", model=clf, model_id="a")
    assert pickle.loads(pickle.dumps(store)).list_models("fraud") == ["a"]


def test_the_record_reads_as_attributes_and_as_a_table(store: ModelStore, clf: Any) -> None:
    """Attributes are the keys; an unknown one is an AttributeError that names those there are; HTML is escaped."""
    info = store.upload("fraud", model=clf, note="<b>bold</b>", metrics={"auc": 0.5})
    assert info.metrics.auc == 0.5
    assert info.code.runtime == f"python:{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    with pytest.raises(AttributeError, match="model_id"):
        _ = info.modelid
    assert "&lt;b&gt;" in info._repr_html_()
    assert "<b>" not in info._repr_html_()
    assert pickle.loads(pickle.dumps(info)) == info


NOTEBOOK = """
    import sys
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.datasets import load_iris
    from modelstore import ModelStore

    FACTOR = 3.0

    def times(X):
        return X * FACTOR

    class Shift(BaseEstimator, TransformerMixin):
        def __init__(self, by=1.0):
            self.by = by
        def fit(self, X, y=None):
            return self
        def transform(self, X):
            return times(X) + self.by

    X, y = load_iris(return_X_y=True)
    steps = [Shift(2.0), FunctionTransformer(times), FunctionTransformer(lambda X: X - 1)]
    model = make_pipeline(*steps, LogisticRegression(max_iter=2000)).fit(X, y)
    store = ModelStore.from_file_system(sys.argv[1], create_directory=True)
    info = store.upload("notebook", model=model)
    print(info.model_id, model.predict_proba(X).sum(axis=0).tobytes().hex())
"""

SERVICE = """
    import sys
    from sklearn.datasets import load_iris
    from modelstore import ModelStore
    X, y = load_iris(return_X_y=True)
    model = ModelStore.from_file_system(sys.argv[1]).load("notebook")
    print(type(model).__name__, model.predict_proba(X).sum(axis=0).tobytes().hex())
"""


def test_what_was_defined_in_a_notebook_loads_where_it_was_never_seen(root: Path, tmp_path: Path) -> None:
    """A transformer, a function and a lambda of __main__ go up in one process and come back in another."""

    def run(name: str, code: str) -> list[str]:
        (tmp_path / name).write_text(textwrap.dedent(code))
        command = [sys.executable, str(tmp_path / name), str(root)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()

    saved, loaded = run("notebook.py", NOTEBOOK), run("service.py", SERVICE)
    assert loaded == ["Pipeline", saved[1]]
    with pytest.raises(PermissionError):
        ModelStore.from_file_system(root).load("notebook", allow_pickle=False)
    with pytest.raises(PermissionError):
        ModelStore.from_file_system(root, allow_pickle=False).load("notebook")
