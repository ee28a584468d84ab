"""What the operating system's errors mean for whoever keeps models in a folder."""

from __future__ import annotations

import errno

from modelstore.exceptions import StorageError

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and try again",
    errno.EDQUOT: "your quota on this disk is used up: free some space and try again",
    errno.EFBIG: "this file system cannot hold a file of that size (FAT32 ends at 4 GiB): use another one",
    errno.EACCES: "permission denied: give this user access to the store's folder and all below it",
    errno.EPERM: "permission denied: give this user access to the store's folder and all below it",
    errno.EROFS: "the file system is mounted read-only: mount it for writing, or use another folder",
    errno.ENAMETOOLONG: "the path is too long for this file system: use shorter names or a root nearer to the top",
    errno.EMFILE: "too many files are open in this process: raise its limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOTDIR: "a file stands where the store needs a folder: something else has written into the store",
    errno.EISDIR: "a folder stands where the store needs a file: something else has written into the store",
    errno.EEXIST: "a file stands where the store needs a folder: something else has written into the store",
    errno.ELOOP: "links lead in a circle: something else has written into the store",
    errno.ESTALE: "the network folder does not answer as before: see that it is mounted, and try again",
    errno.ETIMEDOUT: "the network folder does not answer: see that it is mounted, and try again",
    errno.EIO: "the disk or network folder reports a fault: see the system's log",
}

INDEFINITE = frozenset({errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.ECONNRESET, errno.EHOSTUNREACH})
"""Errors after which a request to a network file system may have been carried out, or may yet be."""


def explain(error: OSError, doing: str, key: str, root: str) -> StorageError:
    """The error to raise instead.

    Args:
        doing: what failed, such as `writing`.
        key: to what.
        root: the folder of the store.
    """
    reason = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0, f"see that {root} can be read and written by this user")
    return StorageError(f"{doing} {key!r} in {root} failed ({reason}): {advice}", key)
