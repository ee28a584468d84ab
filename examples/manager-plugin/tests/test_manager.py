"""The promises of a manager, and what is particular to this one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinylinear import LinearModel, RidgeModel
from tinylinear.modelstore_manager import TinyLinearManager

from modelstore import ModelStore
from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.managers.base import LoadRequest
from modelstore.managers.pickling import PicklePolicy
from modelstore.testing import Case, ManagerContract

X = np.arange(12.0).reshape(6, 2) ** 1.5
Y = X @ [1.0, -2.0] + 3.0


def fitted() -> dict[str, Any]:
    return {"model": LinearModel().fit(X, Y)}


def ridge() -> dict[str, Any]:
    return {"model": RidgeModel(penalty=0.5).fit(X, Y)}


def unfitted() -> dict[str, Any]:
    return {"model": RidgeModel(penalty=2.0)}


def several() -> dict[str, Any]:
    return {**fitted(), "preprocessor": ridge()["model"]}


def observe(model: Any) -> Any:
    return model.predict(X), model.weights


def observe_unfitted(model: Any) -> Any:
    return model.weights, model.fit(X, Y).predict(X)


def observe_several(models: Any) -> Any:
    return {keyword: observe(model) for keyword, model in models.items()}


class TestTinyLinear(ManagerContract):
    """Saved here, loaded in a fresh process: the contract's tests compare classes, parameters and predictions."""

    manager = TinyLinearManager()

    def cases(self) -> Mapping[str, Case]:
        return {
            "fitted": Case(fitted, observe),
            "ridge": Case(ridge, observe),
            "unfitted": Case(unfitted, observe_unfitted),
            "several": Case(several, observe_several),
        }


class Own(LinearModel):
    """A user's class."""


def test_the_store_finds_the_manager(tmp_path: Path) -> None:
    """Once the package is installed, upload and load need no word about it."""
    store = ModelStore.from_file_system(tmp_path / "store", create_directory=True)
    info = store.upload("d", **ridge())
    assert info.library == "tinylinear"
    assert info["model"]["parameters"] == {"penalty": 0.5}
    loaded = store.load("d", info.model_id, allow_pickle=False)
    assert loaded.predict(X).tobytes() == ridge()["model"].predict(X).tobytes()


def test_a_class_of_the_users_is_refused(tmp_path: Path) -> None:
    """It would come back as another class; the error says what to do instead."""
    store = ModelStore.from_file_system(tmp_path / "store", create_directory=True)
    with pytest.raises(UnsupportedObjectError, match='manager="python"'):
        store.upload("d", model=Own())


def test_a_record_cannot_name_another_class(tmp_path: Path) -> None:
    """What a record names is looked up among the package's own classes."""
    request = LoadRequest(tmp_path, {"class": "modelstore_manager"}, ("model",), PicklePolicy(True))
    with pytest.raises(IntegrityError, match="no model of tinylinear"):
        TinyLinearManager().load(request)
