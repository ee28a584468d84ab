"""Archives that nobody honest writes are refused before anything is written or decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from modelstore.archive import Archive, ArchiveInfo
from modelstore.archive.digests import EMPTY, sha256
from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.limits import Limits
from modelstore.archive.table import BLOCK, TABLE_NAME, Chunk, Table, TableEntry
from modelstore.archive.trailer import Trailer, find_trailer
from modelstore.archive.unpack import windows_problem
from modelstore.exceptions import IntegrityError, NewerFormatError, UnsafeArchiveError
from tests.archive.helpers import SMALL, Stored, noise, opened, pack

RAW = noise(1000)
DIGEST = sha256([RAW])


def entry(name: str, size: int = 10, start: int = 0, digest: bytes | None = None, folder: bool = False) -> TableEntry:
    if digest is None:
        digest = sha256([RAW[start : start + size]]) if size else EMPTY
    return TableEntry(name, size, start, digest, True, folder)


def forged(
    entries: Sequence[TableEntry],
    chunks: Sequence[Chunk] | None = None,
    stored: bytes = RAW,
    compression: str = NONE,
    change: Callable[[bytearray], None] = lambda raw: None,
    limits: Limits = SMALL,
    trailer: dict[str, Any] | None = None,
) -> bytes:
    """An archive with a table of our choice and every digest in order."""
    chunks = [Chunk(len(stored), len(stored), sha256([stored]))] if chunks is None else chunks
    raw = bytearray(Table(tuple(chunks), tuple(entries)).encode(limits))
    change(raw)
    table = bytes(raw) if compression == NONE else zstandard.ZstdCompressor(1).compress(bytes(raw))
    honest = Trailer(compression, len(stored), len(table), len(raw), sha256([table]))
    return stored + table + replace(honest, **(trailer or {})).tail()


def test_the_forger_can_be_honest(tmp_path: Path) -> None:
    """What the other tests change is what makes their archives bad: unchanged it is accepted."""
    data, info = pack({"a": RAW, "b/c": RAW[10:30]}, ["d"])
    table = opened(data)._table
    again = forged(table.entries, table.chunks, data[: info.table.start])
    assert again == data
    opened(again).extract(tmp_path / "out")
    assert (tmp_path / "out/b/c").read_bytes() == RAW[10:30]


NAMES = {
    "absolute": ["/etc/passwd"],
    "parent": ["../x"],
    "parent inside": ["a/../../x"],
    "dot": ["./x"],
    "empty part": ["a//x"],
    "folder as file": ["a/"],
    "backslash": ["..\\x"],
    "zero byte": ["a\0b"],
    "line feed": ["a\nb"],
    "duplicate": ["a", "a"],
    "case collision": ["Model", "model"],
    "unicode collision": ["\u00e9", "e\u0301"],
    "file and folder": ["a", "a/b"],
    "file through a folder in other case": ["A/x", "a/y"],
    "the table": [TABLE_NAME],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_that_leave_the_folder_or_collide_are_refused(names: list[str]) -> None:
    """No such archive can be opened, so nothing of it can be written."""
    with pytest.raises(UnsafeArchiveError):
        opened(forged([entry(name, 10, 10 * index) for index, name in enumerate(names)]))


PLACES = {
    "outside the stream": [entry("a", 10, 995)],
    "behind the stream": [entry("a", 0, 1001)],
    "overlapping": [entry("a", 10, 0), entry("b", 10, 9)],
    "backwards": [entry("a", 10, 500), entry("b", 10, 0)],
    "huge": [entry("a", 2**63, 0, bytes(32))],
    "sum beyond 64 bits": [entry("a", 2**64 - 1, 2, bytes(32))],
    "folder with content": [entry("a", 10, 0, folder=True)],
    "empty with another digest": [entry("a", 0, 0, bytes(32))],
}


@pytest.mark.parametrize("entries", PLACES.values(), ids=PLACES)
def test_files_lie_one_after_the_other_in_the_stream(entries: list[TableEntry]) -> None:
    """A size or a place that is not in the tar stream is refused."""
    with pytest.raises(UnsafeArchiveError):
        opened(forged(entries))


CHUNKS = {
    "none": [],
    "empty": [Chunk(1000, 1000, DIGEST), Chunk(0, 0, EMPTY)],
    "larger than a chunk may be": [Chunk(1000, 5000, DIGEST)],
    "two lengths without compression": [Chunk(1000, 999, DIGEST)],
    "longer than the object": [Chunk(1001, 1001, DIGEST)],
    "shorter than the object": [Chunk(999, 999, DIGEST)],
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_chunks_are_what_lies_before_the_table(chunks: list[Chunk]) -> None:
    """Lengths of chunks that do not add up to the object, or exceed the limit, are refused."""
    with pytest.raises(UnsafeArchiveError):
        opened(forged([], chunks))


def test_files_lie_in_chunks_as_the_format_says() -> None:
    """A small file across chunks, and a large one that is not cut into its pieces, are refused."""
    parts = [RAW[:500], RAW[500:]]
    chunks = [Chunk(500, 500, sha256([part])) for part in parts]
    with pytest.raises(UnsafeArchiveError, match="across chunks"):
        opened(forged([entry("a", 10, 495)], chunks))
    with pytest.raises(UnsafeArchiveError, match="pieces"):
        opened(forged([entry("a", 1000, 0)], chunks, limits=Limits(600, 600)), limits=Limits(600, 600))
    with pytest.raises(UnsafeArchiveError, match="pieces"):
        opened(forged([entry("a", 600, 100)], chunks, limits=Limits(500, 500)), limits=Limits(500, 500))


def test_a_file_that_is_not_what_its_digest_says_is_refused(tmp_path: Path) -> None:
    """Digests of chunks that hold do not make up for the digest of a file that does not."""
    data, info = pack({"a": b"1", "b": b"2"})
    table = opened(data)._table
    entries = [table.entries[0]._replace(digest=bytes(32)), table.entries[1]]
    lying = forged(entries, table.chunks, data[: info.table.start])
    with pytest.raises(IntegrityError, match="file 'a'"):
        opened(lying).extract(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(IntegrityError, match="file 'a'"):
        opened(lying).read("a")
    limits = Limits(500, 500)
    for compression in (NONE, ZSTD):
        data, info = pack({"large": noise(900)}, compression=compression, limits=limits)
        table = opened(data, info, limits)._table
        changed = [table.entries[0]._replace(digest=bytes(32))]
        lying = forged(changed, table.chunks, data[: info.table.start], compression, limits=limits)
        with pytest.raises(IntegrityError, match="large"):
            opened(lying, limits=limits).extract(tmp_path / "out")
        assert not (tmp_path / "out").exists()


def _put(at: int, layout: str, *values: int) -> Callable[[bytearray], None]:
    return lambda raw: struct.pack_into(layout, raw, at, *values)


HEADS = {
    "magic": _put(0, "<B", 0),
    "version 0": _put(8, "<H", 0),
    "unknown flag": _put(10, "<H", 1),
    "other chunk size": _put(12, "<I", 1 << 30),
    "4 billion chunks": _put(16, "<I", 2**32 - 1),
    "4 billion files": _put(20, "<I", 2**32 - 1),
    "names without end": _put(24, "<Q", 2**64 - 1),
    "names too short": _put(24, "<Q", 0),
    "padding": _put(BLOCK - 1, "<B", 1),
    "flag of a row": _put(72, "<H", 0x80),
    "no name": _put(74, "<H", 0),
    "longer name": _put(74, "<H", 2),
    "zero of a row": _put(76, "<I", 1),
    "name in no encoding": _put(128, "<B", 0xFF),
}


@pytest.mark.parametrize("change", HEADS.values(), ids=HEADS)
def test_a_table_that_contradicts_itself_is_refused(change: Callable[[bytearray], None]) -> None:
    """Counts are compared with the table's length before a row is read, so that huge ones cost nothing."""
    with pytest.raises(IntegrityError) as caught:
        opened(forged([entry("a")], change=change))
    assert not isinstance(caught.value, NewerFormatError)


