"""Calls that have no timeout of their own, made to end in time all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from modelstore import deadline
from modelstore.exceptions import DeadlineExceededError, StorageUnavailableError
from modelstore.storage.guard import in_time

R = TypeVar("R")

_TIDYING_SECONDS = 5.0
_MOMENT = 0.5
"""Seconds that tidying up may take when there are none left."""


class GivenUpError(StorageUnavailableError):
    """A call that nobody waits for any more; it may still be carried out."""


def is_over(error: BaseException) -> bool:
    """Whether an error says that nobody has waited for the end of a call."""
    return isinstance(error, (GivenUpError, DeadlineExceededError))


def patiently(call: Callable[[], R], seconds: float, doing: str, key: str | None = None) -> R:
    """What `call` returns or raises, if it does so within `seconds`, and before the deadline.

    It runs in a thread of its own, which is left alone when the time is over, so it must not write into anything that
    its caller goes on using.

    Raises:
        DeadlineExceededError: the deadline is over.
        GivenUpError: the seconds are.
    """
    try:
        with deadline.within(seconds):
            return in_time(call, doing, key)
    except DeadlineExceededError:
        deadline.remaining(doing, key)  # raises if it is the caller's deadline
        raise GivenUpError(f"no answer came within {seconds:g} s while {doing}; try again later", key) from None


def tidy(call: Callable[[], object]) -> None:
    """Remove with `call` what an attempt has left behind, whatever comes of it: waits for it while there is time, and
    for a moment when there is none.
    """
    left = _MOMENT if deadline.exceeded() else deadline.at_most(_TIDYING_SECONDS)
    done = threading.Event()

    def run() -> None:
        try:
            call()
        except BaseException:  # a panic of a Rust extension is no Exception; `sweep` finds what is left
            return
        finally:
            done.set()

    # Without the deadline, which may be over.
    threading.Thread(target=run, name="modelstore-tidying", daemon=True).start()
    done.wait(max(left, _MOMENT))
