"""Finding out whether a server creates objects only if they are absent, before anything depends on it."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from modelstore.exceptions import UnsafeStorageError
from modelstore.storage._s3.calls import Calls
from modelstore.storage._s3.errors import code_of, status_of

PROBE = ".modelstore-probe"
"""The object that is put to find it out. It stays, and being the same for all, one is enough for ever."""

_CONTENT = b"modelstore asks this server whether it creates an object only if there is none. Leave it here.\n"
_PROVEN: set[tuple[str, str]] = set()
"""Endpoints and buckets that this process knows to be safe."""

_NOT_SUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed", "InvalidArgument", "InvalidRequest"})
"""How servers refuse a request whose headers they do not know."""


def require(
    calls: Calls, root: str, endpoint: str, bucket: str, proofs: Path | None, arguments: dict[str, Any]
) -> None:
    """Return if the server has proven itself, now or earlier: once a process, or a machine if `proofs` is writable.

    Args:
        calls: sends the requests, of which it takes none, one, or the first time two.
        root: where in the bucket the store lies.
        endpoint: the server's URL.
        bucket: its bucket.
        proofs: the folder in which this machine remembers proofs.
        arguments: what a new object must be like, without which the bucket may refuse it (encryption).

    Raises:
        UnsafeStorageError: it does not create objects only if they are absent.
        StorageError: it cannot be found out.
    """
    if (endpoint, bucket) in _PROVEN:
        return
    file = None
    if proofs is not None:
        file = proofs / (hashlib.sha256(f"{endpoint}\n{bucket}".encode()).hexdigest()[:32] + ".proven")
    if file is None or not _is_file(file):
        # Made by the first, it must be refused to the second; a server that refuses the first has had one before.
        if _is_made(calls, root, arguments) and _is_made(calls, root, arguments):
            raise unsafe(calls, "it took a second object under a key that was taken, and ignored If-None-Match")
        if file is not None:
            _remember(file, f"{endpoint} {bucket}\n")
    _PROVEN.add((endpoint, bucket))


def unsafe(calls: Calls, reason: str) -> UnsafeStorageError:
    """The error for a server that is not safe to write to."""
    return UnsafeStorageError(
        f"{calls.errors.address} cannot create an object only if there is none (If-None-Match: *): {reason}. Two "
        "writers at a time would lose each other's models, so nothing was written. Upgrade the server; or, if you make "
        "sure that only one process writes at a time, pass unsafe_concurrent_writes=True"
    )


def is_unknown_to_server(error: BaseException) -> bool:
    """Whether a server refused a request because it does not know the condition."""
    return status_of(error) == 501 or code_of(error) in _NOT_SUPPORTED


def _is_made(calls: Calls, root: str, arguments: dict[str, Any]) -> bool:
    probe = {"Key": root + PROBE, "Body": _CONTENT, "IfNoneMatch": "*"}
    outcome = calls.send("put_object", "probing", PROBE, **probe, **arguments)
    if outcome.answer is not None:
        return True
    assert outcome.error is not None
    if status_of(outcome.error) == 412:
        return False
    if is_unknown_to_server(outcome.error):
        raise unsafe(calls, f"it answered {code_of(outcome.error)}") from outcome.error
    raise calls.failure(outcome, "put_object", "probing", PROBE) from outcome.error


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a folder that may not be entered
        return False


def _remember(file: Path, content: str) -> None:
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
