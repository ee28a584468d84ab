"""Answers that break off in their heads are no answers."""

from __future__ import annotations

import http.client
import io
from typing import Any

import pytest

from modelstore.storage.heads import WholeHead

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 4\r\n\r\n"


class Said:
    """A socket from which some bytes come, and then the end of the connection."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def answer(data: bytes, kind: type[http.client.HTTPResponse] = WholeHead) -> http.client.HTTPResponse:
    said: Any = Said(data)
    response = kind(said)
    response.begin()
    return response


def test_a_whole_head_is_an_answer() -> None:
    """Status, headers and body are what came, after an interim answer too."""
    for data in (HEAD, b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD):
        response = answer(data + b"body")
        assert (response.status, response.getheader("content-length"), response.read()) == (200, "4", b"body")
        response.begin()


def test_every_head_that_breaks_off_is_noticed() -> None:
    """Wherever within its head an answer ends, it is an error; Python alone would take most for an empty answer."""
    for end in range(len(HEAD)):
        with pytest.raises(http.client.HTTPException):
            answer(HEAD[:end])
    assert answer(HEAD[:17], http.client.HTTPResponse).read() == b""
