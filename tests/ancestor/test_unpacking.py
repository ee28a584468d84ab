"""The ancestor's archives: damaged ones, and those that nobody honest writes, of which nothing reaches a loader."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from modelstore.ancestor import unpack as module
from modelstore.ancestor.unpack import unpack
from modelstore.exceptions import IntegrityError, UnsafeArchiveError
from tests.ancestor.helpers import Ancestor, archive_of, packed, raw_tar


def reader(data: bytes) -> Callable[[int, memoryview], int]:
    """Reads from bytes as from a storage."""

    def read(start: int, buffer: memoryview) -> int:
        found = data[start : start + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    return read


def unpacked(data: bytes, tmp_path: Path) -> Path:
    """Unpack into a folder of a folder, so that a step outside is seen."""
    folder = tmp_path / "deep" / "files"
    unpack(reader(data), len(data), folder, "the model")
    return folder


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """One member of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def below(folder: Path) -> list[str]:
    """All that lies there."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_files_folders_and_long_names(tmp_path: Path) -> None:
    """What tarfile writes by any of its formats comes out as it went in; the last of two files of one name counts."""
    long = "/".join(["folder" * 10] * 3) + "/ü.bin"
    for tar_format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", format=tar_format) as tar:
            for name, data in ((long, b"long"), ("same", b"first"), ("large", bytes(5 << 20)), ("same", b"second")):
                info = member(name, size=len(data))
                info.mtime = 1.5  # type: ignore[assignment]
                tar.addfile(info, io.BytesIO(data))
            tar.addfile(member("empty", tarfile.DIRTYPE))
            tar.addfile(member("empty/below", tarfile.DIRTYPE))
        folder = unpacked(out.getvalue(), tmp_path / str(tar_format))
        assert (folder / long).read_bytes() == b"long"
        assert (folder / "same").read_bytes() == b"second"
        assert (folder / "large").stat().st_size == 5 << 20
        assert (folder / "empty" / "below").is_dir()


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "a/../../up", "..", "a//b", "a\\..\\b", "line\nbreak", "nul\x01", "a/./b"]
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_names_that_lead_elsewhere(name: str, kind: bytes, tmp_path: Path) -> None:
    """Such an archive is refused, and nothing is left of it."""
    data = packed([(member("good"), b""), (member(name, kind), b"")])
    with pytest.raises(UnsafeArchiveError):
        unpacked(data, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z", tarfile.GNUTYPE_SPARSE])
def test_neither_file_nor_folder(kind: bytes, tmp_path: Path) -> None:
    """Devices, pipes, sparse files and what nobody knows are refused."""
    with pytest.raises(UnsafeArchiveError):
        unpacked(raw_tar(member("odd", kind).tobuf()), tmp_path)


def test_links_are_left_out(tmp_path: Path) -> None:
    """The ancestor stores a link as a link; none is made here, and nothing is written through one."""
    (tmp_path / "outside").mkdir()
    data = packed(
        [
            (member("extras/link", tarfile.SYMTYPE, str(tmp_path / "outside")), b""),
            (member("extras/link/file", size=3), b"abc"),
            (member("hard", tarfile.LNKTYPE, "/etc/passwd"), b""),
        ]
    )
    with pytest.warns(UserWarning, match="links"):
        folder = unpacked(data, tmp_path)
    assert below(folder) == ["extras", "extras/link", "extras/link/file"]
    assert not (folder / "extras" / "link").is_symlink()
    assert below(tmp_path / "outside") == []


@pytest.mark.parametrize(
    "members",
    [
        [("a", tarfile.REGTYPE), ("a/b", tarfile.REGTYPE)],
        [("a", tarfile.DIRTYPE), ("a", tarfile.REGTYPE)],
        [("a", tarfile.REGTYPE), ("A", tarfile.REGTYPE)],
    ],
)
def test_names_in_each_others_way(members: list[tuple[str, bytes]], tmp_path: Path) -> None:
    """A file that is also a folder, and names that fall together on other systems."""
    with pytest.raises(UnsafeArchiveError):
        unpacked(packed([(member(name, kind), b"") for name, kind in members]), tmp_path)


def pax(records: bytes, size: int | None = None) -> bytes:
    """A block with further headers."""
    info = member("pax", tarfile.XHDTYPE, size=len(records) if size is None else size)
    return info.tobuf() + records + bytes(-len(records) % 512)


@pytest.mark.parametrize(
    "blocks",
    [
        [member("a", size=1 << 40).tobuf(tarfile.GNU_FORMAT)],
        [pax(b"13 size=9999\n"), member("a").tobuf(), bytes(512)],
        [pax(b"14 size=-9999\n"), member("a").tobuf()],
        [pax(b"999 path=x\n"), member("a").tobuf()],
        [pax(b"0 path=x\n"), member("a").tobuf()],
        [pax(b"path\n"), member("a").tobuf()],
        [pax(b"22 GNU.sparse.major=1\n"), member("a").tobuf()],
        [pax(b"", 1 << 33), member("a").tobuf()],
        [member("long", tarfile.GNUTYPE_LONGNAME, size=1 << 33).tobuf(tarfile.GNU_FORMAT)],
        [pax(b"16 path=../../x\n"), member("a").tobuf()],
        [b"x" * 512],
        [member("a").tobuf()[:100]],
    ],
)
def test_headers_that_lie(blocks: list[bytes], tmp_path: Path) -> None:
    """Sizes and lengths that cannot be are found before anything is read or reserved for them."""
    with pytest.raises(IntegrityError):
        unpacked(raw_tar(*blocks), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to far more than its size is refused before that fills disk or memory."""
    monkeypatch.setattr(module, "_FREE_SIZE", 1 << 20)
    data = archive_of({"zeros": bytes(64 << 20)})
    tracemalloc.start()
    with pytest.raises(UnsafeArchiveError):
        unpacked(data, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bomb_behind_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it stands behind the end of the tar, which is read for the sake of the checksum."""
    monkeypatch.setattr(module, "_FREE_SIZE", 1 << 20)
    with pytest.raises(UnsafeArchiveError):
        unpacked(gzip.compress(member("a").tobuf() + bytes(64 << 20)), tmp_path)


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million empty files are a bomb too."""
    monkeypatch.setattr(module, "_MAX_MEMBERS", 10)
    with pytest.raises(UnsafeArchiveError, match="members"):
        unpacked(packed([(member(f"m{number}"), b"") for number in range(11)]), tmp_path)


def test_every_cut_and_every_damaged_byte(tmp_path: Path) -> None:
    """An archive that was cut anywhere, or has one wrong byte, is refused, unless that byte carries nothing."""
    content = bytes(range(256)) * 4
    data = archive_of({"model.bin": content})
    for length in range(0, len(data), 7):
        with pytest.raises(IntegrityError):
            unpacked(data[:length], tmp_path)
    harmless = 0
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x55
        try:
            folder = unpacked(bytes(broken), tmp_path)
        except IntegrityError:
            continue
        harmless += 1  # time, level and system in gzip's own header, and bits that fill up its last byte
        assert below(folder) == ["model.bin"]
        assert (folder / "model.bin").read_bytes() == content
    assert harmless <= 10


def test_a_size_that_is_not_what_it_was(tmp_path: Path) -> None:
    """An archive that has grown or shrunk since it was adopted is not the one that was adopted."""
    data = archive_of({"model.bin": b"1"})
    for size in (len(data) - 1, len(data) + 1):
        with pytest.raises(IntegrityError):
            unpack(reader(data), size, tmp_path / "files", "the model")


def test_it_is_refused_through_the_store(tmp_path: Path) -> None:
    """`load` and `download` say so, and neither cache nor target holds anything of it."""
    ancestor = Ancestor()
    ancestor.upload("fraud", "m", packed([(member("../../../evil", size=4), b"evil")]))
    store = ancestor.open(tmp_path)
    store.adopt()
    for call in (lambda: store.load("fraud", "m"), lambda: store.download(tmp_path / "out", "fraud", "m")):
        with pytest.raises(UnsafeArchiveError):
            call()
    assert not list(tmp_path.rglob("evil*"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_the_cache_holds_what_was_unpacked(tmp_path: Path) -> None:
    """A second load fetches nothing, and a damaged file in the cache is found and unpacked anew."""
    ancestor = Ancestor()
    ancestor.upload("fraud", "m")
    store = ancestor.open(tmp_path)
    store.adopt()
    assert store.load("fraud", "m").read_text() == "m"
    (cached,) = (tmp_path / "cache").rglob("model.bin")
    cached.chmod(0o644)
    cached.write_bytes(b"x")
    assert store.load("fraud", "m").read_text() == "m"
    (key,) = [key for key in ancestor.contents() if key.endswith(".tar.gz")]
    ancestor.storage.delete([key])
    assert store.load("fraud", "m", verify="full").read_text() == "m"
