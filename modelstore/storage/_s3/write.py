"""Writing large objects to S3: in one request, or in parts that go up in parallel."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from modelstore import deadline
from modelstore.exceptions import StorageError
from modelstore.folder import Buffer
from modelstore.storage._s3.calls import Calls
from modelstore.storage._s3.errors import code_of, status_of
from modelstore.storage.transfer import MIB, Part, cut, part_size, send_all

MOST_PARTS = 10_000
TIDY_SECONDS = 10.0
"""How long it may take to look what became of a write that failed, and again to remove what is left of it."""

LATE_SECONDS = 0.5
"""The same, once the deadline is over."""

_MARK = "modelstore-write"
_SMALL = 64 * 1024
_logger = logging.getLogger("modelstore")


class Writer:
    """Writes one object.

    Args:
        calls: sends the requests.
        key: the object, as the store names it.
        full_key: the object, as the bucket does.
        arguments: what the new object is to be like (encryption, storage class).
    """

    def __init__(self, calls: Calls, key: str, full_key: str, arguments: dict[str, Any]) -> None:
        self._calls = calls
        self._key = key
        self._full_key = full_key
        self._arguments = arguments
        self._strays = False
        """Whether an upload may have begun whose id no answer told."""

    def write(self, chunks: Iterable[Sequence[Buffer]], expected: int, smallest: int) -> int:
        """Send the chunks; returns how many bytes they had. Their errors pass through, with nothing left behind."""
        size = part_size(expected, MOST_PARTS, smallest)
        parts = cut(chunks, size)
        first = next(parts, None)
        if first is None or first.size < size:  # then it is the last one
            self._put(first)
            return 0 if first is None else first.size
        return self._in_parts(itertools.chain([first], parts))

    def _put(self, part: Part | None) -> None:
        body = b"" if part is None else Body(part)
        try:
            self._calls("put_object", "writing", self._key, Key=self._full_key, Body=body, **self._arguments)
        finally:
            if isinstance(body, Body):
                body.close()

    def _in_parts(self, parts: Iterator[Part]) -> int:
        mark = secrets.token_hex(16)
        upload = self._begin(mark)
        total = 0

        def counted() -> Iterator[Part]:
            nonlocal total
            for part in parts:
                if part.number > MOST_PARTS:
                    raise StorageError(
                        f"{self._key} is larger than was expected, and does not fit into {MOST_PARTS:,} parts; "
                        "nothing was written",
                        self._key,
                    )
                total += part.size
                yield part

        try:
            etags = send_all(counted(), lambda part: self._send_part(upload, part))
            self._complete(upload, etags, mark)
        except BaseException:
            self._abort(upload)
            raise
        if self._strays:
            self._abort()
        return total

    def _begin(self, mark: str) -> str:
        operation, arguments = "create_multipart_upload", {**self._arguments, "Metadata": {_MARK: mark}}
        outcome = self._calls.send(operation, "writing", self._key, Key=self._full_key, **arguments)
        self._strays = not outcome.sure
        if outcome.answer is None:
            if self._strays:
                self._abort()
            raise self._calls.failure(outcome, operation, "writing", self._key) from outcome.error
        return str(outcome.answer["UploadId"])

    def _send_part(self, upload: str, part: Part) -> dict[str, Any]:
        body = Body(part)
        try:
            answer = self._calls(
                "upload_part",
                "writing",
                self._key,
                Key=self._full_key,
                UploadId=upload,
                PartNumber=part.number,
                Body=body,
            )
        finally:
            body.close()
        sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
        return {"PartNumber": part.number, "ETag": answer["ETag"], **sums}

    def _complete(self, upload: str, etags: list[dict[str, Any]], mark: str) -> None:
        """Make the object of its parts. When the answer is lost, the mark that it carries tells what became of it."""
        operation = "complete_multipart_upload"
        arguments = {"Key": self._full_key, "UploadId": upload, "MultipartUpload": {"Parts": etags}}
        outcome = self._calls.send(operation, "writing", self._key, **arguments)
        if outcome.answer is not None:
            return
        # A second try of the SDK's hears that the upload is gone once the first one has made the object.
        if (not outcome.sure or code_of(outcome.error or Exception()) == "NoSuchUpload") and self._is_made(mark):
            return
        raise self._calls.failure(outcome, operation, "writing", self._key) from outcome.error

    def _is_made(self, mark: str) -> bool:
        try:
            with deadline.afresh(_tidy_seconds()):
                found = self._calls("head_object", "looking at", self._key, Key=self._full_key)
        except StorageError:
            return False
        return bool(found.get("Metadata", {}).get(_MARK) == mark)

    def _abort(self, upload: str | None = None) -> None:
        """Abort an upload and all others under this key, which is ours alone; what fails here is left to `sweep`.

        Others: one that began without an answer has left no id. And S3 may still take a part that was under way when
        an upload was aborted, so it looks again until there is none.
        """
        try:
            with deadline.afresh(_tidy_seconds()):
                found = [{"Key": self._full_key, "UploadId": upload}] if upload else []
                abort_uploads(self._calls, found)
                for _ in range(3):
                    found = [each for each in uploads(self._calls, self._full_key) if each["Key"] == self._full_key]
                    if not abort_uploads(self._calls, found):
                        return
        except StorageError as error:
            _logger.debug("an upload of %s may be left behind for sweep(): %s", self._key, error)


def _tidy_seconds() -> float:
    if deadline.exceeded() is not None:
        return LATE_SECONDS
    return max(deadline.at_most(TIDY_SECONDS), LATE_SECONDS)


class Body:
    """The bytes of a part as a file for the SDK, without copying them.

    `read` gives views of up to 1 MiB, more than it is asked for: what sends them asks for 128 KiB, and takes any
    length; each block costs it a turn of the interpreter. After `close` there is nothing to read any more, so that a
    request that was left behind by a deadline does not touch buffers which are no longer its own.
    """

    def __init__(self, part: Part) -> None:
        self._size = part.size
        self._pieces = part.pieces
        self._closed = False
        self._at = self._next = self._offset = 0

    def __len__(self) -> int:
        return self._size

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to the beginning or the end, as the SDK does."""
        target = offset + (0, self._at, self._size)[whence]
        self._at = self._next = self._offset = 0
        while self._at < target and self.read(target - self._at, at_most=target - self._at):
            pass
        return self._at

    def read(self, size: int = -1, at_most: int = 0) -> Any:
        """The next bytes, as a view; empty at the end."""
        if self._closed:
            raise StorageError("the write that these bytes belong to has ended")
        limit = at_most or max(size, MIB)
        block = self._take(limit)
        if len(block) >= _SMALL or self._at == self._size:
            return block
        joined = bytearray(block)  # not thousands of sends for thousands of small pieces
        while len(joined) < limit and self._at < self._size:
            joined += self._take(min(limit - len(joined), _SMALL))
        return joined

    def _take(self, limit: int) -> memoryview | bytes:
        while self._next < len(self._pieces):
            block = self._pieces[self._next][self._offset : self._offset + limit]
            if len(block):
                self._offset += len(block)
                self._at += len(block)
                return block
            self._next, self._offset = self._next + 1, 0
        return b""

    def close(self) -> None:
        """Let go of the bytes."""
        self._closed = True
        self._pieces = ()


