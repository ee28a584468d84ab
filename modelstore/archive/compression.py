"""Zstandard: whether it pays, and frames that lie about nothing.

Every chunk of a compressed archive is one frame, whose header says how long its content is.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelstore.archive.info import NONE, ZSTD
from modelstore.exceptions import IntegrityError, UnsafeArchiveError
from modelstore.folder import Buffer, FileSource

if TYPE_CHECKING:
    import zstandard

LEVEL = 1
SAMPLE_BLOCK = 64 << 10
SAMPLE_BLOCKS = 32
WORTH_IT = 0.85
"""Compress when the sample shrinks to this share or less (docs/decisions/003-compression-by-sample.md)."""
SMALLEST = 64 << 10
"""Less than this is stored as it is: a request costs more than these bytes, and so does importing zstandard."""

_local = threading.local()  # contexts of zstandard are not shared between threads


def choose(sources: Sequence[FileSource]) -> str:
    """`zstd` or `none`, by compressing a sample of at most 2 MiB; the same content gives the same answer.

    The sample is everything when that is at most 2 MiB, else 32 blocks of 64 KiB spread evenly over all files.
    """
    total = sum(source.size for source in sources)
    if total < SMALLEST:
        return NONE
    sample = _sample(sources, total)
    return ZSTD if len(compress([sample])) <= WORTH_IT * len(sample) else NONE


def _sample(sources: Sequence[FileSource], total: int) -> bytes:
    if total <= SAMPLE_BLOCK * SAMPLE_BLOCKS:
        ranges = [(0, total)]
    else:
        last = total - SAMPLE_BLOCK
        starts = [last * index // (SAMPLE_BLOCKS - 1) for index in range(SAMPLE_BLOCKS)]
        ranges = [(start, start + SAMPLE_BLOCK) for start in starts]
    found: list[Buffer] = []
    at, begin = 0, 0  # the range that is being filled, and where the next source begins
    for source in sources:
        end = begin + source.size
        while at < len(ranges) and ranges[at][0] < end:
            low, high = max(ranges[at][0], begin), min(ranges[at][1], end)
            if low < high:
                found += source.read(low - begin, high - begin)
            if ranges[at][1] > end:
                break
            at += 1
        begin = end
    return b"".join(found)


def compress(buffers: Sequence[Buffer]) -> bytes:
    """One frame that holds the buffers after each other. Other threads run while it works."""
    return _compressor().compress(buffers[0] if len(buffers) == 1 else b"".join(buffers))


def decompress_into(frame: memoryview, target: memoryview, subject: str, part: str) -> None:
    """Decode one frame that fills `target` exactly. What the frame claims is checked before a byte is decoded.

    Raises:
        UnsafeArchiveError: it holds more or less than that, or is not one whole frame.
        IntegrityError: it cannot be decoded.
    """
    import zstandard

    try:
        claim = zstandard.get_frame_parameters(frame)
        if claim.content_size != len(target) or claim.dict_id:
            raise UnsafeArchiveError(
                subject, part, f"a frame claims {claim.content_size:,} bytes, the table {len(target):,}"
            )
        reader = _decompressor().stream_reader(frame, read_size=max(len(frame), 1), read_across_frames=True)
        filled = 0
        while filled < len(target) and (count := reader.readinto(target[filled:])):
            filled += count
        # Reading across frames, so that one that follows is seen: the system's zstd would unpack it too.
        if filled != len(target) or reader.read(1):
            raise UnsafeArchiveError(subject, part, "a frame does not hold what it claims")
    except zstandard.ZstdError as error:
        raise IntegrityError(subject, part, f"it cannot be decompressed ({error})") from error


def largest_frame(raw: int) -> int:
    """More than Zstandard needs for `raw` bytes that do not compress."""
    return raw + (raw >> 7) + 1024


def _compressor() -> zstandard.ZstdCompressor:
    if not hasattr(_local, "compressor"):
        import zstandard

        _local.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_local, "decompressor"):
        import zstandard

        _local.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 25)
    decompressor: zstandard.ZstdDecompressor = _local.decompressor
    return decompressor
