"""What differs between the records of two models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SECTIONS = ("class", "parameters", "metrics", "data", "dependencies", "code", "tags")
"""In the order in which they are shown."""

_ABSENT = object()
_CODE = ("runtime", "user", "git.repository", "git.branch", "git.sha", "git.local_changes")


@dataclass(frozen=True)
class Change:
    """One value that is another one, or is on one side only (None stands for absent)."""

    name: str
    """The path within its section, such as `kernel` or `features.shape`."""
    before: Any = None
    after: Any = None

    @property
    def delta(self) -> float | None:
        """By how much a number has grown; None of anything else."""
        numbers = [value for value in (self.before, self.after) if _is_number(value)]
        return self.after - self.before if len(numbers) == 2 else None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name} {short(self.after)} (new)"
        if self.after is None:
            return f"{self.name} {short(self.before)} (gone)"
        moved = "" if self.delta is None else f" ({signed(self.delta)})"
        return f"{self.name} {short(self.before)} → {short(self.after)}{moved}"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"name": self.name, "before": self.before, "after": self.after, "delta": self.delta}


@dataclass(frozen=True)
class Changes:
    """All that differs, by section; sections without a difference are left out."""

    sections: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sections)

    def __getitem__(self, section: str) -> tuple[Change, ...]:
        return self.sections.get(section, ())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {name: [change.to_dict() for change in changes] for name, changes in self.sections.items()}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """What differs between two records, metrics and tags that were added after the upload included."""
    old, new = sections_of(before), sections_of(after)
    found = {name: tuple(_differences(old[name], new[name])) for name in SECTIONS}
    return Changes({name: listed for name, listed in found.items() if listed})


def condensed(changed: Sequence[Change]) -> list[Change]:
    """Changes of parameters without what others tell: of a nested object, its own parameters or itself, not both."""
    whole = {change.name for change in changed if change.before is None or change.after is None}
    nested = {name for change in changed for name in _owners(change.name)}
    kept = []
    for change in changed:
        if any(owner in whole for owner in _owners(change.name)):
            continue  # it came or went with the object that it belongs to
        if change.name not in whole and (change.name in nested or _names_parts(change)):
            continue
        kept.append(change)
    return kept


def _owners(name: str) -> list[str]:
    """`a` and `a__b` of `a__b__c`: scikit-learn's names of nested parameters."""
    parts = name.split("__")
    return ["__".join(parts[:count]) for count in range(1, len(parts))]


def _names_parts(change: Change) -> bool:
    """Whether it is a list of named parts, such as a pipeline's `steps`, each of which is told by itself."""
    return any(
        isinstance(value, (list, tuple)) and bool(value) and all(isinstance(part, (list, tuple)) for part in value)
        for value in (change.before, change.after)
    )


def sections_of(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of a record that are compared, by section and path."""
    model, code = _mapping(record.get("model")), _mapping(record.get("code"))
    added = _mapping(record.get("added"))
    kind = _mapping(model.get("model_type"))
    # None stands for absent, and here it is a value like any other.
    parameters = {name: "None" if value is None else value for name, value in flat(model.get("parameters"))}
    if model.get("parameters_file"):
        parameters["(in a file)"] = model["parameters_file"]
    return {
        "class": {name: kind[name] for name in ("library", "type") if kind.get(name) is not None},
        "parameters": parameters,
        "metrics": current(record, "metrics"),
        "data": _data(_mapping(model.get("data"))),
        "dependencies": dict(flat(code.get("dependencies"))),
        "code": {name: value for name, value in flat(code) if name in _CODE},
        "tags": {**dict(flat(model.get("tags"))), **dict(flat(added.get("tags")))},
    }


def current(record: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The metrics or tags that a model has by now: as uploaded, with what was added since."""
    known = {
        **_mapping(_mapping(record.get("model")).get(section)),
        **_mapping(_mapping(record.get("added")).get(section)),
    }
    return {name: value for name, value in known.items() if value is not None}


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, by dotted path; lists are leaves."""
    if not isinstance(value, Mapping):
        if prefix:
            yield prefix, value
        return
    for name, part in value.items():
        yield from flat(part, f"{prefix}.{name}" if prefix else str(name))


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    """With the labels' shares in place of their counts, which differ whenever the number of rows does."""
    labels = _mapping(data.get("labels"))
    counts = {name: count for name, count in _mapping(labels.get("values")).items() if _is_number(count)}
    total = sum(counts.values())
    found = dict(flat({**data, "labels": {name: part for name, part in labels.items() if name != "values"}}))
    found |= {f"labels.share.{name}": round(count / total, 4) for name, count in counts.items() if total}
    return found


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before != after:
            yield Change(name, None if before is _ABSENT else before, None if after is _ABSENT else after)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def short(value: Any, limit: int = 60) -> str:
    """A value in a few characters."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def signed(number: float) -> str:
    """A number with its sign."""
    return f"{number:+.4g}"