def uploads(calls: Calls, prefix: str) -> Iterator[dict[str, Any]]:
    """The multipart uploads under way whose keys start with `prefix`, all pages."""
    position: dict[str, str] = {}
    while True:
        doing = "listing the uploads under way of"
        outcome = calls.insist("list_multipart_uploads", doing, None, Prefix=prefix, **position)
        if outcome.answer is None:
            if outcome.error is not None and status_of(outcome.error) == 501:
                return  # a server that does not list them
            raise calls.failure(outcome, "list_multipart_uploads", doing, None) from outcome.error
        page = outcome.answer
        yield from page.get("Uploads", ())
        following = (page.get("NextKeyMarker"), page.get("NextUploadIdMarker"))
        if not page.get("IsTruncated") or not following[0] or following == tuple(position.values()):
            return
        position = {"KeyMarker": following[0], "UploadIdMarker": following[1] or ""}


def abort_uploads(calls: Calls, found: Iterable[dict[str, Any]]) -> int:
    """Abort uploads; returns how many there were. One that is gone already is passed over."""
    count = 0
    for upload in found:
        outcome = calls.send(
            "abort_multipart_upload", "aborting an upload of", None, Key=upload["Key"], UploadId=upload["UploadId"]
        )
        if outcome.error is not None and code_of(outcome.error) != "NoSuchUpload":
            raise calls.failure(outcome, "abort_multipart_upload", "aborting an upload of", None) from outcome.error
        count += 1
    return count
