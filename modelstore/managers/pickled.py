"""Objects, and parts of objects, that only a pickle restores: written without a copy in memory, read by the policy."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers import pickling
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.pieces import PieceWriter

PICKLE = "model.pkl"


def save_pickle(
    obj: Any,
    folder: ModelFolder,
    name: str,
    refusal: str,
    travels: Callable[[str], bool] | None = None,
    persistent_id: Callable[[Any], Any] | None = None,
) -> Saved:
    """Pickle `obj` to the file `name`; classes and functions that no import finds go in by value.

    Args:
        refusal: how the error is to start when it cannot be pickled, such as "this forecaster cannot be pickled".
        travels: says of a module's name whether its code is to go in by value too; the state's `by_value` then names
            the modules of which it did.
        persistent_id: see `pickle.Pickler.persistent_id`.

    Raises:
        UnsupportedObjectError: it cannot be pickled.
    """
    file = PieceWriter()
    try:
        pickled = pickling.dump(obj, file, persistent_id, travels=travels)
    except Exception as error:  # the objects' own methods raise whatever they like
        raise UnsupportedObjectError(
            f"{refusal} ({error}): take out of it what holds a file, a lock or a connection", class_name(obj)
        ) from error
    folder.add_buffers(name, file.pieces)
    state = {} if travels is None else {"by_value": sorted(pickled.travelling)}
    return Saved("pickle", state, pickled=[name], modules=pickled.modules, by_value=pickled.by_value)


def load_pickle(
    path: Path, subject: str, policy: PicklePolicy, persistent_load: Callable[[Any], Any] | None = None
) -> Any:
    """Unpickle a file that `save_pickle` wrote.

    Args:
        subject: what it is, for errors; the file's name is added.
        persistent_load: the inverse of the `persistent_id` that it was saved with.

    Raises:
        PickleNotAllowedError: the policy refuses.
        IntegrityError: there is no such file, or it is no pickle.
    """
    if not path.is_file():
        raise IntegrityError(subject, "file", f"{path.name} is not there")
    with open(path, "rb") as file:
        try:
            return pickling.load(file, f"{subject} in {path.name}", policy, persistent_load)
        except (EOFError, pickle.UnpicklingError) as error:
            raise IntegrityError(subject, path.name, f"it cannot be unpickled: {error}") from error


class PickledManager(ObjectManager):
    """A manager whose framework has no format but pickle."""

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.pkl`."""
        return save_pickle(obj, folder, PICKLE, f"this {class_name(obj)} cannot be pickled")

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read `model.pkl`.

        Raises:
            PickleNotAllowedError: the policy refuses.
        """
        return load_pickle(folder / PICKLE, f"the {self.name} model", request.policy)
