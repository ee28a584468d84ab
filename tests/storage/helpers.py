"""What the tests of the local storage share: children that die, systems that refuse."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelstore.storage import norename
from modelstore.storage.base import Created
from modelstore.storage.local import FileSystemStorage

MIB = 1 << 20
KILLED_AT = ("open", "pwritev", "utime", "fsync", "fdatasync", "link", "replace", "unlink", "mkdir", "close")


def put_and_die(storage: FileSystemStorage, verb: str, content: bytes, calls: int, links: bool) -> None:
    """Make `a/b/object`, and die before the system call of this number; with fewer calls, live."""
    if not links:
        setattr(os, "link", failing(errno.EPERM))  # noqa: B010
    left = iter(range(calls - 1, -1, -1))

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if next(left) == 0:
                os.kill(os.getpid(), 9)
            return call(*args, **kwargs)

        return counted

    for name in KILLED_AT:
        setattr(os, name, dying(getattr(os, name)))
    norename.rename_new = dying(norename.rename_new)
    if verb == "create":
        assert storage.create("a/b/object", content) is Created.MADE
    else:
        view = memoryview(content)
        storage.write("a/b/object", ([view[at : at + 16 * MIB]] for at in range(0, len(content), 16 * MIB)))


def put(storage: FileSystemStorage, verb: str, key: str, data: bytes) -> None:
    """Make an object by one verb or the other."""
    if verb == "create":
        storage.create(key, data)
    else:
        storage.write(key, [[data]])


def failing(code: int) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def files(root: Path) -> list[str]:
    """All files in the folder, temporary ones too, as the system sees them."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def in_child(work: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: pytest-xdist has threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
