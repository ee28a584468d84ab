"""Requests to Google Cloud Storage: how long each may take, and how often it is tried."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from modelstore import deadline
from modelstore.storage._gcs.client import session_of

if TYPE_CHECKING:
    from google.cloud.storage import Client

R = TypeVar("R")

RETRY_SECONDS = 30.0
"""For how long a request is tried again after errors that may pass, where there is no earlier deadline."""


def patience(seconds: float = 0.0) -> tuple[float, float]:
    """`timeout=` for a request: seconds to connect, and without a byte (`seconds`, if those are more than usual).

    Raises:
        DeadlineExceededError: the time is over.
    """
    return deadline.at_most(deadline.CONNECT_SECONDS), deadline.at_most(max(seconds, deadline.STALL_SECONDS))


def retried(
    attempt: Callable[[], R], seconds: float | None = None, failed: Callable[[Exception], None] | None = None
) -> R:
    """What `attempt` returns, tried again as the SDK does it after errors that may pass, before the deadline.

    Args:
        attempt: one request, without retries of its own.
        seconds: for how long to begin new attempts (default: RETRY_SECONDS).
        failed: is told of the error of each attempt.

    Raises:
        DeadlineExceededError: the time was over before an attempt.
        The SDK's errors.
    """
    from google.cloud.storage.retry import DEFAULT_RETRY

    def once() -> R:
        deadline.remaining("sending a request")
        try:
            return attempt()
        except Exception as error:
            if failed is not None:
                failed(error)
            raise

    # The SDK's pauses begin with up to a second and go up to a minute: here one waits for a few objects.
    limit = deadline.at_most(RETRY_SECONDS if seconds is None else seconds)
    retry = DEFAULT_RETRY.with_timeout(limit).with_delay(initial=0.2, maximum=5.0, multiplier=2.0)
    result: R = retry(once)()
    return result


def send(
    client: Client,
    method: str,
    url: str,
    accepted: Collection[int],
    *,
    seconds: float | None = None,
    **how: Any,
) -> Any:
    """Send a request over a client's session.

    Args:
        client: the client of this process.
        method: of HTTP.
        url: a whole one.
        accepted: the statuses that are an answer.
        seconds: for how long to begin new attempts, and to wait for the answer of one, if that is not the usual.
        **how: for `requests`.

    Raises:
        The SDK's errors, also for answers of other statuses.
    """
    from google.api_core.exceptions import from_http_response

    def once() -> Any:
        timeout = patience(seconds or 0.0)
        response = session_of(client).request(method, url, timeout=timeout, allow_redirects=False, **how)
        if response.status_code in accepted:
            return response
        try:
            raise from_http_response(response)
        finally:
            response.close()

    return retried(once, seconds)


class Body:
    """The body of a request, in buffers that lie in memory already: not copied, and sent anew with each attempt."""

    def __init__(self, pieces: Sequence[memoryview]) -> None:
        self._pieces = pieces
        self._size = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        return iter(self._pieces)
