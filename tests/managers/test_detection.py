"""Whose object is this: decided by class names alone."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelstore.exceptions import (
    AmbiguousObjectError,
    InvalidArgumentError,
    UnknownKeywordError,
    UnsupportedObjectError,
)
from modelstore.folder import ModelFolder
from modelstore.managers import detection
from modelstore.managers.base import LoadRequest, Manager, Saved
from modelstore.managers.detection import Managers, all_managers


def fake(name: str, *bases: type) -> type:
    """A class that says it is `module:qualname`."""
    module, _, qualname = name.partition(":")
    return types.new_class(qualname, bases, {}, lambda body: body.update(__module__=module, __qualname__=qualname))


class Plain(Manager):
    """A manager that only claims."""

    def save(self, objects: Mapping[str, Any], folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Save nothing."""
        return Saved("nothing")

    def load(self, request: LoadRequest) -> Any:
        """Load nothing."""
        return None


def manager(name: str, *claims: str, **attributes: Any) -> Manager:
    """A manager of this name with these claims."""
    return type(name.title(), (Plain,), {"name": name, "claims": claims, **attributes})()


BASE = fake("sklearn.base:BaseEstimator")
MIXIN = fake("sklearn.base:ClassifierMixin")
BOOSTED = fake("xgboost.sklearn:XGBModel", BASE)
MODULE = fake("torch.nn.modules.module:Module")

SKLEARN = manager("sklearn", "sklearn.base:BaseEstimator")
XGBOOST = manager("xgboost", "xgboost.sklearn:XGBModel", "xgboost.core:Booster")
TORCH = manager(
    "pytorch",
    "torch.nn.modules.module:Module",
    wrappers={"torch._dynamo:OptimizedModule": "_orig_mod", "torch.nn:DataParallel": "module"},
    keywords=("model", "optimizer"),
    options=("weights_only",),
)
MANAGERS = Managers([SKLEARN, XGBOOST, TORCH])


def test_the_most_derived_claimed_class_decides() -> None:
    """A booster that is a scikit-learn estimator too is the booster's, whatever mixin stands before."""
    classifier = fake("xgboost.sklearn:XGBClassifier", MIXIN, BOOSTED)
    assert MANAGERS.find(classifier()) is XGBOOST
    assert MANAGERS.find(fake("__main__:Mine", classifier)()) is XGBOOST
    assert MANAGERS.find(fake("sklearn.svm:SVC", MIXIN, BASE)()) is SKLEARN


def test_the_order_of_managers_does_not_matter() -> None:
    """Registration order changes nothing, as no manager knows another."""
    classifier = fake("xgboost.sklearn:XGBClassifier", MIXIN, BOOSTED)()
    assert Managers([TORCH, XGBOOST, SKLEARN]).find(classifier) is XGBOOST


def test_a_class_of_the_same_name_elsewhere_is_not_claimed() -> None:
    """Module and name must both fit."""
    assert MANAGERS.find(fake("mine:BaseEstimator")()) is None
    assert MANAGERS.find(fake("sklearn.base:Outer.BaseEstimator")()) is None


def test_unrelated_claims_are_ambiguous_until_a_manager_is_named() -> None:
    """A class of two frameworks is an error that names both; `manager=` settles it."""
    both = fake("mine:Both", MODULE, BASE)()
    with pytest.raises(AmbiguousObjectError, match=r"pytorch and of sklearn.*manager='pytorch'") as caught:
        MANAGERS.group({"model": both})
    assert caught.value.managers == ("pytorch", "sklearn")
    assert MANAGERS.group({"model": both}, "sklearn")[0] == {SKLEARN: {"model": both}}


def test_two_claims_of_one_manager_are_not_ambiguous() -> None:
    """Unrelated roots of one manager agree."""
    both = fake("mine:Both", BOOSTED, fake("xgboost.core:Booster"))
    assert MANAGERS.find(both()) is XGBOOST


def test_wrappers_come_off_and_are_recorded() -> None:
    """A compiled model in a data-parallel one is stored as the model inside, and both names are kept."""
    inner = MODULE()
    compiled = fake("torch._dynamo:OptimizedModule", MODULE)()
    compiled._orig_mod = inner
    outer = fake("torch.nn:DataParallel", MODULE)()
    outer.module = compiled
    objects, _, wrappers = MANAGERS.group({"model": outer})
    assert objects == {TORCH: {"model": inner}}
    assert wrappers == {"model": ["DataParallel", "OptimizedModule"]}


def test_a_predicate_is_asked_last() -> None:
    """A manager that recognises everything gets only what nobody claims."""
    greedy = manager("greedy", recognises=lambda self, obj: True)
    managers = Managers([greedy, SKLEARN])
    assert managers.find(BASE()) is SKLEARN
    assert managers.find({"a": 1}) is greedy


def test_objects_are_sorted_by_manager_and_keyword() -> None:
    """Several objects go to their managers; None counts as not given; options are no objects."""
    model, optimizer, explainer = MODULE(), MODULE(), BASE()
    objects, options, _ = MANAGERS.group(
        {"model": model, "optimizer": optimizer, "explainer": explainer, "preprocessor": None, "weights_only": True}
    )
    assert objects == {TORCH: {"model": model, "optimizer": optimizer}, SKLEARN: {"explainer": explainer}}
    assert options == {"weights_only": True}


