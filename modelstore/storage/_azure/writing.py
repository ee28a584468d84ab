"""What goes up to Azure: one request for what is small, blocks in parallel and their list for what is large."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from modelstore import deadline
from modelstore.exceptions import (
    DeadlineExceededError,
    InvalidArgumentError,
    ModelStoreError,
    ObjectNotFoundError,
    StorageError,
)
from modelstore.folder import Buffer
from modelstore.storage import transfer
from modelstore.storage._azure.calls import Calls
from modelstore.storage._azure.errors import (
    DELETE,
    READ,
    WRITE,
    answer_of,
    did_nothing,
    is_taken,
    never_sent,
    status_of,
)
from modelstore.storage.addressing import is_part
from modelstore.storage.base import Created, ObjectInfo
from modelstore.storage.transfer import Part

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

MOST_BLOCKS = 50_000
"""In one blob, by Azure's limits; a block has up to 4000 MiB."""

IN_ONE = 4 << 20
"""Objects of up to so many bytes go up in one request instead of two. More would be a single long write to the
connection, which a slow line does not finish in the time that it is given."""

AT_ONCE = 1 << 18
"""Bytes of a block that are given to the connection at a time: the time is for each of them, not for the block."""

TIDY_SECONDS = 5.0
"""For dropping what an interrupted write has sent, where there is no earlier deadline; at least a second."""


class Settings:
    """Arguments of the SDK for what goes up.

    Args:
        access_tier: of archives.
        encryption_scope: of everything.

    Raises:
        InvalidArgumentError: there is no such tier, or nothing in it can be read.
    """

    def __init__(self, access_tier: str | None, encryption_scope: str | None) -> None:
        self.scope = {} if encryption_scope is None else {"encryption_scope": encryption_scope}
        self.whole = dict[str, Any](self.scope)
        if access_tier is not None:
            self.whole["standard_blob_tier"] = _tier(access_tier)


def _tier(name: str) -> Any:
    from azure.storage.blob import StandardBlobTier

    tiers = {tier.value.lower(): tier for tier in StandardBlobTier if tier.value != "Archive"}
    if name.lower() not in tiers:
        known = ", ".join(sorted(tier.value for tier in tiers.values()))
        why = "nothing in it can be read at once" if name.lower() == "archive" else "there is no such tier"
        raise InvalidArgumentError("access_tier", f"access_tier={name!r} cannot be used: {why}; pass one of {known}")
    return tiers[name.lower()]


def create(calls: Calls, key: str, data: bytes, settings: Settings) -> Created:
    """See `Storage.create`."""
    lost: list[bool] = []  # of each attempt that was repeated, whether it may have done something
    begun: list[bool] = []

    def repeated(error: Exception | None = None, **_: object) -> None:
        lost.append(error is None or not never_sent(error))

    def request() -> Created | Exception:
        blob = calls.container().get_blob_client(calls.prefix + key)
        begun.append(True)  # before the last look at the deadline, after which nothing holds the request back
        options = {**settings.scope, **calls.options(), "retry_hook": repeated}
        try:
            blob.upload_blob(data, length=len(data), overwrite=False, **options)  # If-None-Match: *
        except Exception as error:
            answer = answer_of(error)
            return Created.REFUSED if is_taken(answer) else answer
        return Created.MADE

    calls.name(key)
    try:
        result = calls.run("creating", key, WRITE, request)
    except DeadlineExceededError:
        if begun:  # and left behind, so it may still arrive
            return Created.UNKNOWN
        raise
    if isinstance(result, Created):
        return result
    if any(lost) or not did_nothing(result):
        return Created.UNKNOWN
    if isinstance(result, ModelStoreError):
        raise result
    raise calls.errors(result, "creating", key, WRITE) from result


