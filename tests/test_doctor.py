"""`ModelStore.doctor`: which rights are there, which are missing, and for what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelstore import AccessDeniedError, DeadlineExceededError, ModelStore, ObjectNotFoundError
from modelstore.cli import main
from modelstore.folder import Buffer
from modelstore.storage.base import Created, ObjectInfo
from modelstore.storage.memory import MemoryStorage


class Restricted(MemoryStorage):
    """Refuses the verbs in `denied`, as credentials without these rights would."""

    denied: frozenset[str] = frozenset()

    def _need(self, right: str) -> None:
        if right in self.denied:
            raise AccessDeniedError(f"you may not {right} here", right=right)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self._need("read")
        return super().read(key, start, end)

    def list(self, prefix: str) -> Any:
        self._need("list")
        return super().list(prefix)

    def create(self, key: str, data: bytes) -> Created:
        self._need("create")
        return super().create(key, data)

    def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
        self._need("write")
        return super().write(key, chunks, expected)

    def delete(self, keys: Iterable[str]) -> None:
        self._need("delete")
        super().delete(keys)

    def policy(self) -> str:
        return "grant everything"


class Forgetful(MemoryStorage):
    """Ignores that an object is there already."""

    def create(self, key: str, data: bytes) -> Created:
        self.delete([key])
        return super().create(key, data)


class Late(MemoryStorage):
    """Its clock is an hour off."""

    def clock(self) -> datetime:
        return super().clock() - timedelta(hours=1)


def test_a_folder_works(store: ModelStore) -> None:
    """Where everything works, every check says so, and nothing is left behind."""
    diagnosis = store.doctor()
    assert diagnosis.ok
    assert diagnosis.summary == "everything works"
    assert {check.name for check in diagnosis.checks} >= {"read", "list", "create", "write", "delete"}
    assert list(store.storage.list("")) == []
    assert str(diagnosis).startswith(store.storage.address)


@pytest.mark.parametrize(
    ("denied", "failing", "summary"),
    [
        ({"create", "write", "delete"}, {"create", "write", "delete"}, "read-only"),
        ({"delete"}, {"delete"}, "no deletion"),
        ({"list"}, {"list"}, "nothing works"),
        ({"read", "list", "create", "write", "delete"}, {"read", "list", "create", "write", "delete"}, "nothing works"),
    ],
)
def test_what_is_denied_is_named(denied: set[str], failing: set[str], summary: str) -> None:
    """A missing right is a failed check in the storage's words; the summary says what is left, and what to grant."""
    storage = Restricted()
    storage.denied = frozenset(denied)
    diagnosis = ModelStore(storage).doctor()
    assert not diagnosis.ok
    assert {check.name for check in diagnosis.checks if not check.ok} == failing
    assert diagnosis.summary.startswith(summary)
    for right in denied:
        assert f"you may not {right} here" in str(diagnosis)
    assert "grant everything" in str(diagnosis)


def test_a_storage_that_overwrites_is_found_out() -> None:
    """Creating what is there already must be refused; where it is not, the check fails."""
    diagnosis = ModelStore(Forgetful()).doctor()
    assert [check.name for check in diagnosis.checks if not check.ok] == ["create only if absent"]
    assert "lose each other's work" in str(diagnosis)


def test_reading_is_tried_on_what_is_there() -> None:
    """A storage that hides what may not be read behind "not there", as S3 does, is no storage that can be read."""

    class Hiding(MemoryStorage):
        def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
            if key in {info.key for info in self.list("")}:
                raise AccessDeniedError("you may not read here")
            raise ObjectNotFoundError(key, self.address)

    diagnosis = ModelStore(Hiding()).doctor()
    assert [check.name for check in diagnosis.checks if not check.ok] == ["read"]


def test_deleting_nothing_shows_no_right() -> None:
    """Where nothing could be written, nothing is known of deletion, which the check says instead of "ok"."""
    storage = Restricted()
    storage.denied = frozenset({"create", "write"})
    diagnosis = ModelStore(storage).doctor()
    assert {check.name for check in diagnosis.checks if not check.ok} == {"create", "write", "delete"}
    assert diagnosis.summary.startswith("read-only")


def test_unsafe_writes_are_not_called_safe() -> None:
    """A store that looks before it writes refuses what is there already; that does not make two writers safe."""
    pytest.importorskip("boto3")
    from modelstore.storage.s3 import S3Storage

    class Looking(MemoryStorage):
        unsafe_concurrent_writes = S3Storage("bucket", unsafe_concurrent_writes=True).unsafe_concurrent_writes

    diagnosis = ModelStore(Looking()).doctor()
    assert [check.name for check in diagnosis.checks if not check.ok] == ["create only if absent"]
    assert diagnosis.summary.startswith("one writer at a time")


def test_unsafe_writes_through_fsspec_are_not_called_safe_either() -> None:
    """The same for a file system that fsspec opened."""
    pytest.importorskip("fsspec")
    from modelstore.storage.fsspec import FsspecStorage

    diagnosis = ModelStore(FsspecStorage("memory://doctor", unsafe_concurrent_writes=True)).doctor()
    assert [check.name for check in diagnosis.checks if not check.ok] == ["create only if absent"]


def test_a_wrong_clock_is_found_out() -> None:
    """A clock that is an hour off is said, with how much."""
    diagnosis = ModelStore(Late()).doctor()
    assert [check.name for check in diagnosis.checks if not check.ok] == ["clock"]
    assert "1:00:00" in str(diagnosis) or "0:59:59" in str(diagnosis)


def test_a_deadline_is_no_diagnosis() -> None:
    """A doctor whose time is over raises, instead of calling everything broken."""

    class Stalled(MemoryStorage):
        def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
            raise DeadlineExceededError(1.0)

    with pytest.raises(DeadlineExceededError):
        ModelStore(Stalled()).doctor()


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`modelstore doctor` prints the checks; exit code 0 when everything works."""
    (tmp_path / "store").mkdir()
    assert main(["doctor", "--store", str(tmp_path / "store")]) == 0
    assert "everything works" in capsys.readouterr().out


def test_it_reads_well_in_a_notebook(store: ModelStore) -> None:
    """The notebook shows the same words, with nothing of them taken for HTML."""
    html = store.doctor()._repr_html_()
    assert html.startswith("<pre>")
    assert "everything works" in html
