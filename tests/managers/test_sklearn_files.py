"""scikit-learn: what lies in the files, who may load them, and what the record tells of them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skops")

import numpy as np
import skops.io
from sklearn import linear_model, pipeline, preprocessing, svm
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import InconsistentVersionWarning

from modelstore.contracts.manager import write_folder
from modelstore.exceptions import PickleNotAllowedError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._skops_types import SAFE_TYPES
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.sklearn import PICKLE, SKOPS, SklearnManager

from . import sklearn_samples as samples

X, Y = samples.NUMBERS, samples.LABELS
STRICT = PicklePolicy(allow_pickle=False)


class Shift(TransformerMixin, BaseEstimator):
    """A transformer of an importable module that is no part of scikit-learn."""

    def __init__(self, by: Any = 1.0) -> None:
        self.by = by

    def fit(self, X: Any, y: Any = None) -> Any:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        return X + self.by


def nothing(value: Any) -> Any:
    """A function of a module, for FunctionTransformer."""
    return value


def _local_class() -> Any:
    class Shift(TransformerMixin, BaseEstimator):
        pass

    return Shift


def _store(model: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = SklearnManager().save({"model": model}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _load(folder: Path, state: Mapping[str, Any], policy: PicklePolicy) -> Any:
    return SklearnManager().load(LoadRequest(folder, state, ("model",), policy))


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (pipeline.Pipeline([("scale", _local_class()())]), "parameter 'scale': "),
        (preprocessing.FunctionTransformer(lambda value: value), "parameter 'func': "),
    ],
)
def test_state_names_what_forced_the_pickle(model: Any, where: str, tmp_path: Path) -> None:
    """The record says at which parameter stands what skops could not hold."""
    saved = _store(model, tmp_path)
    assert saved.state["pickle_because"].startswith(where)
    assert f"{__name__}." in saved.state["pickle_because"]
    assert (saved.pickled, saved.by_value, saved.format) == ([PICKLE], True, "pickle")


def test_what_pickle_refuses_is_unsupported(tmp_path: Path) -> None:
    """An estimator that holds an open file is refused with its class and the reason, and nothing is kept."""
    with open(tmp_path / "log", "w") as log, pytest.raises(UnsupportedObjectError, match=r"Shift.*TextIOWrapper"):
        _store(Shift(log), tmp_path / "folder")


def test_foreign_types_load_once_they_are_trusted(tmp_path: Path) -> None:
    """A skops file with a type that nobody reviewed is refused by name, and loads when the reader trusts that name."""
    saved = _store(Shift(2.0).fit(X), tmp_path)
    assert saved.pickled == [SKOPS]
    assert __name__ in saved.modules
    with pytest.raises(PickleNotAllowedError, match=r"test_sklearn_files\.Shift"):
        _load(tmp_path, saved.state, STRICT)
    trusting = PicklePolicy(allow_pickle=False, trusted_types=frozenset({f"{__name__}.Shift"}))
    assert _load(tmp_path, saved.state, trusting).by == 2.0


def test_lists_of_the_file_and_of_the_record_are_not_believed(tmp_path: Path) -> None:
    """A record that claims a dangerous type to be fine changes nothing: the type is refused."""
    saved = _store(preprocessing.FunctionTransformer(nothing), tmp_path)
    _replace(tmp_path / SKOPS, f'"{__name__}"', '"os"', '"nothing"', '"system"')
    assert skops.io.get_untrusted_types(file=tmp_path / SKOPS) == ["os.system"]
    state = {**saved.state, "types": ["os.system"], "foreign": []}
    with pytest.raises(PickleNotAllowedError, match=r"os\.system"):
        _load(tmp_path, state, STRICT)


def _replace(file: Path, *pairs: str) -> None:
    with zipfile.ZipFile(file) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    schema = parts["schema.json"].decode()
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in schema
        schema = schema.replace(old, new)
    with zipfile.ZipFile(file, "w") as whole:
        for name, data in {**parts, "schema.json": schema.encode()}.items():
            whole.writestr(name, data)


def test_reviewed_types_hold_no_way_to_run_code() -> None:
    """None of the reviewed names is a module's function that opens, evaluates, imports or starts something."""
    for name in SAFE_TYPES:
        assert not name.startswith(("os.", "sys.", "subprocess.", "importlib.", "pickle.", "functools.", "joblib."))
        assert not any(
            word in name.lower().replace("propensity", "")
            for word in ("load", "eval", "exec", "open", "memmap", "pyfunc", "fromfile")
        )


