"""Every key in a store, built and parsed here and nowhere else::

    modelstore.json                                       the marker
    log/<segment>/<number>.json                           the store's log
    domains/<domain>/log/<segment>/<number>.json          a domain's log
    domains/<domain>/compact/<first>-<last>.ndjson.gz     joined events
    archives/<domain>/<model id>/<random>/artifacts.tar[.zst]

Keys are relative to the root of the store and are never paths of an operating system. A domain of None stands
for the store's own log.
"""

from __future__ import annotations

import numbers
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

from modelstore.exceptions import InvalidNameError

MARKER = "modelstore.json"
DOMAINS = "domains/"
ARCHIVES = "archives/"
ANCESTOR = "operatorai-model-store/"
"""Where the stores of operatorai/modelstore lie, below the same root; nothing here is ever written or deleted."""
SEGMENT = 64
"""Events in a segment; a full one gets compacted."""
BLOCK = SEGMENT * SEGMENT
"""Events in a block; the compacted segments of a full one get joined again."""
MAX_ENCODED = 200
"""Bytes of an encoded name: file systems end at 255 for one part of a path."""

_DIGITS = 12


def clean_name(what: str, name: object) -> str:
    """The normal form (NFC) of a name, as it stands in records.

    Raises:
        InvalidNameError: empty, not text, or too long once encoded.
    """
    if not isinstance(name, str):
        raise InvalidNameError(what, name, f"it is a {type(name).__name__}, not a text")
    name = unicodedata.normalize("NFC", name)
    if not name.strip():
        raise InvalidNameError(what, name, "it is empty")
    try:
        encoded = encode_name(name)
    except UnicodeEncodeError:
        raise InvalidNameError(what, name, "it cannot be written in UTF-8") from None
    if len(encoded) > MAX_ENCODED:
        raise InvalidNameError(
            what, name, f"it takes {len(encoded)} bytes in a key, and {MAX_ENCODED} are the most; shorten it"
        )
    return name


def clean_id(model_id: object) -> str:
    """The normal form of a model id; numbers and UUIDs stand for what they look like.

    Raises:
        InvalidNameError: as `clean_name`.
    """
    if isinstance(model_id, (numbers.Integral, uuid.UUID)):
        model_id = str(model_id)
    return clean_name("model id", model_id)


def encode_name(name: str) -> str:
    """A name as one part of a key: percent-encoded UTF-8.

    A dot at the start would hide a file and a dot at the end is lost on Windows, so both are encoded.
    """
    encoded = quote(name, safe="")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if encoded.endswith("."):
        encoded = encoded[:-1] + "%2E"
    return encoded


def decode_names(parts: Iterable[str]) -> Iterator[str]:
    """The names that these parts of keys are; what is no name as `encode_name` writes it is not ours."""
    for part in parts:
        name = unquote(part, errors="replace")
        if encode_name(name) == part:
            yield name


def base_prefix(domain: str | None) -> str:
    """Where all of a domain's log lies."""
    return "" if domain is None else f"{DOMAINS}{encode_name(domain)}/"


def segment_prefix(domain: str | None, number: int) -> str:
    """Where the events of the segment lie to which event `number` belongs."""
    return f"{base_prefix(domain)}log/{segment_start(number):0{_DIGITS}d}/"


def segment_start(number: int) -> int:
    """The first number of an event's segment."""
    return (number - 1) // SEGMENT * SEGMENT + 1


def event_key(domain: str | None, number: int) -> str:
    """The key of one event; numbers start from 1."""
    return f"{segment_prefix(domain, number)}{number:0{_DIGITS}d}.json"


def parse_event_key(key: str) -> int | None:
    """The number of the event that lies under this key; None for anything else."""
    name = key.rpartition("/")[2]
    digits, _, suffix = name.partition(".")
    return int(digits) if suffix == "json" and len(digits) == _DIGITS and digits.isdecimal() else None


def compact_prefix(domain: str | None) -> str:
    """Where a domain's joined events lie."""
    return f"{base_prefix(domain)}compact/"


def compact_key(domain: str | None, first: int, last: int) -> str:
    """The key of the joined events first…last, both included."""
    return f"{compact_prefix(domain)}{first:0{_DIGITS}d}-{last:0{_DIGITS}d}.ndjson.gz"


def parse_compact_key(key: str) -> tuple[int, int] | None:
    """The first and last event that a joined file holds; None for anything else."""
    name, _, suffix = key.rpartition("/")[2].partition(".")
    first, _, last = name.partition("-")
    if suffix != "ndjson.gz" or not (first.isdecimal() and last.isdecimal()):
        return None
    return int(first), int(last)


def archives_prefix(domain: str) -> str:
    """Where the archives of a domain's models lie."""
    return f"{ARCHIVES}{encode_name(domain)}/"


def archive_key(domain: str, model_id: str, random: str, suffix: str) -> str:
    """The key of one upload's archive. `random` makes it a key that nobody else writes to."""
    return f"{archives_prefix(domain)}{encode_name(model_id)}/{random}/artifacts{suffix}"