TRAILERS = {
    "table outside": {"start": 2**60},
    "table at the front": {"start": 0},
    "long table": {"stored": 2**40},
    "empty table": {"stored": 0},
    "raw length": {"raw": 1024},
    "huge raw length": {"raw": 2**50},
    "digest": {"digest": bytes(32)},
    "compression": {"compression": ZSTD},
}


@pytest.mark.parametrize("changed", TRAILERS.values(), ids=TRAILERS)
def test_a_trailer_that_lies_is_refused(changed: dict[str, Any]) -> None:
    """Where the table is, how long and how it is stored is believed only as far as it holds."""
    with pytest.raises(IntegrityError):
        opened(forged([entry("a")], trailer=changed))


def test_a_later_version_asks_for_an_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive or a table of a format that is not known yet says what to do."""
    with pytest.raises(NewerFormatError, match="upgrade"):
        opened(forged([entry("a")], change=_put(8, "<H", 2)))
    with monkeypatch.context() as later:
        later.setattr("modelstore.archive.trailer.VERSION", 2)
        data = forged([entry("a")])
    with pytest.raises(NewerFormatError, match="upgrade"):
        opened(data)
    assert issubclass(NewerFormatError, IntegrityError)


def _frames() -> dict[str, tuple[bytes, int]]:
    """Frames, and how much the table says that each holds."""
    compressor = zstandard.ZstdCompressor(level=1)
    plain = compressor.compress(RAW)
    unsized = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(RAW)
    bomb = compressor.compress(bytes(64 << 20))
    return {
        "claims more": (plain, 999),
        "claims less": (plain, 1001),
        "claims nothing": (unsized, 1000),
        "bomb": (bomb, 4096),
        "followed by another": (plain + plain, 1000),
        "cut short": (plain[:-1], 1000),
        "no frame": (RAW, 1000),
        "holds more than it claims": (_relabel(compressor.compress(bytes(1000)), 999), 999),
    }


def _relabel(frame: bytes, size: int) -> bytes:
    at = 5
    assert zstandard.frame_header_size(frame) == at + 2
    return frame[:at] + struct.pack("<H", size - 256) + frame[at + 2 :]


@pytest.mark.parametrize("case", _frames())
def test_frames_that_lie_are_refused(case: str, tmp_path: Path) -> None:
    """A frame's claim is compared with the table before it is decoded, its content with the claim after."""
    frame, raw = _frames()[case]
    data = forged([], [Chunk(len(frame), raw, sha256([frame]))], frame, ZSTD)
    with pytest.raises(IntegrityError):
        opened(data).extract(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tables_own_frame_is_checked_before_it_is_decoded() -> None:
    """A small table that claims to unpack to gigabytes is refused at once."""
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(64 << 20))
    for raw in (512, 1 << 40):
        tail = Trailer(ZSTD, len(RAW), len(bomb), raw, sha256([bomb])).tail()
        with pytest.raises(UnsafeArchiveError):
            opened(RAW + bomb + tail)


