"""The record of a model: all that is known about it, as plain JSON.

Its keys are those of `operatorai/modelstore` 0.0.82, with more beside them::

    model       domain, model_id, model_type {library, type, models}, parameters, data,
                metrics, tags, note, managers
    storage     type, root, path …, archive {key, size, digests, …}
    code        runtime, user, created (UTC, ISO 8601), dependencies, git
    extra       what the user gave as extra_metadata
    modelstore  the version that wrote it

Keys that this version does not know survive a round trip.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError

JSON = Any  # a value that json.dumps takes with allow_nan=False


class Section(dict[str, Any]):
    """A part of a record: a plain `dict` whose keys can be read as attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this record has no {name!r}; it has {', '.join(sorted(self))}") from None


class ModelRecord(Section):
    """What `upload` and `get_model_info` return.

    It is a `dict` (`json.dumps` takes it, `==` compares it) with attributes: `record.model_id` is
    `record["model"]["model_id"]`, and likewise for every key of the `model` section.
    """

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelRecord:
        """Wrap plain JSON; keys that are not known are kept."""
        return cls({key: _wrap(value) for key, value in data.items()})

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        model = self.get("model", {})
        if name in model:
            return model[name]
        raise AttributeError(f"this record has no {name!r}; it has {', '.join(sorted({*self, *model}))}")

    @property
    def library(self) -> str:
        """The name of the library whose manager stored the model, such as `sklearn`."""
        return str(self["model"]["model_type"]["library"])

    @property
    def created(self) -> datetime:
        """When the upload was committed, in UTC."""
        return parse_time(self["code"]["created"])

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self, *self.get("model", {})})

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelRecord.from_dict, (to_plain(self),)

    def _repr_html_(self) -> str:
        """The table that a notebook shows."""
        model = self["model"]
        kind = model["model_type"]
        rows: dict[str, Any] = {
            "domain": model["domain"],
            "model id": model["model_id"],
            "library": kind["library"],
            "class": kind.get("type"),
            "created": self["code"]["created"],
            "by": self["code"].get("user"),
            **{f"metric {name}": value for name, value in (model.get("metrics") or {}).items()},
            **{f"tag {name}": value for name, value in (model.get("tags") or {}).items()},
            "note": model.get("note"),
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in rows.items()
            if value is not None
        )
        return f"<table>{cells}</table>"


def check_record(record: Any, subject: str) -> Mapping[str, Any]:
    """A record from a log, once it is seen to have the shape that all here rely on; its values may be anything.

    Raises:
        IntegrityError: it has not.
    """
    model = _part(record, "model", subject)
    _part(record, "code", subject)
    kind = _part(model, "model_type", subject)
    texts = ((model, "domain"), (model, "model_id"), (kind, "library"))
    wrong = [name for section, name in texts if not isinstance(section.get(name), str)]
    wrong += [name for name in ("metrics", "tags") if not isinstance(model.get(name), (Mapping, type(None)))]
    wrong += [] if isinstance(model.get("managers", []), list) else ["managers"]
    if wrong:
        raise IntegrityError(subject, "record", f"its {wrong[0]} cannot be read")
    return dict(record)


def _part(section: Any, name: str, subject: str) -> Mapping[str, Any]:
    part = section.get(name) if isinstance(section, Mapping) else None
    if not isinstance(part, Mapping):
        raise IntegrityError(subject, "record", f"it has no {name}")
    return part


def _wrap(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Section({key: _wrap(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return [_wrap(item) for item in value]
    return value


def to_plain(value: Any) -> Any:
    """The same JSON as builtin dicts and lists."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def encode_json(value: Any) -> bytes:
    """One line of UTF-8 JSON: no spaces, keys in their order, no NaN.

    Raises:
        TypeError, ValueError: the value is not JSON.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def json_safe(value: Any, *, depth: int = 12) -> JSON:
    """The nearest JSON of any value, without importing what it comes from. Never raises.

    Numbers of numpy become numbers, arrays become lists, what JSON has no word for (NaN, infinity, objects)
    becomes text. Below `depth` levels, text stands for the rest.
    """
    if type(value) is str:
        return value if value.isascii() else _text(value)
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, float):
        number = float(value)
        return number if math.isfinite(number) else repr(number)
    if depth == 0:
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(key): json_safe(item, depth=depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item, depth=depth - 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((json_safe(item, depth=depth - 1) for item in value), key=repr)
    if isinstance(value, datetime):
        return format_time(value) if value.tzinfo else value.isoformat()
    for convert in ("tolist", "item"):  # numpy's and pandas' own way to builtin values
        method = getattr(value, convert, None)
        if callable(method) and not isinstance(value, type):
            try:
                return json_safe(method(), depth=depth - 1)
            except Exception:
                break
    return _text(value)


def _text(value: Any) -> str:
    try:
        if isinstance(value, str):
            text = str(value)
        elif isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            text = f"{value.__module__}.{value.__qualname__}"
        else:
            text = str(value)[:1000]
        return text.encode("utf-8", "replace").decode()  # half characters, as in names that are not UTF-8
    except Exception:
        return f"<{type(value).__name__}>"


def now() -> datetime:
    """This machine's time, in UTC."""
    return datetime.now(timezone.utc)


def format_time(time: datetime) -> str:
    """UTC, ISO 8601, microseconds, `Z`: such texts sort as the times do. `parse_time(format_time(t)) == t`."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def check_time(text: Any, otherwise: str) -> str:
    """A time that a record gives, or another one where it is none."""
    try:
        parse_time(text)
    except (ValueError, TypeError, AttributeError):
        return otherwise
    return str(text)


def time_text(argument: str, value: datetime | str | None) -> str | None:
    """A time that a caller gave, as `format_time` writes it; without a zone it is UTC. None stays None.

    Raises:
        InvalidArgumentError: it is no time; `argument` is its name.
    """
    if value is None:
        return None
    try:
        time = value if isinstance(value, datetime) else parse_time(value)
        return format_time(time if time.tzinfo else time.replace(tzinfo=timezone.utc))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InvalidArgumentError(argument, f"{argument}={value!r} is no time such as '2026-03-01T12:00Z'") from error


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`; takes any ISO 8601 time, one without a zone being UTC.

    Raises:
        ValueError: not a time.
    """
    time = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
