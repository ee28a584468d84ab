"""The storage protocol: bytes under keys, somewhere.

A handful of verbs; everything else in modelstore is built on them once. There are no optional verbs and no
default implementations: `modelstore.testing.StorageContract` states in tests what each promises.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from modelstore.folder import Buffer


class Created(enum.Enum):
    """How a `create` ended."""

    MADE = "made"
    """The object is there, whole and durable, and it is ours."""
    REFUSED = "refused"
    """Another object was there already; nothing was changed."""
    UNKNOWN = "unknown"
    """No answer came, or one that leaves it open; the object may appear now, later or never."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing says about one object."""

    key: str
    size: int
    """Length in bytes."""
    modified: datetime
    """By the storage's clock, in UTC."""
    etag: str
    """Changes whenever the content under this key is written again; equal for as long as it is not."""


class Storage(Protocol):
    """Bytes under keys.

    Keys are relative to the root of the store: parts of unreserved ASCII and percent-escapes, joined by `/`;
    no part starts with a dot, so that a storage may use such names for its own temporary files, which no
    listing shows. Every method may be called from several threads, raises `StorageError` (or one of its
    children) and nothing of an SDK's, and translates a missing object into `ObjectNotFoundError`. Storages
    can be pickled, and work in a forked child. A method that goes over a network ends before `deadline.within`
    says, with `DeadlineExceededError` at the latest then; without a deadline each request ends in bounded time.
    """

    kind: str
    """`storage.type` in records: the ancestor's name for this kind of storage, such as `file_system`."""

    streams: int
    """How many ranges of one object are best read at once; 0: as many as this machine has cores. Over a network one
    stream is rarely all that the line can carry, and each waits for its answer; each takes 16 to 32 MiB of memory.
    """

    @property
    def address(self) -> str:
        """A URL that tells this storage from every other; holds no secret."""

    def location(self, key: str) -> dict[str, Any]:
        """What a record's `storage` section says of where `key` lies, with the ancestor's keys (`type`, `root` …)."""

    def create(self, key: str, data: bytes) -> Created:
        """Create a small object only if there is none: its content and its name appear together.

        Of several callers, in whatever processes, at most one is told MADE. Durable when it returns MADE.

        Raises:
            UnsafeStorageError: this storage cannot do that.
            StorageError: the object was certainly not created.
        """

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        """Write a large object from chunks, each a sequence of buffers, in order.

        `expected` is about how many bytes there will be at most (0: unknown); a storage that sends parts chooses
        their size by it, so that the object fits into as many parts as it allows.

        Nothing is visible under `key` before all of it is, and it is durable when this returns. A chunk's
        buffers may be used until this returns. When `chunks` raises, nothing is left behind and the error
        passes through. At most a few chunks are held at a time: the iterator is pulled as they are sent.
        The key must be one that nobody else can choose: an existing object is replaced.
        """

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes start…end (end exclusive, `None`: to the end). A negative start counts from the end of the
        object and gives the whole object when it is shorter. A range beyond the end gives what there is.

        Raises:
            ObjectNotFoundError: there is no such object.
        """

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        """Fill `buffer` with the bytes from `start` on; returns how many there were (fewer only at the end).

        Raises:
            ObjectNotFoundError: there is no such object.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix` (which ends in `/` or is empty), sorted by key, all pages."""

    def list_children(self, prefix: str) -> Iterator[str]:
        """The next part of all keys below `prefix` (which ends in `/` or is empty) that lead to further keys,
        sorted, each once: for keys `a/b/1` and `a/c`, the children of `a/` are `b`. One without objects is not listed.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""

    def sweep(self, prefix: str, older_than: datetime) -> int:
        """Remove what interrupted writes left behind below `prefix` (temporary files, multipart uploads)
        and was last touched before `older_than`; returns how many there were.
        """

    def policy(self) -> str:
        """The smallest grant with which a store works here, as whoever administers this storage would write it down
        (an IAM policy, roles, modes of a folder), ready to be copied. Asks the storage nothing.
        """

    def clock(self) -> datetime:
        """The storage's own time, in UTC, as far as it is known without an extra request."""