def test_another_version_of_scikit_learn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another scikit-learn version warns as a pickle of it does, and the state has the version."""
    monkeypatch.setattr("sklearn.base.__version__", "0.99")
    saved = _store(svm.SVC().fit(X, Y), tmp_path)
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match=r"0\.99"):
        _load(tmp_path, saved.state, STRICT)
    assert saved.state["version"].count(".") >= 1


def test_parameters_are_short(tmp_path: Path) -> None:
    """A long array among the parameters is recorded as text, and nested parameters have their usual names."""
    model = pipeline.Pipeline([("net", linear_model.Ridge(alpha=np.ones(5000))), ("last", svm.SVC(C=2))])
    found = SklearnManager().object_parameters(model)
    assert found["last__C"] == 2
    assert isinstance(found["net__alpha"], str)
    assert len(found["net__alpha"]) < 500


def test_arrays_of_every_layout_are_pickled_as_pieces(tmp_path: Path) -> None:
    """Column-major, empty, strided and date arrays survive the pickle that is written without copies."""
    arrays = [
        np.asfortranarray(X),
        np.zeros((0, 3)),
        X[::2, ::2],
        np.array(["2020"], "M8[D]"),
        np.arange(9).reshape(3, 3).T,
    ]
    model = Shift([lambda: None, *arrays])
    saved = _store(model, tmp_path)
    restored = _load(tmp_path, saved.state, PicklePolicy(True)).by[1:]
    for left, right in zip(arrays, restored, strict=True):
        assert (left.dtype, left.shape, left.tolist()) == (right.dtype, right.shape, right.tolist())


def test_the_file_is_not_compressed_and_not_copied() -> None:
    """skops' own buffer is handed over as it is: one stored zip in memory."""
    with ModelFolder() as files:
        SklearnManager().save({"model": svm.SVC().fit(X, Y)}, files, {})
        (file,) = files.contents().files
        data = b"".join(file.source.read(0, file.size))
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        assert {info.compress_type for info in whole.infolist()} == {zipfile.ZIP_STORED}


SCRIPT = """
    import pathlib, sys
    import numpy as np
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from modelstore.contracts.manager import write_folder
    from modelstore.folder import ModelFolder
    from modelstore.managers.bundle import Bundle
    from modelstore.managers.detection import Managers
    from modelstore.managers.sklearn import SklearnManager

    FACTOR = 3.0

    def stretch(value):
        return value * FACTOR

    class Scaler(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.mean_ = X.mean(axis=0)
            return self

        def transform(self, X):
            return stretch(X - self.mean_)

    X = np.random.RandomState(0).normal(size=(50, 3))
    model = make_pipeline(Scaler(), LogisticRegression()).fit(X, X[:, 0] > 0)
    target = pathlib.Path(sys.argv[1])
    with ModelFolder() as files:
        entries, _ = Bundle.of(Managers([SklearnManager()]), {"model": model}).save(files)
        write_folder(files.contents(), target)
    import json
    (target / "entries.json").write_text(json.dumps(entries))
    np.save(target / "expected.npy", model.predict_proba(X))
"""

READER = """
    import json, pathlib, sys
    from modelstore.managers.bundle import load_bundle
    from modelstore.managers.detection import Managers
    from modelstore.managers.pickling import PicklePolicy
    from modelstore.managers.sklearn import SklearnManager

    target = pathlib.Path(sys.argv[1])
    entries = json.loads((target / "entries.json").read_text())
    model = load_bundle(Managers([SklearnManager()]), entries, target, PicklePolicy(True), subject="it")
    import numpy as np
    X = np.random.RandomState(0).normal(size=(50, 3))
    assert model.predict_proba(X).tobytes() == np.load(target / "expected.npy").tobytes()
    print(type(model[0]).__name__)
"""


def test_a_transformer_of_a_notebook_loads_where_nobody_has_seen_it(tmp_path: Path) -> None:
    """A class of `__main__`, with a function and a global that it uses, travels with the model."""
    folder = tmp_path / "model"
    _run(SCRIPT, tmp_path / "notebook.py", folder)
    (entry,) = json.loads((folder / "entries.json").read_text())
    assert entry["state"]["pickle_because"].startswith("parameter 'scaler': __main__.Scaler")
    assert entry["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert _run(READER, tmp_path / "service.py", folder) == "Scaler\n"


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
