"""Folders in which an archive is unpacked, and which stay when that fails, so that the next attempt goes on.

::

    <place>/files/…    what has been unpacked
            journal    which chunks of it are done
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from types import TracebackType

from modelstore.archive.locks import lock
from modelstore.archive.trees import age, remove
from modelstore.exceptions import IntegrityError

DAYS = 3 * 86_400.0
"""Seconds after which nobody is expected to go on with what failed."""
_FILES, _JOURNAL = "files", "journal"


class Place:
    """Such a folder, made on entering the context. Leaving it removes what is still there, unless an error came that
    may pass and something was done that another attempt can use.

    Args:
        folder: its path.
        again: whether another attempt will come to the same path, and nobody else works there now.
        others: what else in it is to stay on entering.
    """

    def __init__(self, folder: Path, *, again: bool, others: Container[str] = ()) -> None:
        self.folder = folder
        self.files = folder / _FILES
        self.journal = folder / _JOURNAL if again else None
        self._others = others

    def clear(self) -> None:
        """Forget what an earlier attempt has left."""
        remove(self.files)
        if self.journal is not None:
            remove(self.journal)

    def __enter__(self) -> Place:
        if self.folder.is_symlink() or not self.folder.is_dir():
            remove(self.folder)
        self.folder.mkdir(parents=True, exist_ok=self.journal is not None)
        for path in self.folder.iterdir():
            if path.name not in (_FILES, _JOURNAL) and path.name not in self._others:
                remove(path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        useful = self.journal is not None and self.journal.exists()
        if value is None or isinstance(value, IntegrityError) or not useful:
            remove(self.folder)


def sweep(folder: Path, lock_path: Path, older: float = DAYS) -> None:
    """Remove such a folder if nobody has done anything in it for `older` seconds and nobody holds its lock.

    Where there are no locks it stays: somebody may work there.
    """
    try:
        if min(age(path) for path in (folder, folder / _JOURNAL, lock_path) if path.exists()) < older:
            return
        held = lock(lock_path, exclusive=True, create=True)
    except (OSError, ValueError):  # gone meanwhile, or there was nothing
        return
    if held is not None:
        if held.real:
            remove(folder)
        held.remove()
