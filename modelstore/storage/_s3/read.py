"""Reading objects and ranges of them from S3, however the server answers to a range."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from modelstore import deadline
from modelstore.exceptions import (
    AccessDeniedError,
    CredentialsError,
    ModelStoreError,
    ObjectNotFoundError,
    StorageError,
    StorageUnavailableError,
)
from modelstore.storage._s3.calls import Calls
from modelstore.storage._s3.errors import status_of
from modelstore.storage.addressing import clip_range
from modelstore.storage.transfer import MIB, Answer, fill

BLOCK = MIB
"""Bytes to ask a connection for at a time: large, since each read costs a turn of the interpreter."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


class Reader:
    """Reads one object, the same version of it in every request."""

    def __init__(self, calls: Calls, key: str, full_key: str) -> None:
        self._calls = calls
        self._key = key
        self._full_key = full_key
        self._etag: str | None = None

    def read(self, start: int, end: int | None) -> bytes:
        """See `Storage.read`."""
        if end is not None and start >= 0 and end <= start:
            self.ask(start, start + 1).close()  # for its error, if there is no such object
            return b""
        if start < 0:
            first = self.ask_for(f"bytes={start}")
            if first.total == 0:  # it is empty; or, with some servers, shorter than the suffix
                first = self.ask_for(None)
        elif end is not None:
            first = self.ask_for(f"bytes={start}-{end - 1}")
        else:
            first = self.ask_for(f"bytes={start}-" if start else None)
        start, end = clip_range(start, end, first.total)
        if not first.at <= start <= first.until:  # some servers count suffixes from the wrong end
            first.close()
            first = self.ask(start, end)
        first.start = start
        data = bytearray(end - start)
        answers = [first]

        def ask(at: int, until: int) -> Answer:
            return answers.pop() if answers else self.ask(at, until)

        if data:
            fill(ask, start, memoryview(data))
        else:
            first.close()
        return bytes(data)

    def read_into(self, start: int, buffer: memoryview) -> int:
        """See `Storage.read_into`."""
        if not len(buffer):
            self.ask(start, start + 1).close()
            return 0
        return fill(self.ask, start, buffer)

    def ask(self, start: int, end: int) -> _Answer:
        """The bytes from `start` to `end`, as `transfer.fill` asks for them."""
        answer = self.ask_for(f"bytes={start}-{end - 1}")
        if answer.body is not None and answer.at > start:
            answer.close()
            raise self._failed(f"asked for bytes {start}-{end - 1}, the server sent those from {answer.at} on")
        answer.start = start
        return answer

    def ask_for(self, wanted: str | None) -> _Answer:
        """An answer to a `Range` header, or to none."""
        arguments = {"Key": self._full_key}
        if wanted is not None:
            arguments["Range"] = wanted
        if self._etag is not None:
            arguments["IfMatch"] = self._etag
        outcome = self._calls.insist("get_object", "reading", self._key, **arguments)
        if outcome.answer is None:
            assert outcome.error is not None
            if status_of(outcome.error) == 416:  # the range lies beyond the end
                total = _total_of(outcome.error)
                return _Answer(None, total, total, total)
            if status_of(outcome.error) == 412:
                raise self._changed() from outcome.error
            raise self._failure(self._calls.failure(outcome, "get_object", "reading", self._key)) from outcome.error
        return self._answer(outcome.answer)

    def _answer(self, answer: dict[str, Any]) -> _Answer:
        body, length = answer["Body"], int(answer["ContentLength"])
        found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
        etag = answer.get("ETag")
        if self._etag is not None and etag is not None and etag != self._etag:
            body.close()
            raise self._changed()
        self._etag = etag
        if found and found[1] is not None:
            return _Answer(body, int(found[1]), int(found[2]) + 1, int(found[3]))
        if answer.get("ContentRange"):
            body.close()
            raise self._failed(f"the server does not say which part it sent ({answer['ContentRange']})")
        return _Answer(
            body, 0, length, length
        )  # the whole object: nothing was asked for, or the server knows no ranges

    def _failure(self, error: Exception) -> Exception:
        """S3 says "denied" of an object that is not there, to whom may not list the bucket."""
        if isinstance(error, AccessDeniedError) and not isinstance(error, CredentialsError):
            try:
                there = self._calls.has(self._full_key)
            except StorageError:
                return error
            return error if there else ObjectNotFoundError(self._key, self._calls.errors.address)
        return error

    def _changed(self) -> StorageError:
        return StorageError(f"{self._where()} was replaced while it was being read; read it again", self._key)

    def _failed(self, why: str) -> StorageError:
        return StorageError(f"reading {self._where()} failed: {why}; does that server speak S3?", self._key)

    def _where(self) -> str:
        return f"{self._calls.errors.address.rstrip('/')}/{self._key}"


@dataclass
class _Answer:
    """A body of which the next byte is byte `at` of the object."""

    body: Any
    """A `StreamingBody`; None for no bytes."""
    at: int
    until: int
    """Which byte of the object comes after the last one of the body."""
    total: int

    start: int = 0
    """Which byte is wanted first. Those before it were not asked for, and sent by a server that knows no ranges."""

    def readinto(self, buffer: memoryview) -> int:
        """See `transfer.Answer`."""
        if self.body is None:
            return 0
        try:
            while self.at < self.start:
                scratch = memoryview(bytearray(min(self.start - self.at, BLOCK)))
                self.at += (skipped := _read_some(self.body, scratch))
                if not skipped:
                    return 0
            count = _read_some(self.body, buffer[:BLOCK])
        except ModelStoreError:
            raise
        except Exception as error:
            raise StorageUnavailableError(f"an answer broke off in its body: {error}") from error
        self.at += count
        return count

    def close(self) -> None:
        """See `transfer.Answer`."""
        if self.body is not None:
            self.body.close()


def _read_some(body: Any, buffer: memoryview) -> int:
    """What comes at once from a `StreamingBody`; 0 at its end."""
    left = deadline.remaining("reading")
    if left is not None:
        body.set_socket_timeout(min(left, deadline.STALL_SECONDS))
    # What has come, not a whole block, which would wait for bytes that drip in one by one. urllib3 can do that (since
    # 2.0); the SDK's body cannot, but gives urllib3's out.
    raw = body.__enter__()
    if not hasattr(raw, "read1"):
        return int(body.readinto(buffer))
    data = raw.read1(len(buffer))
    buffer[: len(data)] = data
    return len(data)


def _total_of(error: BaseException) -> int:
    """The size of an object that a range lies beyond; 0 if the answer does not tell."""
    headers = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range") or "")
    return int(found[3]) if found else 0