def test_an_unknown_keyword_suggests_the_right_one() -> None:
    """A typing error is a TypeError with the nearest keyword, even if its value is None."""
    with pytest.raises(UnknownKeywordError, match="did you mean 'optimizer'") as caught:
        MANAGERS.group({"model": MODULE(), "optimiser": None})
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to store"),
        ({"model": None}, "nothing to store"),
        ({"model": 3}, r"builtins:int.*none of the managers"),
        ({"model": "weights.bin"}, r"'weights\.bin' is a text, and no file"),
        ({"optimizer": BASE()}, r"optimizer= cannot hold a sklearn\.base:BaseEstimator.*model="),
        ({"model": BASE(), "weights_only": True}, r"weights_only= means nothing.*sklearn"),
    ],
)
def test_what_cannot_be_stored_says_why(given: Mapping[str, Any], message: str) -> None:
    """Each refusal names the object and what to do."""
    with pytest.raises(UnsupportedObjectError, match=message):
        MANAGERS.group(given)


def test_an_unknown_manager_is_named_with_the_known_ones() -> None:
    """`manager=` takes names of managers only."""
    with pytest.raises(InvalidArgumentError, match=r"'keras'.*pytorch, sklearn, xgboost"):
        MANAGERS.group({"model": BASE()}, "keras")


@pytest.mark.parametrize(
    "second",
    [
        manager("sklearn", "other:Class"),
        manager("other", "sklearn.base:BaseEstimator"),
        manager("other", wrappers={"sklearn.base:BaseEstimator": "inner"}),
    ],
)
def test_two_managers_cannot_share_a_name_or_a_claim(second: Manager) -> None:
    """A conflict is told when the managers are put together."""
    with pytest.raises(InvalidArgumentError, match="two managers|is claimed by"):
        Managers([SKLEARN, second])


class _Entry:
    def __init__(self, name: str, target: Any) -> None:
        self.name, self.value, self._target = name, f"somewhere:{name}", target

    def load(self) -> Any:
        """Give the target, or raise it."""
        if isinstance(self._target, Exception):
            raise self._target
        return self._target


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs entry points; the managers of the process are made anew before and after."""

    def install(**targets: Any) -> None:
        entries = [_Entry(name, target) for name, target in targets.items()]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)
        all_managers.cache_clear()

    monkeypatch.setattr(detection, "BUILTIN", ("modelstore.managers.sklearn:SklearnManager",))
    yield install
    monkeypatch.undo()
    all_managers.cache_clear()


def test_plugins_add_managers(plugins: Any) -> None:
    """A class or an instance behind an entry point becomes a manager."""
    plugins(one=type(manager("one", "one:Root")), two=manager("two", "two:Root"))
    assert sorted(all_managers().by_name) == ["one", "sklearn", "two"]
    found = all_managers().find(fake("two:Root")())
    assert found is not None
    assert found.name == "two"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ImportError("no such library"), r"'broken' \(somewhere:broken\) is left out: ImportError: no such library"),
        (manager("sklearn", "x:Y"), r"'broken'.*two managers are called 'sklearn'"),
        (manager("thief", "sklearn.base:BaseEstimator"), r"'broken'.*claimed by thief and by sklearn"),
        (object(), r"'broken'.*is left out"),
    ],
)
def test_a_broken_plugin_is_a_warning(plugins: Any, broken: Any, message: str) -> None:
    """It is skipped with its name and the cause, and leaves no claim behind; the others work."""
    plugins(broken=broken, good=manager("good", "good:Root"))
    with pytest.warns(UserWarning, match=message):
        managers = all_managers()
    assert sorted(managers.by_name) == ["good", "sklearn"]
    found = managers.find(BASE())
    assert found is not None
    assert found.name == "sklearn"


def test_detection_imports_no_framework(tmp_path: Path) -> None:
    """Making the managers and asking them about an object imports no framework, not even numpy."""
    code = """
import sys
before = set(sys.modules)
from modelstore.managers.sklearn import SklearnManager
from modelstore.managers.xgboost import XGBoostManager
from modelstore.managers.model_file import ModelFileManager
from modelstore.managers.detection import Managers
managers = Managers([SklearnManager(), XGBoostManager(), ModelFileManager()])
cls = type("XGBModel", (), {"__module__": "xgboost.sklearn"})
assert managers.find(cls()).name == "xgboost"
assert managers.find({"a": 1}) is None and managers.find("nowhere") is None
heavy = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(heavy & {"numpy", "sklearn", "skops", "xgboost", "pandas", "scipy", "joblib", "cloudpickle", "torch"}))
"""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "[]\n"


def test_a_load_imports_only_the_managers_that_it_takes() -> None:
    """A service that loads one model imports one manager; a plugin's model, or a strange record, asks for all."""
    code = """
import sys
from modelstore.managers.detection import managers_for
assert list(managers_for([{"name": "xgboost"}]).by_name) == ["xgboost"]
assert list(managers_for([{"name": "xgboost"}], "sklearn").by_name) == ["sklearn"]
assert "modelstore.managers.pytorch" not in sys.modules
for strange in (None, 5, [{}], [{"name": []}], [{"name": "a plugin's"}], ["x"]):
    assert len(managers_for(strange).by_name) > 30
print("done")
"""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "done\n", done.stderr


def test_every_manager_is_called_as_its_module_is() -> None:
    """By which a load finds the one that it takes without importing the others."""
    names = {path.partition(":")[0].rpartition(".")[2]: detection._load(path).name for path in detection.BUILTIN}
    assert all(module == name for module, name in names.items())
