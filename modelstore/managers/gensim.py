"""gensim: embeddings, topic models, phrases, dictionaries, similarities, and all else that its `SaveLoad` covers.

gensim's own `save` is a pickle. Its objects are mostly numbers, texts and arrays, which are written as such: JSON for
the attributes and a `.npy` file for each large array. What holds anything else is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._gensim.tree import TREE, Reader, Writer, refuse
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.pickled import PICKLE, load_pickle, save_pickle

_LONGEST = 200
"""Characters of a parameter that is a text."""


class GensimManager(ObjectManager):
    """Stores whatever derives from gensim's `SaveLoad`."""

    name = "gensim"
    title = "gensim"
    claims = ("gensim.utils:SaveLoad",)
    distributions = ("gensim", "numpy", "scipy", "smart-open", "cloudpickle")
    extra = "gensim"
    limits = (
        "objects that hold a class, a function or a corpus of the user's are pickled",
        "a `Similarity` with shards, and corpora that read a file, which are of no use without files of their own",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.json` and arrays, or `model.pkl` where these cannot hold it.

        Raises:
            UnsupportedObjectError: it lies in files of its own, or cannot be pickled either.
        """
        import gensim

        refuse(obj)
        state = {"version": gensim.__version__, "class": class_name(obj)}
        try:
            Writer(folder).write(obj)
        except UnsupportedObjectError:
            raise
        except (TypeError, RecursionError) as error:
            saved = save_pickle(obj, folder, PICKLE, f"this {class_name(obj)} cannot be pickled")
            saved.state = {**state, "pickle_because": str(error)[:_LONGEST]}
            return saved
        return Saved("json + npy", state)

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read whichever of the two files there is.

        Raises:
            PickleNotAllowedError: it is a pickle, and the policy refuses.
        """
        if (folder / TREE).exists():
            return Reader(folder).read()
        return load_pickle(folder / PICKLE, "the gensim model", request.policy)

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The attributes that are single numbers or short texts; of what has a length, the length."""
        found = {name: value for name, value in vars(obj).items() if not name.startswith("_") and _is_short(value)}
        if hasattr(obj, "__len__"):
            found["length"] = len(obj)
        return found


def _is_short(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= _LONGEST)
