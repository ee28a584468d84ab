"""Finding models: by what their records say, by words, in an order; in one domain or in all."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import Any

from modelstore.exceptions import QueryError, StorageError
from modelstore.registry import facts
from modelstore.registry.fold import has_texts
from modelstore.registry.where import COLUMNS, TRUE, Sql, compile_where, parse_path

Found = tuple[str, int]
"""A model: its domain and number."""


@dataclass(frozen=True)
class Question:
    """What is asked for. Times are as `format_time` writes them; a state is given by its number."""

    where: str | None = None
    domain: str | None = None
    text: str | None = None
    order_by: str | None = None
    limit: int | None = None
    state: int | None = None
    created_after: str | None = None
    created_before: str | None = None

    @property
    def few(self) -> bool:
        """Whether it is about the models of one domain, or those that have some words."""
        return self.domain is not None or self.text is not None


def find(db: sqlite3.Connection, question: Question) -> list[Found]:
    """The models that there are now and that the question describes.

    Without an order the best matches of `text` come first, else the newest. What lacks the field of an order comes
    last.

    Raises:
        QueryError: the question cannot be understood.
    """
    condition = _condition(db, question)
    limit = -1 if question.limit is None else question.limit
    if question.order_by is None:
        order = "m.created DESC, m.id DESC"
        if question.text is not None and question.where is None:
            order = "hits.rank, " + order
        return _select(db, condition, order, limit, question)
    descending, path = parse_order(question.order_by)
    if len(path) == 1 and path[0] in COLUMNS:
        direction = "DESC" if descending else "ASC"
        order = f"m.{path[0]} IS NULL, m.{path[0]} {direction}, m.created DESC, m.id DESC"
        return _select(db, condition, order, limit, question)
    return _ordered(db, condition, facts.known_number(db, path), descending, limit, question)


def parse_order(order_by: Any) -> tuple[bool, tuple[str, ...]]:
    """Whether an order is descending (`-metrics.auc`, `metrics.auc desc`), and its path.

    Raises:
        QueryError: it is no order.
    """
    if not isinstance(order_by, str):
        raise QueryError(repr(order_by), "it is to be a path such as metrics.auc, or -metrics.auc", "order_by")
    text, descending = order_by.strip(), False
    if text.startswith("-"):
        text, descending = text[1:], True
    elif match := re.fullmatch(r"(.*\S)\s+(asc|desc)", text, re.IGNORECASE | re.DOTALL):
        text, descending = match[1], match[2].lower() == "desc"
    return descending, parse_path(text, "order_by")


def _condition(db: sqlite3.Connection, question: Question) -> Sql:
    whole = Sql("m.deleted = 0")
    if question.domain is not None:
        whole &= Sql("m.domain = ?", (question.domain,))
    if question.state is not None:
        whole &= Sql(
            "EXISTS (SELECT 1 FROM holds WHERE domain = m.domain AND model = m.number AND state = ? AND until IS NULL)",
            (question.state,),
        )
    if question.created_after is not None:
        whole &= Sql("m.created > ?", (question.created_after,))
    if question.created_before is not None:
        whole &= Sql("m.created < ?", (question.created_before,))
    where = TRUE if question.where is None else compile_where(question.where, db, question.few)
    return whole if where is TRUE else whole & where


def _select(db: sqlite3.Connection, condition: Sql, order: str, limit: int, question: Question) -> list[Found]:
    prefix, arguments = _hits(db, question)
    query = (
        f"{prefix} SELECT m.domain, m.number FROM {_models(question)} WHERE {condition.text} ORDER BY {order} LIMIT ?"
    )
    return [(row[0], row[1]) for row in db.execute(query, (*arguments, *condition.arguments, limit))]


def _models(question: Question) -> str:
    # The words first, since few models have them: the planner does not know that.
    return "models m" if question.text is None else "hits CROSS JOIN models m ON m.id = hits.model"


def _ordered(
    db: sqlite3.Connection, condition: Sql, path: int, descending: bool, limit: int, question: Question
) -> list[Found]:
    """By a fact: first those that have it, then the others.

    The best few of all models come straight out of the fact's index, which stops at the limit.
    """
    prefix, arguments = _hits(db, question)
    direction = "DESC" if descending else "ASC"
    by_value = "facts f INDEXED BY facts_by_value CROSS JOIN models m ON m.id = f.model"
    one_by_one = f"{_models(question)} CROSS JOIN facts f ON f.model = m.id"
    having = (
        f"{prefix} SELECT m.domain, m.number FROM {by_value if limit >= 0 and not question.few else one_by_one}"
        f" WHERE f.path = ? AND f.at = 0 AND {condition.text} ORDER BY f.value {direction}, f.model {direction} LIMIT ?"
    )
    found = db.execute(having, (*arguments, path, *condition.arguments, limit)).fetchall()
    if limit < 0 or len(found) < limit:
        lacking = (
            f"{prefix} SELECT m.domain, m.number FROM {_models(question)} WHERE {condition.text}"
            " AND NOT EXISTS (SELECT 1 FROM facts f WHERE f.model = m.id AND f.path = ? AND f.at = 0)"
            " ORDER BY m.created DESC, m.id DESC LIMIT ?"
        )
        rest = limit if limit < 0 else limit - len(found)
        found += db.execute(lacking, (*arguments, *condition.arguments, path, rest)).fetchall()
    return [(row[0], row[1]) for row in found]


def _hits(db: sqlite3.Connection, question: Question) -> tuple[str, tuple[Any, ...]]:
    """The models whose texts have all words, as a table `hits`."""
    if question.text is None:
        return "", ()
    match = match_of(db, question.text)
    where, arguments = "texts MATCH ? AND model IS NOT NULL", [match]
    if question.domain is not None:
        where += " AND domain = ?"
        arguments.append(question.domain)
    return (
        f"WITH found AS MATERIALIZED (SELECT model, rank FROM texts WHERE {where}),"
        " hits AS MATERIALIZED (SELECT model, MIN(rank) AS rank FROM found GROUP BY model)",
        tuple(arguments),
    )


def match_of(db: sqlite3.Connection, text: Any) -> str:
    """What full-text search is asked for: all words of a text, each as the beginning of a word.

    Raises:
        QueryError: there is no word in it.
        StorageError: this build of SQLite has no full-text search.
    """
    words = re.findall(r"\w+", text) if isinstance(text, str) else []
    words = [word.encode("utf-8", "ignore").decode() for word in words][:50]
    if not any(words):
        raise QueryError(str(text), "it holds no word", "text")
    if not has_texts(db):
        raise StorageError("this Python's SQLite was built without FTS5, which text= takes")
    return " ".join(f'"{word}"*' for word in words if word)


def numbers_with(db: sqlite3.Connection, domain: str, text: str) -> set[int]:
    """The numbers of a domain's events whose texts have all words: uploads, notes, tags, reasons.

    Raises:
        QueryError: there is no word in it.
    """
    rows = db.execute("SELECT number FROM texts WHERE texts MATCH ? AND domain = ?", (match_of(db, text), domain))
    return {row[0] for row in rows}
