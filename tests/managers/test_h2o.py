"""H2O: every estimator comes back in another server; no version but its own; nobody else's model is replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("h2o")

import h2o
from h2o.automl import H2OAutoML
from h2o.estimators import H2OGradientBoostingEstimator
from h2o.grid import H2OGridSearch

from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    MissingDependencyError,
    PickleNotAllowedError,
    RuntimeMismatchError,
    UnsupportedObjectError,
)
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.h2o import MODEL, PARAMETERS, H2OManager
from modelstore.managers.pickling import PicklePolicy
from tests.managers import h2o_cases
from tests.managers.contract import BuiltinContract
from tests.managers.h2o_cases import builders, classes, observe

if TYPE_CHECKING:
    from modelstore import ModelStore

PORT = 54555
"""Not the usual one, at which the other processes of these tests start their own servers."""


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """One server for all tests, which ends with them."""
    h2o_cases.connect(PORT)
    yield
    h2o.cluster().shutdown()


class TestH2O(BuiltinContract):
    """Every estimator that can be trained with what the open release allows."""

    manager = H2OManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {name: Case(_model(build), observe) for name, build in builders().items()}

    def test_every_estimator_is_there(self, tmp_path_factory: Any) -> None:
        """All that H2O lists were tried, but for the one that takes a MOJO, which the open release does not export, and
        those that are refused."""
        tried = {type(outcome.objects["model"]).__name__ for outcome in self._outcomes(tmp_path_factory).values()}
        refused = {"H2OHGLMEstimator", "H2OTargetEncoderEstimator"}
        assert classes() - tried <= {"H2OGenericEstimator", "H2OXGBoostEstimator", *refused}

    def test_predictions_are_compared(self, tmp_path_factory: Any) -> None:
        """Most models give rows of predictions; those that give none are known."""
        probes = {name: each.before["probe"] for name, each in self._outcomes(tmp_path_factory).items()}
        silent = {name for name, probe in probes.items() if isinstance(probe.get("rows", ""), str)}
        assert silent <= {"Aggregator", "ANOVA GLM", "infogram", "model selection", "word2vec"}


def _model(build: Any) -> Any:
    return lambda: {"model": build()}


def _gbm(**settings: Any) -> Any:
    model = H2OGradientBoostingEstimator(ntrees=2, max_depth=2, seed=1, **settings)
    model.train(x=h2o_cases.X, y="answer", training_frame=h2o_cases.frame())
    return model


def _store(model: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = H2OManager().save({"model": model}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _load(folder: Path, state: Mapping[str, Any], pickle: bool = True) -> Any:
    return H2OManager().load(LoadRequest(folder, state, ("model",), PicklePolicy(pickle)))


def test_the_file_is_what_h2o_itself_reads(tmp_path: Path) -> None:
    """`model.bin` opens with `h2o.upload_model`."""
    model = _gbm()
    _store(model, tmp_path)
    before = observe(model)["rows"]
    h2o.remove(model.model_id)
    assert observe(h2o.upload_model(str(tmp_path / MODEL)))["rows"] == before


def test_another_version_is_refused_before_the_server_sees_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names both versions and what to install."""
    saved = _store(_gbm(), tmp_path)
    monkeypatch.setattr(h2o, "upload_model", lambda path: pytest.fail("it was sent"))
    with pytest.raises(
        RuntimeMismatchError, match=r"saved with H2O 3\.30\.0\.1.*pip install h2o==3\.30\.0\.1"
    ) as caught:
        _load(tmp_path, {**saved.state, "version": "3.30.0.1"})
    assert caught.value.saved == "3.30.0.1"


def test_nothing_is_sent_where_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binary form can run code in the server, so the policy is asked first."""
    saved = _store(_gbm(), tmp_path)
    assert saved.pickled == [MODEL]
    monkeypatch.setattr(h2o, "upload_model", lambda path: pytest.fail("it was sent"))
    with pytest.raises(PickleNotAllowedError):
        _load(tmp_path, saved.state, pickle=False)


def test_another_model_of_the_same_id_is_not_replaced(tmp_path: Path) -> None:
    """A model that was trained anew under the id stays, and the error says how to make room."""
    saved = _store(_gbm(model_id="shared"), tmp_path)
    again = _gbm(model_id="shared")
    before = observe(again)["rows"]
    with pytest.raises(InvalidArgumentError, match=r"h2o\.remove\('shared'\)"):
        _load(tmp_path, saved.state)
    assert observe(h2o.get_model("shared"))["rows"] == before
    h2o.remove("shared")
    assert _load(tmp_path, saved.state).model_id == "shared"


def test_a_model_that_the_server_holds_is_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading twice gives two handles of one model."""
    saved = _store(_gbm(), tmp_path)
    monkeypatch.setattr(h2o, "upload_model", lambda path: pytest.fail("it was sent"))
    assert _load(tmp_path, saved.state).model_id == _load(tmp_path, saved.state).model_id


