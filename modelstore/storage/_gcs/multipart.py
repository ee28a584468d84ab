"""Multipart uploads of the XML API: parts that go up in parallel, and become an object when they are joined.

Not by the SDK's transfer manager, which sends files; its requests are the same.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from modelstore.records import parse_time
from modelstore.storage import transfer
from modelstore.storage._gcs.client import base_url
from modelstore.storage._gcs.errors import status_of
from modelstore.storage._gcs.parts import BINARY, Upload
from modelstore.storage._gcs.requests import Body, send
from modelstore.storage.transfer import MIB, Part

if TYPE_CHECKING:
    from google.cloud.storage import Client

MOST_PARTS = 10_000
"""Of one upload."""

JOINING_SECONDS = 120.0
"""How long the server may take to join the parts, where there is no earlier deadline."""

_NO_SUCH_METHOD = (405, 501)
_MUST_BE_TOLD = (401, 408, 429)
"""Refusals that say nothing about multipart uploads."""


class Multipart(Upload):
    """One multipart upload."""

    _id = ""

    def begin(self) -> bool:
        """Open the upload; False when the server does not have such uploads, or does not allow them here."""
        with self.explaining("writing", self.key):
            try:
                answer = self._request("POST", "uploads", (200,), headers={**self._headers(), "Content-Length": "0"})
                self._id = _parse(answer.content, "UploadId")
            except Exception as error:
                status = status_of(error)
                if status == 501 or (status is not None and status < 500 and status not in _MUST_BE_TOLD):
                    return False  # what is refused for another reason is refused once more in sequence
                raise
        return bool(self._id)

    def send_all(self, parts: Iterator[Part]) -> None:
        """Send all parts, of which there is at least one, and join them."""
        size = 0

        def counted() -> Iterator[Part]:
            nonlocal size
            for part in parts:
                size += part.size
                yield part

        etags = transfer.send_all(counted(), self._send)
        self._join(etags)
        self.check(size)

    def abort(self) -> None:
        """Give the upload up, and drop its parts."""
        self._request("DELETE", urlencode({"uploadId": self._id}), (204, 404))

    def _send(self, part: Part) -> str:
        query = urlencode({"partNumber": part.number, "uploadId": self._id})
        with self.asking():
            headers = {"Content-Type": BINARY, **_checksum(part)}
            answer = self._request("PUT", query, (200,), headers=headers, data=Body(part.pieces))
            return str(answer.headers["ETag"])

    def _join(self, etags: list[str]) -> None:
        root = ElementTree.Element("CompleteMultipartUpload")
        for number, etag in enumerate(etags, start=1):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etag
        query, headers = urlencode({"uploadId": self._id}), {"Content-Type": "application/xml"}
        with self.asking():
            try:
                joining = {"data": ElementTree.tostring(root), "headers": headers, "seconds": JOINING_SECONDS}
                answer = self._request("POST", query, (200,), **joining)
            except Exception as error:
                if status_of(error) == 404:
                    return  # an earlier request has joined them, and its answer was lost: `check` sees to that
                raise
        if not _parse(answer.content, "ETag"):
            raise self.failed(answer.text[:500])

    def _headers(self) -> dict[str, str]:
        given = {
            "Content-Type": BINARY,
            "x-goog-storage-class": self.blob.storage_class,
            "x-goog-encryption-kms-key-name": self.blob.kms_key_name,
        }
        return {name: value for name, value in given.items() if value}

    def _request(self, method: str, query: str, accepted: tuple[int, ...], **how: Any) -> Any:
        url = f"{base_url(self.client)}/{self.blob.bucket.name}/{quote(self.blob.name)}?{query}"
        if self.blob.user_project:
            how["headers"] = {**how.get("headers", {}), "x-goog-user-project": self.blob.user_project}
        return send(self.client, method, url, accepted, **how)


def _checksum(part: Part) -> dict[str, str]:
    """The header by which the server refuses a part that was changed on its way; nothing where it would be slow."""
    import google_crc32c

    if google_crc32c.implementation != "c":
        return {}
    crc = 0
    for piece in part.pieces:
        for start in range(0, len(piece), MIB):
            crc = google_crc32c.extend(crc, bytes(piece[start : start + MIB]))  # it takes no memoryview
    return {"x-goog-hash": "crc32c=" + base64.b64encode(crc.to_bytes(4, "big")).decode()}


def _parse(document: bytes, tag: str) -> str:
    """The text of the first element of a name, in whatever namespace; empty when there is none."""
    try:
        return ElementTree.fromstring(document).findtext(f".//{{*}}{tag}") or ""
    except ElementTree.ParseError:
        return ""


def sweep(client: Client, bucket: str, prefix: str, user_project: str | None, older_than: datetime) -> int:
    """Give up the uploads below a prefix that were begun before a time; returns how many there were."""
    base = f"{base_url(client)}/{bucket}"
    headers = {"x-goog-user-project": user_project} if user_project else {}
    marker: dict[str, str] = {}
    removed = 0
    while True:
        query = urlencode({"prefix": prefix, **marker})
        answer = send(client, "GET", f"{base}?uploads&{query}", (200, *_NO_SUCH_METHOD), headers=headers)
        if "ListMultipartUploadsResult" not in answer.text:
            return removed  # a server without such uploads lists objects instead, or refuses
        page = ElementTree.fromstring(answer.content)
        for upload in page.iterfind("{*}Upload"):
            if parse_time(upload.findtext("{*}Initiated", "")) < older_than:
                name, number = upload.findtext("{*}Key", ""), upload.findtext("{*}UploadId", "")
                query = urlencode({"uploadId": number})
                send(client, "DELETE", f"{base}/{quote(name)}?{query}", (204, 404), headers=headers)
                removed += 1
        if page.findtext("{*}IsTruncated") != "true":
            return removed
        marker = {
            "key-marker": page.findtext("{*}NextKeyMarker", ""),
            "upload-id-marker": page.findtext("{*}NextUploadIdMarker", ""),
        }
