"""The page of frameworks tells what the managers and their tests tell."""

from __future__ import annotations

from modelstore.managers.detection import BUILTIN, Managers, _load
from tests.managers.page import PAGE, read_tried, render


def test_the_page_is_up_to_date() -> None:
    """`docs/frameworks.md` is what `python -m tests.managers.page` writes."""
    assert PAGE.read_text(encoding="utf-8") == render()


def test_every_framework_was_tried() -> None:
    """Each manager has a kept contract with classes in it, but for those that store no framework's objects."""
    without_classes = {"model_file", "orbax", "python"}  # paths, and builtin objects
    managers = Managers(_load(path) for path in BUILTIN)
    tried = {name for name, kept in read_tried().items() if kept["classes"]}
    assert set(managers.by_name) - without_classes <= tried
