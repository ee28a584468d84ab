"""What a search gives: records, in order."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any, overload

from modelstore.exceptions import MissingDependencyError
from modelstore.records import ModelRecord
from modelstore.reports.changes import current, flat, short

_SHOWN = 50
_COLUMNS = ("domain", "model_id", "library", "type", "created", "user")


class SearchResults(Sequence[ModelRecord]):
    """The records that a search found, in its order; each is read when it is looked at.

    A notebook shows a table of the first 50; `to_pandas()` makes a frame of all.
    """

    def __init__(self, found: Sequence[tuple[str, int]], read: Callable[[str, int], ModelRecord]) -> None:
        self._found = found
        self._read = read

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, at: int) -> ModelRecord: ...

    @overload
    def __getitem__(self, at: slice) -> SearchResults: ...

    def __getitem__(self, at: int | slice) -> ModelRecord | SearchResults:
        if isinstance(at, slice):
            return SearchResults(self._found[at], self._read)
        return self._read(*self._found[at])

    @property
    def ids(self) -> list[str]:
        """The ids of the models, in order."""
        return [str(record["model"]["model_id"]) for record in self]

    def rows(self) -> list[dict[str, Any]]:
        """One flat mapping for each model: names as in a search's `where`, such as `metrics.auc`."""
        return [row_of(record) for record in self]

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, one row for each model, columns as in `rows`.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise MissingDependencyError("pandas", "to_pandas()", "pip install pandas") from error
        return pandas.DataFrame(self.rows(), columns=None if self else list(_COLUMNS))

    def __repr__(self) -> str:
        lines = [
            "  ".join(part for part in (row["model_id"], row["library"], row["created"], _metrics(row)) if part)
            for row in map(row_of, self[:10])
        ]
        more = [f"… and {len(self) - 10} more"] if len(self) > 10 else []
        return "\n".join([f"{len(self)} models", *lines, *more])

    def _repr_html_(self) -> str:
        """The table that a notebook shows."""
        rows = [row_of(record) for record in self[:_SHOWN]]
        further = sorted({name for row in rows for name in row if name.startswith(("metrics.", "tags."))})
        names = [*_COLUMNS, *further]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(row.get(name)))}</td>" for name in names) + "</tr>"
            for row in rows
        )
        more = f"<p>… and {len(self) - _SHOWN} more</p>" if len(self) > _SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def row_of(record: ModelRecord) -> dict[str, Any]:
    """A record as one flat mapping."""
    model, code = record["model"], record["code"]
    row: dict[str, Any] = {
        "domain": model["domain"],
        "model_id": model["model_id"],
        "library": model["model_type"]["library"],
        "type": model["model_type"].get("type"),
        "created": code.get("created"),
        "user": code.get("user"),
        "note": model.get("note"),
    }
    for section in ("metrics", "tags"):
        row |= {f"{section}.{name}": value for name, value in flat(current(record, section))}
    return row | {f"params.{name}": value for name, value in flat(model.get("parameters"))}


def _metrics(row: dict[str, Any]) -> str:
    found = [(name.partition(".")[2], value) for name, value in row.items() if name.startswith("metrics.")]
    return ", ".join(f"{name} {short(value)}" for name, value in found)


def _cell(value: Any) -> str:
    return "" if value is None else short(value)