def _automl() -> Any:
    return H2OAutoML(max_models=1)


def _grid() -> Any:
    return H2OGridSearch(H2OGradientBoostingEstimator, {"ntrees": [1, 2]})


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (_automl, "automl.leader"),
        (_grid, r"grid\.models\[0\]"),
        (lambda: H2OGradientBoostingEstimator(ntrees=3), "is not trained"),
        (h2o_cases.encoder, "work in another server"),
        (h2o_cases.hierarchical, "work in another server"),
    ],
)
def test_what_cannot_be_stored_is_refused(build: Any, says: str, tmp_path: Path) -> None:
    """Searches and untrained estimators are refused with what to do instead, also when the manager is detected."""
    from modelstore.managers.bundle import Bundle
    from modelstore.managers.detection import Managers

    bundle = Bundle.of(Managers([H2OManager()]), {"model": build()})
    with ModelFolder() as files, pytest.raises(UnsupportedObjectError, match=says):
        bundle.save(files)


def test_a_model_that_the_server_no_longer_has_is_refused(tmp_path: Path) -> None:
    """The server's own words are in the error."""
    model = _gbm()
    h2o.remove(model.model_id)
    with pytest.raises(UnsupportedObjectError, match="does not give out"):
        _store(model, tmp_path)


@pytest.mark.parametrize("change", ["no file", "cut", "no parameters", "another class", "another id"])
def test_damage_is_named(change: str, tmp_path: Path) -> None:
    """Missing and damaged files, and a record that names another model, are errors of integrity."""
    model = _gbm()
    saved = _store(model, tmp_path)
    h2o.remove(model.model_id)
    state = dict(saved.state)
    if change == "no file":
        (tmp_path / MODEL).unlink()
    elif change == "cut":
        (tmp_path / MODEL).write_bytes((tmp_path / MODEL).read_bytes()[:2000])
    elif change == "no parameters":
        (tmp_path / PARAMETERS).write_text("[]")
    elif change == "another class":
        state["class"] = "os:system"
    else:
        state["model_id"] = "other"
    with pytest.raises(IntegrityError):
        _load(tmp_path, state)


def test_without_a_server_and_java_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection and no Java: the error names what to install."""
    from h2o.backend.server import H2OLocalServer

    saved = _store(_gbm(), tmp_path)
    monkeypatch.setattr(h2o, "connection", lambda: None)
    monkeypatch.setattr(h2o, "init", lambda **settings: H2OLocalServer._find_java())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("os.path.exists", lambda path: False)
    monkeypatch.setattr("os.path.isdir", lambda path: False)
    with pytest.raises(MissingDependencyError, match="Java runtime"):
        _load(tmp_path, saved.state)


def test_end_to_end(store: ModelStore) -> None:
    """The ancestor's keyword: a model goes up and comes back with its parameters in the record."""
    model = _gbm()
    before = observe(model)
    info = store.upload("domain", model=model)
    assert info["model"]["model_type"] == {"library": "h2o", "type": "H2OGradientBoostingEstimator", "models": None}
    assert info["model"]["parameters"]["ntrees"] == 2
    h2o.remove(model.model_id)
    assert observe(store.load("domain", info.model_id)) == before


LEADER = f"""
    import sys
    from tests.managers import h2o_cases
    import h2o
    from h2o.automl import H2OAutoML
    from modelstore import ModelStore

    h2o.connect(port={PORT}, verbose=False)
    h2o.no_progress()
    search = H2OAutoML(max_models=1, seed=1, nfolds=0, include_algos=["GBM"], verbosity=None)
    search.train(x=h2o_cases.X, y="answer", training_frame=h2o_cases.frame())
    store = ModelStore.from_file_system(sys.argv[1], create_directory=True)
    info = store.upload("search", model=search.leader)
    before = h2o_cases.observe(search.leader)["rows"]
    h2o.remove(search.leader.model_id)
    assert h2o_cases.observe(store.load("search", info.model_id))["rows"] == before
    print(info.library)
"""


def test_the_leader_of_a_search_by_a_connection_to_a_server_elsewhere(tmp_path: Path) -> None:
    """A process that did not start the server uploads AutoML's leader and loads it again, by its connection."""
    script = tmp_path / "service.py"
    script.write_text(textwrap.dedent(LEADER))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "h2o" in done.stdout.splitlines()
