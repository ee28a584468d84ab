"""Any Python object: with its code, wherever that lies, and only where it was asked for."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")

import cloudpickle
import numpy as np

from modelstore import ModelStore
from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, PickleNotAllowedError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers import pickling
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickled import PICKLE
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.python import PythonManager
from tests.managers.contract import BuiltinContract

ROWS = np.arange(6.0).reshape(2, 3)


def doubled(rows: Any, *, factor: float = 2.0) -> Any:
    """Rows times a factor.

    More of it.
    """
    return rows * factor


def undocumented(rows: Any) -> Any:
    return rows


@dataclasses.dataclass
class Weights:
    """Numbers with names."""

    names: tuple[str, ...]
    values: Any

    def __call__(self, rows: Any) -> Any:
        """Weighted sums."""
        return rows @ self.values


class Clipped:
    """A model around another one."""

    def __init__(self, model: Any, limit: float) -> None:
        self.model = model
        self.limit = limit
        self.random = np.random.default_rng(3)

    def predict(self, rows: Any) -> Any:
        """Predictions of the model, no larger than the limit, with some noise."""
        return np.minimum(self.model(rows), self.limit) + self.random.normal()


def observe(obj: Any) -> Any:
    """What it gives for the rows, whatever it is."""
    if isinstance(obj, type):
        obj = obj(("a", "b", "c"), np.ones(3))
    if hasattr(obj, "predict"):
        return [obj.predict(ROWS) for _ in range(3)]
    if callable(obj):
        return obj(ROWS)
    return obj


def _closure() -> Callable[[Any], Any]:
    offset = np.float32(0.5)

    def shifted(rows: Any) -> Any:
        return doubled(rows) + offset

    return shifted


def _local_class() -> Any:
    class Local:
        def predict(self, rows: Any) -> Any:
            return np.linalg.norm(rows, axis=1)

    return Local()


WEIGHTS = Weights(("a", "b", "c"), np.array([1.0, -1.0, 0.25]))
OBJECTS: dict[str, Callable[[], Any]] = {
    "function": lambda: doubled,
    "lambda": lambda: lambda rows: np.tanh(rows),
    "closure": _closure,
    "partial": lambda: functools.partial(doubled, factor=0.1),
    "bound method": lambda: WEIGHTS.__call__,
    "builtin function": lambda: abs,
    "function of a package": lambda: np.mean,
    "class": lambda: Weights,
    "dataclass": lambda: WEIGHTS,
    "wrapped model": lambda: Clipped(WEIGHTS, 0.75),
    "object of a local class": _local_class,
    "array": lambda: np.asfortranarray(ROWS.astype("float32")),
    "plain": lambda: {"a": [1, (2.5, None)], "b": "text"},
}


def _one(name: str) -> dict[str, Any]:
    return {"model": OBJECTS[name]()}


class TestPython(BuiltinContract):
    """Functions, classes and objects of all kinds."""

    manager = PythonManager()
    named = True

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        several = Case(lambda: {"model": WEIGHTS, "preprocessor": doubled}, observe_several)
        return {name: Case(functools.partial(_one, name), observe) for name in OBJECTS} | {"several": several}

    def test_code_that_no_package_brings_goes_along(self, tmp_path_factory: Any) -> None:
        """The record names the modules whose code lies in the pickle, and asks for no such module."""
        outcomes = self._outcomes(tmp_path_factory)
        travelled = {name: outcome.saved.state.get("by_value") for name, outcome in outcomes.items()}
        assert travelled["function"] == travelled["dataclass"] == travelled["wrapped model"] == [__name__]
        assert travelled["array"] == travelled["function of a package"] == []
        assert not outcomes["array"].saved.by_value
        assert outcomes["closure"].saved.by_value
        assert not any(__name__ in outcome.saved.modules for outcome in outcomes.values())
        assert "numpy" in outcomes["lambda"].saved.modules


def observe_several(result: Any) -> Any:
    """What each of several objects gives."""
    return {keyword: observe(obj) for keyword, obj in result.items()}


def _save(obj: Any, folder: Path) -> Saved:
    with ModelFolder() as files:
        saved = PythonManager().save({"model": obj}, files, {})
        write_folder(files.contents(), folder)
    return saved


def _load(folder: Path, allow_pickle: bool = True) -> Any:
    return PythonManager().load(LoadRequest(folder, {}, ("model",), PicklePolicy(allow_pickle)))


def _generator() -> Any:
    yield 1


async def _coroutine() -> None:
    """Never awaited."""


def test_what_is_running_is_refused() -> None:
    """A generator or coroutine cannot be stored, and the error says what can."""
    coroutine = _coroutine()
    for running in (_generator(), coroutine):
        with pytest.raises(UnsupportedObjectError, match="upload the function that makes it"), ModelFolder() as files:
            PythonManager().save({"model": running}, files, {})
    coroutine.close()


def test_what_is_open_is_refused(tmp_path: Path) -> None:
    """An object that holds a lock or an open file is refused with the reason, and nothing is left behind."""
    with open(tmp_path / "file", "w") as file:
        for held in (threading.Lock(), file):
            refused = pytest.raises(UnsupportedObjectError, match=r"Clipped cannot be pickled \(.*take out")
            with refused, ModelFolder() as files:
                PythonManager().save({"model": Clipped(held, 1.0)}, files, {})
    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_the_registry_of_cloudpickle_is_left_as_it_was(tmp_path: Path) -> None:
    """After an upload, cloudpickle takes by value what the user has told it to, and nothing else."""
    module = sys.modules[__name__]
    assert cloudpickle.list_registry_pickle_by_value() == set()
    _save(doubled, tmp_path / "a")
    assert cloudpickle.list_registry_pickle_by_value() == set()
    cloudpickle.register_pickle_by_value(module)
    try:
        assert _save(doubled, tmp_path / "b").by_value
        assert cloudpickle.list_registry_pickle_by_value() == {__name__}
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_another_threads_pickle_stays_as_it_is() -> None:
    """While one thread stores a module's code, what another pickles of that module goes by reference."""
    inside, done = threading.Event(), threading.Event()
    other: list[pickling.Pickled] = []

    class Slow:
        def __reduce__(self) -> Any:
            inside.set()
            done.wait(0.3)
            return dict, ()

    def plain() -> None:
        inside.wait(10)
        other.append(pickling.dumps(doubled)[1])
        done.set()

    thread = threading.Thread(target=plain)
    thread.start()
    _, pickled = pickling.dumps([doubled, Slow()], travels=lambda module: module == __name__)
    thread.join()
    assert pickled.travelling == {__name__}
    assert not other[0].by_value
    assert other[0].modules == {__name__}


