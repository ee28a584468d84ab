"""Where a download lies until it is whole: a hidden folder in the target, found again after a failure by its name.

::

    <target>/.modelstore-download-<archive digest>/        gone on with by the next download of the same model
             .modelstore-download-<archive digest>.lock    locked meanwhile
             .modelstore-download-<random>/                while another process has that, or where there are no locks
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelstore.archive.locks import Lock, lock
from modelstore.archive.partial import Place, sweep

_PREFIX, _LOCK = ".modelstore-download-", ".lock"
_OURS = re.compile(rf"({re.escape(_PREFIX)}(?:[0-9a-f]{{64}}|[0-9a-f]{{32}}))(?:{re.escape(_LOCK)})?")


@contextmanager
def staged(target: Path, archive_digest: str) -> Iterator[Place]:
    """A place in `target` to unpack into, on its file system, so that files are moved by renaming.

    Leaving it removes it, unless it was left by an error that may pass: then the next one with this digest, within
    three days, goes on there. What downloads of other models have left there for longer is removed.

    Raises:
        OSError: the target cannot be written.
    """
    _sweep(target, archive_digest)
    name, held = _lock(target, archive_digest)
    try:
        with Place(target / f"{_PREFIX}{name}", again=name == archive_digest) as place:
            yield place
    finally:
        held.remove()


def _lock(target: Path, archive_digest: str) -> tuple[str, Lock]:
    try:
        held = lock(target / f"{_PREFIX}{archive_digest}{_LOCK}", exclusive=True, create=True)
        if held is not None and held.real:
            return archive_digest, held
        if held is not None:
            held.remove()
    except OSError:
        pass  # another user's, perhaps; if it is the target that cannot be written, that comes now
    while True:
        name = secrets.token_hex(16)
        held = lock(target / f"{_PREFIX}{name}{_LOCK}", exclusive=True, create=True)
        if held is not None:
            return name, held


def _sweep(target: Path, archive_digest: str) -> None:
    with os.scandir(target) as children:
        names = {found[1] for child in children if (found := _OURS.fullmatch(child.name))}
    for name in names - {f"{_PREFIX}{archive_digest}"}:
        sweep(target / name, target / f"{name}{_LOCK}")
