"""One wrong byte anywhere in an archive is found, and nothing of a damaged archive is left on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.limits import Limits
from modelstore.archive.trailer import LONGEST_TAIL
from modelstore.exceptions import IntegrityError, NewerFormatError
from tests.archive.helpers import noise, on_disk, opened, pack

BOTH = pytest.mark.parametrize("compression", [NONE, ZSTD])
FILES = {"empty": b"", "large": noise(2500), "larger": bytes(4000) + noise(1000), "small": b"abc"}
TINY = Limits(chunk=1024, large=600)


@BOTH
@pytest.mark.parametrize("known", [True, False], ids=["with info", "without info"])
def test_every_flipped_byte_is_found(compression: str, known: bool, tmp_path: Path) -> None:
    """Headers, contents, padding, table, trailer, the end of the tar: a full extraction checks them all."""
    files = {"empty": b"", "large": noise(700), "larger": bytes(1000) + noise(100), "small": b"abc"}
    data, info = pack(files, compression=compression, limits=TINY)
    damaged = bytearray(data)
    missed = []
    # The record says nothing about single chunks: with it, only what follows them is read in another way.
    for index in range(info.table.start if known else 0, len(data)):
        damaged[index] ^= 1 << index % 8
        try:
            opened(bytes(damaged), info if known else None, TINY).extract(tmp_path / "out", threads=1)
            missed.append(index)
        except NewerFormatError:
            missed.append(-index)  # damage must not tell the user to upgrade
        except IntegrityError as error:
            if error.subject != "the archive" or not error.part:
                missed.append(index)
        damaged[index] = data[index]
        assert not (tmp_path / "out").exists()
    assert not missed


@BOTH
@pytest.mark.parametrize("known", [True, False], ids=["with info", "without info"])
def test_every_truncation_is_found(compression: str, known: bool, tmp_path: Path) -> None:
    """An archive that was cut off, at whichever byte, is refused when it is opened."""
    data, info = pack(FILES, compression=compression)
    for length in range(len(data)):
        with pytest.raises(IntegrityError):
            opened(data[:length], info if known else None)


@BOTH
def test_added_bytes_are_found(compression: str) -> None:
    """Bytes before or after an archive are not passed over."""
    data, info = pack(FILES, compression=compression)
    for other in (data + b"\0", b"\0" * 512 + data, data + data):
        with pytest.raises(IntegrityError):
            opened(other, info)
    for other in (data + b"\0", b"\0" * 512 + data):
        with pytest.raises(IntegrityError):
            opened(other)


@BOTH
def test_another_archive_in_its_place_is_found(compression: str) -> None:
    """An archive that is whole, but not the one of the record, is refused when it is opened."""
    data, info = pack({"a": noise(3000)}, compression=compression)
    other, other_info = pack({"a": noise(3000, seed=2)}, compression=compression)
    assert len(data) == len(other)
    with pytest.raises(IntegrityError):
        opened(other, info)
    assert opened(other, other_info).read("a") == noise(3000, seed=2)


def test_a_partial_read_checks_its_own_chunks(tmp_path: Path) -> None:
    """Damage elsewhere does not keep a file from being read; damage in its chunk does."""
    data, _ = pack(FILES)
    archive = opened(data)
    start = next(file.start for file in archive.files if file.name == "large")
    damaged = opened(data[:start] + b"\xff" + data[start + 1 :])
    assert damaged.read("small") == b"abc"
    damaged.extract(tmp_path / "small", ["small", "larger"])
    with pytest.raises(IntegrityError, match="chunk"):
        damaged.read("large")
    with pytest.raises(IntegrityError, match="chunk"):
        damaged.extract(tmp_path / "large", ["large", "small"])
    assert on_disk(tmp_path) == ({"small/small": b"abc", "small/larger": FILES["larger"]}, set())


@BOTH
def test_an_object_that_shrinks_between_reads_is_found(compression: str, tmp_path: Path) -> None:
    """A storage that gives fewer bytes than were asked for is an error, not a file with a hole."""
    data, info = pack(FILES, compression=compression)
    archive = opened(data, info)
    archive._reader._source.data = data[: len(data) // 2]  # type: ignore[attr-defined]
    with pytest.raises(IntegrityError, match="ends before"):
        archive.extract(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_something_else_than_an_archive_is_refused() -> None:
    """Empty objects, text and zeros are no archives, and the error says so."""
    for data in (b"", b"hello", bytes(LONGEST_TAIL), bytes(100_000)):
        with pytest.raises(IntegrityError, match="does not end as an archive"):
            opened(data)
