"""The process behind `tests.servers.proxy`: passes HTTP on from one port to another, except where it is told not to.

`python fault_proxy.py LISTEN TARGET CONTROL`. Each line of JSON on the control port is a question, or sets what is to
go wrong from now on; see `proxy.Proxy.set` for what can. Nothing but the standard library is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

from fault_wire import LOST, Head, read_body, read_head, reset  # beside this script

RANDOM = ("status", "reset", "reset_up", "truncate", "stall", "refuse", "lost", "double")


class Rules:
    """What is to go wrong, and what has."""

    def __init__(self) -> None:
        self.set({"mode": "none"})

    def set(self, how: dict[str, Any]) -> None:
        self.how = how
        self.hits = 0
        self.by_mode: dict[str, int] = {}
        self.seen: list[tuple[str, str, int]] = []
        self.random = random.Random(how.get("seed"))
        self.skip = int(how.get("skip", 0))
        self.match = re.compile(how["match"]) if "match" in how else None

    def for_connection(self) -> dict[str, Any] | None:
        mode = self.how["mode"]
        if mode == "random" and "refuse" in self.how.get("faults", RANDOM):
            return {"mode": "refuse"} if self.random.random() < self.how.get("rate", 0.2) / len(RANDOM) else None
        return self.how if mode == "refuse" else None

    def for_request(self, head: Head) -> dict[str, Any]:
        how = self.how
        if how["mode"] == "none":
            return how
        if self.match is not None and not self.match.search(" ".join(head.words[:2])):
            return {"mode": "none"}
        if self.skip > 0:
            self.skip -= 1
            return {"mode": "none"}
        return self._drawn(head) if how["mode"] == "random" else how

    def _drawn(self, head: Head) -> dict[str, Any]:
        draw = self.random
        if draw.random() >= self.how.get("rate", 0.2):
            return {"mode": "none"}
        mode = draw.choice(self.how.get("faults", RANDOM))
        # As often in the first bytes, where heads are, as anywhere: evenly over the orders of magnitude.
        after = int(2 ** draw.uniform(0, draw.choice([8, 22])))
        if mode == "reset_up":
            after = int(draw.random() * int(head.value(b"content-length") or 0))
        return {**self.how, "mode": mode, "after": after, "forward": mode == "status" and draw.random() < 0.3}

    def strikes(self, how: dict[str, Any]) -> bool:
        """Whether a fault happens now; as often as `count` says."""
        count = self.how.get("count")
        if count is not None and self.hits >= count:
            return False
        self.hits += 1
        self.by_mode[how["mode"]] = self.by_mode.get(how["mode"], 0) + 1
        return True


class Exchange:
    """One request of a client and its answer."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: Head) -> None:
        self.proxy, self.reader, self.writer, self.head = proxy, reader, writer, head
        self.rules = proxy.rules
        self.how = self.rules.for_request(head)
        self.expects = head.value(b"expect") == b"100-continue"

    async def run(self) -> bool:
        """Whether the connection can be used again."""
        how, mode = self.how, self.how["mode"]
        if mode == "latency":
            await asyncio.sleep(how.get("ms", 50) / 1000)
        if mode in ("down", "refuse") and self.rules.strikes(how):  # a connection of the time before
            reset(self.writer)
            return False
        if mode == "status" and self.rules.strikes(how):
            return await self.answer_status()
        if mode == "reset_up":
            return await self.cut_request()
        if mode in ("lost", "late", "double") and self.rules.strikes(how):
            return await self.with_body_kept(mode)
        if self.expects:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self.forward(read_body(self.reader, self.head, False), mode)

    async def answer_status(self) -> bool:
        how = self.how
        closes = self.expects and not how.get("forward")
        if not closes:  # a client that waits to be told to go on is told no instead
            body = await self.body()
            if how.get("forward"):
                await self.ask(body)
        code, content = how.get("code", 503), how.get("body", "<Error><Code>SlowDown</Code></Error>").encode()
        headers = {"Content-Type": "application/xml", **how.get("headers", {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.seen(code)
        self.writer.write(
            f"HTTP/1.1 {code} Fault\r\nContent-Length: {len(content)}\r\n{lines}"
            f"{'Connection: close' + chr(13) + chr(10) if closes else ''}\r\n".encode()
            + (b"" if self.head.words[0] == "HEAD" else content)
        )
        await self.writer.drain()
        return not closes

    async def cut_request(self) -> bool:
        """The server gets a part of the body, and both ends hear that the connection broke."""
        left, whole = self.how.get("after", 0), True
        sender: asyncio.StreamWriter | None = None
        pieces: list[bytes] = []
        if self.expects:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for data in read_body(self.reader, self.head, False):
            if len(data) > left and self.rules.strikes(self.how):
                _, sender = await self.connect()
                sender.write(b"".join(pieces) + data[:left])
                with contextlib.suppress(*LOST):
                    await sender.drain()
                whole = False
                break
            left = max(0, left - len(data))
            pieces.append(data)
        if sender is not None:
            self.seen(0)
            reset(sender)
        if not whole:
            reset(self.writer)
            return False
        return await self.forward(_given(pieces), "none")

    async def with_body_kept(self, mode: str) -> bool:
        body = await self.body()
        if mode == "late":
            reset(self.writer)
            await asyncio.sleep(self.how.get("s", 0.5))
            await self.ask(body)
            return False
        await self.ask(body)
        if mode == "lost":
            reset(self.writer)
            return False
        return await self.forward(_given([body]), "none")

    async def body(self) -> bytes:
        if self.expects:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return b"".join([data async for data in read_body(self.reader, self.head, False)])

    async def ask(self, body: bytes) -> None:
        """Have the server do it, and keep its answer from the client."""
        with contextlib.suppress(*LOST):
            reader, sender = await self.connect()
            try:
                sender.write(body)
                await sender.drain()
                answer = await self.answer_head(reader)
                if self.has_body(answer):
                    async for _ in read_body(reader, answer, True):
                        pass
            finally:
                sender.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own for each request, so that none is used which the server is about to close."""
        reader, sender = await asyncio.open_connection("127.0.0.1", self.proxy.target, limit=1 << 20)
        sender.write(re.sub(rb"(?i)\r\nexpect:[^\r]*", b"", self.head.raw, count=1))
        return reader, sender

    async def answer_head(self, reader: asyncio.StreamReader) -> Head:
        while True:
            answer = await read_head(reader)
            if answer is None:
                self.seen(0)
                raise ConnectionResetError
            if not answer.words[1].startswith("1"):
                self.seen(int(answer.words[1]))
                return answer

    def has_body(self, answer: Head) -> bool:
        return self.head.words[0] != "HEAD" and answer.words[1] not in ("204", "304")

    async def forward(self, body: AsyncIterator[bytes], mode: str) -> bool:
        reader, sender = await self.connect()
        sending = asyncio.create_task(self.pump(body, sender))
        try:
            answer = await self.answer_head(reader)
            raw = answer.raw.replace(b"127.0.0.1:%d" % self.proxy.target, b"127.0.0.1:%d" % self.proxy.port)
            left = self.how.get("after", 0) if mode in ("reset", "truncate", "stall") else None
            framed = answer.value(b"content-length") is not None or answer.value(b"transfer-encoding") is not None
            async for data in self.wire(raw, reader, answer):
                if left is not None and len(data) > left and self.rules.strikes(self.how):
                    reset(sender)
                    await self.cut(data[:left], mode)
                    return False
                left = None if left is None else max(0, left - len(data))
                if mode == "bandwidth":
                    await asyncio.sleep(len(data) / self.how.get("bps", 1 << 20))
                self.writer.write(data)
                await self.writer.drain()
            if not sending.done():
                await asyncio.wait([sending], timeout=1)
            usable = sending.done() and not answer.closes and (framed or not self.has_body(answer))
            sender.close()
            return usable
        except BaseException:
            reset(sender)
            raise
        finally:
            sending.cancel()

    async def wire(self, raw: bytes, reader: asyncio.StreamReader, answer: Head) -> AsyncIterator[bytes]:
        yield raw
        if self.has_body(answer):
            async for data in read_body(reader, answer, True):
                yield data

    async def pump(self, body: AsyncIterator[bytes], sender: asyncio.StreamWriter) -> None:
        with contextlib.suppress(*LOST):  # a server that refuses need not read all
            async for data in body:
                if self.how["mode"] == "bandwidth":
                    await asyncio.sleep(len(data) / self.how.get("bps", 1 << 20))
                sender.write(data)
                await sender.drain()

    async def cut(self, rest: bytes, mode: str) -> None:
        self.writer.write(rest)
        await self.writer.drain()
        if mode == "stall":
            with contextlib.suppress(asyncio.TimeoutError, *LOST):  # until the client gives up
                await asyncio.wait_for(self.reader.read(1), self.how.get("s", 3600))
        if mode == "truncate":
            self.writer.close()
        else:
            reset(self.writer)

    def seen(self, status: int) -> None:
        self.rules.seen.append((self.head.words[0], self.head.words[1], status))


async def _given(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Proxy:
    def __init__(self, port: int, target: int, control: int) -> None:
        self.port, self.target, self.control_port = port, target, control
        self.rules = Rules()
        self.listener: asyncio.Server | None = None

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refused = self.rules.for_connection()
        if refused is not None and self.rules.strikes(refused):
            reset(writer)
            return
        try:
            while (head := await read_head(reader)) is not None:
                if not await Exchange(self, reader, writer, head).run() or head.closes:
                    break
            writer.close()
        except LOST:
            reset(writer)

    async def listen(self, wanted: bool) -> None:
        if wanted and self.listener is None:
            self.listener = await asyncio.start_server(self.client, "127.0.0.1", self.port, limit=1 << 20, backlog=512)
        elif not wanted and self.listener is not None:
            self.listener.close()
            self.listener = None

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        rules = self.rules
        if "set" in asked:
            rules.set(asked["set"])
            await self.listen(asked["set"]["mode"] != "down")
        answer = {"hits": rules.hits, "by_mode": rules.by_mode, "seen": rules.seen if asked.get("seen") else []}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def run(self) -> None:
        await self.listen(True)
        await (await asyncio.start_server(self.control, "127.0.0.1", self.control_port)).serve_forever()


if __name__ == "__main__":
    asyncio.run(Proxy(*map(int, sys.argv[1:4])).run())
