"""WebDAV: webdav4's client, with the options of its file system for fsspec."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from datetime import timezone
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from modelstore import deadline
from modelstore.exceptions import StorageError, StorageUnavailableError
from modelstore.storage._fsspec.files import SLICE, Entry, Sink, name_of
from modelstore.storage._fsspec.put import PutSink
from modelstore.storage.publishing import temporary_name

if TYPE_CHECKING:
    from httpx import Response
    from webdav4.client import Client

KNOWN_SERVERS = re.compile(r"rclone/")
"""Those whose MOVE with `Overwrite: F` is one step, by what they say in `Server`: rclone's, which is made of Go's
package for WebDAV, has a lock on the new name while it looks and renames, and answers 423 to others meanwhile. The
standard asks for no such thing, others look and then rename, and no trial could tell the difference. One process of
rclone knows nothing of the locks of another one over the same folder.
"""

_BUSY_ATTEMPTS = 30


class WebDAVFiles:
    """A client with a connection of its own. Folders that become empty are left: DELETE takes what is in them along."""

    def __init__(self, cls: type[Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        from httpx import Timeout

        limits = {"timeout": Timeout(deadline.STALL_SECONDS, connect=deadline.CONNECT_SECONDS), "retry": False}
        # By fsspec's class, which knows what its options mean.
        self._client: Client = cls(*args, **{**limits, **options}, skip_instance_cache=True).client

    def has_root(self, root: str) -> bool:
        """See `Files.has_root`."""
        try:
            return self.stat(root).is_folder
        except FileNotFoundError:
            return False

    def stat(self, path: str) -> Entry:
        """See `Files.stat`."""
        (found,) = self._properties(path, "0").values()
        return found

    def scan(self, folder: str) -> list[Entry]:
        """See `Files.scan`."""
        try:
            found = self._properties(folder, "1")
        except FileNotFoundError:
            return []
        own = self._client.join_url(_escaped(folder)).path.rstrip("/")
        return [entry for path, entry in found.items() if path.rstrip("/") != own]

    def read(self, path: str, start: int, end: int) -> tuple[bytes, int]:
        """See `Files.read`."""
        if start >= end:
            return b"", self._size(path)
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self._client.http.stream("GET", self._client.join_url(_escaped(path)), headers=headers) as answer:
            if answer.status_code == 416:  # beyond the end, or an empty file
                return b"", self._size(path)
            if answer.status_code in (404, 405):  # the second for a folder
                raise FileNotFoundError(path)
            answer.raise_for_status()
            if answer.status_code != 206:
                return _cut(answer, start, end)
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != start:
                raise StorageError("the server answered with another range than it was asked for")
            data = answer.read()
            if len(data) != int(span[2]) + 1 - start:
                raise StorageUnavailableError("the answer ended early")
            return data, int(span[3])

    def open_new(self, path: str) -> Sink:
        """See `Files.open_new`."""
        return PutSink(lambda content: self._put(path, content))

    def prove(self, folder: str) -> str:
        """See `Files.prove`."""
        answer = self._client.http.options(self._client.join_url(_escaped(folder), add_trailing_slash=True))
        server = answer.headers.get("Server", "")
        if not KNOWN_SERVERS.match(server):
            return f"its server ({server or 'which does not tell its name'}) is not known to move a file in one step"
        first, second = (f"{folder}/{temporary_name()}" for _ in range(2))
        try:
            for path in (first, second):
                self._put(path, path.encode())
            self.publish_new(first, second)
        except FileExistsError:
            return "" if self.read(second, 0, SLICE)[0] == second.encode() else "its server overwrites on MOVE"
        finally:
            for path in (first, second):
                with contextlib.suppress(Exception):
                    self.remove(path)
        return "its server overwrites on MOVE, against `Overwrite: F`"

    def publish_new(self, temporary: str, path: str) -> None:
        """See `Files.publish_new`."""
        self._move(temporary, path, overwrite=False)

    def publish_over(self, temporary: str, path: str) -> None:
        """See `Files.publish_over`."""
        self._move(temporary, path, overwrite=True)

    def remove(self, path: str) -> bool:
        """See `Files.remove`."""
        try:
            if self.stat(path).is_folder:
                return False
            with _missing(path):
                self._client.remove(_escaped(path))
        except FileNotFoundError:
            return False
        return True

    def make_folder(self, path: str) -> None:
        """See `Files.make_folder`."""
        from webdav4.client import ResourceAlreadyExists

        try:
            with _missing(path):
                self._client.mkdir(_escaped(path))
        except ResourceAlreadyExists as error:
            raise FileExistsError(path) from error

    def remove_folder(self, path: str) -> bool:
        """See `Files.remove_folder`."""
        return False

    def alive(self) -> bool:
        """See `Files.alive`."""
        return not self._client.http.is_closed

    def close(self) -> None:
        """See `Files.close`."""
        self._client.http.close()

    def forget(self) -> None:
        """Nothing that goes out of use here says anything to the server."""

    def _put(self, path: str, content: bytes | Iterator[bytes]) -> None:
        with _missing(path):
            self._client.request("PUT", _escaped(path), content=content)

    def _properties(self, path: str, depth: str) -> dict[str, Entry]:
        for attempt in range(_BUSY_ATTEMPTS):
            try:
                with _missing(path):
                    found = self._client.propfind(_escaped(path), headers={"Depth": depth}, follow_redirects=True)
                return {one.path: _entry(one) for one in found.responses.values()}
            except ParseError as error:
                # A file vanished while the server was at the list, and it noted an error at the end of it.
                if attempt == _BUSY_ATTEMPTS - 1:
                    raise StorageUnavailableError("the server's answer is no XML") from error
            self._wait(attempt)
        return {}

    def _size(self, path: str) -> int:
        found = self.stat(path)
        if found.is_folder:
            raise FileNotFoundError(path)
        return found.size

    def _move(self, source: str, target: str, *, overwrite: bool) -> None:
        from webdav4.client import ResourceAlreadyExists, ResourceLocked

        for attempt in range(_BUSY_ATTEMPTS):
            try:
                with _missing(target):
                    self._client.move(_escaped(source), _escaped(target), overwrite=overwrite)
                return
            except ResourceAlreadyExists as error:
                raise FileExistsError(target) from error
            except ResourceLocked:  # by whoever gives it to another file at this moment
                if attempt == _BUSY_ATTEMPTS - 1:
                    raise
            self._wait(attempt)

    def _wait(self, attempt: int) -> None:
        deadline.pause(random.uniform(0, min(0.5, 0.01 * 1.5**attempt)))


@contextlib.contextmanager
def _missing(path: str) -> Iterator[None]:
    """What webdav4 raises where something is missing, as `FileNotFoundError`."""
    from webdav4.client import HTTPError, ResourceConflict, ResourceNotFound

    try:
        yield
    except (ResourceNotFound, ResourceConflict) as error:
        raise FileNotFoundError(path) from error
    except HTTPError as error:
        if error.status_code == 409:  # the folder that it should lie in
            raise FileNotFoundError(path) from error
        raise


def _cut(answer: Response, start: int, end: int) -> tuple[bytes, int]:
    """A range of an answer that holds all, from a server that knows no ranges."""
    total = answer.headers.get("Content-Length")
    if total is None:
        data = answer.read()
        return data[start:end], len(data)
    got, at = bytearray(), 0
    for piece in answer.iter_raw():
        got += piece[max(start - at, 0) : max(end - at, 0)]
        at += len(piece)
        if at >= end:
            break
    if at < min(end, int(total)):
        raise StorageUnavailableError("the answer ended early")
    return bytes(got), int(total)


def _escaped(path: str) -> str:
    """A path whose percent signs are themselves: httpx takes what looks like an escape for one."""
    return path.replace("%", "%25")


def _entry(response: Any) -> Entry:
    known = response.properties
    modified, size = known.modified, known.content_length or 0
    if modified is not None:
        modified = modified.replace(tzinfo=modified.tzinfo or timezone.utc).astimezone(timezone.utc)
    # The server's own etag may be of the content alone.
    mark = f"{known.etag or ''}-{int(modified.timestamp()) if modified else 0:x}-{size:x}"
    return Entry(name_of(response.path.rstrip("/")), bool(known.collection), size, modified, mark)
