"""Two models or more side by side."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelstore.records import ModelRecord, to_plain
from modelstore.reports.changes import SECTIONS, Changes, changes, sections_of, short


@dataclass(frozen=True)
class FileDifference:
    """A file that is not the same in all models; a size of None means that the model has no such file."""

    name: str
    sizes: tuple[int | None, ...]
    """In bytes, in the order of the models."""


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that is not the same in the first model and in another one."""

    name: str
    file: str
    before: str | None
    """Type and shape, such as `F32 [128, 64]`; None where there is no such tensor."""
    after: str | None
    distance: float | None = None
    """The Euclidean distance between both, where types and shapes allow it."""
    relative: float | None = None
    """The distance over the length of the first one."""

    def __str__(self) -> str:
        if self.distance is None:
            return f"{self.name}: {self.before} → {self.after}"
        moved = "" if self.relative is None else f" ({self.relative:.1%})"
        return f"{self.name}: moved by {self.distance:.4g}{moved}"


@dataclass(frozen=True)
class Comparison:
    """What differs between models of a domain, the first of which the others are compared with."""

    records: tuple[ModelRecord, ...]
    files: tuple[FileDifference, ...] = ()
    tensors: Mapping[str, tuple[TensorDifference, ...]] = field(default_factory=dict)
    """By the id of each model after the first."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the models."""
        return tuple(str(record["model"]["model_id"]) for record in self.records)

    def changes(self, at: int = 1) -> Changes:
        """What differs between the records of the first model and of another one (the second)."""
        return changes(self.records[0], self.records[at])

    def table(self) -> dict[str, dict[str, tuple[Any, ...]]]:
        """By section and name, the value in each model; only what is not the same in all."""
        sections = [sections_of(record) for record in self.records]
        found: dict[str, dict[str, tuple[Any, ...]]] = {}
        for section in SECTIONS:
            names = sorted({name for each in sections for name in each[section]})
            for name in names:
                values = tuple(each[section].get(name) for each in sections)
                if any(value != values[0] for value in values):
                    found.setdefault(section, {})[name] = values
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "models": list(self.ids),
            "differences": {
                section: {name: list(values) for name, values in rows.items()} for section, rows in self.table().items()
            },
            "files": [{"name": each.name, "sizes": list(each.sizes)} for each in self.files],
            "tensors": {
                model_id: [dict(vars(tensor)) for tensor in tensors] for model_id, tensors in self.tensors.items()
            },
        }

    def to_json(self) -> str:
        """As a JSON text."""
        return json.dumps(to_plain(self.to_dict()), ensure_ascii=False, indent=1)

    def _rows(self) -> list[tuple[str, Sequence[str]]]:
        rows: list[tuple[str, Sequence[str]]] = []
        for section, values in self.table().items():
            rows.append((section, ()))
            rows += [(f"  {name}", [_cell(value) for value in found]) for name, found in values.items()]
        if self.files:
            rows.append(("files", ()))
            rows += [(f"  {each.name}", [_size(size) for size in each.sizes]) for each in self.files]
        return rows

    def __str__(self) -> str:
        lines = _aligned([("", self.ids), *self._rows()])
        for model_id, tensors in self.tensors.items():
            lines += ["", f"tensors of {model_id}, beside {self.ids[0]}", *(f"  {tensor}" for tensor in tensors)]
        return "\n".join(lines if len(lines) > 1 else [*lines, "no difference"])

    def _repr_html_(self) -> str:
        """The tables that a notebook shows."""
        head = "".join(f"<th>{html.escape(model_id)}</th>" for model_id in ("", *self.ids))
        body = ""
        for name, cells in self._rows():
            if not cells:
                body += f"<tr><th colspan='{len(self.ids) + 1}' style='text-align:left'>{html.escape(name)}</th></tr>"
            else:
                row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
                body += f"<tr><td>{html.escape(name.strip())}</td>{row}</tr>"
        tensors = "".join(
            f"<p>tensors of <code>{html.escape(model_id)}</code></p><ul>"
            + "".join(f"<li>{html.escape(str(tensor))}</li>" for tensor in found)
            + "</ul>"
            for model_id, found in self.tensors.items()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{tensors}"


def _cell(value: Any) -> str:
    return "–" if value is None else short(value)


def _size(size: int | None) -> str:
    return "–" if size is None else f"{size:,} bytes"


def _aligned(rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    count = max(len(cells) for _, cells in rows)
    first = max(len(name) for name, _ in rows)
    widths = [max((len(cells[at]) for _, cells in rows if len(cells) > at), default=0) for at in range(count)]
    return [
        "  ".join(
            [name.ljust(first), *(cell.ljust(width) for cell, width in zip(cells, widths, strict=False))]
        ).rstrip()
        for name, cells in rows
    ]
