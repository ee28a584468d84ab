"""HTTP connections for `requests` that keep the deadline of the call they work for, byte by byte.

`timeout=` of `requests` limits how long a server may be silent. An answer that drips, or a body that is taken slowly,
goes on for ever under it. So each piece that is sent and each that is received asks the deadline itself, and a thread
of its own for each request is not needed. Imports `requests`: only what makes a client may import this.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import Any

import urllib3.connection
import urllib3.connectionpool
from requests.adapters import HTTPAdapter

from modelstore import deadline
from modelstore.storage.heads import WholeHead

PIECE = 1 << 18
"""Bytes sent at a time: each piece may take `STALL_SECONDS`, so that a slow line is not taken for a dead one."""

CONNECTIONS = 32
"""Kept open at most. A transfer uses eight at a time, and several may run."""


class KeepingDeadlines(HTTPAdapter):  # type: ignore[misc]
    """What `requests` sends requests through; to be mounted on a session."""

    def __init__(self) -> None:
        super().__init__(pool_maxsize=CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Called by `requests` when it makes or unpickles an adapter."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class _Incoming(io.RawIOBase):
    """What comes in over a connection, for as long as there is time."""

    def __init__(self, connection: socket.socket) -> None:
        # As http.client does: it keeps the connection open until the answer is read, whoever closes it before.
        self._file = connection.makefile("rb", buffering=0)
        self._connection = connection
        self._patience = connection.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_time_left(self._patience))
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()


class _Response(WholeHead):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_Incoming(sock), 1 << 16)


class _HTTPConnection(urllib3.connection.HTTPConnection):  # type: ignore[misc]
    response_class = _Response

    def send(self, data: Any) -> None:
        _send(self, data, super().send)


class _HTTPSConnection(urllib3.connection.HTTPSConnection):  # type: ignore[misc]
    response_class = _Response

    def send(self, data: Any) -> None:
        _send(self, data, super().send)


def _send(connection: Any, data: Any, send: Callable[[Any], None]) -> None:
    whole = memoryview(data) if isinstance(data, (bytes, bytearray, memoryview)) else None
    for piece in [data] if whole is None else [whole[at : at + PIECE] for at in range(0, len(whole), PIECE)]:
        if connection.sock is not None:
            # Not the time to connect, which urllib3 has set: that is too short for a piece on a slow line.
            connection.sock.settimeout(_time_left(deadline.STALL_SECONDS))
        send(piece)


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPSConnection


def _time_left(seconds: float | None) -> float:
    """Seconds that one piece may take.

    Raises:
        TimeoutError: the deadline is over. A plain one, which urllib3 and `requests` pass on as a timeout.
    """
    over = deadline.exceeded()
    if over is not None:
        raise TimeoutError(str(over))
    return deadline.at_most(deadline.STALL_SECONDS if seconds is None else seconds)
