"""Makes `docs/frameworks.md` of what the managers say of themselves and of what their contracts have tried.

`python -m tests.managers.page` writes it; a test compares it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from modelstore.managers.base import SUBJECTS, Manager
from modelstore.managers.detection import BUILTIN, Managers, _load
from tests.managers.contract import TRIED

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"

INTRODUCTION = """\
# Frameworks

What modelstore stores, how, and what comes back. This page is made from the managers themselves and from their tests:
every class below was saved in one process and loaded in a fresh one, which had imported nothing, and class, parameters
and predictions were compared. *Pickle* says in how many of the cases tried some part of the model had to be pickled;
the record of a model names the files, and whether they may be loaded is [the reader's choice](getting-started.md).

`upload` finds the manager from the class of the object. `manager="…"` takes the name in the second column, which is
also `model_type.library` of the record. A framework that is not here can be added by
[a package of its own](plugins.md), any Python object goes in with `manager="python"`, any file or folder by its path.
"""


def render() -> str:
    """The page."""
    managers = Managers(_load(path) for path in BUILTIN)
    tried = read_tried()
    known = sorted(managers.by_name.values(), key=lambda manager: _title(manager).lower())
    rows = ["| library | manager | version | classes | format | pickle | predictions |", "| --- " * 7 + "|"]
    rows += [_row(manager, tried[manager.name]) for manager in known]
    sections = [_section(manager, tried[manager.name]) for manager in known]
    return "\n".join([INTRODUCTION, *rows, "", *sections]).rstrip() + "\n"


def read_tried() -> dict[str, dict[str, Any]]:
    """By manager, what its contracts have kept, joined: `versions`, and `classes` by full name."""
    joined: dict[str, dict[str, Any]] = defaultdict(lambda: {"versions": set(), "classes": {}})
    for file in sorted(TRIED.glob("*.json")):
        kept = json.loads(file.read_text(encoding="utf-8"))
        known = joined[kept["manager"]]
        known["versions"].add(kept["version"])
        for name, entry in kept["classes"].items():
            both = known["classes"].setdefault(name, {"cases": 0, "pickled": 0, "formats": []})
            both["cases"] += entry["cases"]
            both["pickled"] += entry["pickled"]
            both["formats"] = sorted({*both["formats"], *entry["formats"]})
    return joined


def _title(manager: Manager) -> str:
    return manager.title or manager.name


def _row(manager: Manager, tried: dict[str, Any]) -> str:
    classes = tried["classes"].values()
    formats = sorted({name for entry in classes for form in entry["formats"] for name in form.split(" + ")})
    cells = [
        f"[{_title(manager)}](#{_anchor(_title(manager))})",
        f"`{manager.name}`",
        ", ".join(sorted({version.partition(" ")[2].partition("+")[0] for version in tried["versions"]})),
        str(len(tried["classes"]) or ""),
        ", ".join(formats),
        _share(classes),
        manager.exactness,
    ]
    return "| " + " | ".join(cells) + " |"


def _anchor(title: str) -> str:
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return "-".join(kept.split())


def _share(classes: Any) -> str:
    cases, pickled = (sum(entry[name] for entry in classes) for name in ("cases", "pickled"))
    if not pickled:
        return "never"
    return "always" if pickled == cases else f"{pickled} of {cases} cases"


def _section(manager: Manager, tried: dict[str, Any]) -> str:
    further = [word for word in manager.keywords if word not in SUBJECTS]
    lines = [f"## {_title(manager)}", "", _sentence((type(manager).__doc__ or "").partition("\n")[0]), ""]
    if manager.extra:
        lines.append(f"- Install: `pip install 'modelstore[{manager.extra}]'`")
    if further or manager.options:
        words = [f"`{word}=`" for word in (*further, *manager.options)]
        lines.append(f"- `upload` also takes {', '.join(words)}")
    if manager.load_options:
        lines.append(f"- `load` also takes {', '.join(f'`{word}=`' for word in manager.load_options)}")
    lines.append(f"- `load` gives {manager.restores_as.rstrip('.')}")
    if manager.limits:
        lines += ["- Limits:", *(f"    - {_sentence(limit[0].upper() + limit[1:])}" for limit in manager.limits)]
    if tried["classes"]:
        lines += ["", f"<details><summary>Classes tried: {len(tried['classes'])}</summary>", ""]
        lines += [_class_line(name, entry) for name, entry in sorted(tried["classes"].items())]
        lines += ["", "</details>"]
    return "\n".join([*lines, ""])


def _class_line(name: str, entry: dict[str, Any]) -> str:
    share = _share([entry])
    pickle = "" if share == "never" else f", pickle: {share}"
    return f"- `{name}`: {', '.join(entry['formats'])}{pickle}"


def _sentence(text: str) -> str:
    return text.rstrip(".") + "."


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
