"""`ModelStore`: everything that a user calls. It only says which room to call, in which order."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelstore import opening
from modelstore.catalogue import Catalogue
from modelstore.connecting import Connections
from modelstore.discovery import Discovery
from modelstore.exceptions import CommitUnknownError, InvalidArgumentError, ModelStoreError, OfflineError
from modelstore.exchange import Exchange
from modelstore.lifecycle import Lifecycle
from modelstore.notices import warn
from modelstore.records import ModelRecord, time_text
from modelstore.timing import check_timeout, in_thread, timed

if TYPE_CHECKING:
    from datetime import datetime

    from modelstore.archive import ArchiveFile
    from modelstore.registry.registry import Model
    from modelstore.storage.base import Storage
    from modelstore.unpacking import Bars


class ModelStore(Connections, Catalogue, Lifecycle, Discovery, Exchange):
    """A store of trained models in a folder or bucket. Make one with a `ModelStore.from_…` constructor.

    All methods may be called from several threads and processes at once. Every question is answered from what is
    in the store at that moment; a local index and cache only make it fast.

    Args:
        storage: where the store lies.
        cache_directory: for unpacked models and the local index (default: `MODELSTORE_CACHE`, else the platform's
            cache folder). It may be deleted at any time.
        allow_pickle: whether models that need a pickle may be loaded (default: `MODELSTORE_ALLOW_PICKLE`, else
            yes: whoever may write to this store is trusted).
        timeout: seconds in which each call must end; a call's own `timeout=` goes before it (default: as long as it
            takes, while each request to a storage has a limit of its own). What is over it raises
            `DeadlineExceededError`, or `CommitUnknownError` where a commit was under way.
        progress: whether transfers of more than 64 MiB show a bar (default: yes, unless `MODELSTORE_PROGRESS=0`). None
            is shown where stderr is neither a terminal nor a notebook.

    Raises:
        InvalidArgumentError: `timeout` is not a positive number.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        cache_directory: str | os.PathLike[str] | None = None,
        allow_pickle: bool | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
    ) -> None:
        self.storage = storage
        self._cache_directory = cache_directory
        self._allow_pickle = allow_pickle
        self._timeout = check_timeout(timeout)
        self._progress = progress
        self._open()

    def _open(self) -> None:
        from modelstore.registry.registry import Registry  # with SQLite; not needed to import modelstore

        folder = opening.cache_folder(self._cache_directory)
        self._registry = Registry(self.storage, None if folder is None else folder / "index")
        self._cache = opening.cache(folder)

    # -- models: up and down ------------------------------------------------------------------------------------

    @timed
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
        parent: str | None = None,
        X_train: Any = None,
        y_train: Any = None,
        manager: str | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
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
            parent: the id of the model of this domain that this one was made from; `journal` tells what changed.
            X_train: the training data; its shape is recorded, nothing else.
            y_train: its labels; their shape and counts are recorded.
            manager: the name of the manager that is to store the objects, where detection is not wanted.
            timeout: seconds in which this call must end (default: the store's).
            progress: whether to show a bar (default: the store's).
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
            ModelNotFoundException, ModelDeletedException: there is no such parent.
            StorageError: nothing was committed.
            CommitUnknownError: the storage did not say whether it took the last step.
        """
        from modelstore import description
        from modelstore.archive import Packer
        from modelstore.folder import ModelFolder
        from modelstore.managers.bundle import Bundle
        from modelstore.managers.detection import all_managers
        from modelstore.progress import counted
        from modelstore.registry import links
        from modelstore.registry.events import check_size
        from modelstore.registry.keys import archive_key, clean_id, clean_name

        if extras is not None:
            warn("extras= is deprecated; use extra_files=", DeprecationWarning)
            extra_files = extras if extra_files is None else extra_files
        domain = clean_name("domain", domain)
        model_id = clean_id(uuid.uuid4() if model_id is None else model_id)
        bundle = Bundle.of(all_managers(), objects, manager)
        words = description.check_words(
            metrics=metrics, tags=tags, note=note, extra_metadata=extra_metadata, extra_files=extra_files,
            X_train=X_train, y_train=y_train, parent=parent,
        )  # fmt: skip
        self._registry.check_free(domain, model_id)
        origin = None if parent is None else self._registry.find(domain, clean_id(parent)).number
        with ModelFolder() as folder:
            managers, saved = bundle.save(folder)
            links.complete(self._registry, managers)
            contents = folder.contents()
            record, attached = description.describe(domain, model_id, bundle, managers, saved, words)
            check_size(record)
            packer = Packer(contents, attached)
            key = archive_key(domain, model_id, uuid.uuid4().hex, packer.suffix)
            with self._bars(f"uploading {model_id}", progress)(packer.expected) as advance:
                archive = packer.write(
                    lambda chunks: self.storage.write(key, counted(chunks, advance), packer.expected)
                )
        return self._commit(domain, model_id, record, {"key": key, **archive.to_dict()}, origin)

    def _commit(
        self, domain: str, model_id: str, record: dict[str, Any], archive: dict[str, Any], parent: int | None
    ) -> ModelRecord:
        try:
            return self._registry.add(domain, model_id, record, archive, parent).record
        except CommitUnknownError:
            raise  # the event may still appear: its bytes are left to gc
        except ModelStoreError:
            with suppress(ModelStoreError):  # what has failed first is what the caller wants to know; gc does the rest
                self.storage.delete([archive["key"]])
            raise

    aupload = in_thread(upload)

    @timed
    def load(
        self,
        domain: str,
        model_id: str | None = None,
        *,
        state: str | None = None,
        at: datetime | str | None = None,
        verify: str | None = None,
        offline: bool | None = None,
        with_optimizer: bool = False,
        into: Any = None,
        allow_pickle: bool | None = None,
        trusted_types: Sequence[str] = (),
        manager: str | None = None,
        device: str | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Bring a model back into memory: what was uploaded, as it was.

        Args:
            domain: where it was uploaded to.
            model_id: which one (default: the latest).
            state: take the model that was put into this state last.
            at: a time (ISO 8601, UTC where it names no zone): the latest, or the one in the state, as it was then.
            verify: `"full"` reads every byte of the cached files again and compares digests; otherwise a file is
                read again only if its size or times have changed.
            offline: answer from the local index and cache alone (default: `MODELSTORE_OFFLINE`).
            with_optimizer: give `(model, optimizer)` for a PyTorch model that was uploaded with one.
            into: fill this object, which the caller has built, with the weights; needs no pickle.
            allow_pickle: whether a pickle may be loaded (default: the store's setting).
            trusted_types: full names of further types that skops may build.
            manager: the name of the manager that is to load it, instead of the one that stored it.
            device: where the weights go, in the framework's words (`"cuda"`, `"cuda:1"`, `"cpu"`); default: where they
                were, or the CPU where this machine has no such device.
            timeout: seconds in which this call must end (default: the store's).
            progress: whether to show a bar (default: the store's).

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
        from modelstore.ancestor import loading
        from modelstore.ancestor.metadata import is_adopted
        from modelstore.managers.bundle import load_bundle
        from modelstore.managers.detection import managers_for
        from modelstore.registry import links
        from modelstore.unpacking import subject, unpacked

        if verify not in (None, "full"):
            raise InvalidArgumentError("verify", f"verify={verify!r} means nothing; it is 'full' or left out")
        offline = opening.offline(offline)
        model = self._registry.find(domain, model_id, state, offline, time_text("at", at))
        policy = opening.pickle_policy(allow_pickle, self._allow_pickle, trusted_types, model.record)
        adopted = is_adopted(model.archive)
        if adopted:
            loading.check_policy(model.record, policy, subject(model), into)
        bars = self._bars(f"loading {model.model_id}", progress)
        files = unpacked(self.storage, self._cache, model, bars, verify=verify, offline=offline)

        def linked(reference: Mapping[str, Any]) -> Any:
            other = links.follow(self._registry, reference, subject(model), offline)
            return self.load(
                other.domain, other.model_id, verify=verify, offline=offline, allow_pickle=allow_pickle,
                trusted_types=trusted_types, device=device, timeout=timeout, progress=progress,
            )  # fmt: skip

        with self._reading(model), files as folder:
            if adopted:
                return loading.load(
                    model.record, folder, policy, subject(model), into=into, device=device, manager=manager,
                    with_optimizer=with_optimizer,
                )  # fmt: skip
            entries = model.record["model"].get("managers")
            return load_bundle(
                managers_for(entries, manager), entries, folder, policy, subject=subject(model),
                manager=manager, with_optimizer=with_optimizer, into=into, device=device, load_model=linked,
            )  # fmt: skip

    aload = in_thread(load)

    @timed
    def download(
        self,
        local_path: str | os.PathLike[str],
        domain: str,
        model_id: str | None = None,
        *,
        include: str | Sequence[str] | None = None,
        state: str | None = None,
        offline: bool | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
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
            timeout: seconds in which this call must end (default: the store's).
            progress: whether to show a bar (default: the store's).

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
            bars = self._bars(f"downloading {model.model_id}", progress)
            unpacking.download(self.storage, self._cache, model, bars, target, include, offline)
        return str(target)

    adownload = in_thread(download)

    @timed
    def files(
        self,
        domain: str,
        model_id: str | None = None,
        *,
        state: str | None = None,
        timeout: float | None = None,
    ) -> list[ArchiveFile]:
        """The files in a model's archive, with their sizes and digests. Costs one read.

        Raises:
            OfflineError: `MODELSTORE_OFFLINE` is set. Otherwise as `load`.
        """
        from modelstore.unpacking import list_files

        if opening.offline(None):
            raise OfflineError("files() reads from the store, and MODELSTORE_OFFLINE is set; download() uses the cache")
        model = self._registry.find(domain, model_id, state)
        with self._reading(model):
            return list_files(self.storage, self._cache, model, self._bars(f"reading {model.model_id}", None))

    def _bars(self, doing: str, progress: bool | None) -> Bars:
        from modelstore.progress import bar, wanted

        show = wanted(self._progress if progress is None else progress)
        return lambda size: bar(doing, size, show)

    def _reading(self, model: Model) -> AbstractContextManager[None]:
        from modelstore.unpacking import archive_errors

        return archive_errors(model, lambda: self._registry.find(model.domain, model.model_id).number)

    def __repr__(self) -> str:
        return f"ModelStore({self.storage.address})"

    def __getstate__(self) -> dict[str, Any]:
        kept = ("cache_directory", "allow_pickle", "timeout", "progress")
        return {"storage": self.storage, **{name: self.__dict__[f"_{name}"] for name in kept}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.storage = state.pop("storage")
        self.__dict__.update({f"_{name}": value for name, value in state.items()})
        self._open()
