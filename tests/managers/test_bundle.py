"""All objects of one upload: saved by their managers, loaded back in the right shape."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelstore.contracts.manager import write_folder
from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    MissingDependencyError,
    NewerFormatError,
    PickleNotAllowedError,
    RuntimeMismatchError,
)
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Manager, ObjectManager, Saved
from modelstore.managers.bundle import Bundle, load_bundle
from modelstore.managers.detection import Managers
from modelstore.managers.pickling import PicklePolicy, python_version


class Red:
    """An object of the first library."""

    def __init__(self, value: str) -> None:
        self.value = value


class Blue(Red):
    """An object of the second library."""


class Wrapped:
    """Holds an object."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class RedManager(ObjectManager):
    """Writes the value into a file."""

    name = "red"
    claims = (f"{__name__}:Red",)
    wrappers: Mapping[str, str] = {f"{__name__}:Wrapped": "inner"}
    options = ("loud",)
    load_options: tuple[str, ...] = ("into",)
    distributions = ("red-lib",)
    extra = "reds"
    makes: type[Red] = Red
    by_value = False

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write it."""
        folder.add_bytes("value.txt", (obj.value.upper() if options.get("loud") else obj.value).encode())
        return Saved(self.name, {"length": len(obj.value)}, ["value.txt"], {f"{self.name}.core"}, self.by_value)

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read it."""
        value = (folder / "value.txt").read_text()
        assert state["length"] == len(value)
        return self.makes(value)

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The value."""
        if obj.value == "broken":
            raise RuntimeError("no parameters today")
        return {"value": obj.value}


class BlueManager(RedManager):
    """The same for the other library."""

    name = "blue"
    claims = (f"{__name__}:Blue",)
    wrappers: Mapping[str, str] = {}
    options = ()
    load_options = ()
    makes = Blue


MANAGERS = Managers([RedManager(), BlueManager()])
TRUSTING = PicklePolicy(True)


def store(
    folder: Path, managers: Managers = MANAGERS, **given: Any
) -> tuple[Bundle, list[dict[str, Any]], list[Saved]]:
    """Save objects into a folder."""
    bundle = Bundle.of(managers, given)
    with ModelFolder() as files:
        entries, parts = bundle.save(files)
        write_folder(files.contents(), folder)
    return bundle, entries, parts


def load(entries: Any, folder: Path, managers: Managers = MANAGERS, **further: Any) -> Any:
    """Load them."""
    policy = further.pop("policy", TRUSTING)
    return load_bundle(managers, entries, folder, policy, subject="model 'm'", **further)


def names(folder: Path) -> list[str]:
    """The files of a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_object_lies_at_the_top_and_comes_back_alone(tmp_path: Path) -> None:
    """One object of one manager: no sub-folder, no mapping."""
    bundle, entries, _ = store(tmp_path, model=Red("a"))
    assert names(tmp_path) == ["value.txt"]
    assert load(entries, tmp_path).value == "a"
    assert bundle.model_type() == {"library": "red", "type": "Red", "models": None}
    assert bundle.parameters() == {"value": "a"}


def test_two_objects_of_one_manager_come_back_by_keyword(tmp_path: Path) -> None:
    """Each has a folder; pickled files and state are told with it."""
    bundle, entries, (part,) = store(tmp_path, model=Red("a"), explainer=Red("bc"))
    assert names(tmp_path) == ["explainer/value.txt", "model/value.txt"]
    assert part.pickled == ["explainer/value.txt", "model/value.txt"]
    assert part.state == {"explainer": {"length": 2}, "model": {"length": 1}}
    loaded = load(entries, tmp_path)
    assert {keyword: obj.value for keyword, obj in loaded.items()} == {"explainer": "bc", "model": "a"}
    assert bundle.parameters() == {"explainer": {"value": "bc"}, "model": {"value": "a"}}


def test_several_managers_come_back_by_library(tmp_path: Path) -> None:
    """Each manager has a folder by its name; the record is the ancestor's for several models."""
    bundle, entries, _ = store(tmp_path, model=Red("a"), explainer=Blue("b"))
    assert names(tmp_path) == ["blue/value.txt", "red/value.txt"]
    loaded = load(entries, tmp_path)
    assert {library: (type(obj), obj.value) for library, obj in loaded.items()} == {
        "red": (Red, "a"),
        "blue": (Blue, "b"),
    }
    assert bundle.model_type()["library"] == "multiple-models"
    assert [model["library"] for model in bundle.model_type()["models"]] == ["blue", "red"]
    assert bundle.parameters() == {"blue": {"value": "b"}, "red": {"value": "a"}}


def test_options_reach_the_managers_that_know_them(tmp_path: Path) -> None:
    """An option goes to its manager and to no other."""
    _, entries, _ = store(tmp_path, model=Red("a"), explainer=Blue("b"), loud=True)
    loaded = load(entries, tmp_path)
    assert (loaded["red"].value, loaded["blue"].value) == ("A", "b")


def test_wrappers_are_recorded(tmp_path: Path) -> None:
    """The entry names what was taken off, by keyword, and the class that was stored."""
    _, (entry,), _ = store(tmp_path, model=Wrapped(Red("a")))
    assert entry["wrappers"] == {"model": ["Wrapped"]}
    assert entry["objects"] == {"model": f"{__name__}:Red"}


