"""What is unpacked is what was packed, and equal folders make equal archives."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings, strategies as st

from modelstore.archive import Archive, ArchiveInfo, Packer
from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.limits import CHUNK, LARGE, Limits
from modelstore.exceptions import InvalidNameError
from modelstore.folder import FolderContents, FolderFile, MemorySource, PathSource, check_names
from tests.archive.helpers import SMALL, Stored, contents, noise, on_disk, opened, pack

BOTH = pytest.mark.parametrize("compression", [NONE, ZSTD])

_PARTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/\\"), min_size=1, max_size=30
).filter(lambda part: part not in (".", "..") and len(part.encode()) <= 200)
_NAMES = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)
_SIZES = st.sampled_from([0, 1, 511, 512, 513, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 8193, 20_000])
_DATA = st.builds(lambda size, seed: noise(size, seed) if seed % 2 else bytes(size), _SIZES, st.integers(0, 9))


def _acceptable(names: list[str]) -> bool:
    try:
        check_names(names)
    except InvalidNameError:
        return False
    return True


_FOLDERS = st.tuples(
    st.dictionaries(_NAMES, _DATA, max_size=6),
    st.lists(_NAMES, max_size=2),
    st.dictionaries(_NAMES, _DATA, max_size=2),
).filter(lambda given: _acceptable([*given[0], *given[1], *given[2]]))


@given(folder=_FOLDERS, compression=st.sampled_from([NONE, ZSTD]), chunk=st.sampled_from([512, 4096, 5000]))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_folder_round_trips(
    folder: tuple[dict[str, bytes], list[str], dict[str, bytes]], compression: str, chunk: int, tmp_path: Path
) -> None:
    """Whatever the names, the sizes and the cuts, all files and empty folders come back, and the info holds."""
    files, empty, attached = folder
    limits = Limits(chunk, min(2048, chunk))
    data, info = pack(files, empty, attached=attached, compression=compression, limits=limits)
    assert len(data) == info.size
    assert ArchiveInfo.from_dict(info.to_dict()) == info
    for known in (info, None):
        archive = opened(data, known, limits)
        assert archive.info == info
        target = tmp_path / "out"
        archive.extract(target)
        try:
            assert on_disk(target) == ({**files, **attached}, set(empty))
        finally:
            shutil.rmtree(target)
    assert {file.name for file in archive.files if file.in_model} == set(files)
    assert all(archive.read(name) == content for name, content in {**files, **attached}.items())
    assert all(
        file.size == len(content)
        for file in archive.files
        for name, content in {**files, **attached}.items()
        if name == file.name
    )


@BOTH
def test_real_sizes_round_trip(compression: str, tmp_path: Path) -> None:
    """The same holds for the chunks of 16 MiB that are used in earnest, at their very edges."""
    data = noise(2 * CHUNK + 1)
    sizes = [LARGE - 1, LARGE, LARGE + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1]
    path = tmp_path / "on-disk"
    path.write_bytes(data)
    files = [FolderFile(f"{size:09}", MemorySource([data[:1000], data[1000:size]])) for size in sizes]
    model = FolderContents((*files, FolderFile("path", PathSource(path))))
    stored = tmp_path / "stored"
    with stored.open("wb") as file:
        info = Packer(model, compression=compression).write(lambda chunks: [file.write(b) for c in chunks for b in c])
    archive = Archive.open(Stored(stored.read_bytes()), "it", info)
    assert info.raw_size - 2 * CHUNK < archive.files[-1].start + archive.files[-1].size < info.raw_size
    archive.extract(tmp_path / "out")
    for file in files:
        assert (tmp_path / "out" / file.name).read_bytes() == data[: file.size]
    assert (tmp_path / "out" / "path").read_bytes() == data


def test_equal_folders_make_equal_archives() -> None:
    """The order in which files are given, and how their memory is cut, do not show."""
    files = {"b": noise(9000), "a/x": b"1", "modelstore.json": b"{}"}
    one = pack(files, ["z", "y"])
    assert one == pack(dict(reversed(files.items())), ["y", "z"])
    pieces = FolderContents(
        tuple(FolderFile(name, MemorySource([data[:100], b"", data[100:]])) for name, data in files.items()), ("y", "z")
    )
    stored = bytearray()
    info = Packer(pieces, limits=SMALL, compression=NONE).write(
        lambda chunks: [stored.extend(buffer) for chunk in chunks for buffer in chunk]
    )
    assert (bytes(stored), info) == one


def test_content_digest_is_that_of_the_models_files_alone() -> None:
    """Compression, attached files and their number do not change it; names, bytes and empty folders do."""
    files = {"a": b"1", "weights": bytes(9000)}
    digest = pack(files)[1].content_digest
    assert pack(files, compression=ZSTD)[1].content_digest == digest
    assert pack(files, attached={"modelstore.json": b"{}", "extras/x": b"2"})[1].content_digest == digest
    others = [{"a": b"2", "weights": bytes(9000)}, {"b": b"1", "weights": bytes(9000)}, {"a": b"1"}]
    assert digest not in {pack(other)[1].content_digest for other in others}
    assert pack(files, ["void"])[1].content_digest != digest
    assert pack({"a": b""})[1].content_digest != pack({}, ["a"])[1].content_digest


def test_the_format_does_not_drift() -> None:
    """Every supported Python writes these very bytes, so that digests can be compared between machines."""
    files = {"é" * 60: b"long", "a/b": noise(5000), "empty": b""}
    _, info = pack(files, ["void"], attached={"modelstore.json": b"{}"})
    assert info.to_dict() == {
        "size": 12800,
        "raw_size": 12800,
        "compression": "none",
        "chunks": 4,
        "archive_digest": "6a19f01748b92a22b873e9bc301d1879a4f9f8726ae1a6730d9b5dae74fd7ad2",
        "content_digest": "ca99407624b6691468d1fc094df435a8b4a7ca944737a2ab1c67672ab6863c94",
        "table": {
            "start": 10240,
            "size": 1024,
            "sha256": "fb9b6b130d2b1329214d638b1c3813362f4e4940b3f28cb4f638888915c666a7",
        },
    }


def test_the_manifest_comes_first_then_names_in_order() -> None:
    """A reader that streams the tar meets the manifest before anything else."""
    data, _ = pack({"a": b"1", "é": b"2", "Z": b"3"}, ["b"], attached={"modelstore.json": b"{}", "README.md": b"4"})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["modelstore.json", "README.md", "Z", "a", "b", "é", ".modelstore-table"]


@BOTH
def test_the_systems_tar_opens_it(compression: str, tmp_path: Path) -> None:
    """A user without this library lists and unpacks an archive with common tools."""
    files = {"plain": b"1", "long/" + "x" * 150: noise(9000), "ünï/cödé": b"", "w": bytes(30_000)}
    data, _ = pack(files, ["void"], compression=compression)
    if compression == ZSTD:
        if shutil.which("zstd"):
            data = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
        else:
            data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    listed = subprocess.run(["tar", "tf", "-"], input=data, capture_output=True, check=True)
    assert not listed.stderr
    assert len(listed.stdout.splitlines()) == len(files) + 2
    subprocess.run(["tar", "xf", "-", "-C", tmp_path], input=data, capture_output=True, check=True)
    (tmp_path / ".modelstore-table").unlink()
    assert on_disk(tmp_path) == (files, {"void"})


def test_both_forms_hold_the_same_tar() -> None:
    """Only the table, which describes the stored bytes, differs between a compressed archive and a plain one."""
    files = {"a": noise(3000), "b": bytes(9000)}
    plain, info = pack(files)
    compressed, other = pack(files, compression=ZSTD)
    unpacked = zstandard.ZstdDecompressor().stream_reader(compressed, read_across_frames=True).read()
    assert unpacked[: info.table.start] == plain[: info.table.start]
    assert len(unpacked) == other.raw_size == info.raw_size


def test_compression_is_chosen_by_what_the_content_is() -> None:
    """Content that shrinks is compressed, content that does not and very small content are not."""
    assert Packer(contents({"zeros": bytes(1 << 20)})).suffix == ".tar.zst"
    assert Packer(contents({"noise": noise(1 << 20)})).suffix == ".tar"
    assert Packer(contents({"few": bytes(1000)})).suffix == ".tar"
    mostly_noise = {"a": bytes(100_000), "b": noise(8 << 20)}
    assert Packer(contents(mostly_noise)).suffix == ".tar"
    mostly_zeros = {"a": noise(100_000), "b": bytes(8 << 20)}
    assert Packer(contents(mostly_zeros)).suffix == ".tar.zst"


@pytest.mark.parametrize("name", [".modelstore-table", ".ModelStore-Table", ".modelstore-table/x"])
def test_the_tables_name_is_kept_for_it(name: str) -> None:
    """A user's file cannot take the place of the table, in whatever case."""
    with pytest.raises(InvalidNameError, match="keeps this name"):
        pack({name: b""})


def test_names_are_checked_over_model_and_attached_files_together() -> None:
    """A file of the model cannot collide with one that is attached."""
    with pytest.raises(InvalidNameError):
        pack({"readme.md": b""}, attached={"README.md": b""})