def test_flags_and_reserved_bytes_of_the_trailer_are_checked() -> None:
    """What this version leaves zero has to be zero, so that a later one can use it."""
    data = bytearray(forged([entry("a")]))
    block = data[-3 * BLOCK : -2 * BLOCK]
    block[12] = 1
    block[-32:] = sha256([block[:-32]])
    data[-3 * BLOCK : -2 * BLOCK] = block
    with pytest.raises(IntegrityError):
        find_trailer(data, "it")


WINDOWS = {"a/b.txt": True, "com10": True, "C:x": False, "a/nul": False, "COM1.txt": False}
WINDOWS |= {"a./b": False, "a ": False, "a?b": False}


@pytest.mark.parametrize(("name", "fine"), WINDOWS.items())
def test_names_that_mean_something_else_on_windows(name: str, fine: bool) -> None:
    """Drive letters, devices and parts that Windows changes are told from names that it keeps."""
    assert (windows_problem(name) is None) == fine


JSON = pack({"a": b"1"})[1].to_dict()
HOSTILE: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "no table": {key: value for key, value in JSON.items() if key != "table"},
    "a negative size": {**JSON, "size": -1},
    "a size as text": {**JSON, "size": "1"},
    "a size that is true": {**JSON, "size": True},
    "a size with a fraction": {**JSON, "size": 1.5},
    "a size beyond all": {**JSON, "size": 1 << 80},
    "another compression": {**JSON, "compression": "rar"},
    "a compression in a list": {**JSON, "compression": ["zstd"]},
    "a digest too short": {**JSON, "archive_digest": "ab"},
    "a digest that is a path": {**JSON, "archive_digest": "../" * 21 + "a"},
    "a digest in capitals": {**JSON, "content_digest": "A" * 64},
    "a table of text": {**JSON, "table": "x"},
    "a table without a digest": {**JSON, "table": {"start": 1, "size": 1}},
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_of_an_archive_is_refused(data: Any) -> None:
    """What a record says of its archive is JSON from a bucket: anything but what we write is an IntegrityError."""
    with pytest.raises(IntegrityError):
        ArchiveInfo.from_dict(data)


def test_info_that_lies_about_the_object_is_refused() -> None:
    """Whatever field of a record is changed, the archive does not open with it."""
    data, info = pack({"a": noise(3000)})
    lies = [
        replace(info, size=info.size - 1),
        replace(info, size=1 << 50),
        replace(info, raw_size=1),
        replace(info, compression=ZSTD),
        replace(info, chunks=1),
        replace(info, archive_digest="0" * 64),
        replace(info, content_digest="0" * 64),
        replace(info, table=replace(info.table, start=0)),
        replace(info, table=replace(info.table, start=info.table.start + 512)),
        replace(info, table=replace(info.table, size=1)),
        replace(info, table=replace(info.table, sha256="0" * 64)),
    ]
    for lie in lies:
        with pytest.raises(IntegrityError):
            Archive.open(Stored(data), "it", lie, limits=SMALL)
