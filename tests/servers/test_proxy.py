"""The fault proxy does what its tests say that it does, or they would test nothing."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.servers import proxy
from tests.servers.proxy import Proxy

BODY = bytes(range(256)) * 400


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    received: list[tuple[str, str, int]]
    """Of each request: method, target, and how much of its body came."""

    def do_GET(self) -> None:
        self.received.append(("GET", self.path, 0))
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(BODY), 7000):
                piece = BODY[at : at + 7000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(BODY)))
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/next")
            self.end_headers()
            self.wfile.write(BODY)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(("PUT", self.path, len(body)))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: object) -> None:
        """Connections that break are what this is about."""


@contextlib.contextmanager
def server() -> Iterator[tuple[int, list[tuple[str, str, int]]]]:
    handler = type("Own", (Handler,), {"received": []})
    with Server(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield listening.server_address[1], handler.received
        listening.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, list[tuple[str, str, int]]]]:
    with server() as (port, received), proxy.serve(tmp_path_factory.mktemp("proxy"), port) as running:
        yield running, received


@pytest.fixture
def faulty(served: tuple[Proxy, list[tuple[str, str, int]]]) -> Proxy:
    served[0].set()
    served[1].clear()
    return served[0]


@pytest.fixture
def received(served: tuple[Proxy, list[tuple[str, str, int]]]) -> list[tuple[str, str, int]]:
    return served[1]


def ask(
    connection: http.client.HTTPConnection, method: str = "GET", target: str = "/x", body: bytes = b"", **more: str
) -> tuple[int, bytes]:
    connection.request(method, target, body or None, more)
    answer = connection.getresponse()
    return answer.status, answer.read()


def connect(faulty: Proxy, timeout: float = 10) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", faulty.port, timeout=timeout)


def test_what_passes_is_unchanged(faulty: Proxy) -> None:
    """Bodies of known and unknown length, none at all, and requests with bodies follow each other on a connection."""
    connection = connect(faulty)
    for _ in range(2):
        assert ask(connection) == (200, BODY)
        assert ask(connection, target="/chunked") == (200, BODY)
        assert ask(connection, "HEAD") == (200, b"")
        assert ask(connection, "PUT", body=BODY) == (201, b"")
        assert ask(connection, "PUT", body=b"small", Expect="100-continue") == (201, b"")
    assert [(seen.method, seen.status) for seen in faulty.seen[:4]] == [
        ("GET", 200), ("GET", 200), ("HEAD", 200), ("PUT", 201),
    ]  # fmt: skip
    assert faulty.hits == 0


def test_addresses_in_answers_lead_through_the_proxy(faulty: Proxy) -> None:
    """A client that is sent to another address of the server does not get around the proxy."""
    connection = connect(faulty)
    connection.request("GET", "/x")
    assert connection.getresponse().getheader("Location") == f"http://127.0.0.1:{faulty.port}/next"


def test_status_on_a_later_request(faulty: Proxy, received: list[tuple[str, str, int]]) -> None:
    """The third request of a connection is answered without the server, the fourth is served again."""
    faulty.set("status", code=503, count=1, skip=2)
    connection = connect(faulty)
    assert [ask(connection, "PUT", body=BODY)[0] for _ in range(4)] == [201, 201, 503, 201]
    assert len(received) == 3
    assert faulty.hits == 1
    assert [seen.status for seen in faulty.seen] == [201, 201, 503, 201]


def test_status_after_the_server_has_done_it(faulty: Proxy, received: list[tuple[str, str, int]]) -> None:
    """With `forward`, the server has done what the client is told has failed; the answer is as given."""
    faulty.set("status", code=409, body="<Code>Conflict</Code>", headers={"X-Why": "test"}, forward=True, count=1)
    assert ask(connect(faulty), "PUT", body=b"abc") == (409, b"<Code>Conflict</Code>")
    assert received == [("PUT", "/x", 3)]


def test_only_what_matches(faulty: Proxy) -> None:
    """A fault can be kept to some requests."""
    faulty.set("status", match="^PUT /log/")
    connection = connect(faulty)
    assert ask(connection, "PUT", "/log/1", b"x")[0] == 503
    assert ask(connection, "PUT", "/archives/1", b"x")[0] == 201
    assert ask(connection, "GET", "/log/1")[0] == 200


@pytest.mark.parametrize("target", ["/x", "/chunked"])
@pytest.mark.parametrize("after", [0, 20, 50_000])
@pytest.mark.parametrize("mode", ["reset", "truncate"])
def test_answers_break_off(faulty: Proxy, mode: str, after: int, target: str) -> None:
    """The first answer ends after so many bytes, the next one comes whole."""
    faulty.set(mode, after=after, count=1)
    if (mode, after) == ("truncate", 20):
        # Python takes a head that ends early for a whole one: success, and nothing in it.
        assert ask(connect(faulty), target=target) == (200, b"")
    else:
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            ask(connect(faulty), target=target)
    assert ask(connect(faulty), target=target) == (200, BODY)
    assert faulty.hits == 1


def test_shorter_answers_come_through(faulty: Proxy) -> None:
    """A fault beyond the end of an answer does not strike."""
    faulty.set("reset", after=len(BODY) * 2, count=1)
    assert ask(connect(faulty)) == (200, BODY)
    assert faulty.hits == 0


def test_stall(faulty: Proxy) -> None:
    """After some bytes nothing more is said, until the client gives up."""
    faulty.set("stall", after=1000, count=1)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        ask(connect(faulty, timeout=0.3))
    assert time.monotonic() - start >= 0.3
    assert ask(connect(faulty)) == (200, BODY)


def test_requests_break_off(faulty: Proxy, received: list[tuple[str, str, int]]) -> None:
    """The server never gets the whole body, and the client hears of a broken connection."""
    faulty.set("reset_up", after=50_000, count=1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(connect(faulty), "PUT", body=BODY)
    assert ask(connect(faulty), "PUT", body=BODY)[0] == 201
    assert [size for _, _, size in received if size == len(BODY)] == [len(BODY)]
    assert faulty.hits == 1


def test_lost_answers(faulty: Proxy, received: list[tuple[str, str, int]]) -> None:
    """The server has done it, and the client cannot know."""
    faulty.set("lost", count=1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(connect(faulty), "PUT", body=b"abc")
    assert received == [("PUT", "/x", 3)]


def test_late_requests(faulty: Proxy, received: list[tuple[str, str, int]]) -> None:
    """The server does it some time after the client was told that the connection broke."""
    faulty.set("late", s=0.3, count=1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(connect(faulty), "PUT", body=b"abc")
    assert received == []
    until = time.monotonic() + 10
    while not received and time.monotonic() < until:
        time.sleep(0.02)
    assert received == [("PUT", "/x", 3)]


def test_doubled_requests(faulty: Proxy, received: list[tuple[str, str, int]]) -> None:
    """The server is asked twice, the client hears of the second time."""
    faulty.set("double", count=1)
    assert ask(connect(faulty), "PUT", body=b"abc") == (201, b"")
    assert received == [("PUT", "/x", 3)] * 2


def test_refused_and_unreachable(faulty: Proxy) -> None:
    """A connection is reset at once, or none is accepted; later ones are."""
    faulty.set("refuse", count=1)
    with pytest.raises(ConnectionError):
        ask(connect(faulty))
    assert ask(connect(faulty)) == (200, BODY)
    faulty.set("down")
    with pytest.raises(ConnectionRefusedError):
        ask(connect(faulty))
    faulty.set()
    assert ask(connect(faulty)) == (200, BODY)


def test_at_random(faulty: Proxy) -> None:
    """Every kind of fault strikes sooner or later, and what is not struck is right."""
    faulty.set("random", seed=1, rate=0.5, s=0.01)
    # The last is what Python makes of a head that ends early.
    right = {(200, BODY), (201, b""), (503, b"<Error><Code>SlowDown</Code></Error>"), (200, b"")}
    for number in range(150):
        method, body = ("PUT", BODY * 3) if number % 2 else ("GET", b"")
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert ask(connect(faulty), method, body=body) in right
    assert set(faulty.hits_by_mode) == set(proxy.AT_RANDOM)
