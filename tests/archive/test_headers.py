"""What `tar` shows of an archive is what its table shows: headers are written by one rule, and compared when read."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from modelstore.archive.compression import compress
from modelstore.archive.digests import sha256
from modelstore.archive.headers import header
from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.table import BLOCK, Chunk
from modelstore.exceptions import IntegrityError, UnsafeArchiveError
from tests.archive.helpers import noise, on_disk, opened, pack
from tests.archive.test_hostile import forged

_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=300)
_SIZES = st.one_of(st.integers(0, 1 << 20), st.integers(8**11 - 2, 8**11 + 2), st.integers(0, 1 << 62))


@given(name=_NAMES.filter(lambda name: not name.endswith("/")), size=_SIZES, folder=st.booleans())
@settings(max_examples=500, deadline=None)
def test_headers_are_those_of_the_standard_library(name: str, size: int, folder: bool) -> None:
    """Byte for byte what `tarfile` writes in the pax format, for every name, size and kind."""
    info = tarfile.TarInfo(name)
    info.size = 0 if folder else size
    info.mode, info.type = (0o755, tarfile.DIRTYPE) if folder else (0o644, tarfile.REGTYPE)
    assert header(name, info.size, folder=folder) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


FILES = {"a": b"1", "b/" + "x" * 150: noise(700), "large": noise(2048), "n\u00e9e": b"", "z": noise(9000)}
SECOND = 2 * BLOCK
"""Where the extended header of the second file begins, after header and content of the first."""


def _put(at: int, data: bytes) -> Callable[[bytearray], None]:
    def change(stream: bytearray) -> None:
        stream[at : at + len(data)] = data

    return change


def _fixed(at: int, **fields: object) -> Callable[[bytearray], None]:
    """Another header whose checksum holds, in the place of the one at `at`."""

    def change(stream: bytearray) -> None:
        info = tarfile.TarInfo.frombuf(bytes(stream[at : at + BLOCK]), "utf-8", "strict")
        for field, value in fields.items():
            setattr(info, field, value)
        stream[at : at + BLOCK] = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")

    return change


CHANGES = {
    "another name": _fixed(0, name="b"),
    "a path outside": _fixed(0, name="../a"),
    "another size": _fixed(0, size=2),
    "a link": _fixed(0, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a device": _fixed(0, type=tarfile.CHRTYPE),
    "another mode": _fixed(0, mode=0o4755),
    "another owner": _fixed(0, uid=0o777),
    "another time": _fixed(0, mtime=1),
    "a longer name": _put(SECOND + BLOCK, b"163 path=b/" + b"y" * 10),
    "padding": _put(SECOND - 1, b"\1"),
    "a broken checksum": _put(148, b"000000"),
}


def rewritten(change: Callable[[bytearray], None], compression: str) -> bytes:
    """An honest archive whose tar stream is changed, with the digests of its chunks in order again."""
    data, info = pack(FILES, ["void"], compression=compression)
    table, stream = opened(data)._table, bytearray(data[: info.table.start])
    if compression == ZSTD:
        reader = zstandard.ZstdDecompressor().stream_reader(bytes(stream), read_across_frames=True)
        stream = bytearray(reader.read())
    change(stream)
    stored, chunks, at = b"", [], 0
    for chunk in table.chunks:
        raw = bytes(stream[at : at + chunk.raw])
        frame = raw if compression == NONE else compress([raw])
        chunks.append(Chunk(len(frame), len(raw), sha256([frame])))
        stored, at = stored + frame, at + chunk.raw
    return forged(table.entries, chunks, stored, compression)


@pytest.mark.parametrize("compression", [NONE, ZSTD])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_archive_that_shows_tar_something_else_is_refused(
    change: Callable[[bytearray], None], compression: str, tmp_path: Path
) -> None:
    """Though every digest holds: a header is not the one that the table's name, size and kind make."""
    with pytest.raises(UnsafeArchiveError, match="header"):
        opened(rewritten(change, compression)).extract(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_byte_beside_files_counts(tmp_path: Path) -> None:
    """Wherever in the stream a byte is changed, it is that of a file, whose digest says so, or refused as a header."""
    data, info = pack(FILES, ["void"])
    files = opened(data).files
    for at in range(0, info.table.start, 61):
        inside = any(file.start <= at < file.start + file.size for file in files)
        changed = rewritten(lambda stream, at=at: stream.__setitem__(at, stream[at] ^ 1), NONE)  # type: ignore[misc]
        with pytest.raises(IntegrityError, match="digest" if inside else "header") as caught:
            opened(changed).extract(tmp_path / "out")
        assert isinstance(caught.value, UnsafeArchiveError) != inside


@pytest.mark.parametrize("cut", range(100, 1500, 100))
def test_headers_may_lie_across_chunks(cut: int, tmp_path: Path) -> None:
    """Another writer may cut anywhere between files; changed headers are found on both sides of the cut."""
    files = {"/".join(["x" * 200] * 3): b"1"}
    data, info = pack(files)
    (chunk,) = opened(data)._table.chunks
    start = opened(data).files[0].start
    assert cut < start

    def again(stream: bytes) -> bytes:
        pieces = [stream[:cut], stream[cut:]]
        rows = [Chunk(len(piece), len(piece), sha256([piece])) for piece in pieces]
        # With a chunk more the table is a row longer, and so is what the last header says.
        return forged(opened(data)._table.entries, rows, b"".join(pieces))

    stream = bytearray(data[: info.table.start])
    assert len(stream) == chunk.raw
    opened(again(bytes(stream))).extract(tmp_path / "out")
    assert on_disk(tmp_path / "out")[0] == files
    for at in (cut - 1, cut):
        stream[at] ^= 1
        with pytest.raises(UnsafeArchiveError, match="header"):
            opened(again(bytes(stream))).extract(tmp_path / "bad")
        stream[at] ^= 1


def test_a_file_without_a_header_is_refused(tmp_path: Path) -> None:
    """Two files that touch, at the edge of a chunk or within one: `tar` would take the second for a header."""
    data, info = pack({"one": bytes(2048), "two": bytes(2048)})
    archive = opened(data)
    one, two = archive._table.entries
    head = data[: one.start]
    names = (one, two._replace(start=one.start + one.size))
    last = data[info.table.start - BLOCK : info.table.start]
    for parts in ([head, bytes(2048), bytes(2048), last], [head, bytes(4096), last]):
        rows = [Chunk(len(part), len(part), sha256([part])) for part in parts]
        with pytest.raises(UnsafeArchiveError, match="no room"):
            opened(forged(names, rows, b"".join(parts))).extract(tmp_path / "out")


def test_an_archive_without_a_header_for_its_table_is_refused(tmp_path: Path) -> None:
    """`tar` would read the table itself as headers."""
    data, _ = pack({"one": bytes(2048)})
    (one,) = opened(data)._table.entries
    parts = [data[: one.start], bytes(2048)]
    rows = [Chunk(len(part), len(part), sha256([part])) for part in parts]
    with pytest.raises(UnsafeArchiveError, match="no room"):
        opened(forged([one], rows, b"".join(parts))).extract(tmp_path / "out")
