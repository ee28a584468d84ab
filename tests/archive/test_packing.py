"""Packing: bounded memory, no byte hashed twice, and a clean end whatever goes wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from modelstore.archive import Packer, digests
from modelstore.archive.compression import choose
from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.workers import Ahead, default_threads
from modelstore.exceptions import FileChangedError, StorageError
from modelstore.folder import Buffer, FolderContents, FolderFile, MemorySource, PathSource
from tests.archive.helpers import SMALL, contents, noise, packed

BOTH = pytest.mark.parametrize("compression", [NONE, ZSTD])


def drain(chunks: Iterator[Sequence[Buffer]]) -> None:
    for _ in chunks:
        pass


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """However a test ends, the threads that it started have ended too."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Source:
    """A large file that counts what was read and not yet given to the sink, or fails at some point."""

    def __init__(self, size: int, fail_at: int | None = None) -> None:
        self.size = size
        self.read_bytes = 0
        self._fail_at = fail_at
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> list[Buffer]:
        if self._fail_at is not None and start <= self._fail_at < stop:
            raise FileChangedError("weights.bin")
        with self._lock:
            self.read_bytes += stop - start
        return [bytes(stop - start)]


@BOTH
def test_reading_ahead_of_the_sink_is_bounded(compression: str) -> None:
    """Between the source and the sink lie never more chunks than threads and two, however large the file."""
    source = Source(100 * SMALL.chunk)
    packer = Packer(FolderContents((FolderFile("w", source),)), limits=SMALL, compression=compression)
    ahead = []

    def sink(chunks: Iterator[Sequence[Buffer]]) -> None:
        for number, _ in enumerate(chunks):
            with source._lock:
                ahead.append(source.read_bytes // SMALL.chunk - number)

    packer.write(sink)
    assert len(ahead) > 100
    assert max(ahead) <= default_threads() + 2


def test_memory_is_not_copied() -> None:
    """A plain archive hands the very memory of the weights to the storage."""
    weights = bytearray(noise(40_000))
    packer = Packer(FolderContents((FolderFile("w", MemorySource([weights])),)), limits=SMALL, compression=NONE)
    owners = []
    packer.write(lambda chunks: [owners.append(memoryview(b).obj) for chunk in chunks for b in chunk])
    assert sum(owner is weights for owner in owners) == -(-40_000 // SMALL.chunk)


def test_no_byte_of_a_large_file_is_hashed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a plain archive the digests of a large file's pieces are the digests of its chunks."""
    hashed = []
    real = digests.sha256

    def counting(buffers: Sequence[Buffer]) -> bytes:
        buffers = list(buffers)
        hashed.append(sum(map(len, buffers)))
        return real(buffers)

    monkeypatch.setattr("modelstore.archive.pack.sha256", counting)
    _, info = packed(Packer(contents({"w": noise(40_000)}), limits=SMALL, compression=NONE))
    assert 40_000 < sum(hashed) <= info.size


def test_file_digests_are_what_the_format_says() -> None:
    """SHA-256 up to a chunk; beyond, SHA-256 over a tag and the digests of the pieces."""
    for compression in (NONE, ZSTD):
        small, large = noise(SMALL.chunk), noise(SMALL.chunk + 1)
        data, info = packed(Packer(contents({"s": small, "l": large}), limits=SMALL, compression=compression))
        from tests.archive.helpers import opened

        found = {file.name: file.digest for file in opened(data, info).files}
        assert found["s"] == hashlib.sha256(small).hexdigest()
        pieces = [hashlib.sha256(piece).digest() for piece in (large[: SMALL.chunk], large[SMALL.chunk :])]
        assert found["l"] == hashlib.sha256(b"modelstore tree\n" + b"".join(pieces)).hexdigest()


@BOTH
@pytest.mark.parametrize("fail_at", [0, 50_000, 99_999])
def test_an_error_of_a_source_passes_through(compression: str, fail_at: int) -> None:
    """The sink sees the error where the chunk would have come, and the caller gets it as it was."""
    packer = Packer(FolderContents((FolderFile("w", Source(100_000, fail_at)),)), limits=SMALL, compression=compression)
    with pytest.raises(FileChangedError, match=r"weights\.bin"):
        packer.write(drain)


def test_an_error_of_a_source_is_not_hidden_by_the_sinks() -> None:
    """A storage that wraps what its input raised does not hide why the upload failed."""
    packer = Packer(FolderContents((FolderFile("w", Source(100_000, 50_000)),)), limits=SMALL, compression=NONE)

    def sink(chunks: Iterator[Sequence[Buffer]]) -> None:
        try:
            drain(chunks)
        except FileChangedError as error:
            raise StorageError("the multipart upload failed") from error

    with pytest.raises(FileChangedError):
        packer.write(sink)


@BOTH
@pytest.mark.parametrize("error", [StorageError("no space"), KeyboardInterrupt()])
def test_an_error_of_the_sink_stops_the_work(compression: str, error: BaseException) -> None:
    """A failing storage, or an interrupt, is raised at once; the file is not read to its end first."""
    source = Source(1000 * SMALL.chunk)
    packer = Packer(FolderContents((FolderFile("w", source),)), limits=SMALL, compression=compression)

    def sink(chunks: Iterator[Sequence[Buffer]]) -> None:
        next(chunks)
        raise error

    with pytest.raises(type(error)):
        packer.write(sink)
    assert source.read_bytes < 100 * SMALL.chunk


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_sink_that_takes_only_some_chunks_is_an_error(taken: int) -> None:
    """No info is returned for an archive that was not written whole."""
    packer = Packer(contents({"w": noise(40_000)}), limits=SMALL, compression=NONE)
    with pytest.raises(StorageError, match="before it had taken all"):
        packer.write(lambda chunks: [next(chunks) for _ in range(taken)])


def test_a_file_that_changes_is_an_error(tmp_path: Path) -> None:
    """A file on disk that is written to between being taken in and being read ends the upload."""
    path = tmp_path / "w"
    path.write_bytes(noise(40_000))
    packer = Packer(FolderContents((FolderFile("w", PathSource(path)),)), limits=SMALL, compression=NONE)

    def sink(chunks: Iterator[Sequence[Buffer]]) -> None:
        next(chunks)
        with path.open("ab") as file:
            file.write(b"more")
        drain(chunks)

    with pytest.raises(FileChangedError):
        packer.write(sink)


def test_a_source_that_gives_too_little_is_an_error() -> None:
    """The sizes in the tar's headers are promises: a source that breaks its own is refused."""

    class Short(Source):
        def read(self, start: int, stop: int) -> list[Buffer]:
            return [bytes(stop - start - 1)]

    with pytest.raises(FileChangedError):
        packed(Packer(FolderContents((FolderFile("w", Short(10_000)),)), limits=SMALL, compression=NONE))


def test_the_first_error_of_the_threads_is_kept() -> None:
    """What goes wrong ahead of its turn is raised in its turn, and nothing after it is begun."""
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise StorageError("third")
        return item

    got = []
    with Ahead(work, range(1000), threads=2) as ahead, pytest.raises(StorageError, match="third"):
        got.extend(ahead)
    assert got == [] or got == [0, 1, 2]
    assert len(begun) <= 4 + ahead.ahead


def test_the_sample_is_spread_over_all_files_and_bounded() -> None:
    """Choosing a compression reads at most 2 MiB, from the first byte to the last, and always the same."""
    ranges: list[tuple[int, int, int]] = []

    class Watched(MemorySource):
        def __init__(self, number: int, data: bytes) -> None:
            super().__init__([data])
            self.number = number

        def read(self, start: int, stop: int) -> list[Buffer]:
            ranges.append((self.number, start, stop))
            return super().read(start, stop)

    sources = [Watched(0, noise(100_000)), Watched(1, b""), Watched(2, noise(5 << 20)), Watched(3, noise(100_000))]
    assert choose(sources) == NONE
    assert sum(stop - start for _, start, stop in ranges) <= 2 << 20
    assert ranges[0][:2] == (0, 0)
    assert ranges[-1][0::2] == (3, 100_000)
    first = list(ranges)
    ranges.clear()
    choose(sources)
    assert ranges == first
