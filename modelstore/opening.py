"""How a store is opened: arguments, environment variables and their defaults."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore.exceptions import InvalidArgumentError, NotAFolderError, StorageError, StoreNotFoundError
from modelstore.records import ModelRecord

if TYPE_CHECKING:
    from modelstore.archive import Cache
    from modelstore.managers.pickling import PicklePolicy
    from modelstore.storage.base import Storage

DEFAULT_CACHE_BYTES = 20 * 1024**3

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off", ""})


def file_system(root_directory: str | os.PathLike[str] | None, create_directory: bool) -> Storage:
    """The storage of a local folder; see `ModelStore.from_file_system`."""
    from modelstore.storage.local import FileSystemStorage

    given = root_directory or os.environ.get("MODEL_STORE_ROOT_PREFIX")
    if not given:
        raise InvalidArgumentError(
            "root_directory", "a store in a folder needs the folder: root_directory=, or MODEL_STORE_ROOT_PREFIX"
        )
    root = Path(os.path.abspath(os.path.expanduser(given)))
    if not root.exists():
        if not root.parent.is_dir():
            raise StoreNotFoundError(f"{root} cannot be made: the folder above it does not exist")
        if not create_directory:
            raise StoreNotFoundError(f"there is no folder {root}; pass create_directory=True to have it made")
        try:
            root.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder {root} cannot be made: {error.strerror}") from error
    if not root.is_dir():
        raise NotAFolderError(f"{root} is a file; a store needs a folder")
    return FileSystemStorage(root)


def cache_folder(given: str | os.PathLike[str] | None) -> Path | None:
    """Where unpacked models and the local index lie; None if this machine has no place for them."""
    chosen = given or os.environ.get("MODELSTORE_CACHE")
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("modelstore", appauthor=False))
    except (OSError, RuntimeError):  # no home folder
        return None


def cache(folder: Path | None) -> Cache:
    """The cache of unpacked models, of `MODELSTORE_CACHE_SIZE` bytes (default: 20 GiB)."""
    from modelstore.archive import Cache

    given = os.environ.get("MODELSTORE_CACHE_SIZE")
    try:
        limit = int(given) if given else DEFAULT_CACHE_BYTES
    except ValueError:
        raise InvalidArgumentError(
            "MODELSTORE_CACHE_SIZE", f"MODELSTORE_CACHE_SIZE={given!r} is no number of bytes"
        ) from None
    return Cache(None if folder is None else folder / "models", limit)


def offline(given: bool | None) -> bool:
    """Whether to answer from local files alone."""
    return bool(flag("MODELSTORE_OFFLINE", False) if given is None else given)


def pickle_policy(
    asked: bool | None, store: bool | None, trusted_types: Sequence[str], record: ModelRecord
) -> PicklePolicy:
    """The reader's choice about pickles: the call's, else the store's, else the environment's, else the default.

    The default trusts whoever may write to the store, and refuses what was imported from a file.
    """
    from modelstore.managers.pickling import PicklePolicy

    foreign = bool(record.get("foreign"))
    chosen = next((choice for choice in (asked, store) if choice is not None), None)
    if chosen is None:
        chosen = flag("MODELSTORE_ALLOW_PICKLE", not foreign)
    advice = "it came from a file; if you trust whoever made that, load with allow_pickle=True" if foreign else None
    return PicklePolicy(chosen, frozenset(trusted_types), advice)


def flag(name: str, default: bool) -> bool:
    """A yes or no of the environment.

    Raises:
        InvalidArgumentError: it is neither.
    """
    given = os.environ.get(name)
    if given is None:
        return default
    said = word(given)
    if said is None:
        raise InvalidArgumentError(name, f"{name}={given!r} is neither yes (1) nor no (0)")
    return said


def word(text: str) -> bool | None:
    """Yes or no, as people write them; None for what is neither."""
    return text.lower() in _YES if text.lower() in _YES | _NO else None