def test_unknown_parameters_are_a_warning(tmp_path: Path) -> None:
    """Failing to learn parameters does not fail the upload, and says whose are missing."""
    bundle, _, _ = store(tmp_path, model=Red("broken"), explainer=Blue("b"))
    with pytest.warns(UserWarning, match=r"red model are not recorded.*no parameters today"):
        assert bundle.parameters() == {"blue": {"value": "b"}}


def test_byte_code_asks_the_policy_first_and_then_for_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry with byte code is refused without pickles, and on another Python; the weights alone may be taken."""
    monkeypatch.setattr(RedManager, "by_value", True)
    _, entries, _ = store(tmp_path, model=Red("a"))
    assert entries[0]["python"] == python_version()
    with pytest.raises(PickleNotAllowedError):
        load(entries, tmp_path, policy=PicklePolicy(False))
    entries[0]["python"] = "3.1"
    with pytest.raises(RuntimeMismatchError):
        load(entries, tmp_path)
    assert load(entries, tmp_path, into=object(), policy=PicklePolicy(False)).value == "a"


def test_another_manager_may_load(tmp_path: Path) -> None:
    """`manager=` wins over the recorded one."""
    _, entries, _ = store(tmp_path, model=Red("a"))
    assert type(load(entries, tmp_path, manager="blue")) is Blue


def test_an_unknown_manager_asks_for_its_plugin(tmp_path: Path) -> None:
    """A record of a manager that is not installed names it."""
    _, entries, _ = store(tmp_path, model=Red("a"))
    with pytest.raises(NewerFormatError, match="'green'"):
        load([{**entries[0], "name": "green"}], tmp_path)


@pytest.mark.parametrize(
    "damage", [{"folder": 3}, {"objects": None}, {"name": ["red"]}, {"folder": "../.."}, {"folder": "/etc"}]
)
def test_a_damaged_record_is_told_as_such(damage: dict[str, Any], tmp_path: Path) -> None:
    """What the record should hold and does not is an error about the record, with the model's name."""
    _, entries, _ = store(tmp_path, model=Red("a"))
    with pytest.raises(IntegrityError, match="model 'm'"):
        load([{**entries[0], **damage}], tmp_path)


def test_load_options_that_nobody_heeds_are_refused(tmp_path: Path) -> None:
    """into=, with_optimizer= and device= for a manager that does not know them are errors, not ignored."""
    _, entries, _ = store(tmp_path, model=Blue("a"))
    for option in ({"into": Blue("b")}, {"with_optimizer": True}, {"device": "cuda"}):
        with pytest.raises(InvalidArgumentError, match="blue"):
            load(entries, tmp_path, **option)


class _Lacking(Manager):
    """Its framework is not installed."""

    name = "lacking"
    claims = (f"{__name__}:Red",)
    distributions = ("absent-framework",)
    extra = "lack"

    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Nothing to write."""
        return Saved("nothing")

    def load(self, request: LoadRequest) -> Any:
        """Import what is not there."""
        return importlib.import_module("absent_framework.core")


@pytest.mark.parametrize(
    ("requirements", "command"),
    [
        ("numpy==2.0\nabsent-framework==1.2.3\n", r"pip install 'absent-framework==1\.2\.3'"),
        (None, r"pip install 'modelstore\[lack\]'"),
        ("modelstore==1.0\nanother-name==2\nnumpy==2.0\n", r"pip install 'another-name==2' 'numpy==2\.0'$"),
    ],
)
def test_a_missing_framework_names_the_command(requirements: str | None, command: str, tmp_path: Path) -> None:
    """The pinned requirement of the archive where there is one, all of them where none is called as the missing module
    is, else the extra."""
    managers = Managers([_Lacking()])
    _, entries, _ = store(tmp_path, managers, model=Red("a"))
    if requirements is not None:
        (tmp_path / "requirements.txt").write_text(requirements)
    with pytest.raises(MissingDependencyError, match=command) as caught:
        load(entries, tmp_path, managers)
    assert isinstance(caught.value, ModuleNotFoundError)


class _Linking(Manager):
    """Its model is a part of another one."""

    name = "linking"
    claims = (f"{__name__}:Red",)

    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Refer to the other model."""
        return Saved("link", {"to": objects["model"].value}, references=[("bases", "b1")])

    def load(self, request: LoadRequest) -> Any:
        """Load it."""
        return request.load_model("bases", request.state["to"])


def test_another_model_of_the_store_can_be_loaded(tmp_path: Path) -> None:
    """A manager gets the model that it has referred to; one that the record does not name is an error."""
    managers = Managers([_Linking()])
    _, entries, _ = store(tmp_path / "one", managers, model=Red("b1"))
    assert entries[0]["references"] == [{"domain": "bases", "model_id": "b1"}]
    assert load(entries, tmp_path / "one", managers, load_model=lambda reference: reference["model_id"]) == "b1"
    with pytest.raises(InvalidArgumentError, match="no store to load it from"):
        load(entries, tmp_path / "one", managers)
    _, entries, _ = store(tmp_path / "two", managers, model=Red("secret"))
    with pytest.raises(IntegrityError, match="does not refer to the model 'secret'"):
        load(entries, tmp_path / "two", managers, load_model=lambda reference: reference)
