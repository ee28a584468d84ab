"""Deleting objects from S3, a thousand at a time where the server can."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modelstore import deadline
from modelstore.storage._s3.calls import Calls
from modelstore.storage._s3.errors import as_client_error, code_of, status_of
from modelstore.storage.transfer import THREADS

BATCH = 1000
"""Keys in a request, at most."""

_DONE = frozenset({"NoSuchKey", "NotFound", "404"})


def delete(calls: Calls, full_keys: Sequence[str], root: str) -> None:
    """Delete objects; those that are not there are passed over.

    Raises:
        StorageError: some are left: the first of them, with the others' number.
    """
    for at in range(0, len(full_keys), BATCH):
        # Each once: servers count a key that comes twice as an error, or as two.
        batch = list(dict.fromkeys(full_keys[at : at + BATCH]))
        if len(batch) == 1 or not _together(calls, batch, root):
            _one_by_one(calls, batch, root)


def _together(calls: Calls, batch: Sequence[str], root: str) -> bool:
    """Whether the server can delete several objects in one request; they are deleted if it can."""
    objects = {"Objects": [{"Key": key} for key in batch], "Quiet": True}
    outcome = calls.send("delete_objects", "deleting", None, Delete=objects)
    if outcome.answer is not None:
        _raise_first(calls, outcome.answer.get("Errors", ()), root)
        return True
    assert outcome.error is not None
    # 400 also for servers that want a Content-MD5 there, which current SDKs do not send; 403 because Ceph asks for the
    # right to delete anywhere in the bucket then, and single requests only for that below the prefix.
    if status_of(outcome.error) in (400, 403, 404, 405, 501) and code_of(outcome.error) != "NoSuchBucket":
        return False
    raise calls.failure(outcome, "delete_objects", "deleting", None) from outcome.error


def _raise_first(calls: Calls, errors: Iterable[dict[str, Any]], root: str) -> None:
    left = [error for error in errors if error.get("Code") not in _DONE]
    if left:
        key = str(left[0].get("Key", ""))[len(root) :]
        others = f" (and of {len(left) - 1:,} others)" if len(left) > 1 else ""
        raise calls.errors(as_client_error(left[0], "delete_objects"), "delete_objects", f"deleting{others}", key)


def _one_by_one(calls: Calls, batch: Iterable[str], root: str) -> None:
    def delete_one(full_key: str) -> None:
        key = full_key[len(root) :]
        outcome = calls.send("delete_object", "deleting", key, Key=full_key)
        if outcome.error is not None and code_of(outcome.error) not in _DONE:
            raise calls.failure(outcome, "delete_object", "deleting", key) from outcome.error

    with ThreadPoolExecutor(THREADS, "modelstore-delete") as pool:
        for _ in pool.map(deadline.carried(delete_one), batch):
            pass