def write(calls: Calls, key: str, chunks: Iterable[Sequence[Buffer]], part_size: int, settings: Settings) -> ObjectInfo:
    """See `Storage.write`."""
    parts = transfer.cut(chunks, part_size)
    first = next(parts, None)
    if first is None or first.size <= IN_ONE:
        data = b"".join(first.pieces) if first is not None else b""
        put = {"length": len(data), "overwrite": True, **settings.whole}
        answer = calls.blob("writing", key, WRITE, lambda blob, options: blob.upload_blob(data, **put, **options))
        return _written(key, len(data), answer)
    try:
        return _write_blocks(calls, key, itertools.chain([first], parts), settings)
    except BaseException:
        _abandon(calls, key)
        raise


def _write_blocks(calls: Calls, key: str, parts: Iterable[Part], settings: Settings) -> ObjectInfo:
    # All of one length, as Azure asks for, and like those of no other write.
    token = secrets.token_hex(16)

    def stage(part: Part) -> tuple[str, int]:
        block, body = f"{token}{part.number:08}", _Body(part)
        put = {"length": part.size, **settings.scope}
        calls.blob("writing", key, WRITE, lambda blob, options: blob.stage_block(block, body, **put, **options))
        return block, part.size

    sent = transfer.send_all(parts, stage)
    blocks = [block for block, _ in sent]
    put = settings.whole
    answer = calls.blob("writing", key, WRITE, lambda blob, options: blob.commit_block_list(blocks, **put, **options))
    return _written(key, sum(size for _, size in sent), answer)


def _written(key: str, size: int, answer: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(key, size, answer["last_modified"].astimezone(timezone.utc), plain(answer["etag"]))


def _abandon(calls: Calls, key: str) -> None:
    """Drop what an interrupted write has sent, if that can be done; else Azure does, a week later."""
    try:
        left = max(deadline.at_most(TIDY_SECONDS), 1.0)
    except DeadlineExceededError:
        left = 1.0
    with deadline.afresh(left), contextlib.suppress(StorageError):
        _drop_blocks(calls, key)


def _drop_blocks(calls: Calls, key: str, **conditions: Any) -> bool:
    """Delete what is no blob yet, only blocks that wait to become one. A blob is left alone, with its blocks."""

    def drop(blob: BlobClient, options: dict[str, Any]) -> bool:
        try:
            blob.delete_blob(**conditions, **options)
        except Exception as error:
            if status_of(error) in (404, 412):
                return False
            raise
        return True

    try:
        calls.blob("reading", key, READ, lambda blob, options: blob.get_blob_properties(**options))
    except ObjectNotFoundError:
        return calls.blob("deleting", key, DELETE, drop)
    return False


def sweep(calls: Calls, blobs: Iterable[Any], older_than: datetime) -> int:
    """Drop the blocks of blobs that are none yet; returns of how many.

    Args:
        calls: makes the requests: two for each, and one for a blob without content.
        blobs: a listing with `include=["uncommittedblobs"]`, which does not say which are none yet.
        older_than: when they must have been begun. What somebody makes a blob of meanwhile is newer, and stays.
    """
    dropped = 0
    for blob in blobs:
        key = blob.name[len(calls.prefix) :]
        old = blob.last_modified is not None and blob.last_modified < older_than
        if old and blob.size == 0 and all(map(is_part, key.split("/"))):
            dropped += _drop_blocks(calls, key, if_unmodified_since=older_than)
    return dropped


def plain(etag: str) -> str:
    """An etag as listings have it; headers put it in quotes."""
    return etag.strip('"')


class _Body:
    """A part as the body of a request, as often as it is sent; no byte is copied."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def __len__(self) -> int:
        return self._part.size

    def __iter__(self) -> Iterator[memoryview]:
        for piece in self._part.pieces:
            for at in range(0, len(piece), AT_ONCE):
                deadline.remaining("writing")
                yield piece[at : at + AT_ONCE]

    def __deepcopy__(self, memo: object) -> _Body:
        return self  # the SDK keeps a copy of each request that it sends again
