"""What works with a storage and these credentials, and what not: each right tried out once, on objects of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from modelstore.exceptions import ModelStoreError, ObjectNotFoundError, UnsafeStorageError
from modelstore.records import now
from modelstore.registry.keys import ARCHIVES, MARKER
from modelstore.storage.base import Created, Storage

PREFIX = f"{ARCHIVES}modelstore-doctor/"
"""Below it lie the doctor's own objects, where gc takes what could not be deleted."""


@dataclass(frozen=True)
class Check:
    """One right, and whether it is there."""

    name: str
    needed_for: str
    problem: str | None
    """None: it works. Else what the storage said."""

    @property
    def ok(self) -> bool:
        """Whether it works."""
        return self.problem is None

    def __str__(self) -> str:
        return f"{'ok ' if self.ok else 'NO '} {self.name:<22} {self.needed_for if self.ok else self.problem}"


@dataclass(frozen=True)
class Diagnosis:
    """What `ModelStore.doctor` found. `print` it."""

    address: str
    checks: tuple[Check, ...]
    policy: str
    """The smallest grant that makes everything work, as the administrator of the storage would write it."""

    @property
    def ok(self) -> bool:
        """Whether everything works."""
        return all(check.ok for check in self.checks)

    @property
    def summary(self) -> str:
        """What can be done, in a few words."""
        failed = {check.name for check in self.checks if not check.ok}
        if not failed:
            return "everything works"
        if failed & {_READ, _LIST}:
            return "nothing works: reading and listing are needed for everything"
        if failed & {_CREATE, _WRITE}:
            return "read-only: models can be listed, loaded and downloaded"
        if _ONCE in failed:
            return "one writer at a time: two would lose each other's work"
        if _DELETE in failed:
            return "no deletion: all works but freeing bytes (gc, delete_model with purge)"
        return "everything works but what is marked"

    def __str__(self) -> str:
        lines = [self.address, *(f"  {check}" for check in self.checks), self.summary]
        if not self.ok:
            lines += ["", "The smallest grant that makes everything work:", "", self.policy]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


_READ, _LIST, _CREATE, _ONCE = "read", "list", "create", "create only if absent"
_WRITE, _DELETE, _SWEEP, _CLOCK = "write", "delete", "sweep", "clock"


def examine(storage: Storage) -> Diagnosis:
    """Try everything that a store does. Costs about ten requests, two of which write a few bytes.

    Only errors of the storage become part of the diagnosis; a deadline that is over is raised.
    """
    folder = f"{PREFIX}{uuid.uuid4().hex}/"
    event, archive = folder + "event", folder + "archive"
    created = _check(_CREATE, "uploads, states, deletion", lambda: _create(storage, event))
    checks = [
        _check(_READ, "everything", lambda: _read(storage, event if created.ok else None)),
        _check(_LIST, "everything", lambda: _list(storage)),
        created,
    ]
    if created.ok:
        checks.append(_check(_ONCE, "writers at the same time", lambda: _refuses(storage, event)))
    written = _check(_WRITE, "uploads", lambda: _write(storage, archive))
    something = created.ok or written.ok
    checks += [
        written,
        _check(_DELETE, "gc, delete_model with purge", lambda: _delete(storage, [event, archive], something)),
        _check(_SWEEP, "gc of interrupted uploads", lambda: _sweep(storage, folder)),
        _check(_CLOCK, "times in records", lambda: _clock(storage)),
    ]
    return Diagnosis(storage.address, tuple(checks), storage.policy())


def _check(name: str, needed_for: str, attempt: Callable[[], str | None]) -> Check:
    try:
        return Check(name, needed_for, attempt())
    except TimeoutError:
        raise
    except ModelStoreError as error:
        return Check(name, needed_for, str(error))


def _read(storage: Storage, there: str | None) -> None:
    if there is not None:  # S3 says "not there" to who may list and not read: only what is there tells
        storage.read(there)
        return
    with suppress(ObjectNotFoundError):  # an empty store: that it is not there is an answer
        storage.read(MARKER, 0, 64 * 1024)


def _list(storage: Storage) -> None:
    next(iter(storage.list("log/")), None)


def _create(storage: Storage, key: str) -> str | None:
    if storage.create(key, b"modelstore doctor\n") is Created.UNKNOWN:
        return "the storage did not say whether it created an object"
    return None


def _refuses(storage: Storage, key: str) -> str | None:
    if getattr(
        storage, "unsafe_concurrent_writes", False
    ):  # it looks first, so what is tried one after the other goes well
        return "not tried, as unsafe_concurrent_writes=True was passed: see that only one process writes at a time"
    outcome = storage.create(key, b"modelstore doctor, again\n")
    if outcome is Created.MADE:
        raise UnsafeStorageError("it creates what is there already, so two writers would lose each other's work", key)
    return None if outcome is Created.REFUSED else "the storage did not say whether it refused"


def _write(storage: Storage, key: str) -> None:
    storage.write(key, [[b"modelstore doctor\n"]])


def _delete(storage: Storage, keys: list[str], something: bool) -> str | None:
    storage.delete(keys)
    # To delete nothing is no right in a folder.
    return None if something else "not tried: nothing could be written that it could have deleted"


def _sweep(storage: Storage, folder: str) -> None:
    storage.sweep(folder, storage.clock() - timedelta(days=7))


def _clock(storage: Storage) -> str | None:
    off = abs(now() - storage.clock())
    return f"this machine's is {off} off the storage's" if off > timedelta(minutes=1) else None
