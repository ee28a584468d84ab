"""`timeout=`, on a store and on each call of it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar, cast

from modelstore import deadline

P = ParamSpec("P")
R = TypeVar("R")
Method = TypeVar("Method", bound=Callable[..., Any])


class Timed:
    """An object whose calls must end within `_timeout` seconds, unless the call itself says otherwise."""

    _timeout: float | None = None

    def _within(self, timeout: float | None) -> AbstractContextManager[None]:
        return deadline.within(self._timeout if timeout is None else timeout)


def check_timeout(timeout: float | None) -> float | None:
    """The timeout, if it is one.

    Raises:
        InvalidArgumentError: not a positive number.
    """
    with deadline.within(timeout):
        return timeout


def timed(method: Method) -> Method:
    """A method of a `Timed` object with a keyword `timeout`, which it need not look at itself."""

    @functools.wraps(method)
    def call(self: Timed, *args: Any, **kwargs: Any) -> Any:
        with self._within(kwargs.get("timeout")):
            return method(self, *args, **kwargs)

    return cast(Method, call)


def in_thread(method: Callable[P, R]) -> Callable[P, Awaitable[R]]:
    """The same method for code that must not block: it runs in a thread of the event loop's executor.

    Cancelling the task gives up waiting; what has begun goes on to its end, or to its `timeout=`.
    """

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, *args, **kwargs)

    call.__name__ = f"a{method.__name__}"
    call.__qualname__ = f"ModelStore.{call.__name__}"
    call.__doc__ = f"`{method.__name__}` for code that must not block: `await store.{call.__name__}(…)`."
    return call
