"""What a framework's model file leaves out: the object's own attributes as JSON, its class by name.

Callables, other objects and a user's own class are pickled beside them. Two files, each only if there is something to
put into it: `attributes.json` and `custom.pkl`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder
from modelstore.managers.base import Saved, class_name
from modelstore.managers.classes import framework_class, is_of
from modelstore.managers.exact_json import decode, split
from modelstore.managers.pickled import load_pickle, save_pickle
from modelstore.managers.pickling import PicklePolicy

ATTRIBUTES = "attributes.json"
PICKLE = "custom.pkl"


def save_attributes(
    obj: Any,
    folder: ModelFolder,
    package: str,
    leave: Collection[str] = (),
    attributes: Mapping[str, Any] | None = None,
) -> Saved:
    """Write what `vars(obj)` holds.

    Args:
        package: the framework's top-level package; a class of any other is the user's own, and is pickled.
        leave: attributes that the model file holds, or that are alive (a handle, a connection).
        attributes: what to write instead of `vars(obj)`.

    Returns:
        Its state has `class`, and `pickle_because`, sorted names, where something is pickled.

    Raises:
        UnsupportedObjectError: something in it cannot be pickled.
    """
    plain, others = split(vars(obj) if attributes is None else attributes, leave)
    folder.add_json(ATTRIBUTES, plain)
    custom: dict[str, Any] = {"attributes": others} if others else {}
    if not is_of(type(obj), package):
        custom["class"] = type(obj)
    saved = Saved("", {"class": class_name(obj)})
    if custom:
        why = sorted(others) + (["class"] if "class" in custom else [])
        refusal = f"parts of this {class_name(obj)} cannot be pickled: {', '.join(why)}"
        saved.merge(save_pickle(custom, folder, PICKLE, refusal))
        saved.state["pickle_because"] = why
    return saved


def load_attributes(
    folder: Path, state: Mapping[str, Any], policy: PicklePolicy, package: str, roots: Collection[str]
) -> tuple[Any, dict[str, Any]]:
    """The class, and the attributes by name.

    Args:
        roots: `module:qualname` of the framework's classes of which the class has to be one.

    Raises:
        PickleNotAllowedError: it has a class, a callable or an object of the user's, and the policy refuses.
        IntegrityError: the record names a class that is none of the framework's, or a file is missing.
    """
    custom: dict[str, Any] = {}
    if (folder / PICKLE).exists():
        custom = load_pickle(folder / PICKLE, f"what belongs to the {package} model", policy)
    cls = custom.get("class") or framework_class(state["class"], package, roots)
    try:
        plain = json.loads((folder / ATTRIBUTES).read_bytes())
        attributes = {name: decode(value) for name, value in plain.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"the {package} model", ATTRIBUTES, f"it cannot be read: {error!r}") from error
    return cls, attributes | custom.get("attributes", {})
