"""The journal of a domain: what was tried, what came of it, what is to be done next."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from modelstore.records import ModelRecord
from modelstore.registry.history import Entry
from modelstore.reports.changes import Changes, condensed, current, short, signed

_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")
_FEW = 6
"""How many changes of a section are shown."""

_WORDS = {
    "deleted": "deleted", "retired": "deleted", "restored": "restored", "described": "more is known",
    "pinned": "pinned", "state-removed": "taken out of",
}  # fmt: skip


@dataclass(frozen=True)
class JournalEntry:
    """One thing that happened."""

    event: Entry
    record: ModelRecord | None = None
    """Of an upload, the model's record."""
    since: str | None = None
    """Of an upload, the id of the model that it is compared with: its parent, else the upload before."""
    changes: Changes | None = None
    """What changed since that one."""
    open: bool = False
    """Of a note, whether no other note answers it yet."""

    @property
    def kind(self) -> str:
        """`upload`, a note's own kind (`idea`, `tried`, `worked`, `failed`, `decision`, `next`, `note`), or the
        event's.
        """
        if self.event.kind == "uploaded":
            return "upload"
        return str(self.event.details.get("kind", "note")) if self.event.kind == "noted" else self.event.kind

    @property
    def id(self) -> int:
        """The number of the event; of a note, what `note(answers=…)` takes."""
        return self.event.number

    @property
    def text(self) -> str:
        """What somebody wrote: a note, the note of an upload, a reason."""
        if self.event.kind == "noted":
            return str(self.event.details.get("text", ""))
        if self.event.kind == "imported":
            return str(self.event.details.get("text") or self.event.reason or "")
        if self.record is not None:
            return str(self.record["model"].get("note") or "")
        return self.event.reason or ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "id": self.id,
            "time": self.event.time.isoformat(),
            "user": self.event.user,
            "kind": self.kind,
            "model_id": self.event.model_id,
            "state": self.event.state,
            "text": self.text,
            "open": self.open,
            "since": self.since,
            "changes": None if self.changes is None else self.changes.to_dict(),
            "details": self.event.details,
        }

    def lines(self) -> tuple[str, list[str]]:
        """What is to be read, as Markdown: the thing itself, and more about it."""
        if self.record is not None:
            return self._upload(self.record)
        event, model = self.event, f"`{self.event.model_id}`" if self.event.model_id else ""
        if event.kind == "noted":
            answers = event.details.get("answers")
            about = f" about {model}" if model else ""
            about += f", answers {answers}" if answers is not None else ""
            still = " (open)" if self.open and self.kind == "next" else ""
            return f"*{self.kind}* {self.id}{about}: {_escape(self.text)}{still}", []
        if event.kind == "state-set":
            how = " by a rollback" if event.details.get("rollback") else ""
            head = f"{model} is now in **{_escape(event.state or 'a state')}**{how}"
        elif event.kind == "described":
            values = {**(event.details.get("metrics") or {}), **(event.details.get("tags") or {})}
            told = ", ".join(
                f"{_escape(name)} {'taken away' if value is None else _escape(short(value))}"
                for name, value in values.items()
            )
            return f"{model}: {told}", []
        elif event.kind == "retired":
            head = f"deleted {', '.join(f'`{each}`' for each in event.details.get('models', ()))}"
        elif event.kind == "imported":
            told = " ".join(str(event.details[name]) for name in ("event", "state") if event.details.get(name))
            head = f"{model} where it was before ({_escape(str(event.details.get('domain')))}): {_escape(told)}"
        elif event.kind == "copied":
            head = f"{model} copied to {_escape(_place(event.details.get('to')))}"
        else:
            word = "unpinned" if event.details.get("pinned") is False else _WORDS.get(event.kind, event.kind)
            head = f"{model} {word}" + (f" **{_escape(event.state)}**" if event.state else "")
        return f"{head}: {_escape(self.text)}" if self.text else head, []

    def _upload(self, record: ModelRecord) -> tuple[str, list[str]]:
        kind = record["model"]["model_type"]
        head = f"**model** `{self.event.model_id}`: {_escape(kind.get('type') or 'model')} ({_escape(kind['library'])})"
        deltas = {change.name: change.delta for change in (self.changes["metrics"] if self.changes else ())}
        metrics = []
        for name, value in current(record, "metrics").items():
            delta = deltas.get(name)
            metrics.append(f"{_escape(name)} {short(value)}" + ("" if delta is None else f" ({signed(delta)})"))
        if metrics:
            head += f", {', '.join(metrics)}"
        more = [_escape(self.text)] if self.text else []
        for came, words in (("imported", "imported from a file of"), ("copied", "copied from")):
            if came in self.event.details:
                more.append(f"{words} {_escape(_place(self.event.details[came]))}")
        if self.changes is not None and self.since is not None:
            more.append(f"since `{self.since}`: {self._what_changed(self.changes)}")
        return head, more

    @staticmethod
    def _what_changed(changes: Changes) -> str:
        parts = []
        for section in ("class", "parameters", "data", "dependencies", "code", "tags"):
            told = condensed(changes[section]) if section == "parameters" else changes[section]
            # Of another class, all parameters are others.
            if told and not (section == "parameters" and changes["class"]):
                parts.append(f"{section}: {_few(told)}")
        return "; ".join(parts) or "nothing but the model itself"


