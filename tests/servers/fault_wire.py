"""HTTP as the fault proxy sees it: heads, bodies byte by byte, and connections that break. Imported by its script."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PIECE = 1 << 18
LOST = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError)


@dataclass
class Head:
    """The head of a request or an answer."""

    raw: bytes
    lower: bytes = field(init=False)
    words: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.lower = self.raw.lower()
        self.words = self.raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    def value(self, name: bytes) -> bytes | None:
        found = re.search(rb"\r\n" + name + rb":[ \t]*([^\r]*)", self.lower)
        return found[1].strip() if found else None

    @property
    def closes(self) -> bool:
        return self.value(b"connection") == b"close"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    with contextlib.suppress(*LOST):
        return Head(await reader.readuntil(b"\r\n\r\n"))
    return None


async def read_body(reader: asyncio.StreamReader, head: Head, to_end: bool) -> AsyncIterator[bytes]:
    """The bytes of a body as they are on the wire."""
    length = head.value(b"content-length")
    if b"chunked" in (head.value(b"transfer-encoding") or b""):
        while True:
            line = await reader.readuntil(b"\r\n")
            yield line
            size = int(line.split(b";")[0], 16)
            left = size + 2
            while size and left:
                data = await reader.read(min(left, PIECE))
                if not data:
                    raise ConnectionResetError
                left -= len(data)
                yield data
            if not size:
                while (line := await reader.readuntil(b"\r\n")) != b"\r\n":  # trailers
                    yield line
                yield line
                return
    elif length is not None:
        left = int(length)
        while left:
            data = await reader.read(min(left, PIECE))
            if not data:
                raise ConnectionResetError
            left -= len(data)
            yield data
    elif to_end:
        while data := await reader.read(PIECE):
            yield data


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST instead of FIN."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