def test_parameters_are_signature_and_first_line() -> None:
    """The record tells how a function is called and what it says of itself, and no more than 300 characters of each."""
    manager = PythonManager()
    told = manager.object_parameters(doubled)
    assert told["doc"] == "Rows times a factor."
    assert told["signature"].startswith("(rows: ")
    assert "factor" in told["signature"]
    assert manager.object_parameters(WEIGHTS)["doc"] == "Numbers with names."
    assert manager.object_parameters({"a": 1}) == {}
    assert "doc" not in manager.object_parameters(undocumented)

    def long(rows: str = "x" * 5000) -> None:
        """A"""

    long.__doc__ = "y" * 5000
    assert all(len(value) < 310 for value in manager.object_parameters(long).values())


def test_nothing_is_unpickled_against_the_policy(tmp_path: Path) -> None:
    """A reader who allows no pickles gets an error that names the file."""
    _save(WEIGHTS, tmp_path)
    with pytest.raises(PickleNotAllowedError, match=PICKLE):
        _load(tmp_path, allow_pickle=False)


@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_damage_is_an_error_that_says_so(damage: str, tmp_path: Path) -> None:
    """A file that is gone, cut or empty is reported as damage, whatever pickle says of it."""
    _save(WEIGHTS, tmp_path)
    path = tmp_path / PICKLE
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    with pytest.raises(IntegrityError, match=PICKLE):
        _load(tmp_path)


def test_it_is_stored_only_when_asked_for(store: ModelStore) -> None:
    """Detection refuses an object of no framework and says how to store it; `manager="python"` does."""
    with pytest.raises(UnsupportedObjectError, match='manager="python"'):
        store.upload("d", model=WEIGHTS)
    with pytest.warns(UserWarning, match=f"code of {__name__}, which no installed package brings"):
        info = store.upload("d", model=WEIGHTS, manager="python")
    assert info.library == "python"
    (entry,) = info["model"]["managers"]
    assert entry["pickled"] == [PICKLE]
    assert entry["python"] == pickling.python_version()
    loaded = store.load("d", info.model_id)
    assert loaded(ROWS).tobytes() == WEIGHTS(ROWS).tobytes()
    with pytest.raises(PickleNotAllowedError):
        store.load("d", info.model_id, allow_pickle=False)


def test_a_frameworks_object_can_be_stored_as_python(store: ModelStore, tmp_path: Path) -> None:
    """The manager that is named wins over the one that claims the class."""
    linear = pytest.importorskip("sklearn.linear_model")
    model = linear.LinearRegression().fit(ROWS, [1.0, 2.0])
    info = store.upload("d", model=model, manager="python")
    assert info.library == "python"
    downloaded = Path(store.download(tmp_path / "x", "d", info.model_id))
    assert "scikit-learn==" in (downloaded / "requirements.txt").read_text()


HELPERS = """
    import numpy as np
    import shapes

    SCALE = 3.0

    class Base:
        def predict(self, rows):
            return shapes.flat(rows) * SCALE
"""

SHAPES = """
    import numpy

    def flat(rows):
        return numpy.ravel(rows)
"""

SCRIPT = """
    import sys
    import warnings
    from helpers import Base
    from modelstore import ModelStore

    OFFSET = 1.5

    class Model(Base):
        def predict(self, rows):
            return super().predict(rows) + OFFSET

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = ModelStore.from_file_system(sys.argv[1], create_directory=True)
        info = store.upload("d", model=Model(), manager="python", model_id="m")
    print([str(each.message) for each in caught if "code of" in str(each.message)])
    print(info["model"]["managers"][0]["state"]["by_value"])
"""

READER = """
    import sys
    import numpy as np
    from modelstore import ModelStore
    model = ModelStore.from_file_system(sys.argv[1]).load("d", "m")
    print(model.predict(np.ones((1, 2))).tolist(), "helpers" in sys.modules, "shapes" in sys.modules)
"""


def test_modules_beside_a_script_need_not_be_where_it_is_loaded(tmp_path: Path) -> None:
    """A class of a script, its base in a module beside it and what that imports load where none of them lies."""
    work, service = tmp_path / "work", tmp_path / "service"
    for folder, files in (
        (work, {"helpers": HELPERS, "shapes": SHAPES, "train": SCRIPT}),
        (service, {"serve": READER}),
    ):
        folder.mkdir()
        for name, code in files.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(code))
    warned, modules = _run(work / "train.py", tmp_path / "store").splitlines()
    assert "the code of helpers, shapes" in warned
    assert json.loads(modules.replace("'", '"')) == ["helpers", "shapes"]
    assert _run(service / "serve.py", tmp_path / "store") == "[4.5, 4.5] False False\n"


def _run(script: Path, *arguments: Path) -> str:
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "", "HOME": str(script.parent)}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
