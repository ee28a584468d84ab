"""Unpacked archives on this machine, by digest, shared by all processes, read-only.

::

    <root>/<2 digits>/<archive digest>/files/…      the unpacked archive
                                       entry.json   its marker; touched at each use
                                       lock         locked (shared) while in use
    <root>/locks/<archive digest>                   locked (exclusive) while being filled
    <root>/partial/<archive digest>/                an entry that is being filled, or was until an error or a crash
    <root>/tmp/<random>/                            an entry that is being removed, or filled where there are no locks

Entries appear and disappear whole, by renaming. What a fill has fetched before it failed is used by the next one.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modelstore import deadline
from modelstore.archive.info import ArchiveFile, is_digest
from modelstore.archive.locks import Lock, lock
from modelstore.archive.marker import Marker, boot_id
from modelstore.archive.partial import Place, sweep
from modelstore.archive.trees import age, make_read_only, remove
from modelstore.exceptions import IntegrityError

Fill = Callable[[Path, Path | None], Sequence[ArchiveFile]]
"""`archive.extract(folder, journal=journal)`: the folder to fill, and the journal there, if it can be gone on with."""

_FILES, _MARKER, _LOCK = "files", "entry.json", "lock"
_DAY, _HOUR = 86_400.0, 3_600.0
_FILL_WAIT = 1_800.0
"""Seconds to wait for another process that fills the same entry, before filling one for ourselves."""
_ATTEMPTS = 3


class Cache:
    """A folder of unpacked archives.

    Args:
        root: made on first use. If it is None or cannot be written, everything works without keeping anything.
        limit: bytes of files to keep; beyond it, what was used longest ago goes, but nothing that is in use.
            None keeps everything.
    """

    def __init__(self, root: Path | None, limit: int | None = None) -> None:
        # Below a file there is no folder: a place that is never there and can never be made.
        self.root = Path(os.devnull) / "none" if root is None else Path(root)
        self.limit = limit

    @contextmanager
    def open(self, archive_digest: str, fill: Fill, verify_full: bool = False) -> Iterator[Path]:
        """The folder with the unpacked archive, which stays as it is until the context is left.

        Files that do not look as they did when their bytes were known to be right are hashed again; an entry
        that is not what it was is thrown away and filled anew. Of several processes (and threads) one fills,
        the others wait for it. Files mapped into memory stay valid after the context is left, save on Windows.

        Args:
            archive_digest: 64 hexadecimal digits.
            fill: unpacks the archive into the folder that it is given and returns all files with their digests,
                which it has checked. Its errors pass through; what it had done until then is there for the next
                fill of this entry, within three days, unless it was an IntegrityError.
            verify_full: hash all files again.

        Raises:
            IntegrityError: `archive_digest` is not a digest.
            DeadlineExceededError: the time is over.
        """
        entry = self._entry(archive_digest)
        try:
            held = self._hold(entry, fill, verify_full)
        except _Unusable:
            temporary = Path(tempfile.mkdtemp(prefix="modelstore-"))
            try:
                fill(temporary / _FILES, None)
                yield temporary / _FILES
            finally:
                remove(temporary)
            return
        with held:
            yield entry / _FILES

    def holds(self, archive_digest: str) -> bool:
        """Whether an entry is there; what it holds is checked when it is opened."""
        return Marker.load(self._entry(archive_digest) / _MARKER) is not None

    def purge(self, archive_digest: str) -> bool:
        """Remove an entry unless it is in use, and what there is of one; returns whether the entry is gone."""
        entry = self._entry(archive_digest)
        sweep(self.root / "partial" / archive_digest, self.root / "locks" / archive_digest, older=float("-inf"))
        return not os.path.lexists(entry) or self._evict(entry, min_age=0.0)

    def _entry(self, archive_digest: str) -> Path:
        if not is_digest(archive_digest):  # it becomes a path
            raise IntegrityError("a record", "archive digest", f"{archive_digest!r} is not a SHA-256 in hexadecimal")
        return self.root / archive_digest[:2] / archive_digest

    def _hold(self, entry: Path, fill: Fill, full: bool) -> Lock:
        held = self._hit(entry, full)
        if held is not None:
            return held
        for _ in range(_ATTEMPTS):
            wait = deadline.at_most(_FILL_WAIT, "waiting for another process that fetches the same model")
            with _own_errors():
                (self.root / "locks").mkdir(parents=True, exist_ok=True)
                filling = lock(self.root / "locks" / entry.name, exclusive=True, create=True, wait=wait)
            try:
                # Another process may have filled it while we waited.
                alone = filling is not None and filling.real
                held = self._hit(entry, full) or self._fill(entry, fill, alone)
            finally:
                if filling is not None:
                    filling.remove()
            if held is not None:
                return held
        raise _Unusable

    def _hit(self, entry: Path, full: bool) -> Lock | None:
        """A shared lock on an entry that is what it was; None if it is not, or not there."""
        try:
            held = lock(entry / _LOCK, exclusive=False, wait=1.0)
        except OSError:
            return None
        if held is None:
            return None
        try:
            marker = Marker.load(entry / _MARKER)
            verified = marker.verify(entry / _FILES, full=full) if marker else None
            if verified is None:
                held.close()
                return None
            try:
                if verified is marker:
                    os.utime(entry / _MARKER)
                else:
                    verified.save(entry / _MARKER)
            except OSError:
                pass  # a cache that is only read, as in an image: it is hashed again next time
            return held
        except BaseException:
            held.close()
            raise

    def _fill(self, entry: Path, fill: Fill, alone: bool) -> Lock | None:
        """Make the entry and hold it; None if another process was faster (where there are no locks)."""
        with _own_errors():
            # Damaged, or `_hit` would have held it. Only here, so that whoever comes second spares the new one.
            self._throw_away(entry)
            if os.path.lexists(entry):
                return None
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            self._sweep()
        where = self.root / "partial" / entry.name if alone else self.root / "tmp" / secrets.token_hex(16)
        held: Lock | None = None
        with ExitStack() as stack:
            with _own_errors():
                place = stack.enter_context(Place(where, again=alone, others=[_LOCK]))
            try:
                with _own_errors():
                    held = lock(where / _LOCK, exclusive=False, create=True)
                files = fill(place.files, place.journal)
                with _own_errors():
                    synced = boot_id() is None
                    make_read_only(place.files, sync=synced)
                    Marker.of(place.files, files, synced=synced).save(where / _MARKER)
                    entry.parent.mkdir(exist_ok=True)
                    if place.journal is not None:
                        place.journal.unlink(missing_ok=True)
                try:
                    if held is not None and not held.real:
                        held.close()  # Windows renames no folder in which a file is open
                    os.rename(where, entry)
                    if held is not None and not held.real:
                        held = lock(entry / _LOCK, exclusive=False)
                except OSError:
                    return None
                kept, held = held, None
            finally:
                if held is not None:
                    held.close()
        self._shrink()
        return kept

    def _shrink(self) -> None:
        """Evict what was used longest ago, until the rest fits the limit."""
        if self.limit is None:
            return
        entries = []
        for marker_path in self.root.glob(f"??/*/{_MARKER}"):
            marker = Marker.load(marker_path)
            try:
                entries.append((marker_path.stat().st_mtime_ns, marker.size if marker else 0, marker_path.parent))
            except OSError:
                continue  # gone meanwhile
        total = sum(size for _, size, _ in entries)
        for _, size, entry in sorted(entries):
            if total <= self.limit:
                return
            if self._evict(entry, min_age=_HOUR):
                total -= size

    def _evict(self, entry: Path, min_age: float) -> bool:
        """Remove an entry that nobody uses. Without locks only one that was used `min_age` seconds ago or longer."""
        try:
            held = lock(entry / _LOCK, exclusive=True)
            if held is None:
                return False
            with held:
                if not held.real:
                    if age(entry / _MARKER) < min_age:
                        return False
                    held.close()  # Windows renames no folder in which a file is open, by us or by another process
                gone = self._rename_away(entry)
        except OSError:
            return False
        if gone is not None:
            remove(gone)
        return gone is not None

    def _throw_away(self, entry: Path) -> None:
        """Remove an entry that is damaged. Whoever has its files open keeps them."""
        gone = self._rename_away(entry) if os.path.lexists(entry) else None
        if gone is not None:
            remove(gone)

    def _rename_away(self, entry: Path) -> Path | None:
        gone = self.root / "tmp" / secrets.token_hex(16)
        try:
            gone.parent.mkdir(exist_ok=True)
            os.rename(entry, gone)
        except OSError:
            return None
        return gone

    def _sweep(self) -> None:
        """Remove what crashes have left: folders that nobody holds and that are old."""
        for left in (self.root / "tmp").iterdir():
            try:
                if age(left) < _DAY:
                    continue
                held = lock(left / _LOCK, exclusive=True) if (left / _LOCK).exists() else None
                if held is None and (left / _LOCK).exists():
                    continue
                remove(left)
                if held is not None:
                    held.close()
            except OSError:
                continue
        for left in (self.root / "partial").glob("*"):
            sweep(left, self.root / "locks" / left.name)


class _Unusable(Exception):
    """The cache cannot be written."""


@contextmanager
def _own_errors() -> Iterator[None]:
    """Tell what the cache cannot do from what `fill` raises."""
    try:
        yield
    except OSError as error:
        raise _Unusable from error
