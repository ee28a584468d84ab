"""A rename that never replaces, where hard links are missing (FAT, exFAT, some network and FUSE file systems)."""

from __future__ import annotations

import errno
import os
import sys

UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What systems and file systems without it answer."""

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCL = 4


def rename_new(source: str, target: str) -> None:
    """Rename a file unless the new name is taken, in one step.

    Raises:
        FileExistsError: it is taken; nothing was changed.
        OSError: with an `errno` of `UNSUPPORTED` where there is no such rename.
    """
    import ctypes  # here, where it is rarely needed: it takes as long as the rest of this package

    library = ctypes.CDLL(None, use_errno=True)
    old, new = os.fsencode(source), os.fsencode(target)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(old, new, ctypes.c_uint(_RENAME_EXCL))
        else:
            failed = library.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, ctypes.c_uint(_RENAME_NOREPLACE))
    except AttributeError:
        raise OSError(errno.ENOSYS, "the C library has no rename that never replaces", target) from None
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)
