"""Answers whose head broke off, found out where Python does not: below `requests`, for the SDKs that use it."""

from __future__ import annotations

import http.client
from typing import Any


class WholeHead(http.client.HTTPResponse):
    """An answer of which at least the head came whole.

    `http.client` takes a head that ends with the connection for a whole one without the rest of its lines: a listing
    then looks like one of nothing, an object like an empty one. To be made a connection's `response_class`.
    """

    def begin(self) -> None:
        """Read the head.

        Raises:
            http.client.RemoteDisconnected: it broke off.
        """
        if self.headers is not None:
            return
        answer, lines = self.fp, _Lines(self.fp)
        self.fp = lines
        try:
            super().begin()
        finally:
            if self.fp is lines:  # None if it was closed
                self.fp = answer
        if not lines.last:
            raise http.client.RemoteDisconnected("the connection ended within the head of an answer")


class _Lines:
    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.last = b""

    def readline(self, limit: int) -> bytes:
        self.last = self._answer.readline(limit)
        return self.last

    def close(self) -> None:
        self._answer.close()
