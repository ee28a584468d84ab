"""Ending a blocking request when its deadline is over, whatever the server or the SDK below does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from modelstore import deadline
from modelstore.exceptions import DeadlineExceededError

R = TypeVar("R")


def in_time(request: Callable[[], R], doing: str = "", key: str | None = None) -> R:
    """What `request()` returns or raises, or `DeadlineExceededError` when the deadline is over before it has ended.

    SDKs limit how long a server may be silent, not how long a request takes: an answer that drips, a name that is not
    resolved, or credentials that are not handed out go past any such limit. So where there is a deadline, the request
    runs in a thread of its own, which is left behind when the time is over (it ends by the SDK's own limits, and
    does not keep the process alive). A request that must not touch anything any more by then has to see to that
    itself. Without a deadline there is no thread.

    Raises:
        DeadlineExceededError: also when it was over before; then nothing was begun.
    """
    left = deadline.remaining(doing, key)
    if left is None:
        return request()
    results: list[R] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(request())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=deadline.carried(run), name="modelstore-request", daemon=True).start()
    if not done.wait(left):
        raise deadline.exceeded(doing, key) or DeadlineExceededError(left, doing, key)
    if errors:
        raise errors[0]
    return results[0]
