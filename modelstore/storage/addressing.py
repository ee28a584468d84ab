"""Keys and ranges: what is checked before a storage is touched."""

from __future__ import annotations

import os
import re

from modelstore.exceptions import InvalidArgumentError, StorageError

_WINDOWS = os.name == "nt"
# Surrogates are how Python shows names on disk that are not UTF-8.
_IMPOSSIBLE = re.compile(r"[\x00-\x1f\x7f/\\\ud800-\udfff]")


def check_key(key: str) -> tuple[str, ...]:
    """The parts of a key, after making sure that it cannot name anything outside of the store.

    Raises:
        StorageError: an empty part, one that starts with a dot (`.` and `..` do), a backslash, a control character,
            bytes that are not UTF-8; on Windows also what Windows reads differently (`a:b`, `a.`).
    """
    parts = tuple(key.split("/"))
    for part in parts:
        if not is_part(part):
            raise StorageError(
                f"{key!r} is no key: its parts, joined by '/', must not be empty, start with a dot or hold backslashes "
                "or control characters; names are to be percent-encoded before they become keys",
                key,
            )
    return parts


def check_prefix(prefix: str) -> tuple[str, ...]:
    """The parts of a prefix: none of the empty one, else those of a key that ends in `/`.

    Raises:
        StorageError: as `check_key`, and for a prefix that does not end in `/`.
    """
    if not prefix:
        return ()
    if not prefix.endswith("/"):
        raise StorageError(f"{prefix!r} is no prefix: it must be empty or end in '/'", prefix)
    return check_key(prefix[:-1])


def clean_prefix(root_prefix: str | None) -> str:
    """Where in a bucket a store lies: empty, or parts that end in `/`. Slashes at both ends are dropped.

    Raises:
        InvalidArgumentError: parts that are empty or cannot be in a key; unlike in a key, a leading dot may be.
    """
    given = (root_prefix or "").strip("/")
    if not given:
        return ""
    for part in given.split("/"):
        if not part or part in (".", "..") or _IMPOSSIBLE.search(part):
            raise InvalidArgumentError(
                "root_prefix",
                f"root_prefix={root_prefix!r} has a part {part!r}, which cannot be in the key of an object",
            )
    return given + "/"


def location(kind: str, **where: str) -> dict[str, str | None]:
    """A record's `storage` section: what is known of `root` and `path`, `bucket` or `container` and `prefix`.

    The ancestor's keys, all of them in every record, so that readers need not ask which are there.
    """
    return {"type": kind, **dict.fromkeys(("root", "path", "bucket", "prefix", "container")), **where}


def is_part(name: str) -> bool:
    """Whether a name can be one part of a key. Names that cannot are a storage's own, and no listing shows them."""
    if not name or name[0] == "." or _IMPOSSIBLE.search(name):
        return False
    return not (_WINDOWS and (":" in name or name[-1] in ". "))


def clip_range(start: int, end: int | None, size: int) -> tuple[int, int]:
    """The part of start…end that an object of `size` bytes has: `0 <= start <= end <= size`.

    A negative start counts from the end; `end=None` is the end; what lies beyond it is cut off.
    """
    if start < 0:
        start = max(size + start, 0)
    start = min(start, size)
    end = size if end is None else min(end, size)
    return start, max(start, end)
