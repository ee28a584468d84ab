"""The template of a third party's manager, installed as a user would have it: found, used, and harmless when broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")  # what the template is built with
pytest.importorskip("numpy")

TEMPLATE = Path(__file__).parents[2] / "examples" / "manager-plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the template is installed: its wheel, unpacked, as an installer does it."""
    root = tmp_path_factory.mktemp("plugin")
    sources = root / "sources"
    shutil.copytree(TEMPLATE, sources, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    wheel = run(["-c", build, str(root)], sources).splitlines()[-1]
    site = root / "site"
    with zipfile.ZipFile(root / wheel) as archive:
        archive.extractall(site)
    return site


def run(arguments: list[str], folder: Path, *sites: Path, fails: bool = False) -> str:
    """What another process prints that has these folders on its path, errors included if it is to fail."""
    path = os.pathsep.join([*map(str, sites), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout if not fails else done.stdout + done.stderr


def add_plugin(site: Path, name: str, code: str, target: str) -> Path:
    """Install a distribution of this name with one module of its name and an entry point."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[modelstore.managers]\n{name} = {name}:{target}\n")
    (site / f"{name}.py").write_text(textwrap.dedent(code))
    return site


UPLOAD = """
    import sys
    import numpy as np
    from modelstore import ModelStore
    from tinylinear import RidgeModel

    X = np.arange(8.0).reshape(4, 2) ** 1.5
    model = RidgeModel(0.5).fit(X, X.sum(axis=1))
    store = ModelStore.from_file_system(sys.argv[1], create_directory=True)
    info = store.upload("d", model=model, model_id="m")
    print(info.library, info["model"]["parameters"], model.predict(X).tobytes().hex())
"""

LOAD = """
    import pathlib
    import sys
    from modelstore import ModelStore
    store = ModelStore.from_file_system(sys.argv[1])
    model = store.load("d", "m", allow_pickle=False)
    import numpy as np
    X = np.arange(8.0).reshape(4, 2) ** 1.5
    print(type(model).__name__, model.predict(X).tobytes().hex())
    print(pathlib.Path(store.download(sys.argv[1] + "-files", "d", "m"), "requirements.txt").read_text().split())
"""

LIST = """
    import warnings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from modelstore.managers.detection import BUILTIN, all_managers
        managers = all_managers().by_name
    print(len(managers) - len(BUILTIN), "tinylinear" in managers)
    for each in caught:
        print(each.message)
"""


def script(folder: Path, code: str) -> str:
    """The path of a script with this code."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(code))
    return str(path)


def test_an_installed_plugin_stores_and_loads(site: Path, tmp_path: Path) -> None:
    """Its objects go up and come back in another process with equal predictions, and its version is pinned."""
    store = str(tmp_path / "store")
    library, rest = run([script(tmp_path, UPLOAD), store], tmp_path, site).strip().split(" ", 1)
    assert library == "tinylinear"
    assert rest.startswith("{'penalty': 0.5}")
    line, requirements = run([script(tmp_path, LOAD), store], tmp_path, site).strip().splitlines()
    assert line == f"RidgeModel {rest.rpartition(' ')[2]}"
    assert "'tinylinear==0.1.0'" in requirements


def test_where_the_plugin_is_missing_the_error_says_so(site: Path, tmp_path: Path) -> None:
    """A process without it cannot load the model, and is told that a plugin may be missing."""
    store = str(tmp_path / "store")
    run([script(tmp_path, UPLOAD), store], tmp_path, site)
    assert "is a plugin missing?" in run([script(tmp_path, LOAD), store], tmp_path, fails=True)


def test_the_plugins_own_tests_pass(site: Path, tmp_path: Path) -> None:
    """The template's tests, the contract of managers among them, pass where it is installed."""
    shutil.copytree(TEMPLATE / "tests", tmp_path / "tests")
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "tests"]
    printed = run(arguments, tmp_path, site)
    assert "9 passed" in printed


def test_a_broken_plugin_is_left_out_with_a_warning(site: Path, tmp_path: Path) -> None:
    """One that raises on import is named with its package and its reason; all others work."""
    broken = add_plugin(tmp_path / "broken", "broken", "raise RuntimeError('no licence')", "Manager")
    count, warned = run([script(tmp_path, LIST)], tmp_path, site, broken).strip().splitlines()
    assert count == "1 True"
    assert warned == "the manager 'broken' (broken:Manager of broken) is left out: RuntimeError: no licence"


CLAIMANT = """
    from modelstore.managers.base import Manager

    class Thief(Manager):
        name = "ztheft"
        claims = ("tinylinear.models:LinearModel",)

        def save(self, objects, folder, options):
            raise NotImplementedError

        def load(self, request):
            raise NotImplementedError
"""


def test_two_that_claim_the_same_class_are_both_named(site: Path, tmp_path: Path) -> None:
    """The warning names the class and both packages; the first by name stays, wherever they are installed."""
    other = add_plugin(tmp_path / "other", "ztheft", CLAIMANT, "Thief")
    for order in ((site, other), (other, site)):
        count, warned = run([script(tmp_path, LIST)], tmp_path, *order).strip().splitlines()
        assert count == "1 True"
        assert "the manager 'ztheft' (ztheft:Thief of ztheft) is left out" in warned
        assert "tinylinear.models:LinearModel is claimed by ztheft and by tinylinear" in warned
        assert "tinylinear.modelstore_manager:TinyLinearManager of tinylinear" in warned


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class Manager: pass", "is no modelstore.managers.base.Manager"),
        (CLAIMANT.replace("ztheft", "a/b").replace("Thief", "Manager"), "a manager cannot be called 'a/b'"),
        (CLAIMANT.replace("ztheft", "sklearn").replace("Thief", "Manager"), "two managers are called 'sklearn'"),
    ],
)
def test_what_is_no_manager_is_left_out(code: str, message: str, tmp_path: Path) -> None:
    """An object of another kind, and a name that cannot be used, are warnings that say what is wrong."""
    if "(Manager)" in code:
        code = code.replace("import Manager", "import Manager as Base").replace("(Manager)", "(Base)")
    other = add_plugin(tmp_path / "other", "wrong", code, "Manager")
    count, warned = run([script(tmp_path, LIST)], tmp_path, other).strip().splitlines()
    assert count == "0 False"
    assert message in warned
