"""All logs of one store: read up to date, and written to one event at a time.

A commit creates event n+1 only if it is absent, after folding 1…n. The one who loses reads the winner's event,
checks whether what it wants still holds, and tries the next number. An answer that got lost is asked for again with
the same bytes; see `_settle`.
"""

from __future__ import annotations

import getpass
import json
import logging
import secrets
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from modelstore import deadline
from modelstore.exceptions import (
    CommitUnknownError,
    DeadlineExceededError,
    IntegrityError,
    ModelStoreError,
    NewerFormatError,
    ObjectNotFoundError,
    OfflineError,
    StorageError,
)
from modelstore.notices import warn
from modelstore.records import encode_json, format_time, now, parse_time
from modelstore.registry import adoptions, compaction, keys
from modelstore.registry.events import NOT_CRITICAL, VOID, Event, parse_event
from modelstore.registry.index import Index
from modelstore.registry.indexfile import IndexFailedError
from modelstore.registry.log import LogReplacedError, Position, read_event, read_new
from modelstore.storage.base import Created, Storage

FORMAT = 1
"""Of the store as a whole, in its marker."""

MAX_SKEW = timedelta(minutes=10)
"""How far a writer's clock may be off the storage's before the storage's is taken."""

RETRIES = 6
"""How often a creation without an answer is sent again, with growing pauses (3 s in all)."""

Intent = Callable[[sqlite3.Connection], "tuple[str, dict[str, Any]] | None"]
"""Checks what is wanted against the folded tables: the kind and body of the event to append, None when nothing
needs to be written, or an error of its own."""

_ALL_DOMAINS = ""  # no domain has an empty name

_logger = logging.getLogger("modelstore")


