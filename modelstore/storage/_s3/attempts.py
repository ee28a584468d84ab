"""What became of each attempt at a request, which the S3 SDK makes several of and tells only the last."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelstore import deadline
from modelstore.exceptions import DeadlineExceededError

if TYPE_CHECKING:
    from botocore.client import BaseClient

ATTEMPTS = 4
"""How often a request is sent at most, its first attempt included."""

_TELLS = {
    "ListObjectsV2": ("IsTruncated", "Name", "KeyCount"),
    "ListMultipartUploads": ("IsTruncated", "Bucket", "MaxUploads"),
    "CreateMultipartUpload": ("UploadId",),
    "UploadPart": ("ETag",),
    "PutObject": ("ETag",),
    "CompleteMultipartUpload": ("ETag", "Location", "Key"),
}
"""What an answer holds at least one of, if it is whole."""


@dataclass
class Attempts:
    """Those at one request."""

    unsure: bool = False
    """One of them may have done something without having said so."""
    sent: bool = False
    """One of them has begun."""
    cut: bool = False
    """The last one's answer ended early, although the SDK took it for a whole one."""


_CURRENT = threading.local()


@contextlib.contextmanager
def followed() -> Iterator[Attempts]:
    """Follow the attempts at the request that this thread makes in this context, with a client that is watched."""
    _CURRENT.attempts = attempts = Attempts()
    try:
        yield attempts
    finally:
        _CURRENT.attempts = None


def watch(client: BaseClient) -> None:
    """Have a client tell of its attempts, and make none after the deadline. It changes nothing for requests that are
    not followed: those of others, if the client was passed in.
    """
    client.meta.events.register("before-send.s3", _before_send, unique_id="modelstore-before-send")
    client.meta.events.register("needs-retry.s3", _needs_retry, unique_id="modelstore-needs-retry")


def never_sent(error: BaseException) -> bool:
    """Whether an attempt that ended so was certainly never sent."""
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError

    certain = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError, DeadlineExceededError)
    return isinstance(error, certain)


def _before_send(**_: object) -> None:
    current: Attempts | None = getattr(_CURRENT, "attempts", None)
    if current is not None:
        deadline.remaining("sending a request")
        current.sent = True


def _needs_retry(
    response: Any, caught_exception: Exception | None, attempts: int, operation: Any, **_: object
) -> float | None:
    """Note how an attempt ended. Gives seconds after which to try again, or None, which leaves that to the SDK."""
    current: Attempts | None = getattr(_CURRENT, "attempts", None)
    if current is None:
        return None
    if response is None:
        current.cut = False
        current.unsure |= caught_exception is not None and not never_sent(caught_exception)
        return None
    http, parsed = response
    current.cut = _is_cut(http, parsed, operation)
    current.unsure |= current.cut or http.status_code >= 500
    return 0.1 * attempts if current.cut and attempts < ATTEMPTS else None


def _is_cut(http: Any, parsed: dict[str, Any], operation: Any) -> bool:
    """Whether an answer ended early. The SDK does not look: to it, a head that breaks off is a short one, and a body
    that does not come an empty one, such as that of a listing without objects.
    """
    status, length = http.status_code, http.headers.get("content-length")
    if status >= 500 or status in (204, 304):
        return False
    if operation.http["method"] == "HEAD":
        return status < 300 and not {"ETag", "LastModified", "ContentLength"} <= parsed.keys()
    if operation.has_streaming_output and status < 300:  # whose body is still to come, to a reader that counts
        return "ContentLength" not in parsed or (status == 206 and "ContentRange" not in parsed)
    if length is not None and length.isdigit() and int(length) != len(http.content):
        return True
    expected = _TELLS.get(operation.name, ()) if status < 300 else ()
    return bool(expected) and not any(name in parsed for name in expected)
