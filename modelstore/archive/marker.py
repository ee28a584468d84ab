"""The marker of a cache entry: what was seen of its files when their bytes were last known to be right."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from modelstore.archive.digests import path_digests
from modelstore.archive.info import ArchiveFile, is_digest
from modelstore.archive.workers import default_threads
from modelstore.exceptions import ModelStoreError
from modelstore.folder import check_names

VERSION = 1
_BOOTS = 16  # machines that may share one cache on a network file system


class Seen(NamedTuple):
    """A file: what the file system said of it, and the digest of its bytes at that time."""

    size: int
    inode: int
    modified: int
    changed: int
    """Also tells a file whose time of modification was set back. On Windows the time of creation."""
    digest: str


@dataclass(frozen=True)
class Marker:
    """All that is known of an entry.

    Attributes:
        files: by name.
        folders: all below, sorted.
        boots: under which starts of which machines the bytes were last hashed: a power cut can leave a file of the
            right size and times with other bytes. Hashing once after a start is cheaper than an fsync at each fill.
        synced: written through to the disk, so that no power cut matters (where a start has no name).
    """

    files: Mapping[str, Seen]
    folders: tuple[str, ...]
    boots: tuple[str, ...]
    synced: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(seen.size for seen in self.files.values())

    @classmethod
    def of(cls, folder: Path, files: Sequence[ArchiveFile], *, synced: bool) -> Marker:
        """The marker of a folder that has just been filled with `files`, each checked."""
        digests = {file.name: file.digest for file in files}
        boot = boot_id()
        found, folders = _look(folder)
        seen = {name: _seen(status, digests[name]) for name, status in found.items()}
        return cls(seen, folders, (boot,) if boot else (), synced)

    @classmethod
    def load(cls, path: Path) -> Marker | None:
        """Read a marker; None if it is not there, or not one that this version writes."""
        try:
            data = json.loads(path.read_bytes())
            if data["version"] != VERSION or not isinstance(data["synced"], bool):
                return None
            files = {name: _row(row) for name, row in data["files"].items()}
            check_names(list(files))
            folders = tuple(str(name) for name in data["folders"])
            boots = tuple(boot for boot in data["boots"] if isinstance(boot, str))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, ModelStoreError):
            return None
        return cls(files, folders, boots, data["synced"])

    def save(self, path: Path) -> None:
        """Write it so that readers see the old one or the new one."""
        rows = {name: list(seen) for name, seen in self.files.items()}
        kept = {"synced": self.synced, "boots": list(self.boots), "folders": list(self.folders), "files": rows}
        data = {"version": VERSION, **kept}
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            temporary.write_text(json.dumps(data), "utf-8")
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def verify(self, folder: Path, *, full: bool) -> Marker | None:
        """Look whether the folder still holds what it did; None if not.

        Files that look as they did are believed, unless `full` or the machine was started since; others are
        hashed. Returns this marker, or a new one where something was hashed.
        """
        boot = boot_id()
        known = not full and (self.synced or boot in self.boots)
        try:
            found, folders = _look(folder)
            if found.keys() != self.files.keys() or folders != self.folders:
                return None
            now = {name: _seen(status, self.files[name].digest) for name, status in found.items()}
            if any(now[name].size != seen.size for name, seen in self.files.items()):
                return None
            suspects = [name for name, seen in self.files.items() if not known or now[name] != seen]
            digests = path_digests([folder / name for name in suspects], default_threads())
        except (OSError, _NotRegular):
            return None
        if any(digest.hex() != self.files[name].digest for name, digest in zip(suspects, digests, strict=True)):
            return None
        if not suspects:
            return self
        boots = self.boots if known or not boot else (*(b for b in self.boots if b != boot), boot)[-_BOOTS:]
        return replace(self, files=now, boots=boots)


class _NotRegular(Exception):
    """Something else than files and folders lies in an entry."""


def boot_id() -> str | None:
    """What tells one start of this machine from the next, where the system says it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None


def _look(folder: Path) -> tuple[dict[str, os.stat_result], tuple[str, ...]]:
    """The files below a folder and what the file system says of them; the folders below it."""
    found = dict(_walk(folder))
    folders = sorted(name for name, status in found.items() if stat.S_ISDIR(status.st_mode))
    return {name: status for name, status in found.items() if not stat.S_ISDIR(status.st_mode)}, tuple(folders)


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as children:
        for child in children:
            status = os.lstat(child.path)  # not child.stat(), which has no inode on Windows
            if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
                raise _NotRegular(child.path)
            yield prefix + child.name, status
            if stat.S_ISDIR(status.st_mode):
                yield from _walk(Path(child.path), f"{prefix}{child.name}/")


def _seen(status: os.stat_result, digest: str) -> Seen:
    return Seen(status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, digest)


def _row(row: Any) -> Seen:
    size, inode, modified, changed, digest = row
    if any(type(number) is not int for number in (size, inode, modified, changed)) or size < 0 or not is_digest(digest):
        raise ValueError("not a row of a marker")
    return Seen(size, inode, modified, changed, digest)
