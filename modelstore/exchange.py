"""The part of `ModelStore` that takes models out and in: files, copies in other stores, a table of all records."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from modelstore import opening
from modelstore.exceptions import AccessDeniedError, InvalidArgumentError, OfflineError
from modelstore.notices import warn
from modelstore.records import ModelRecord
from modelstore.registry.keys import clean_id, clean_name
from modelstore.timing import Timed, timed

if TYPE_CHECKING:
    from modelstore.progress import Advance
    from modelstore.registry.registry import Model, Registry
    from modelstore.storage.base import Storage


class Exchange(Timed):
    """Models on their way from store to store.

    Each method takes `timeout`: seconds in which it must end (default: the store's).
    """

    _registry: Registry
    _progress: bool | None
    storage: Storage

    @timed
    def export_model(
        self,
        domain: str,
        model_id: str,
        path: str | os.PathLike[str],
        *,
        timeout: float | None = None,
        progress: bool | None = None,
    ) -> str:
        """Put a model into one file that another store takes in: its archive, its record and its history.

        The file is a tar of two members: `modelstore-export.json`, and the archive as it lies in the store, with the
        model card in it. `import_model` is the inverse.

        Args:
            domain: of the model.
            model_id: which.
            path: the file; what is there is replaced, in one step.
            timeout: seconds in which this call must end (default: the store's).
            progress: whether to show a bar (default: the store's).

        Returns:
            The absolute path of the file.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
            UnsupportedObjectError: it was adopted from a store of operatorai/modelstore.
            IntegrityError: the stored bytes are not those that were uploaded.
            StorageError: the file cannot be written; nothing is left of it.
        """
        from modelstore.portable.file import write_file
        from modelstore.portable.parcel import pack
        from modelstore.unpacking import open_archive

        model = self._online(domain, model_id, "export_model")
        target = Path(os.path.abspath(path))
        parcel = pack(self._registry, model)
        with self._leaving(model), self._bar(f"exporting {model.model_id}", progress)(model.archive["size"]) as advance:
            stored = open_archive(self.storage, model, advance).stored(look_inside=False)
            write_file(target, parcel.encode(), parcel.file_name, parcel.archive.size, stored)
        return str(target)

    @timed
    def import_model(
        self,
        path: str | os.PathLike[str],
        *,
        domain: str | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
    ) -> ModelRecord:
        """Take a model in from a file of `export_model`. Importing it again changes nothing.

        Nothing in the file is trusted: names, sizes and every digest are checked before the model is to be seen. The
        model is marked as foreign (`record["foreign"]`, and `record["imported"]` for where it comes from), and `load`
        refuses its pickles unless they are allowed expressly: `allow_pickle=True`, on the call or the store. What
        happened to it elsewhere stands in `history` and `journal` as `imported`; states do not come along.

        Args:
            path: the file.
            domain: where to (default: the domain that it was in).
            timeout: seconds in which this call must end (default: the store's).
            progress: whether to show a bar (default: the store's).

        Returns:
            The record of the model here.

        Raises:
            ModelExistsException: another model bears its id.
            ModelNotFoundException: it needs another model that is not here.
            IntegrityError: the file is damaged, or none of `export_model`. Nothing is left of it.
            StorageError: the file cannot be read. Otherwise as `upload`.
        """
        from modelstore.archive import Archive
        from modelstore.portable.arrival import Arrival
        from modelstore.portable.file import open_archive_member, read_description
        from modelstore.portable.parcel import decode
        from modelstore.registry.origins import IMPORTED

        file = Path(os.path.abspath(path))
        subject = f"the file {file}"
        description = read_description(file, subject)
        parcel = decode(description, subject)
        size = parcel.archive.size
        place = open_archive_member(file, subject, description, parcel.file_name, size)
        target = clean_name("domain", parcel.origin["domain"] if domain is None else domain)
        arrival = Arrival(self._registry, parcel, IMPORTED, target, parcel.origin["model_id"])
        known = arrival.known()
        if known is None:
            with self._bar(f"importing {arrival.model_id}", progress)(size) as advance:
                archive = Archive.open(place, subject, parcel.archive)
                known = arrival.take(archive, advance, 2)
        return known.record

    @timed
    def copy_model(
        self,
        domain: str,
        model_id: str,
        *,
        to: Exchange,
        to_domain: str | None = None,
        to_model_id: str | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
    ) -> ModelRecord:
        """Copy a model into another store, as from development to production. Copying it again changes nothing.

        The bytes go through this process, in bounded memory, each chunk checked on its way. Both logs say so: the
        record there has `copied`, `history` here an entry of that kind. Its metrics, tags and history come along; its
        states do not. Unlike a file, a store that one copies from is trusted: pickles are as there, and what was
        foreign there stays so.

        Args:
            domain: of the model.
            model_id: which.
            to: the other store, or this one.
            to_domain: its domain there (default: the same).
            to_model_id: its id there (default: the same).
            timeout: seconds in which this call must end (default: the store's).
            progress: whether to show a bar (default: the store's).

        Returns:
            The record of the model there.

        Raises:
            ModelNotFoundException: there is no such model, or it needs another one that the other store lacks: copy
                that one first.
            ModelExistsException: another model bears its id there.
            IntegrityError: the stored bytes are not those that were uploaded; nothing is left there.
            UnsupportedObjectError: it was adopted from a store of operatorai/modelstore. Otherwise as `upload`.
        """
        from modelstore.portable.arrival import Arrival
        from modelstore.portable.parcel import pack
        from modelstore.registry.origins import COPIED
        from modelstore.unpacking import open_archive

        if not isinstance(to, Exchange):
            raise InvalidArgumentError("to", f"to={to!r} is no ModelStore")
        model = self._online(domain, model_id, "copy_model")
        parcel = pack(self._registry, model)
        target = clean_name("domain", model.domain if to_domain is None else to_domain)
        there_id = clean_id(model.model_id if to_model_id is None else to_model_id)
        arrival = Arrival(to._registry, parcel, COPIED, target, there_id, self.storage.address)
        there = arrival.known()
        if there is None:
            size = model.archive["size"]
            with self._leaving(model), self._bar(f"copying {model.model_id}", progress)(size) as advance:
                archive = open_archive(self.storage, model)
                there = arrival.take(archive, advance, self.storage.streams or 2)
        self._note_copy(model, there, to)
        return there.record

    def _note_copy(self, model: Model, there: Model, to: Exchange) -> None:
        """On this side, which may be one that the caller may only read."""
        from modelstore.portable.arrival import note_copy
        from modelstore.registry.origins import COPIED

        mine, theirs = self._registry.logs.index(), to._registry.logs.index()
        assert mine is not None
        assert theirs is not None
        told = there.record.get(COPIED) or {}
        if (told.get("store"), told.get("domain"), told.get("number")) != (mine.store_id, model.domain, model.number):
            return  # it came there by another way
        place = {
            "store": theirs.store_id, "address": to.storage.address, "domain": there.domain,
            "model_id": there.model_id, "number": there.number,
        }  # fmt: skip
        try:
            note_copy(self._registry, model.domain, model.number, place)
        except AccessDeniedError as error:
            warn(f"the model was copied, but {self.storage.address} cannot be told so: {error}")

    @timed
    def export_catalog(
        self, path: str | os.PathLike[str], *, domain: str | None = None, timeout: float | None = None
    ) -> int:
        """Write the records of all models, or of one domain's, into a Parquet file: one row for each model.

        Columns: `domain`, `model_id`, `number`, `library`, `type`, `created`, `user`, `note`, `states`, `size`,
        `archive_digest`, `content_digest`, `foreign`, and as many of `metrics.*` (float64), `tags.*` and `params.*` as
        there are. What is of one type in all models has it; what is not, and lists, is JSON as text.

        Args:
            path: the file; what is there is replaced, in one step.
            domain: only models of this domain.
            timeout: seconds in which this call must end (default: the store's).

        Returns:
            How many models there are in it.

        Raises:
            MissingDependencyError: pyarrow is not installed.
            DomainNotFoundException: there is no such domain.
            StorageError: the file cannot be written; nothing is left of it.
        """
        from modelstore.portable.catalog import write_catalog

        return write_catalog(self._registry, Path(os.path.abspath(path)), domain, opening.offline(None))

    def _online(self, domain: str, model_id: str, call: str) -> Model:
        if opening.offline(None):
            raise OfflineError(f"{call}() reads from the store, and MODELSTORE_OFFLINE is set")
        return self._registry.find(domain, clean_id(model_id))

    def _leaving(self, model: Model) -> AbstractContextManager[None]:
        from modelstore.unpacking import archive_errors

        return archive_errors(model, lambda: self._registry.find(model.domain, model.model_id).number)

    def _bar(self, doing: str, progress: bool | None) -> Callable[[int], AbstractContextManager[Advance]]:
        from modelstore.progress import bar, wanted

        show = wanted(self._progress if progress is None else progress)
        return lambda size: bar(doing, size, show)
