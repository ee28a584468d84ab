"""The model card reads well, and shows what users wrote as they wrote it."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from modelstore.insight.card import model_card
from modelstore.records import ModelRecord


def record(**changes: Any) -> dict[str, Any]:
    """A record as an upload makes it, with changes to its model section."""
    model = {
        "domain": "fraud",
        "model_id": "0123",
        "model_type": {"library": "sklearn", "type": "LogisticRegression", "models": None},
        "parameters": {"C": 1.0, "solver": "lbfgs", "nested": {"deep": [1, 2]}},
        "data": {"features": {"shape": [3, 4]}, "labels": {"shape": [3], "values": {"0": 1, "1": 2}}},
        "metrics": {"auc": 0.93},
        "tags": {"team": "fincrime"},
        "note": "SMOTE: recall up",
        "managers": [
            {
                "name": "sklearn",
                "folder": "",
                "objects": {"model": "sklearn.linear_model._logistic:LogisticRegression"},
                "format": "skops",
                "state": {},
                "pickled": [],
            }
        ],
    }
    code = {
        "runtime": "python:3.11.7",
        "user": "ada",
        "dependencies": {"numpy": "2.0.1"},
        "git": {"repository": "churn", "sha": "abc123", "local_changes": True, "branch": "main"},
    }
    return ModelRecord.from_dict({"model": {**model, **changes}, "code": code, "extra": None, "modelstore": "1.2"})


def rows(card: str) -> dict[str, str]:
    """All two-column rows of the card's tables, unescaped as Markdown does."""
    found = re.findall(r"(?m)^\| (.*?) (?<!\\)\| (.*) \|$", card)
    return {_plain(name): _plain(value) for name, value in found}


def _plain(text: str) -> str:
    return re.sub(r"\\([^\w\s])|\\(_)", r"\1\2", text)


def test_the_card_says_what_the_record_does() -> None:
    """Title, class, library, origin, note, metrics, tags, data, parameters and packages all stand in it."""
    card = model_card(record())
    assert card.startswith("# fraud\n\nA trained model: LogisticRegression (sklearn).\n")
    assert "> SMOTE: recall up" in card
    assert rows(card) == {
        **{"what": "value", "---": "---", "metric": "value", "tag": "value", "parameter": "value"},
        **{"package": "version", "model id": "0123", "by": "ada", "runtime": "python:3.11.7", "branch": "main"},
        "class of model": "sklearn.linear_model._logistic.LogisticRegression",
        "repository": "churn",
        "commit": "abc123, with local changes",
        "stored by": "modelstore 1.2",
        "auc": "0.93",
        "team": "fincrime",
        "features.shape": "[3, 4]",
        "labels.shape": "[3]",
        "labels.values.0": "1",
        "labels.values.1": "2",
        "C": "1.0",
        "solver": "lbfgs",
        "nested.deep": "[1, 2]",
        "numpy": "2.0.1",
    }
    assert 'store.load("fraud", "0123")'.replace('"', "'") in card
    assert "skops, by sklearn" in card
    assert "Pickles" not in card


def test_several_managers() -> None:
    """Of several objects every library, folder, format and pickle is named."""
    managers = [
        {"name": "shap", "folder": "shap", "objects": {"explainer": "shap:Tree"}, "format": "pickle", "pickled": ["e"]},
        {"name": "sklearn", "folder": "sklearn", "objects": {"model": "sklearn:A"}, "format": "skops", "pickled": []},
    ]
    kinds = [{"library": "shap", "type": "Tree", "models": None}, {"library": "sklearn", "type": "A", "models": None}]
    kind = {"library": "multiple-models", "type": None, "models": kinds}
    card = model_card(record(managers=managers, model_type=kind))
    assert "Tree (shap) and A (sklearn)" in card
    assert "in shap/: pickle, by shap" in card
    assert "Pickles, which can run code when they are opened, are: shap/e." in card


def test_the_code_in_the_card_is_python() -> None:
    """The lines that load the model are Python, whatever quotes, backticks and line ends are in the names."""
    domain = "a'b\"c```\n```python\nd"
    card = model_card(record(domain=domain))
    found = re.search(r"(?ms)^(`{4,})python\n(.*?)^\1$", card)
    assert found is not None
    calls = [node for node in ast.walk(ast.parse(found[2])) if isinstance(node, ast.Call)]
    assert domain in [ast.literal_eval(call.args[0]) for call in calls if call.args]


@given(st.text(max_size=60), st.text(max_size=60))
def test_tables_survive_any_text(name: str, value: str) -> None:
    """Whatever a tag holds, its row has two columns, and shows the text with its white space joined."""
    card = model_card(record(tags={f"x{name}": f"y{value}"}))
    assert rows(card)[" ".join(f"x{name}".split())] == " ".join(f"y{value}".split())


@pytest.mark.parametrize("text", ["![x](http://tracker.example)", "<script>alert(1)</script>", "`code`", "a # b"])
def test_markup_is_shown_and_not_obeyed(text: str) -> None:
    """A note, a tag or a domain cannot bring links, images, HTML or code into the card."""
    card = model_card(record(note=f"first\n{text}", tags={text: text}, domain=text))
    prose = re.sub(r"(?s)(`{3,})python.*?\1", "", card)
    assert text not in prose
    assert _plain(prose).count(text) == 4


def test_long_values_are_cut_and_many_are_counted() -> None:
    """The card stays short: a long value ends in an ellipsis, and of many parameters the rest is counted."""
    parameters = {f"p{number}": "v" * 5000 for number in range(100)}
    card = model_card(record(parameters=parameters))
    assert len(card) < 15_000
    assert "60 more are in `modelstore.json`." in card
    assert rows(card)["p0"] == "v" * 199 + "…"


def test_parameters_in_a_file_are_pointed_at() -> None:
    """Parameters that were too large for the record are in a file, which the card names."""
    assert "They are in `parameters.json`." in model_card(record(parameters=None, parameters_file="parameters.json"))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"model": None},
        {"model": {"domain": None, "managers": 7, "model_type": [], "metrics": "many", "data": [1], "note": 5}},
        {"model": {"managers": [None, {}, {"objects": 3, "pickled": "x", "folder": 4}]}, "code": "x"},
        {"model": {"tags": {1: object(), None: float("nan"), "z": {"s": {1, 2}}}, "parameters": {"f": print}}},
    ],
)
def test_odd_records_give_a_card_too(odd: dict[str, Any]) -> None:
    """A record that lacks sections, or holds others than expected, still gives a card."""
    assert "## Loading it" in model_card(odd)
