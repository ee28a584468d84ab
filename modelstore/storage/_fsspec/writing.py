"""Making objects on a file system of fsspec's: a temporary file in the same folder, then its name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from modelstore.exceptions import (
    StorageError,
    StorageUnavailableError,
    StoreNotFoundError,
    ThrottledError,
    UnsafeStorageError,
)
from modelstore.folder import Buffer
from modelstore.records import now
from modelstore.storage import patience, transfer
from modelstore.storage._fsspec.files import SLICE, Entry, Files, Sink, parent
from modelstore.storage._fsspec.sessions import Session, Sessions
from modelstore.storage.base import Created
from modelstore.storage.publishing import temporary_name

_VANISHING = 100
"""How often a folder is made again when somebody who deletes empty folders keeps removing it beneath us."""

_TICK = timedelta(seconds=1)
"""In which the coarsest of clocks tick."""


@dataclass
class Writer:
    """Makes the objects of a store."""

    sessions: Sessions
    root: str
    address: str
    unsafe: bool
    """Whether to write where nothing keeps writers from losing each other's work."""
    missing: str | None = None
    """What keeps this file system from creating objects safely; empty: nothing; None: not known yet."""
    skew: timedelta = field(default=timedelta(), compare=False)
    """By how much the file system's clock is ahead of this machine's."""

    def create(self, path: str, data: bytes, key: str) -> Created:
        """See `Storage.create`."""
        with self._no_leftovers(key) as names:
            return self.sessions.attempt(lambda session: self._create(session, path, data, key, names), "creating", key)

    def write(self, path: str, chunks: Iterable[Sequence[Buffer]], key: str) -> Entry:
        """See `Storage.write`."""
        self.sessions.attempt(lambda session: self._prepare(session, path, key), "writing", key)
        views = (view for part in transfer.cut(chunks, SLICE) for view in part.pieces)
        with self._no_leftovers(key) as names, self.sessions.one("writing", key) as session:
            self._put(session, path, views, key, names)
            try:
                session.call(lambda files: files.publish_over(names[-1], path), "writing", key)
                names.clear()
                return session.call(lambda files: files.stat(path), "writing", key)
            except FileExistsError as error:
                raise self._misplaced("writing", key) from error
            except FileNotFoundError as error:
                raise self._gone("writing", key) from error

    def make_root(self, session: Session) -> None:
        """Make the folder of the store and those above it."""
        if self.root:
            self._make_folders(session, self.root, "", "")

    def prune(self, session: Session, folder: str, key: str) -> None:
        """Remove a folder below the root and those above it, as far as they are empty."""
        while folder != self.root and session.call(partial(_remove_folder, folder=folder), "deleting", key):
            folder = parent(folder)

    def _prepare(self, session: Session, path: str, key: str) -> None:
        self._prove(session)
        try:
            if session.call(lambda files: files.stat(path), "writing", key).is_folder:
                raise self._misplaced("writing", key)
        except FileNotFoundError:
            if parent(path) != self.root:
                self._make_folders(session, parent(path), self.root, key)

    def _create(self, session: Session, path: str, data: bytes, key: str, names: list[str]) -> Created:
        try:
            if session.call(lambda files: files.stat(path), "creating", key).is_folder:
                raise self._misplaced("creating", key)
            return Created.REFUSED  # without the rest, for those who lose a race
        except FileNotFoundError:
            self._prove(session)
        self._put(session, path, [memoryview(data)] if data else [], key, names)
        try:
            publish = _publish_loosely if self.missing else _publish_new
            session.call(partial(publish, temporary=names[-1], path=path), "creating", key)
        except FileExistsError:
            return Created.REFUSED
        except FileNotFoundError as error:
            raise self._gone("creating", key) from error
        except ThrottledError:
            raise  # the server has looked at it, and not done it
        except StorageError as error:
            if isinstance(error, StorageUnavailableError) or patience.is_over(error):
                return Created.UNKNOWN
            raise
        names.clear()
        return Created.MADE

    def _put(self, session: Session, path: str, views: Iterable[memoryview], key: str, names: list[str]) -> None:
        """Write a temporary file whose name joins `names`; makes its folder where that is missing."""
        for _ in range(_VANISHING):
            temporary = f"{parent(path)}/{temporary_name()}"
            try:
                sink = session.call(partial(_open_new, path=temporary), "writing", key)
                names.append(temporary)
                size, before = self._send(session, sink, views, key)
                break
            except FileNotFoundError as error:
                if names[-1:] == [temporary] and not isinstance(views, list):
                    raise self._gone("writing", key) from error  # told at its end, when the chunks are used up
                self._make_folders(session, parent(path), self.root, key)
        else:
            raise StorageError(f"{key!r} in {self.address}: its folder vanishes as often as it is made", key)
        try:
            entry = session.call(lambda files: files.stat(temporary), "writing", key)
        except FileNotFoundError as error:
            raise self._gone("writing", key) from error
        if entry.size != size:
            raise StorageError(f"writing {key!r} to {self.address} left {entry.size:,} of {size:,} bytes", key)
        self._compare_clocks(before, entry.modified)

    def _send(self, session: Session, sink: Sink, views: Iterable[memoryview], key: str) -> tuple[int, datetime]:
        """Write a file; returns how many bytes, and the time before it was ended."""
        size = 0
        try:
            for view in views:  # whose errors are the caller's
                session.call(partial(_feed, sink=sink, data=view), "writing", key)
                size += len(view)
            before = now()
            session.call(lambda _: sink.finish(), "writing", key)
        except BaseException:
            patience.tidy(sink.abandon)
            raise
        return size, before

    def _compare_clocks(self, before: datetime, stamped: datetime | None) -> None:
        after = now()
        skewed = stamped is not None and not before - _TICK <= stamped <= after
        self.skew = stamped - before if skewed and stamped is not None else timedelta()

    def _prove(self, session: Session) -> None:
        """See that objects can be created safely here, or that the caller does not ask for that."""
        if self.missing is None:
            try:
                self.missing = session.call(lambda files: files.prove(self.root), "writing")
            except FileNotFoundError as error:
                raise self.no_root() from error
        if self.missing and not self.unsafe:
            raise UnsafeStorageError(
                f"{self.address} is for reading only: {self.missing}, so two writers could lose each other's work; "
                "keep the store elsewhere, or pass unsafe_concurrent_writes=True if there is only ever one writer"
            )

    def _make_folders(self, session: Session, folder: str, root: str, key: str) -> None:
        """One attempt to make a folder and those above it, up to `root`; somebody may be removing them meanwhile."""
        if folder == root:
            raise self.no_root()
        make = partial(_make_folder, folder=folder)
        try:
            session.call(make, "making the folder of", key)
        except FileExistsError as error:
            with contextlib.suppress(FileNotFoundError):
                if not session.call(lambda files: files.stat(folder), "making the folder of", key).is_folder:
                    raise self._misplaced("writing", key) from error
        except FileNotFoundError:
            self._make_folders(session, parent(folder), root, key)
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                session.call(make, "making the folder of", key)

    @contextlib.contextmanager
    def _no_leftovers(self, key: str) -> Iterator[list[str]]:
        """A list of temporary files: those still in it at the end are removed."""
        names: list[str] = []
        try:
            yield names
        finally:
            if names:
                patience.tidy(
                    lambda: self.sessions.attempt(partial(self._forget, names=names, key=key), "tidying", key)
                )

    def _forget(self, session: Session, names: list[str], key: str) -> None:
        for name in names:
            session.call(partial(_remove, path=name), "tidying", key)
        self.prune(session, parent(names[-1]), key)

    def no_root(self) -> StoreNotFoundError:
        """The error of a root that is not there."""
        return StoreNotFoundError(
            f"there is no folder {self.address}: see that the path is right, or pass create_directory=True to begin a "
            "store there"
        )

    def _misplaced(self, doing: str, key: str) -> StorageError:
        return StorageError(
            f"{doing} {key!r} in {self.address} failed: a file stands where the store needs a folder, or the other way "
            "round; something else has written into the store",
            key,
        )

    def _gone(self, doing: str, key: str) -> StorageError:
        return StorageError(
            f"{doing} {key!r} in {self.address} failed: its temporary file was removed by somebody; try again", key
        )


def _publish_new(files: Files, temporary: str, path: str) -> None:
    files.publish_new(temporary, path)


def _publish_loosely(files: Files, temporary: str, path: str) -> None:
    """A look, then the name: for callers who say that nobody else writes."""
    try:
        files.stat(path)
    except FileNotFoundError:
        files.publish_over(temporary, path)
    else:
        raise FileExistsError(path)


def _remove(files: Files, path: str) -> bool:
    return files.remove(path)


def _make_folder(files: Files, folder: str) -> None:
    files.make_folder(folder)


def _remove_folder(files: Files, folder: str) -> bool:
    return files.remove_folder(folder)


def _open_new(files: Files, path: str) -> Sink:
    return files.open_new(path)


def _feed(files: Files, sink: Sink, data: memoryview) -> None:
    sink.write(data)
