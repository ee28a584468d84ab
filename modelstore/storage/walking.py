"""Folders seen as an object store sees them: a flat list of keys, in their order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from modelstore.storage.addressing import is_part
from modelstore.storage.base import ObjectInfo
from modelstore.storage.publishing import is_temporary

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def object_info(key: str, status: os.stat_result) -> ObjectInfo:
    """What the status of a file says about the object in it."""
    # Not the time of the last change of status: links and copies of the folder change it, not the content.
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000), etag)


def walk(folder: str, prefix: str) -> Iterator[ObjectInfo]:
    """All objects below a folder whose keys start with `prefix`, sorted by key.

    Files and folders that vanish on the way are passed over, and so are those whose names no key has.
    """
    for name, entry in sorted(_entries(folder)):
        if name.endswith("/"):
            yield from walk(entry.path, prefix + name)
            continue
        try:
            status = os.stat(entry.path)  # not entry.stat(): on Windows that knows no inode
        except FileNotFoundError:
            continue
        yield object_info(prefix + name, status)


def children(folder: str) -> Iterator[str]:
    """The folders in a folder that hold an object somewhere below, sorted. A crash can leave others."""
    folders = {name[:-1]: entry.path for name, entry in _entries(folder) if name.endswith("/")}
    yield from (name for name in sorted(folders) if _holds_object(folders[name]))


def temporary_files(folder: str) -> Iterator[str]:
    """The paths of the files below a folder that were never published."""
    for entry in _scan(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from temporary_files(entry.path)
        elif is_temporary(entry.name):
            yield entry.path


def _holds_object(folder: str) -> bool:
    # Files first: most folders hold either files or folders, and one file is enough.
    folders = []
    for name, entry in _entries(folder):
        if not name.endswith("/"):
            return True
        folders.append(entry.path)
    return any(map(_holds_object, folders))


def _entries(folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files and folders that can be part of a key; folders with a `/` at the end.

    That `/` is what sorts them as an object store does, by the whole key: `a-b/x` comes before `a/x`.
    """
    for entry in _scan(folder):
        if not is_part(entry.name):
            continue
        if entry.is_dir():
            if not (entry.is_symlink() and _leads_up(entry.path, folder)):
                yield entry.name + "/", entry
        elif entry.is_file():
            yield entry.name, entry


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _leads_up(link: str, folder: str) -> bool:
    """Whether a link leads to the folder that it is in, or to one above."""
    real = os.path.realpath(link)
    return os.path.commonpath([real, os.path.realpath(folder)]) == real
