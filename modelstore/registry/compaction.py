"""Joining full segments of a log into one object each, so that a fresh reader needs few requests.

A joined file holds the events as they are, one a line, as gzip; those of 64 full segments are joined once more, by
plain concatenation of their bytes. Joining deletes nothing and changes no meaning: any writer may do it, losing the
race is harmless, and a failure is tried again at the end of the next segment.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator

from modelstore.exceptions import ModelStoreError
from modelstore.registry import keys
from modelstore.registry.index import Index
from modelstore.storage.base import Storage

MAX_BLOCK_BYTES = 64 * 1024 * 1024
"""A block of larger joined files is left as it is: it would have to be made in memory."""

_logger = logging.getLogger("modelstore")


def compact(storage: Storage, index: Index, domain: str | None, upto: int) -> None:
    """Join the full segments among the events 1…upto that are not joined yet.

    Costs a listing, and a creation for each segment. Never raises what a storage raises.
    """
    try:
        spans = (keys.parse_compact_key(info.key) for info in storage.list(keys.compact_prefix(domain)))
        joined = {span for span in spans if span is not None}
        for first, last in _full(keys.SEGMENT, upto):
            block = (first - 1) // keys.BLOCK * keys.BLOCK + 1
            if (first, last) not in joined and (block, block + keys.BLOCK - 1) not in joined:
                storage.create(keys.compact_key(domain, first, last), _segment(index, domain, first, last))
        for first, last in _full(keys.BLOCK, upto):
            if (first, last) not in joined:
                _join_block(storage, domain, first, last)
    except ModelStoreError as error:
        _logger.debug("the log of %r is not compacted this time: %s", domain, error)


def _full(size: int, upto: int) -> Iterator[tuple[int, int]]:
    for first in range(1, upto - size + 2, size):
        yield first, first + size - 1


def _segment(index: Index, domain: str | None, first: int, last: int) -> bytes:
    lines = b"".join(index.event(domain, number) for number in range(first, last + 1))
    return gzip.compress(lines, compresslevel=6, mtime=0)  # mtime=0: whoever does it makes the same bytes


def _join_block(storage: Storage, domain: str | None, first: int, last: int) -> None:
    parts: list[bytes] = []
    for start in range(first, last + 1, keys.SEGMENT):
        parts.append(storage.read(keys.compact_key(domain, start, start + keys.SEGMENT - 1)))
        if sum(map(len, parts)) > MAX_BLOCK_BYTES:
            return
    storage.create(keys.compact_key(domain, first, last), b"".join(parts))
