"""Writing files below a folder, and nowhere else."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from modelstore.archive.trees import SAFE
from modelstore.exceptions import InvalidArgumentError, StorageError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in "123456789"
}


class Target:
    """A folder to unpack into. Links below it are not followed, and what exists is not replaced.

    Use it as a context manager: an error removes what was made, so that nobody takes a half for the whole.
    Methods may be called from several threads.

    Args:
        root: the folder; made if need be.
        keep: leave what was made after an error, for another attempt.
    """

    def __init__(self, root: Path, *, keep: bool = False) -> None:
        self._root = root
        self._keep = keep
        self._files: list[Path] = []
        self._folders: list[Path] = []

    def prepare(self, folders: Iterable[str], size: int) -> None:
        """Make the root and `folders` with those above them, after seeing that `size` bytes will fit.

        Raises:
            StorageError: they will not fit, or it cannot be written.
            InvalidArgumentError: something else than a folder is in the way.
        """
        self._check_space(size)
        with explained(self._root):
            missing = [parent for parent in (self._root, *self._root.parents) if not os.path.lexists(parent)]
            self._root.mkdir(parents=True, exist_ok=True)
            self._folders += reversed(missing)
        made: set[str] = set()
        for name in folders:
            parts = name.split("/")
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                if folder not in made:
                    self._make_folder(self._root / folder)
                    made.add(folder)

    def create(self, name: str, size: int) -> None:
        """Make a file of `size` bytes, to be filled by `fill`; its folder is there.

        Raises:
            InvalidArgumentError: it exists.
            StorageError: it cannot be written.
        """
        with self._opened(name, _NEW) as file:
            os.ftruncate(file, size)

    def write(self, name: str, data: memoryview) -> None:
        """Make a file that holds `data`. Raises as `create` does."""
        with self._opened(name, _NEW) as file:
            _write_at(file, data, 0)

    def fill(self, name: str, start: int, data: memoryview) -> None:
        """Write `data` from `start` on into a file that `create` has made."""
        with self._opened(name, os.O_WRONLY) as file:
            _write_at(file, data, start)

    @contextmanager
    def _opened(self, name: str, flags: int) -> Iterator[int]:
        path = self._root / name
        with explained(path):
            file = os.open(path, flags | SAFE, 0o666)
            if flags & os.O_EXCL:
                self._files.append(path)
            try:
                yield file
            finally:
                os.close(file)

    def _make_folder(self, path: Path) -> None:
        with explained(path):
            try:
                path.mkdir()
                self._folders.append(path)
            except FileExistsError:
                if not stat.S_ISDIR(path.lstat().st_mode):
                    raise

    def _check_space(self, size: int) -> None:
        there = next(path for path in (self._root.absolute(), *self._root.absolute().parents) if os.path.exists(path))
        with explained(there):
            free = shutil.disk_usage(there).free
        if size > free:
            raise StorageError(
                f"{self._root} has {free:,} bytes free, and {size:,} are to be unpacked; free some space"
            )

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is None or self._keep:
            return
        for path in self._files:
            with suppress(OSError):
                path.unlink()
        for path in reversed(self._folders):
            with suppress(OSError):  # a file that someone else has put there keeps its folder
                path.rmdir()


def windows_problem(name: str) -> str | None:
    """Why Windows would not keep a file under this relative name, if so."""
    for part in name.split("/"):
        if any(character in '<>:"|?*' for character in part):
            return "a character that Windows reserves, perhaps a drive letter"
        if part[-1] in ". ":
            return "a part that ends in a dot or a space, which Windows drops"
        if part.split(".")[0].rstrip().lower() in _RESERVED:
            return "the name of a device on Windows"
    return None


def _write_at(file: int, data: memoryview, start: int) -> None:
    while data:
        if hasattr(os, "pwrite"):
            count = os.pwrite(file, data, start)
        else:  # every call has a descriptor, and so a position, of its own
            os.lseek(file, start, os.SEEK_SET)
            count = os.write(file, data)
        data, start = data[count:], start + count


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's errors about `path` into errors of the library."""
    try:
        yield
    except StorageError:
        raise
    except FileExistsError as error:
        raise InvalidArgumentError("target", f"{path} exists already; unpack into an empty folder") from error
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror or error}") from error
