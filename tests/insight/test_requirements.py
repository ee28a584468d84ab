"""What loading takes: pinned lines, and the modules that no package would bring."""

from __future__ import annotations

import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

from modelstore._version import __version__
from modelstore.insight import environment
from modelstore.insight.requirements import requirements


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages that is searched first."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(environment, "_versions", {})
    return folder


def install(folder: Path, name: str, version: str, *files: str) -> None:
    """What an installer writes."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in (*files, f"{info.name}/METADATA")))
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")


def test_given_distributions_are_pinned_if_installed() -> None:
    """modelstore stands first, then what is installed, sorted; what is not installed is left out."""
    lines, homeless = requirements(["pytest", "cloudpickle", "no-such-distribution-4711"], [])
    assert lines == [
        f"modelstore=={__version__}",
        f"cloudpickle=={metadata.version('cloudpickle')}",
        f"pytest=={metadata.version('pytest')}",
    ]
    assert homeless == []


def test_modules_are_traced_to_their_distributions(installed: Path) -> None:
    """A module's distribution is found by its name, by its files where the name differs, and among all of them."""
    install(installed, "Same-Name", "1.0", "same_name/__init__.py")
    install(installed, "python-other4711", "2.0", "other4711.py")
    install(installed, "compiled4711-dist", "3.0", "compiled4711.cpython-311-x86_64-linux-gnu.so")
    modules = {"same_name.models", "other4711", "compiled4711"}
    lines, homeless = requirements(["compiled4711-dist"], modules)
    assert lines[1:] == ["compiled4711-dist==3.0", "python-other4711==2.0", "same_name==1.0"]
    assert homeless == []


def test_one_distribution_stands_once(installed: Path) -> None:
    """However many modules it has and however its name is spelled, a distribution gets one line."""
    install(installed, "some-package", "1.0", "some_package/__init__.py", "some_package/a.py")
    lines, _ = requirements(["some-package"], {"some_package", "some_package.a", "some_package.b.c"})
    assert lines[1:] == ["some-package==1.0"]


def test_a_shared_namespace_is_told_apart(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the distributions that share a namespace only the one that holds the module is needed."""
    install(installed, "space4711-one", "1.0", "space4711/one/__init__.py")
    install(installed, "space4711-two", "2.0", "space4711/two/__init__.py")
    __import__("space4711")
    lines, homeless = requirements(["space4711-one"], {"space4711.two.deeper"})
    assert lines[1:] == ["space4711-one==1.0", "space4711-two==2.0"]
    lines, _ = requirements([], {"space4711.one"})
    assert lines[1:] == ["space4711-one==1.0"]
    assert homeless == []


def test_the_standard_library_is_needed_nowhere() -> None:
    """Modules of Python itself, of the running script and of modelstore need no line and no warning."""
    modules = {"collections", "os.path", "_pickle", "builtins", "__main__", "__mp_main__", "modelstore.storage", "sys"}
    assert requirements([], modules) == ([f"modelstore=={__version__}"], [])


def test_modules_without_a_distribution_are_named() -> None:
    """The user's own modules, which no package brings, come back sorted, for a warning."""
    lines, homeless = requirements([], {"my_project4711.features", "a_script4711", "pytest"})
    assert homeless == ["a_script4711", "my_project4711.features"]
    assert lines[1:] == [f"pytest=={metadata.version('pytest')}"]


def test_a_module_called_as_an_installed_one_is_not_that_one(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that lies beside a script has no home, whatever package of its name is installed elsewhere."""
    install(installed, "careless-4711", "1.0", "utils4711/__init__.py")
    module = types.ModuleType("utils4711")
    monkeypatch.setitem(sys.modules, "utils4711", module)
    module.__file__ = str(installed.parent / "work" / "utils4711" / "__init__.py")
    assert requirements([], ["utils4711"])[1] == ["utils4711"]
    module.__file__ = str(installed / "utils4711" / "__init__.py")
    lines, homeless = requirements([], ["utils4711"])
    assert lines[1:] == ["careless-4711==1.0"]
    assert homeless == []


def test_what_is_installed_to_be_edited_has_a_home(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that points to its sources brings its modules, wherever they lie."""
    install(installed, "edited4711", "1.0")
    (installed / "edited4711-1.0.dist-info" / "direct_url.json").write_text(
        '{"url": "file:///work", "dir_info": {"editable": true}}'
    )
    module = types.ModuleType("edited4711")
    module.__file__ = str(installed.parent / "work" / "edited4711.py")
    monkeypatch.setitem(sys.modules, "edited4711", module)
    assert requirements([], ["edited4711"]) == ([f"modelstore=={__version__}", "edited4711==1.0"], [])


def test_a_module_that_is_installed_later_has_a_home(installed: Path) -> None:
    """A package that is installed while the process runs is found, although all were looked through before."""
    assert requirements([], {"later4711"})[1] == ["later4711"]
    install(installed, "dist-of-later", "1.0", "later4711/__init__.py")
    assert requirements([], {"later4711"}) == ([f"modelstore=={__version__}", "dist-of-later==1.0"], [])


def test_local_versions_can_be_installed(installed: Path) -> None:
    """PyPI has no `2.4.0+cpu`, so the public part is pinned, which an installed `2.4.0+cpu` satisfies."""
    install(installed, "local4711", "2.4.0+cpu", "local4711.py")
    assert requirements(["local4711"], [])[0][1:] == ["local4711==2.4.0"]


def test_broken_metadata_harms_nothing(installed: Path) -> None:
    """A distribution whose metadata has no version, or no list of files, is passed over."""
    (installed / "broken4711-1.0.dist-info").mkdir()
    (installed / "broken4711-1.0.dist-info" / "METADATA").write_text("")
    lines, homeless = requirements(["broken4711", "pytest"], {"broken4711"})
    assert lines[1:] == [f"pytest=={metadata.version('pytest')}"]
    assert homeless == ["broken4711"]
