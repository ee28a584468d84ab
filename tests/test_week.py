"""The example of a week runs, and its journal tells what happened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skops")

from modelstore import ModelStore
from tests.week_page import PAGE, example


def test_the_week(tmp_path: Path) -> None:
    """25 models, each with what changed; the open question is the last one; the rollback is told with its reason."""
    week = example()
    store = ModelStore.from_file_system(tmp_path / "models", create_directory=True)
    week.run(store)
    journal = store.journal(week.DOMAIN)
    assert len(store.journal(week.DOMAIN, kind="upload")) == 25
    assert [entry.text for entry in store.journal(week.DOMAIN, kind="next", open=True)] == [
        "Ask the clinic for more malignant cases"
    ]
    assert "by a rollback: 300 trees answer too slowly" in str(journal)
    assert len(store.list_models(week.DOMAIN, "production")) == 1
    tried = store.journal(week.DOMAIN, text="oversampling")
    assert [entry.kind for entry in tried] == ["next", "tried"]
    assert store.load(week.DOMAIN, state="production").predict_proba(week.data()[1]).shape[1] == 2


def test_the_page_shows_that_week() -> None:
    """docs/a-week.md has a heading for each of five days and a line for each of 25 models."""
    text = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"^### 2026-", text, re.MULTILINE)) == 5
    assert len(re.findall(r"\*\*model\*\*", text)) == 25