class Logs:
    """The logs of the store that lies in `storage`.

    Args:
        storage: where.
        index_folder: for the local index; None keeps it in memory.
    """

    def __init__(self, storage: Storage, index_folder: Path | None) -> None:
        self.storage = storage
        self._index_folder = index_folder
        self._index: Index | None = None
        self._looked: dict[str | None, float] = {}
        self._elder: bool | None = None
        self.names_elder = True
        """Whether to warn of an ancestor's store at this address that was not adopted; once."""
        self.pause: Callable[[float], None] = deadline.pause
        """Waits between retries, in seconds."""

    # -- reading ------------------------------------------------------------------------------------------------

    def index(self, offline: bool = False) -> Index | None:
        """The local index; None while there is no store at the address (nothing was ever committed).

        Raises:
            OfflineError: offline, and this machine has never read this store.
        """
        if self._index is None:
            store_id = Index.last_known(self._index_folder, self.storage.address) if offline else self._read_marker()
            if store_id is None:
                if offline:
                    raise OfflineError(f"{self.storage.address} was never read on this machine; load it once online")
                if self.has_elder():
                    self._name_elder()
                return None
            self._index = Index(self._index_folder, self.storage.address, store_id)
            if self._elder and self.names_elder and not offline and not self._is_adopted(self._index):
                self._name_elder()
        return self._index

    def has_elder(self) -> bool:
        """Whether a store of the ancestor's lies at this address.

        Costs one request while there is no store of ours; later on the marker tells.
        """
        if self._elder is None:
            try:
                self._elder = next(iter(self.storage.list(f"{keys.ANCESTOR}domains/")), None) is not None
            except StorageError:  # what is wrong is said where it matters
                return False
        return self._elder

    def _is_adopted(self, index: Index) -> bool:
        with index.read() as db:
            if adoptions.seen(db, None, keys.ANCESTOR) is not None:
                return True
        try:
            self.refresh(None)  # which this machine may not have read since
        except ModelStoreError:
            return True
        with index.read() as db:
            return adoptions.seen(db, None, keys.ANCESTOR) is not None

    def _name_elder(self) -> None:
        if self.names_elder:
            self.names_elder = False
            warn(
                f"a store of operatorai/modelstore lies at {self.storage.address} and has not been adopted, so its "
                "models are not found: adopt(), or `modelstore adopt`, takes them in where they are"
            )

    def refresh(self, domain: str | None, offline: bool = False, max_age: float = 0.0) -> Index | None:
        """Fold what is new in one log; see `read_new` for what it costs. None while there is no store.

        Args:
            max_age: do without a look at the storage if the last one is no more than so many seconds ago.
        """
        if self._within(domain, max_age):
            return self._index
        for attempt in range(8):
            just_looked = self._index is None
            index = self.index(offline)
            if index is None or offline:
                return index
            try:
                known = index.position(domain)
                if known.number == 0 and not just_looked and self._read_marker() != index.store_id:
                    # Only a remembered event tells that the store is still the same; without one, its marker does.
                    self._replaced(index, domain, known)
                    continue
                try:
                    new = read_new(self.storage, domain, known)
                except LogReplacedError:
                    self._replaced(index, domain, known)
                    continue
                self._looked[domain] = monotonic()
                if not new.events and new.etag in ("", known.etag):
                    return index
                reached = index.extend(domain, known, new.events, new.etag or known.etag)
                if reached.number >= known.number + len(new.events):
                    return index
            except IndexFailedError as error:
                # Whatever is wrong with the index, the logs themselves are all that is needed to build it anew.
                _logger.debug("the local index is not used: %s", error)
                index.reset() if error.damaged and attempt < 2 else self._without_index_file()
        raise IntegrityError(self.storage.address, "log", "it keeps changing under the reader; try again")

    def _within(self, what: str | None, max_age: float) -> bool:
        looked = self._looked.get(what)
        return self._index is not None and looked is not None and monotonic() - looked < max_age

    @property
    def is_open(self) -> bool:
        """Whether this process has the local index of the store open."""
        return self._index is not None

    def note_listed(self) -> None:
        """All domains were listed just now, and each of them will be refreshed."""
        self._looked[_ALL_DOMAINS] = monotonic()

    def listed_within(self, max_age: float) -> bool:
        """Whether `note_listed` was called no more than so many seconds ago."""
        return self._within(_ALL_DOMAINS, max_age)

    def _replaced(self, index: Index, domain: str | None, known: Position) -> None:
        """Another log lies at the address: of a store made anew (another id), or of one put back from a copy."""
        index.forget(domain, known)
        index.close()
        self._index = None
        self._looked.clear()

    def _without_index_file(self) -> None:
        self._index_folder = None
        self._index = None
        self._looked.clear()

    def event(self, index: Index, domain: str | None, number: int) -> Event:
        """A folded event."""
        return parse_event(index.event(domain, number), domain, number, None)

    def _read_marker(self) -> str | None:
        try:
            raw = self.storage.read(keys.MARKER, 0, 64 * 1024)
        except ObjectNotFoundError:
            return None
        subject = f"{self.storage.address.rstrip('/')}/{keys.MARKER}"
        try:
            marker = json.loads(raw)
            version, store_id = marker["format"], marker["store"]
            readable = isinstance(version, int) and isinstance(store_id, str) and store_id.isalnum()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IntegrityError(subject, "marker", repr(error)) from error
        if not readable:
            raise IntegrityError(subject, "marker", "it has no format and store id")
        if version > FORMAT:
            raise NewerFormatError(self.storage.address, "marker", f"format {version}")
        self._elder = bool(marker.get("ancestor"))
        return str(store_id)

    # -- writing ------------------------------------------------------------------------------------------------

    def ensure_store(self) -> Index:
        """The local index of the store, which is made if there is none yet.

        Raises:
            StorageError: the marker could not be written.
        """
        for attempt in range(RETRIES):
            index = self.index()
            if index is not None:
                return index
            marker = {"format": FORMAT, "store": secrets.token_hex(16), "created": format_time(now())}
            if self.has_elder():
                marker["ancestor"] = True
            if self.storage.create(keys.MARKER, encode_json(marker) + b"\n") is Created.UNKNOWN:
                self.pause(0.05 * 2**attempt)
        raise StorageError(f"{self.storage.address} does not answer: no store could be made there", keys.MARKER)

    def commit(self, domain: str | None, intent: Intent) -> Event | None:
        """Append what `intent` asks for to a log.

        Returns:
            The event, durable and visible to every later reader; None if the intent asked for nothing.

        Raises:
            Whatever the intent raises; it is asked again each time that another writer was faster.
            CommitUnknownError: it may or may not have been committed.
            StorageError: it was certainly not committed.
        """
        mark = secrets.token_hex(16)
        while True:
            index = self.refresh(domain) or self.ensure_store()
            known = index.position(domain)
            with index.read() as db:
                wanted = intent(db)
            if wanted is None:
                return None
            event = self._event(domain, known, mark, *wanted)
            raw = event.encode()
            if self._append(event, raw):
                self._fold_own(index, known, event, raw)
                return event

    def _fold_own(self, index: Index, known: Position, event: Event, raw: bytes) -> None:
        """Spare the next reader some work. The event stands, so no failure here may say that it does not."""
        try:
            index.extend(event.domain, known, [raw], "")
            if event.number % keys.SEGMENT == 0:
                compaction.compact(self.storage, index, event.domain, event.number)
        except Exception as error:
            _logger.debug("event %s of %r is left to the next reader: %s", event.number, event.domain, error)

    def _event(self, domain: str | None, known: Position, mark: str, kind: str, body: dict[str, Any]) -> Event:
        return Event(
            domain=domain,
            number=known.number + 1,
            kind=kind,
            critical=kind not in NOT_CRITICAL,
            time=self._time(known),
            user=user(),
            mark=mark,
            previous=known.digest,
            body=body,
        )

    def _time(self, known: Position) -> str:
        mine, theirs = now(), self.storage.clock()
        if abs(mine - theirs) > MAX_SKEW:
            warn(
                f"the clock of this machine is {abs(mine - theirs)} off that of {self.storage.address}, whose time is "
                "recorded instead"
            )
            mine = theirs
        # Never earlier than the event before, so that "as it was at" is well defined.
        return format_time(max(mine, parse_time(known.time)) if known.time else mine)

    def _append(self, event: Event, raw: bytes) -> bool:
        """True when the event is in the log, False when another one has taken its number."""
        key = keys.event_key(event.domain, event.number)
        outcome = self.storage.create(key, raw)
        if outcome is Created.MADE:
            return True
        if outcome is Created.REFUSED:
            # Even a refusal may be one's own event: an SDK that retries by itself hears of its first try.
            return self._is_ours(event)
        return self._settle(event, key, raw)

    def _settle(self, event: Event, key: str, raw: bytes) -> bool:
        """Find out what became of a creation without an answer.

        The same bytes are sent to the same number until the storage has said made or refused. To give up, a void
        event takes the number first: only then can the lost one never appear.
        """
        outcome, reason = self._insist(key, raw)
        if outcome is Created.UNKNOWN:
            void = Event(
                event.domain, event.number, VOID, event.time, event.user, secrets.token_hex(16), event.previous
            )
            outcome, reason = self._insist(key, void.encode())
            if outcome is Created.MADE:
                raise StorageError(f"{self.storage.address} stopped answering; nothing was committed", key)
        if outcome is Created.UNKNOWN:
            raise CommitUnknownError(event.domain or "the store", event.number, reason)
        return outcome is Created.MADE or self._is_ours(event)

    def _insist(self, key: str, raw: bytes) -> tuple[Created, str]:
        """Create until there is an answer; what the last try said if there is none."""
        reason = "no answer to any of several tries"
        for attempt in range(RETRIES):
            try:
                self.pause(0.05 * 2**attempt)
                outcome = self.storage.create(key, raw)
            except DeadlineExceededError as error:
                return Created.UNKNOWN, str(error)
            except StorageError as error:
                # It says that this request did nothing, and nothing of the one whose answer was lost.
                reason = str(error)
                continue
            if outcome is not Created.UNKNOWN:
                return outcome, ""
        return Created.UNKNOWN, reason

    def _is_ours(self, event: Event) -> bool:
        """Whether the event that has taken the number is one's own.

        Raises:
            CommitUnknownError: it cannot be read, so it may be.
        """
        try:
            # Only the mark: what else may be wrong with another's event is said when it is folded.
            return bool(json.loads(read_event(self.storage, event.domain, event.number))["mark"] == event.mark)
        except (ModelStoreError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CommitUnknownError(event.domain or "the store", event.number, str(error)) from error


def user() -> str:
    """The name under which this process acts; empty if the system has none."""
    try:
        return getpass.getuser().encode("utf-8", "replace").decode()  # a name that is not UTF-8 has surrogates
    except (OSError, KeyError, ImportError):
        return ""
