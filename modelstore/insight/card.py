"""The model card: the README.md that lies in every archive, for whoever finds the files without this library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_MAX_ROWS = 40
_MAX_CELL = 200  # characters
_MARKUP = re.compile(r"([\\`*\[\]<>|~#]|(?<!\w)_|_(?!\w))")


def model_card(record: Mapping[str, Any]) -> str:
    """Markdown: what the model is, how good, made from what, and how to load it with and without modelstore.

    Args:
        record: a model's record; what it lacks or holds in another shape is left out.
    """
    model = _section(record, "model")
    code = _section(record, "code")
    managers = _sections(model, "managers")
    blocks = [
        f"# {_text(model.get('domain') or 'A model')}",
        _about(model, code, managers, record),
        _quote(model.get("note")),
        _table("Metrics", ("metric", "value"), _section(model, "metrics")),
        _table("Tags", ("tag", "value"), _section(model, "tags")),
        _table("Training data", ("what", "value"), dict(_flat(_section(model, "data")))),
        _parameters(model),
        _table("Made with", ("package", "version"), _section(code, "dependencies")),
        _loading(model),
        _files(managers),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _about(
    model: Mapping[str, Any], code: Mapping[str, Any], managers: list[Mapping[str, Any]], record: Mapping[str, Any]
) -> str:
    kind = _section(model, "model_type")
    parts = [part for part in _sections(kind, "models") or [kind] if part.get("library")]
    what = " and ".join(f"{_text(part.get('type') or 'model')} ({_text(part['library'])})" for part in parts)
    classes = {name: cls for entry in managers for name, cls in _section(entry, "objects").items()}
    git = _section(code, "git")
    rows = {
        "model id": model.get("model_id"),
        **{f"class of {name}": str(cls).replace(":", ".") for name, cls in classes.items()},
        "created": code.get("created"),
        "by": code.get("user"),
        "runtime": code.get("runtime"),
        "repository": git.get("repository"),
        "branch": git.get("branch"),
        "commit": git.get("sha") and f"{git['sha']}{', with local changes' if git.get('local_changes') else ''}",
        "stored by": record.get("modelstore") and f"modelstore {record['modelstore']}",
    }
    known = {name: value for name, value in rows.items() if value not in (None, "")}
    return "\n\n".join(
        [f"A trained model: {what or 'of a kind that is not recorded'}.", _rows(("what", "value"), known)]
    )


def _parameters(model: Mapping[str, Any]) -> str:
    if model.get("parameters_file"):
        return f"## Parameters\n\nThey are in `{_text(model['parameters_file'])}`."
    return _table("Parameters", ("parameter", "value"), dict(_flat(_section(model, "parameters"))))


def _loading(model: Mapping[str, Any]) -> str:
    name = f"{str(model.get('domain'))!r}, {str(model.get('model_id'))!r}"
    lines = (
        "from modelstore import ModelStore\n\n"
        'store = ModelStore.from_file_system(root_directory="...")  # or wherever the store is\n'
        f"model = store.load({name})\n"
        f'files = store.download("models", {name})  # the files alone'
    )
    # A fence has to be longer than every run of backticks in it.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", lines)), default=0))
    return f"## Loading it\n\n{fence}python\n{lines}\n{fence}"


def _files(managers: list[Mapping[str, Any]]) -> str:
    lines = [
        "## Without modelstore",
        "The archive is a tarball that `tar -xf` unpacks (one that ends in `.tar.zst` needs `zstd`). In it:",
    ]
    items = []
    pickled: list[str] = []
    for entry in managers:
        place = f"in {_text(entry['folder'])}/" if entry.get("folder") else "beside this file"
        items.append(f"- the model's own files, {place}: {_text(entry.get('format'))}, by {_text(entry.get('name'))}")
        prefix = f"{entry['folder']}/" if entry.get("folder") else ""
        names = entry.get("pickled")
        pickled += [f"{prefix}{name}" for name in names] if isinstance(names, list) else []
    items += [
        "- `requirements.txt`: the packages, with versions, that loading takes (`pip install -r requirements.txt`)",
        "- `modelstore.json`: all that is recorded of the model, as JSON",
        "- `extras/`: files that were uploaded with it, if any",
    ]
    lines.append("\n".join(items))
    if pickled:
        names = ", ".join(_text(name) for name in pickled[:_MAX_ROWS])
        lines.append(f"Pickles, which can run code when they are opened, are: {names}.")
    return "\n\n".join(lines)


def _quote(note: Any) -> str:
    return "\n".join(f"> {_text(line, limit=None)}" for line in str(note).splitlines()) if note else ""


def _table(title: str, head: tuple[str, str], values: Mapping[str, Any]) -> str:
    return f"## {title}\n\n{_rows(head, values)}" if values else ""


def _rows(head: tuple[str, str], values: Mapping[str, Any]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    shown = list(values.items())[:_MAX_ROWS]
    lines += [f"| {_text(name)} | {_text(value)} |" for name, value in shown]
    table = "\n".join(lines)
    rest = len(values) - len(shown)
    return f"{table}\n\n{rest} more are in `modelstore.json`." if rest else table


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    """Nested mappings as one, with dots between the names."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _section(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _sections(record: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = record.get(name)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, (list, tuple)) else []


def _text(value: Any, limit: int | None = _MAX_CELL) -> str:
    """A value in one line that Markdown shows as it is: no markup, no link, no second column."""
    if not isinstance(value, str):
        try:
            value = json.dumps(value, ensure_ascii=False, default=str)
        except Exception:
            value = f"<{type(value).__name__}>"
    value = " ".join(value.split())
    if limit is not None and len(value) > limit:
        value = value[: limit - 1] + "…"
    return _MARKUP.sub(r"\\\1", value)
