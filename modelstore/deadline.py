"""Until when a call must have ended: set once where it begins, seen by every request below it.

A context variable, so that no signature on the way has to carry it. Threads that work for a call do not inherit it by
themselves; `carried` takes it along.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, ParamSpec, TypeVar

from modelstore.exceptions import DeadlineExceededError, InvalidArgumentError

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_SECONDS = 10.0
"""How long a storage may take to accept a connection, where there is no earlier deadline."""

STALL_SECONDS = 30.0
"""How long a storage may say nothing in the middle of an answer, where there is no earlier deadline."""


class _Deadline(NamedTuple):
    at: float
    """By `time.monotonic`."""
    seconds: float
    """What was given."""


_CURRENT: ContextVar[_Deadline | None] = ContextVar("modelstore_deadline", default=None)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Give what happens in this context `seconds` from now on; None and infinity (and more than threads can wait,
    some centuries) change nothing. The earliest deadline counts.

    Raises:
        InvalidArgumentError: not a positive number.
    """
    if seconds is None:
        yield
        return
    if not _is_positive(seconds):
        raise InvalidArgumentError("timeout", f"timeout={seconds!r} is no number of seconds above 0")
    if seconds > threading.TIMEOUT_MAX:  # which no thread, and no socket, would take as a time to wait
        yield
        return
    outer = _CURRENT.get()
    mine = _Deadline(time.monotonic() + seconds, float(seconds))
    token = _CURRENT.set(outer if outer is not None and outer.at < mine.at else mine)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def _is_positive(seconds: object) -> bool:
    return isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds > 0


def remaining(doing: str = "", key: str | None = None) -> float | None:
    """Seconds that are left, more than 0; None where there is no deadline.

    Raises:
        DeadlineExceededError: none are; `doing` and `key` say at what.
    """
    current = _CURRENT.get()
    if current is None:
        return None
    left = current.at - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError(current.seconds, doing, key)
    return left


def at_most(seconds: float, doing: str = "", key: str | None = None) -> float:
    """`seconds`, or less where less is left.

    Raises:
        DeadlineExceededError: none are.
    """
    left = remaining(doing, key)
    return seconds if left is None else min(seconds, left)


def exceeded(doing: str = "", key: str | None = None) -> DeadlineExceededError | None:
    """The error to raise if the deadline is over; None if it is not, or there is none.

    For errors that a request raised because its time was over: what the caller is to hear of is the deadline.
    """
    try:
        remaining(doing, key)
    except DeadlineExceededError as error:
        return error
    return None


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """A function that runs under the deadline that holds here, whichever thread calls it."""
    current = _CURRENT.get()

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _CURRENT.set(current)
        try:
            return function(*args, **kwargs)
        finally:
            _CURRENT.reset(token)

    return call


def pause(seconds: float) -> None:
    """Sleep, but not beyond the deadline.

    Raises:
        DeadlineExceededError: it would be over before the pause is.
    """
    current = _CURRENT.get()
    if current is not None and current.at - time.monotonic() <= seconds:
        raise DeadlineExceededError(current.seconds, "waiting to try again")
    time.sleep(seconds)


@contextmanager
def afresh(seconds: float) -> Iterator[None]:
    """Give what happens in this context `seconds`, whatever was left outside: for tidying up after a call that failed,
    which a deadline that is over must not prevent. Keep it short: the caller waits.
    """
    token = _CURRENT.set(_Deadline(time.monotonic() + seconds, seconds))
    try:
        yield
    finally:
        _CURRENT.reset(token)
