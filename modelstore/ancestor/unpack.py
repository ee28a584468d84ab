"""The ancestor's archives: one tar in one gzip stream, unpacked without trusting a byte of it.

There is no table and no digest in them, so an archive is read from its start to its end, as it must be for gzip's own
checksum. What is unpacked has the digests of its files from then on.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelstore.archive.digests import path_digests
from modelstore.archive.info import ArchiveFile
from modelstore.archive.trees import remove, with_parents
from modelstore.archive.unpack import Target
from modelstore.exceptions import IntegrityError, InvalidArgumentError, InvalidNameError, UnsafeArchiveError
from modelstore.folder import check_names
from modelstore.notices import warn

_BLOCK = 512
_READ = 4 << 20
_MAX_HEADER = 1 << 20
"""Of a long name, or of the further headers of one member."""
_MAX_MEMBERS = 200_000
_MAX_RATIO = 250
_FREE_SIZE = 1 << 30
"""An archive may unpack to this, or to 250 times its size; what goes beyond is a bomb."""

ReadAt = Callable[[int, memoryview], int]
"""Fills a buffer from a place in the archive on; returns how many bytes there were."""


def identity(address: str, archive: Mapping[str, Any]) -> str:
    """What tells this archive from all others, in the form of a digest: under it the cache keeps what was unpacked.

    The ancestor writes each upload to a key of its own, so key and etag name one sequence of bytes.
    """
    parts = [address, archive["key"], str(archive.get("etag")), str(archive.get("size"))]
    return hashlib.sha256("\n".join(["modelstore ancestor", *parts]).encode()).hexdigest()


def unpack(read_at: ReadAt, size: int, folder: Path, subject: str) -> list[ArchiveFile]:
    """Unpack an archive of `size` bytes into a folder.

    Links are left out, with a warning; of files of one name the last one counts, as in the ancestor.

    Raises:
        UnsafeArchiveError: a name that leads elsewhere, a device, or far more bytes than an archive of its size holds.
        IntegrityError: it is damaged, cut short, or of another size.
        StorageError: it cannot be read, or the folder cannot be written.
    """
    stream = _Stream(read_at, size, subject)
    remove(folder)  # what a crash has left
    with Target(folder) as target:
        target.prepare([], size)
        try:
            members = _Members(stream, target, folder, subject)
            members.unpack()
            stream.drain()
            names = sorted(members.files)
            above = with_parents(name.rpartition("/")[0] for name in (*names, *members.folders))
            check_names([*names, *(members.folders - above)])
        except (InvalidNameError, InvalidArgumentError) as error:
            raise UnsafeArchiveError(subject, "archive", str(error)) from error
        if members.links:
            some = ", ".join(repr(name) for name in members.links[:5])
            warn(f"the archive of {subject} holds links, which are left out: {some}")
    return listed(folder)


def listed(folder: Path) -> list[ArchiveFile]:
    """The files of an unpacked archive, with their digests."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    digests = path_digests([folder / name for name in names], os.cpu_count() or 1)
    return [
        ArchiveFile(name, (folder / name).stat().st_size, 0, digest.hex(), not name.startswith("extras/"))
        for name, digest in zip(names, digests, strict=True)
    ]


