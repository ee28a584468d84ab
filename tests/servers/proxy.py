"""A proxy for HTTP that does to a storage's requests and answers what networks do: on demand, or at random."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers import process

AT_RANDOM = ("status", "reset", "reset_up", "truncate", "stall", "refuse", "lost", "double")
"""What `random` draws from, unless it is told."""


class Seen(NamedTuple):
    """A request that reached the proxy, in the order of the answers."""

    method: str
    target: str
    """Path and query."""
    status: int
    """0 where the server was not asked, or did not answer."""


class Proxy:
    """In front of a server at `target`, reached at `port`."""

    def __init__(self, port: int, target: int, control: int) -> None:
        self.port = port
        self.target = target
        self._control = control

    def set(self, mode: str = "none", **how: Any) -> None:
        """What goes wrong from now on; counts begin anew.

        Args:
            mode: `none`: all goes through.
                `status`: the server is not asked, or with `forward=True` asked in vain; the answer is `code` (503) with
                `body` and `headers`.
                `reset`, `truncate`, `stall`: the answer, its head included, breaks off after `after` bytes (0): by RST,
                by FIN, or with silence for `s` seconds. Answers that are shorter come through.
                `reset_up`: the server gets `after` bytes of the request's body, then the connection breaks at both
                ends. Shorter bodies go through.
                `lost`: the server does it, and the connection breaks instead of an answer.
                `late`: the connection breaks, and the server does it `s` seconds (0.5) later.
                `double`: the server is asked twice, and the second answer is the client's.
                `refuse`: new connections are reset at once, open ones at their next request. `down`: nobody listens at
                the port.
                `latency`: each request waits for `ms` milliseconds. `bandwidth`: `bps` bytes a second, each way.
                `random`: each request meets one of `faults` (AT_RANDOM) with a probability of `rate` (0.2), drawn with
                `seed`; the parameters above go for them too, but `after`, which is drawn: up to 4 MiB of an answer,
                anywhere in a request.
            **how: `count`: how often it happens at most. `match`: only to requests whose `METHOD target` holds this
                pattern. `skip`: after so many requests of those.
        """
        self._ask({"set": {"mode": mode, **how}})

    @property
    def hits(self) -> int:
        """How often something went wrong since `set`."""
        return int(self._ask({})["hits"])

    @property
    def hits_by_mode(self) -> dict[str, int]:
        """The same, by what it was."""
        return dict(self._ask({})["by_mode"])

    @property
    def seen(self) -> list[Seen]:
        """The requests since `set`, but those that are still under way."""
        return [Seen(*one) for one in self._ask({"seen": True})["seen"]]

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self._control), 10) as connection:
            connection.sendall(json.dumps(question).encode() + b"\n")
            with connection.makefile("rb") as answer:
                return dict(json.loads(answer.readline()))


@contextlib.contextmanager
def serve(folder: Path, target_port: int) -> Iterator[Proxy]:
    """A proxy in front of a server on this machine, for as long as the context lasts.

    Args:
        folder: for its log.
        target_port: of the server.
    """
    port, control = process.free_port(), process.free_port()
    script = Path(__file__).with_name("fault_proxy.py")
    command = [sys.executable, str(script), str(port), str(target_port), str(control)]
    with process.running(command, control, folder / f"proxy-{port}.log"):
        yield Proxy(port, target_port, control)
