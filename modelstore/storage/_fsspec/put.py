"""A file that goes out in one request of HTTP, while its content still comes in."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from modelstore import deadline
from modelstore.exceptions import StorageUnavailableError

Put = Callable[["bytes | Iterator[bytes]"], None]

_AT_ONCE = 16 << 20
"""Bytes up to which a file is sent with its length, which some servers insist on."""

_PIECE = 1 << 20
_ANSWER_SECONDS = 2 * deadline.STALL_SECONDS
_FORGOTTEN_SECONDS = 3600.0
"""After how long without a word a sender stops to wait for more."""


class PutSink:
    """Sends a small file at its end, a larger one by a thread as it comes.

    Args:
        put: makes the request.
    """

    def __init__(self, put: Put) -> None:
        self._put = put
        self._held: list[memoryview] = []
        self._size = 0
        self._sender: _Sender | None = None

    def write(self, data: memoryview) -> None:
        """See `Sink.write`."""
        if self._sender is not None:
            self._sender.feed(data)
            return
        self._held.append(data)
        self._size += len(data)
        if self._size > _AT_ONCE:
            self._sender = _Sender(self._put)
            for piece in self._held:
                self._sender.feed(piece)
            self._held.clear()

    def finish(self) -> None:
        """See `Sink.finish`."""
        if self._sender is None:
            self._put(b"".join(self._held))
        else:
            self._sender.end()

    def abandon(self) -> None:
        """See `Sink.abandon`. The request is brought to its end and not broken off, so that the server is done with
        the file when it is told to remove it.
        """
        self._held.clear()
        if self._sender is not None:
            with contextlib.suppress(Exception):
                self._sender.end()


class _Sender:
    """A request of unknown length, in a thread."""

    def __init__(self, put: Put) -> None:
        self._pieces: queue.Queue[memoryview | None] = queue.Queue(1)
        self._error: BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, args=(put,), name="modelstore-put", daemon=True).start()

    def feed(self, data: memoryview | None) -> None:
        """Send on, as fast as the server takes it."""
        while not self._done.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(data, timeout=0.2)
                return
        if self._error is not None:
            raise self._error
        if data is not None:
            raise StorageUnavailableError("the server answered before it had the whole file")

    def end(self) -> None:
        """Say that this was all, and hear what the server makes of it."""
        self.feed(None)
        if not self._done.wait(_ANSWER_SECONDS):
            raise StorageUnavailableError("the server did not answer to a file that it was sent")
        if self._error is not None:
            raise self._error

    def _run(self, put: Put) -> None:
        try:
            put(self._content())
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def _content(self) -> Iterator[bytes]:
        while (piece := self._pieces.get(timeout=_FORGOTTEN_SECONDS)) is not None:
            for at in range(0, len(piece), _PIECE):
                yield bytes(piece[at : at + _PIECE])
