"""Writes docs/a-week.md: the journal of examples/a_week.py, on a clock that lets it take a week.

`python -m tests.week_page`
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

from modelstore import ModelStore

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "a-week.md"

INTRODUCTION = """\
# A week of 25 models

This is the journal that `examples/a_week.py` leaves behind: somebody looks for rare malignant tumours in
scikit-learn's breast cancer data, tries 25 models in five days, and writes down what came of them. It is what
`print(store.journal("tumours"))` shows; only the clock was set so that a week passes.

What it answers, months later:

```python
store.journal("tumours", text="oversampling")                # have we tried this?
store.journal("tumours", kind="next", open=True)             # what was to be done next?
store.leaderboard("tumours", "average precision", limit=3)   # what was best?
store.history("tumours", state="production")                 # what was in use, since when, and why?
store.compare("tumours", "01-linear", "15-linear-quantiles") # what is different about it?
```
"""


class Clock:
    """Nine in the morning of a Monday; every look takes some minutes."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 2, 9, 0, tzinfo=timezone.utc)

    def now(self) -> datetime:
        """The time, which passes by being asked for."""
        self.time += timedelta(minutes=4)
        return self.time

    def next_day(self) -> None:
        """Go home."""
        self.time = self.time.replace(hour=9, minute=0) + timedelta(days=1)


def example() -> Any:
    """The example, as a module."""
    spec = importlib.util.spec_from_file_location("a_week", ROOT / "examples" / "a_week.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def render() -> str:
    """The page."""
    clock, week = Clock(), example()
    with tempfile.TemporaryDirectory() as folder:
        store = ModelStore.from_file_system(folder, cache_directory=f"{folder}/cache")
        with (
            mock.patch("modelstore.registry.logs.now", clock.now),
            mock.patch("modelstore.registry.logs.user", return_value="ana"),
            mock.patch.object(store.storage, "clock", side_effect=lambda: clock.time),
        ):
            week.run(store, clock.next_day)
        journal = store.journal(week.DOMAIN).to_markdown()
    return INTRODUCTION + "\n" + re.sub("^#", "##", journal, flags=re.MULTILINE)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
