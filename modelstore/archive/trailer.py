"""The end of an archive: one block that says where the table lies, then the end of the tar.

It has a fixed length, so that one read of the last bytes finds the table. In a compressed archive it is a
frame made by hand whose one block is stored as it is: a compressor would make it of any length.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from modelstore.archive.info import NONE, ZSTD
from modelstore.archive.table import BLOCK, VERSION
from modelstore.exceptions import IntegrityError, NewerFormatError

_MAGIC = b"mstoretl"
_FIELDS = struct.Struct("<8sHBBIQQQ32s")  # magic, version, compression, 0, 0, table start, stored, raw, its digest
_DIGEST = 32
_CODES = {NONE: 0, ZSTD: 1}
_NAMES = {code: name for name, code in _CODES.items()}

PLAIN_TAIL = 3 * BLOCK  # the trailer and the two blocks of zeros that end a tar
# RFC 8878: magic; one segment with 2 bytes of content size, which counts from 256; a last, raw block.
_FRAME = b"\x28\xb5\x2f\xfd\x60" + struct.pack("<H", PLAIN_TAIL - 256) + (PLAIN_TAIL << 3 | 1).to_bytes(3, "little")
TAILS = {NONE: PLAIN_TAIL, ZSTD: len(_FRAME) + PLAIN_TAIL}
"""Length of everything after the table's stored bytes."""
LONGEST_TAIL = max(TAILS.values())


@dataclass(frozen=True)
class Trailer:
    """Where the table's stored bytes are, how long they are stored and as part of the tar, and their SHA-256."""

    compression: str
    start: int
    stored: int
    raw: int
    digest: bytes

    def tail(self) -> bytes:
        """The last bytes of the stored object, `TAILS[compression]` of them."""
        fields = (_MAGIC, VERSION, _CODES[self.compression], 0, 0, self.start, self.stored, self.raw, self.digest)
        block = _FIELDS.pack(*fields)
        block += bytes(BLOCK - _DIGEST - len(block))
        plain = block + hashlib.sha256(block).digest() + bytes(2 * BLOCK)
        return plain if self.compression == NONE else _FRAME + plain


def find_trailer(end: bytes | memoryview, subject: str) -> Trailer:
    """Read the trailer from the last bytes of a stored object, at least `LONGEST_TAIL` of them if it has as many.

    Raises:
        NewerFormatError: a later version wrote it.
        IntegrityError: there is none, or one of its bytes is not what was written.
    """
    plain = bytes(end[-PLAIN_TAIL:])
    block = plain[:BLOCK]
    if len(plain) < PLAIN_TAIL or not block.startswith(_MAGIC):
        raise IntegrityError(subject, "trailer", "it does not end as an archive does: cut short, or something else")
    if hashlib.sha256(block[:-_DIGEST]).digest() != block[-_DIGEST:]:
        raise IntegrityError(subject, "trailer", "its digest is not that of its bytes")
    _, version, code, _, _, start, stored, raw, digest = _FIELDS.unpack_from(block)
    if version > VERSION:
        raise NewerFormatError(subject, "trailer", f"archive version {version}")
    if code not in _NAMES:
        raise IntegrityError(subject, "trailer", f"there is no compression {code}")
    trailer = Trailer(_NAMES[code], start, stored, raw, digest)
    tail = trailer.tail()
    if bytes(end[-len(tail) :]) != tail:
        raise IntegrityError(subject, "trailer", "the end of the archive is not what was written")
    return trailer