class _Members:
    """The members of a tar, one after the other."""

    def __init__(self, stream: _Stream, target: Target, folder: Path, subject: str) -> None:
        self.files: set[str] = set()
        self.folders: set[str] = set()
        self.links: list[str] = []
        self._stream, self._target, self._folder, self._subject = stream, target, folder, subject

    def unpack(self) -> None:
        """Write all files and folders."""
        further: dict[str, str] = {}
        count = 0
        while True:
            block = self._stream.read(_BLOCK)
            if not block.strip(b"\0"):
                return
            count += 1
            if count > _MAX_MEMBERS:
                raise UnsafeArchiveError(self._subject, "archive", f"it has more than {_MAX_MEMBERS:,} members")
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except (tarfile.TarError, ValueError) as error:
                raise IntegrityError(
                    self._subject, "archive", f"a header of its tar cannot be read: {error}"
                ) from error
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                further.update(_pax(self._header(info), self._subject))
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                further["path"] = self._header(info).rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
                self._header(info)
            else:
                self._member(info, further)
                further = {}

    def _header(self, info: tarfile.TarInfo) -> bytes:
        if not 0 <= info.size <= _MAX_HEADER:
            raise UnsafeArchiveError(self._subject, "archive", f"a header of it claims to have {info.size:,} bytes")
        data = self._stream.read(info.size)
        self._stream.read(-info.size % _BLOCK)
        return data

    def _member(self, info: tarfile.TarInfo, further: Mapping[str, str]) -> None:
        name = further.get("path", info.name)
        size = info.size
        if "size" in further:
            size = int(further["size"]) if further["size"].isascii() and further["size"].isdecimal() else -1
        if size < 0 or any(key.startswith("GNU.sparse") for key in further):
            raise UnsafeArchiveError(self._subject, "archive", f"the size of {name!r} cannot be what it says")
        if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            self.links.append(name)
            return
        name = name.removeprefix("./").rstrip("/") if name.strip("./") else name
        check_names([name])
        if info.type == tarfile.DIRTYPE:
            self._target.prepare([name], 0)
            self.folders.add(name)
        elif info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            self._file(name, size)
        else:
            raise UnsafeArchiveError(self._subject, "archive", f"{name!r} is neither a file nor a folder")

    def _file(self, name: str, size: int) -> None:
        if size > self._stream.left + _READ:
            raise UnsafeArchiveError(self._subject, "archive", f"{name!r} claims to have {size:,} bytes")
        if name in self.files:
            (self._folder / name).unlink()
        parent = name.rpartition("/")[0]
        if parent:
            self._target.prepare([parent], 0)
        self._target.create(name, 0)
        self.files.add(name)
        start = 0
        while start < size:
            data = self._stream.read(min(_READ, size - start))
            self._target.fill(name, start, memoryview(data))
            start += len(data)
        self._stream.read(-size % _BLOCK)


def _pax(data: bytes, subject: str) -> dict[str, str]:
    """The records of a header: `<length> <key>=<value>`, each with a line end."""
    found = {}
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[at : at + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != length or not record.endswith(b"\n") or not equals:
            raise IntegrityError(subject, "archive", "a header of its tar cannot be read")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += length
    return found


class _Stream:
    """The bytes of a tar in gzip, read forward."""

    def __init__(self, read_at: ReadAt, size: int, subject: str) -> None:
        self._read_at, self._size, self._subject = read_at, size, subject
        self._at = 0
        self._buffer = memoryview(bytearray(_READ))
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""  # compressed
        self._raw = memoryview(b"")
        self.left = max(_FREE_SIZE, size * _MAX_RATIO)
        """How many bytes may still come out."""

    def read(self, count: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            IntegrityError: it ends before.
        """
        parts = []
        while count:
            if not self._raw and not self._more():
                raise IntegrityError(self._subject, "archive", "it ends before all of its files are there")
            part, self._raw = self._raw[:count], self._raw[count:]
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def drain(self) -> None:
        """Read to the end, where gzip's checksum stands.

        Raises:
            IntegrityError: there is no end, or it goes on behind it.
        """
        while self._more():
            pass
        self._raw = memoryview(b"")
        if not self._inflate.eof:
            raise IntegrityError(self._subject, "archive", "it is cut short")
        probe = memoryview(bytearray(1))
        if self._read_at(self._size, probe):
            raise IntegrityError(self._subject, "archive", f"it has more than the {self._size:,} bytes that are known")

    def _more(self) -> bool:
        """Decompress some more; False at the end."""
        while True:
            try:
                if self._inflate.eof:
                    rest = self._inflate.unused_data + self._pending
                    self._pending = b""
                    if not (rest or self._fetch()) or not (rest + self._pending).strip(b"\0"):
                        return False
                    self._pending = rest + self._pending
                    self._inflate = zlib.decompressobj(wbits=31)
                data = self._inflate.unconsumed_tail or self._pending or self._fetch()
                self._pending = b""
                if not data:
                    return False
                self._raw = memoryview(self._inflate.decompress(data, _READ))
            except zlib.error as error:
                raise IntegrityError(self._subject, "archive", f"its gzip stream is damaged: {error}") from error
            self.left -= len(self._raw)
            if self.left < 0:
                raise UnsafeArchiveError(self._subject, "archive", "it unpacks to far more than its size")
            if self._raw:
                return True

    def _fetch(self) -> bytes:
        wanted = min(len(self._buffer), self._size - self._at)
        count = self._read_at(self._at, self._buffer[:wanted]) if wanted else 0
        if count < wanted:
            raise IntegrityError(
                self._subject,
                "archive",
                f"it has {self._at + count:,} bytes, and had {self._size:,} when it was adopted",
            )
        self._at += count
        self._pending = bytes(self._buffer[:count])
        return self._pending
