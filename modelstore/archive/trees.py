"""Folders of the library's own: made read-only, removed whatever their modes are, and cleared of what is foreign."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Collection, Container, Iterable
from contextlib import suppress
from pathlib import Path

SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Flags with which everything below such a folder is opened."""


def age(path: Path) -> float:
    """Seconds since it was changed; of a folder, since something was added to it or taken away.

    Raises:
        OSError: it is not there.
    """
    return time.time() - path.lstat().st_mtime


def make_read_only(folder: Path, *, sync: bool) -> None:
    """Take everybody's right to write to files and folders, and with `sync` write them through to the disk.

    Raises:
        OSError: that was refused.
    """
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = os.path.join(parent, name)
            if sync:
                _sync(path)
            os.chmod(path, 0o444)
        if sync and os.name != "nt":
            _sync(parent)
        os.chmod(parent, 0o555)


def remove(path: Path) -> None:
    """Remove a folder whose parts may be read-only, or a file or link. What cannot be removed now stays."""
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            path.unlink()
        return
    for parent, _, names in os.walk(path):
        try:
            os.chmod(parent, 0o755)
            if os.name == "nt":
                for name in names:
                    os.chmod(os.path.join(parent, name), stat.S_IWRITE)
        except OSError:
            continue
    shutil.rmtree(path, ignore_errors=True)


def keep_only(root: Path, files: Container[str], folders: Collection[str]) -> dict[str, int]:
    """Remove everything below `root` but these files and folders, and make the rest writable again.

    Links are removed, never followed, and so are files that have another name elsewhere.

    Returns:
        The sizes of those of the files that are there.

    Raises:
        OSError: something cannot be read, or is still there.
    """
    found: dict[str, int] = {}
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        _make_writable(folder, folder.lstat())
        with os.scandir(folder) as children:
            paths = [(Path(child.path), prefix + child.name) for child in children]
        for path, name in paths:
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode) and name in folders:
                waiting.append((path, f"{name}/"))
            elif stat.S_ISREG(status.st_mode) and name in files and status.st_nlink == 1:
                _make_writable(path, status)
                found[name] = status.st_size
            else:
                remove(path)
    return found


def with_parents(folders: Iterable[str]) -> set[str]:
    """These relative folders and all above them."""
    found: set[str] = set()
    for folder in folders:
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _make_writable(path: Path, status: os.stat_result) -> None:
    if not status.st_mode & stat.S_IWUSR:
        os.chmod(path, stat.S_IMODE(status.st_mode) | stat.S_IWUSR)


def _sync(path: str) -> None:
    writable = os.O_RDWR if os.name == "nt" else os.O_RDONLY
    descriptor = os.open(path, writable)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
