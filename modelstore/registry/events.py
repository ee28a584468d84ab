"""One event of a log: a line of JSON, numbered, chained to the one before by its digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from modelstore.exceptions import IntegrityError, NewerFormatError, RecordTooLargeError
from modelstore.records import encode_json, parse_time

MAX_BYTES = 256 * 1024
"""The most that one event takes, its line end included."""

_RESERVED = 8 * 1024
"""More than an upload's event takes beside its record: names, keys and digests."""

UPLOADED = "uploaded"
ADOPTED = "adopted"
DELETED = "deleted"
RETIRED = "retired"
RESTORED = "restored"
PINNED = "pinned"
NOTED = "noted"
DESCRIBED = "described"
STATE_SET = "state-set"
STATE_REMOVED = "state-removed"
STATE_CREATED = "state-created"
STATE_DELETED = "state-deleted"
DOMAIN_DELETED = "domain-deleted"
COPIED = "copied"
CONDEMNED = "condemned"
VOID = "void"

KNOWN = frozenset(
    {
        *(UPLOADED, ADOPTED, DELETED, RETIRED, RESTORED, PINNED, NOTED, DESCRIBED, COPIED, CONDEMNED, VOID),
        *(STATE_SET, STATE_REMOVED, STATE_CREATED, STATE_DELETED, DOMAIN_DELETED),
    }
)

NOT_CRITICAL = frozenset({NOTED, DESCRIBED, COPIED, DOMAIN_DELETED})
"""Kinds that a reader who does not know them may pass over: they change no model, and no state."""

FIRST_PREVIOUS = "0" * 64
"""What stands as the digest before the first event."""


@dataclass(frozen=True)
class Event:
    """What happened, as number `number` of the log of `domain` (None: the store's own)."""

    domain: str | None
    number: int
    kind: str
    time: str
    user: str
    mark: str
    """Random text of the writer, by which it knows its own event again."""
    previous: str
    """SHA-256 of the event before, in hexadecimal digits."""
    body: dict[str, Any] = field(default_factory=dict)
    critical: bool = True
    """Whether a reader that does not know this kind must stop."""

    def encode(self) -> bytes:
        """The event as it is stored.

        Raises:
            RecordTooLargeError: over 256 KiB.
        """
        line = encode_json(
            {
                "domain": self.domain,
                "number": self.number,
                "kind": self.kind,
                "critical": self.critical,
                "time": self.time,
                "user": self.user,
                "mark": self.mark,
                "previous": self.previous,
                "body": self.body,
            }
        )
        sealed = seal(line)
        if len(sealed) > MAX_BYTES:
            raise RecordTooLargeError(len(sealed), MAX_BYTES, _largest(self.body))
        return sealed


def check_size(record: dict[str, Any]) -> None:
    """Refuse a record that no event can hold, before its archive is written.

    Raises:
        RecordTooLargeError: it is.
    """
    size = len(encode_json(record))
    if size > MAX_BYTES - _RESERVED:
        raise RecordTooLargeError(size, MAX_BYTES - _RESERVED, _largest({"record": record}))


def seal(line: bytes) -> bytes:
    """A JSON object with the SHA-256 of its bytes as its last key `sha256`, and a line end.

    The chain shows damage to every event but the last; this shows it there too.
    """
    return line[:-1] + _SEAL % hashlib.sha256(line).hexdigest().encode()


def _is_sealed(raw: bytes) -> bool:
    return raw == seal(raw[:-_SEAL_LENGTH] + b"}")


_SEAL = b',"sha256":"%s"}\n'
_SEAL_LENGTH = len(_SEAL % bytes(64))


def parse_event(raw: bytes, domain: str | None, number: int, previous: str | None) -> Event:
    """The event in `raw`, which is to be number `number` of this log and follow the digest `previous`
    (None: whatever it follows; it was checked before).

    Raises:
        IntegrityError: it is not an event, or one of another place.
        NewerFormatError: a critical kind that this version does not know.
    """
    subject = f"event {number} of {'the store' if domain is None else repr(domain)}"
    try:
        data = json.loads(raw)
        event = Event(
            domain=data["domain"],
            number=data["number"],
            kind=data["kind"],
            critical=data["critical"],
            time=data["time"],
            user=data["user"],
            mark=data["mark"],
            previous=data["previous"],
            body=data["body"],
        )
        well_formed = isinstance(data["body"], dict) and all(
            isinstance(data[key], str) for key in ("kind", "mark", "time")
        )
        if well_formed:
            parse_time(event.time)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(subject, "event", f"it cannot be read: {error!r}") from error
    if not _is_sealed(raw):
        raise IntegrityError(subject, "event", "its bytes are not those that its digest was made of")
    if not well_formed:
        raise IntegrityError(subject, "event", "its fields are not of the right types")
    if (event.domain, event.number) != (domain, number):
        raise IntegrityError(subject, "event", f"it says that it is number {event.number} of {event.domain!r}")
    if previous is not None and event.previous != previous:
        raise IntegrityError(subject, "chain", f"it follows {event.previous!r}, but the event before is {previous!r}")
    if event.critical and event.kind not in KNOWN:
        raise NewerFormatError(subject, "event", f"an event of kind {event.kind!r}")
    return event


def digest(raw: bytes) -> str:
    """The SHA-256 of an event as it is stored."""
    return hashlib.sha256(raw).hexdigest()


def _largest(body: dict[str, Any]) -> str:
    """The dotted path of the largest part, found by going down the largest value at each level."""
    path: list[str] = []
    value: Any = body
    while isinstance(value, dict) and value and len(path) < 4:
        name = max(value, key=lambda item: len(encode_json(value[item])))
        if path and len(encode_json(value[name])) * 2 < len(encode_json(value)):
            break
        path.append(str(name))
        value = value[name]
    return ".".join(path)