def _place(place: Any) -> str:
    """Where a model came from or went to."""
    if not isinstance(place, Mapping):
        return "another store"
    where = place.get("address") or f"store {place.get('store')}"
    return f"{place.get('domain')}/{place.get('model_id')} in {where}"


def _few(changes: Sequence[Any]) -> str:
    shown = ", ".join(_escape(str(change)) for change in changes[:_FEW])
    return f"{shown} and {len(changes) - _FEW} more" if len(changes) > _FEW else shown


def _escape(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


class Journal(Sequence[JournalEntry]):
    """What happened in a domain, oldest first. `print` shows it as Markdown, a notebook as HTML."""

    def __init__(self, domain: str, entries: Sequence[JournalEntry]) -> None:
        self.domain = domain
        self._entries = tuple(entries)

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, at: int) -> JournalEntry: ...

    @overload
    def __getitem__(self, at: slice) -> Journal: ...

    def __getitem__(self, at: int | slice) -> JournalEntry | Journal:
        return Journal(self.domain, self._entries[at]) if isinstance(at, slice) else self._entries[at]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"domain": self.domain, "entries": [entry.to_dict() for entry in self]}

    def to_markdown(self) -> str:
        """A page with a heading for each day."""
        blocks = [f"# Journal of {_escape(self.domain)}"]
        for day, entries in self._days():
            lines = [f"## {day}", ""]
            for entry in entries:
                head, more = entry.lines()
                lines.append(f"- {entry.event.time:%H:%M} {head}")
                lines += [f"    - {line}" for line in more]
            blocks.append("\n".join(lines))
        return "\n\n".join(blocks) + "\n"

    def to_html(self) -> str:
        """The same as HTML, without style."""
        parts = [f"<h1>Journal of {html.escape(self.domain)}</h1>"]
        for day, entries in self._days():
            items = ""
            for entry in entries:
                head, more = entry.lines()
                inner = "".join(f"<li>{_html(line)}</li>" for line in more)
                items += f"<li>{entry.event.time:%H:%M} {_html(head)}{f'<ul>{inner}</ul>' if inner else ''}</li>"
            parts.append(f"<h2>{day}</h2><ul>{items}</ul>")
        return "\n".join(parts)

    def _days(self) -> Iterator[tuple[str, list[JournalEntry]]]:
        days: dict[str, list[JournalEntry]] = {}
        for entry in self._entries:
            days.setdefault(f"{entry.event.time:%Y-%m-%d}", []).append(entry)
        yield from days.items()

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return f"<Journal of {self.domain!r}: {len(self)} entries>"

    def _repr_html_(self) -> str:
        return self.to_html()


_INLINE = re.compile(r"\\(.)|\*\*(.+?)\*\*|\*(.+?)\*|`([^`]*)`")


def _html(markdown: str) -> str:
    """The little Markdown that is written above, as HTML."""
    out, at = [], 0
    for match in _INLINE.finditer(markdown):
        out.append(html.escape(markdown[at : match.start()]))
        plain, bold, italic, code = match.groups()
        if plain is not None:
            out.append(html.escape(plain))
        elif bold is not None:
            out.append(f"<b>{_html(bold)}</b>")
        elif italic is not None:
            out.append(f"<i>{_html(italic)}</i>")
        else:
            out.append(f"<code>{html.escape(code)}</code>")
        at = match.end()
    return "".join([*out, html.escape(markdown[at:])])
