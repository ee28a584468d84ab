"""The multipart uploads of Google's XML API, in front of a server that does not have them; all else goes through to it.

Written after Google's reference of the XML API, since no server that can be installed has them. It refuses what Google
refuses: parts that are too small, unknown or out of order, checksums that do not fit, uploads that were given up.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
SMALLEST_PART = 5 << 20
PAGE = 2
"""Uploads on a page of a listing: few, so that tests meet several pages."""


@dataclass
class Upload:
    """An upload that has begun."""

    bucket: str
    name: str
    headers: dict[str, str]
    begun: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    parts: dict[int, bytes] = field(default_factory=dict)


class Gateway:
    """A running gateway: what it holds, and what it has seen."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.uploads: dict[str, Upload] = {}
        """Those that are neither joined nor given up."""
        self.joined: list[Upload] = []
        self.busy = self.most_busy = 0
        """Parts that are coming in now, and at most."""
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"gateway": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = int(self.server.server_address[1])


@contextlib.contextmanager
def serve(target_port: int) -> Iterator[Gateway]:
    """A gateway in threads of this process, for as long as the context lasts."""
    gateway = Gateway(target_port)
    gateway.server.daemon_threads = True
    thread = threading.Thread(target=gateway.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        gateway.server.shutdown()
        gateway.server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    gateway: Gateway

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        bucket, _, name = unquote(url.path).lstrip("/").partition("/")
        if "uploads" in query and self.command in ("POST", "GET"):
            self._read()
            if self.command == "GET":
                return self._list(bucket, query)
            return self._begin(bucket, name)
        if "uploadId" in query:
            if self.command == "PUT":
                return self._part(query)
            content = self._read()
            return self._end(query["uploadId"], content)
        self._pass_on(self._read())

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _begin(self, bucket: str, name: str) -> None:
        if self._ask("GET", f"/storage/v1/b/{bucket}")[0] == 404:
            return self._refuse(404, "NoSuchBucket")
        number = uuid.uuid4().hex
        self.gateway.uploads[number] = Upload(bucket, name, {key.lower(): text for key, text in self.headers.items()})
        self._answer(200, _document("InitiateMultipartUploadResult", {"Key": name, "UploadId": number}))

    def _part(self, query: dict[str, str]) -> None:
        gateway = self.gateway
        with gateway.lock:
            gateway.busy += 1
            gateway.most_busy = max(gateway.most_busy, gateway.busy)
        content = self._read()
        with gateway.lock:
            gateway.busy -= 1
        upload = gateway.uploads.get(query["uploadId"])
        if upload is None:
            return self._refuse(404, "NoSuchUpload")
        if not _fits(self.headers.get("x-goog-hash"), content):
            return self._refuse(400, "BadDigest")
        upload.parts[int(query["partNumber"])] = content
        self._answer(200, headers={"ETag": _etag(content)})

    def _end(self, number: str, content: bytes) -> None:
        upload = self.gateway.uploads.get(number)
        if upload is None:
            return self._refuse(404, "NoSuchUpload")
        if self.command == "DELETE":
            del self.gateway.uploads[number]
            return self._answer(204)
        listed = [(int(part[0].text or 0), part[1].text) for part in ElementTree.fromstring(content)]
        if listed != [(number, _etag(upload.parts[number])) for number in sorted(upload.parts)]:
            return self._refuse(400, "InvalidPart")
        parts = [upload.parts[number] for number, _ in listed]
        if any(len(part) < SMALLEST_PART for part in parts[:-1]):
            return self._refuse(400, "EntityTooSmall")
        path = f"/upload/storage/v1/b/{upload.bucket}/o?uploadType=media&name={quote(upload.name, safe='')}"
        status, _, said = self._ask("POST", path, b"".join(parts), {"Content-Type": upload.headers["content-type"]})
        if status != 200:
            return self._answer(status, said)
        del self.gateway.uploads[number]
        self.gateway.joined.append(upload)
        self._answer(200, _document("CompleteMultipartUploadResult", {"Key": upload.name, "ETag": '"joined-1"'}))

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        found = sorted(
            (upload.name, number, upload.begun)
            for number, upload in self.gateway.uploads.items()
            if upload.bucket == bucket and upload.name.startswith(query.get("prefix", ""))
        )
        after = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        rest = [one for one in found if one[:2] > after]
        root = ElementTree.Element("ListMultipartUploadsResult", xmlns=NAMESPACE)
        for name, number, begun in rest[:PAGE]:
            entry = ElementTree.SubElement(root, "Upload")
            _fill(entry, {"Key": name, "UploadId": number, "Initiated": begun.strftime("%Y-%m-%dT%H:%M:%S.%fZ")})
        _fill(root, {"IsTruncated": str(len(rest) > PAGE).lower()})
        if len(rest) > PAGE:
            _fill(root, {"NextKeyMarker": rest[PAGE - 1][0], "NextUploadIdMarker": rest[PAGE - 1][1]})
        self._answer(200, ElementTree.tostring(root))

    def _pass_on(self, content: bytes) -> None:
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
        status, answered, body = self._ask(self.command, self.path, content, headers)
        framing = ("content-length", "transfer-encoding", "date")
        kept = {key: value for key, value in answered.items() if key.lower() not in framing}
        self._answer(status, body, kept)

    def _ask(
        self, method: str, path: str, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.target, timeout=30)
        try:
            connection.request(method, path, content, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _fits(given: str | None, content: bytes) -> bool:
    import google_crc32c

    if given is None:
        return True
    return given == "crc32c=" + base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def _document(tag: str, texts: dict[str, str]) -> bytes:
    root = ElementTree.Element(tag, xmlns=NAMESPACE)
    _fill(root, texts)
    return ElementTree.tostring(root)


def _fill(element: ElementTree.Element, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(element, name).text = text
