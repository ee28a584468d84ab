"""`ModelStore`: everything that a user calls. It only says which room to call, in which order."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore import opening
from modelstore.catalogue import Catalogue
from modelstore.exceptions import CommitUnknownError, InvalidArgumentError, ModelStoreError, OfflineError
from modelstore.records import ModelRecord

if TYPE_CHECKING:
    from modelstore.archive import ArchiveFile
    from modelstore.registry.registry import Model
    from modelstore.storage.base import Storage


class ModelStore(Catalogue):
    """A store of trained models in a folder or bucket. Make one with `ModelStore.from_file_system(…)`.

    All methods may be called from several threads and processes at once. Every question is answered from what is
    in the store at that moment; a local index and cache only make it fast.

    Args:
        storage: where the store lies.
        cache_directory: for unpacked models and the local index (default: `MODELSTORE_CACHE`, else the platform's
            cache folder). It may be deleted at any time.
        allow_pickle: whether models that need a pickle may be loaded (default: `MODELSTORE_ALLOW_PICKLE`, else
            yes: whoever may write to this store is trusted).
    """

    def __init__(
        self,
        storage: Storage,
        *,
        cache_directory: str | os.PathLike[str] | None = None,
        allow_pickle: bool | None = None,
    ) -> None:
        self.storage = storage
        self._cache_directory = cache_directory
        self._allow_pickle = allow_pickle
        self._open()

    def _open(self) -> None:
        from modelstore.registry.registry import Registry  # with SQLite; not needed to import modelstore

        folder = opening.cache_folder(self._cache_directory)
        self._registry = Registry(self.storage, None if folder is None else folder / "index")
        self._cache = opening.cache(folder)

    @classmethod
    def from_file_system(
        cls,
        root_directory: str | os.PathLike[str] | None = None,
        create_directory: bool = False,
        *,
        cache_directory: str | os.PathLike[str] | None = None,
        allow_pickle: bool | None = None,
    ) -> ModelStore:
        """A store in a local or mounted folder.

        Args:
            root_directory: the folder (default: `MODEL_STORE_ROOT_PREFIX`).
            create_directory: make the folder if it is not there; the one above it must be.
            cache_directory: see `ModelStore`.
            allow_pickle: see `ModelStore`.

        Raises:
            InvalidArgumentError: no folder was named.
            StoreNotFoundError: there is no such folder.
            NotAFolderError: it is a file.
        """
        storage = opening.file_system(root_directory, create_directory)
        return cls(storage, cache_directory=cache_directory, allow_pickle=allow_pickle)

    # -- models: up and down ------------------------------------------------------------------------------------

    def upload(
        self,
        domain: str,
        model_id: str | None = None,
        *,
        extra_files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        extras: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        extra_metadata: Any = None,
        metrics: dict[str, Any] | None = None,
        tags: dict[str, Any] | None = None,
        note: str | None = None,
        X_train: Any = None,
        y_train: Any = None,
        manager: str | None = None,
        **objects: Any,
    ) -> ModelRecord:
        """Store a model, with all that is known about it. Durable and visible to everybody when this returns.

        Args:
            domain: what the model is for; any text. A domain comes into being with its first model.
            model_id: unique within the domain; any text (default: a random UUID).
            extra_files: files or folders that go along, below `extras/`.
            extras: the old name of extra_files.
            extra_metadata: anything that JSON can hold; becomes `extra` in the record.
            metrics: numbers by name.
            tags: texts by name.
            note: what was tried, and what came of it.
            X_train: the training data; its shape is recorded, nothing else.
            y_train: its labels; their shape and counts are recorded.
            manager: the name of the manager that is to store the objects, where detection is not wanted.
            **objects: the model as `model=`, and what belongs to it (`explainer=`, `preprocessor=`, `optimizer=`,
                `tokenizer=`, `processor=`, `config=`), or options of a manager (`weights_only=True`).

        Returns:
            The record; `get_model_info` returns an equal one.

        Raises:
            UnknownKeywordError: no manager takes this keyword.
            UnsupportedObjectError: no manager can store this object.
            InvalidNameError, InvalidArgumentError: another argument cannot be used.
            RecordTooLargeError: what is to be recorded takes more than 256 KiB.
            ModelExistsException: the id is taken.
            StorageError: nothing was committed.
            CommitUnknownError: the storage did not say whether it took the last step.
        """
        from modelstore import description
        from modelstore.archive import Packer
        from modelstore.folder import ModelFolder
        from modelstore.managers.bundle import Bundle
        from modelstore.managers.detection import all_managers
        from modelstore.registry.events import check_size
        from modelstore.registry.keys import archive_key, clean_id, clean_name

        if extras is not None:
            warnings.warn("extras= is deprecated; use extra_files=", DeprecationWarning, stacklevel=2)
            extra_files = extras if extra_files is None else extra_files
        domain = clean_name("domain", domain)
        model_id = clean_id(uuid.uuid4() if model_id is None else model_id)
        bundle = Bundle.of(all_managers(), objects, manager)
        words = description.check_words(
            metrics=metrics, tags=tags, note=note, extra_metadata=extra_metadata, extra_files=extra_files,
            X_train=X_train, y_train=y_train,
        )  # fmt: skip
        self._registry.check_free(domain, model_id)
        with ModelFolder() as folder:
            managers, saved = bundle.save(folder)
            contents = folder.contents()
            record, attached = description.describe(domain, model_id, bundle, managers, saved, words)
            check_size(record)
            packer = Packer(contents, attached)
            key = archive_key(domain, model_id, uuid.uuid4().hex, packer.suffix)
            archive = packer.write(lambda chunks: self.storage.write(key, chunks, packer.expected))
        return self._commit(domain, model_id, record, {"key": key, **archive.to_dict()})

    def _commit(self, domain: str, model_id: str, record: dict[str, Any], archive: dict[str, Any]) -> ModelRecord:
        try:
            return self._registry.add(domain, model_id, record, archive).record
        except CommitUnknownError:
            raise  # the event may still appear: its bytes are left to gc
        except ModelStoreError:
            with suppress(ModelStoreError):  # what has failed first is what the caller wants to know; gc does the rest
                self.storage.delete([archive["key"]])
            raise

    def load(
        self,
        domain: str,
        model_id: str | None = None,
        *,
        state: str | None = None,
        verify: str | None = None,
        offline: bool | None = None,
        with_optimizer: bool = False,
        into: Any = None,
        allow_pickle: bool | None = None,
        trusted_types: Sequence[str] = (),
        manager: str | None = None,
    ) -> Any:
        """Bring a model back into memory: what was uploaded, as it was.

        Args:
            domain: where it was uploaded to.
            model_id: which one (default: the latest).
            state: take the model that was put into this state last.
            verify: `"full"` reads every byte of the cached files again and compares digests; otherwise a file is
                read again only if its size or times have changed.
            offline: answer from the local index and cache alone (default: `MODELSTORE_OFFLINE`).
            with_optimizer: give `(model, optimizer)` for a PyTorch model that was uploaded with one.
            into: fill this object, which the caller has built, with the weights; needs no pickle.
            allow_pickle: whether a pickle may be loaded (default: the store's setting).
            trusted_types: full names of further types that skops may build.
            manager: the name of the manager that is to load it, instead of the one that stored it.

        Returns:
            The object; a mapping by library where several managers stored the upload (`models["sklearn"]`), by keyword
            where one manager stored several objects. Transformers: `(model, tokenizer, config)`, see the manager.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException, StateNotFoundError: no such thing.
            PickleNotAllowedError: it needs a pickle, and that is not allowed.
            MissingDependencyError: the framework is not installed.
            IntegrityError: the stored bytes are not those that were uploaded.
            OfflineError: it is not held locally.
        """
        from modelstore.managers.bundle import load_bundle
        from modelstore.managers.detection import all_managers
        from modelstore.unpacking import subject, unpacked

        if verify not in (None, "full"):
            raise InvalidArgumentError("verify", f"verify={verify!r} means nothing; it is 'full' or left out")
        offline = opening.offline(offline)
        model = self._registry.find(domain, model_id, state, offline)
        policy = opening.pickle_policy(allow_pickle, self._allow_pickle, trusted_types, model.record)
        with self._reading(model), unpacked(self.storage, self._cache, model, verify=verify, offline=offline) as folder:
            return load_bundle(
                all_managers(), model.record["model"].get("managers"), folder, policy,
                subject=subject(model), manager=manager, with_optimizer=with_optimizer, into=into,
            )  # fmt: skip

    def download(
        self,
        local_path: str | os.PathLike[str],
        domain: str,
        model_id: str | None = None,
        *,
        include: str | Sequence[str] | None = None,
        state: str | None = None,
        offline: bool | None = None,
    ) -> str:
        """Put a model's files into a folder, without loading the model.

        Args:
            local_path: the folder; made if it is not there. Files of the same names are replaced.
            domain: where the model was uploaded to.
            model_id: which one (default: the latest).
            include: only files whose names match this pattern, or one of these (`"*.json"`; `*` matches `/` too);
                only their chunks are read.
            state: take the model that was put into this state last.
            offline: answer from the local index and cache alone (default: `MODELSTORE_OFFLINE`).

        Returns:
            The absolute path of the folder.

        Raises:
            InvalidArgumentError: no file matches. Otherwise as `load`.
        """
        from modelstore import unpacking

        offline = opening.offline(offline)
        target = Path(os.path.abspath(local_path))
        model = self._registry.find(domain, model_id, state, offline)
        with self._reading(model):
            unpacking.download(self.storage, self._cache, model, target, include, offline)
        return str(target)

    def files(self, domain: str, model_id: str | None = None, *, state: str | None = None) -> list[ArchiveFile]:
        """The files in a model's archive, with their sizes and digests. Costs one read.

        Raises:
            OfflineError: `MODELSTORE_OFFLINE` is set. Otherwise as `load`.
        """
        from modelstore.unpacking import open_archive

        if opening.offline(None):
            raise OfflineError("files() reads from the store, and MODELSTORE_OFFLINE is set; download() uses the cache")
        model = self._registry.find(domain, model_id, state)
        with self._reading(model):
            return list(open_archive(self.storage, model).files)

    def _reading(self, model: Model) -> AbstractContextManager[None]:
        from modelstore.unpacking import archive_errors

        return archive_errors(model, lambda: self._registry.find(model.domain, model.model_id).number)

    def __repr__(self) -> str:
        return f"ModelStore({self.storage.address})"

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "cache_directory": self._cache_directory, "allow_pickle": self._allow_pickle}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.storage = state["storage"]
        self._cache_directory = state["cache_directory"]
        self._allow_pickle = state["allow_pickle"]
        self._open()
