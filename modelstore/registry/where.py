"""The conditions of a search: `metrics.auc > 0.9 and tags.team == 'fincrime' and library in ['sklearn', 'xgboost']`.

Written like `pandas.DataFrame.query`, parsed by Python's own parser, and made into SQL with parameters by the short
list of what is allowed here. Nothing of the text is evaluated, and none of it stands in the SQL.
"""

from __future__ import annotations

import ast
import difflib
import sqlite3
from dataclasses import dataclass
from typing import Any

from modelstore.exceptions import QueryError
from modelstore.records import format_time, parse_time
from modelstore.registry import facts

MAX_LENGTH = 4000
MAX_NODES = 400
MAX_DEPTH = 40

COLUMNS = ("domain", "model_id", "library", "type", "user", "created")
"""Names that stand for one value of each model."""
STATE = "state"
"""Stands for the names of all states that a model is in."""
ALIASES = {"parameters": "params"}

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FUNCTIONS = ("contains", "startswith")

Value = int | float | str


@dataclass(frozen=True)
class Sql:
    """A condition on the table `models`, called `m`, that is true or false, and never NULL."""

    text: str
    arguments: tuple[Any, ...] = ()

    def __and__(self, other: Sql) -> Sql:
        return Sql(f"({self.text} AND {other.text})", self.arguments + other.arguments)

    def __or__(self, other: Sql) -> Sql:
        return Sql(f"({self.text} OR {other.text})", self.arguments + other.arguments)

    def __invert__(self) -> Sql:
        return Sql(f"(NOT {self.text})", self.arguments)


TRUE = Sql("1")


@dataclass(frozen=True)
class _Path:
    parts: tuple[str, ...]

    @property
    def column(self) -> str | None:
        return self.parts[0] if len(self.parts) == 1 and self.parts[0] in COLUMNS else None

    @property
    def is_state(self) -> bool:
        return self.parts == (STATE,)


@dataclass(frozen=True)
class _Constant:
    value: Value | None


@dataclass(frozen=True)
class _List:
    values: tuple[Value | None, ...]


_Operand = _Path | _Constant | _List


def compile_where(text: Any, db: sqlite3.Connection, few: bool = False) -> Sql:
    """The condition that a text says.

    Args:
        text: the condition.
        db: the folded tables, which know the paths that there are.
        few: whether few models are asked about, as of one domain, so that each is looked up by itself; else all that
            have a value are found first.

    Raises:
        QueryError: it says nothing that is allowed here.
    """
    if not isinstance(text, str):
        raise QueryError(repr(text), "it is to be a text")
    if len(text) > MAX_LENGTH:
        raise QueryError(text, f"it is longer than {MAX_LENGTH:,} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise QueryError(text, getattr(error, "msg", None) or str(error) or type(error).__name__) from error
    _check_size(tree, text)
    return _Compiler(text, db, few=few).condition(tree.body)


def parse_path(text: Any, argument: str) -> tuple[str, ...]:
    """The keys of a path such as `metrics.auc`, for an order.

    Raises:
        QueryError: it is none.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, AttributeError) as error:
        raise QueryError(str(text), "it is to be a path such as metrics.auc", argument) from error
    path = _Compiler(text, None, argument).operand(node)
    if not isinstance(path, _Path) or path.is_state:
        raise QueryError(text, "it is to be a path such as metrics.auc", argument)
    return path.parts


def _check_size(tree: ast.AST, text: str) -> None:
    level, count = [tree], 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level or count > MAX_NODES:
            break
    if level:
        raise QueryError(text, f"it has more than {MAX_NODES} parts, or is nested deeper than {MAX_DEPTH} levels")


class _Compiler:
    def __init__(self, text: str, db: sqlite3.Connection | None, argument: str = "where", few: bool = False) -> None:
        self._few = few
        self._text = text
        self._db = db
        self._argument = argument

    def refuse(self, node: ast.AST, reason: str) -> QueryError:
        at = getattr(node, "col_offset", None)
        part = ast.get_source_segment(self._text.strip(), node) if at is not None else None
        return QueryError(self._text, f"{reason}: {part!r}" if part else reason, self._argument)

    # -- conditions ---------------------------------------------------------------------------------------------

    def condition(self, node: ast.expr) -> Sql:
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(value) for value in node.values]
            whole = parts[0]
            for part in parts[1:]:
                whole = whole & part if isinstance(node.op, ast.And) else whole | part
            return whole
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        operand = self.operand(node)
        if isinstance(operand, _Path):
            return self._truth(operand)
        raise self.refuse(node, "a condition compares something, such as metrics.auc > 0.9")

    def _comparison(self, node: ast.Compare) -> Sql:
        whole = TRUE
        operands = [self.operand(each) for each in (node.left, *node.comparators)]
        for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
            part = self._pair(node, op, left, right)
            whole = part if whole is TRUE else whole & part
        return whole

    def _pair(self, node: ast.AST, op: ast.cmpop, left: _Operand, right: _Operand) -> Sql:
        if isinstance(op, (ast.In, ast.NotIn)):
            found = self._membership(node, left, right)
            return found if isinstance(op, ast.In) else ~found
        if isinstance(op, (ast.Is, ast.IsNot)):
            if not isinstance(left, _Path) or right != _Constant(None):
                raise self.refuse(node, "`is` compares a path with None and nothing else")
            return self._missing(left) if isinstance(op, ast.Is) else ~self._missing(left)
        sign = _COMPARISONS[type(op)]
        if isinstance(left, _Constant) and isinstance(right, _Path):
            left, right, sign = right, left, _MIRRORED[sign]
        if isinstance(left, _Path) and isinstance(right, _Path):
            return self._paths(node, left, sign, right)
        if not isinstance(left, _Path) or not isinstance(right, _Constant):
            raise self.refuse(node, "a comparison takes a path and a value, or two paths")
        if right.value is None:
            if sign not in ("=", "<>"):
                raise self.refuse(node, "nothing is less or more than None")
            return self._missing(left) if sign == "=" else ~self._missing(left)
        if sign == "<>":  # also what lacks it, as in pandas
            return ~self._holds(node, left, "=", right.value)
        return self._holds(node, left, sign, right.value)

    def _membership(self, node: ast.AST, left: _Operand, right: _Operand) -> Sql:
        if isinstance(left, _Path) and isinstance(right, _List):
            whole = Sql("0")
            for value in right.values:
                part = self._missing(left) if value is None else self._holds(node, left, "=", value)
                whole = part if whole.text == "0" else whole | part
            return whole
        if isinstance(left, _Constant) and isinstance(right, _Path) and left.value is not None:
            return self._contains(node, right, left.value)
        raise self.refuse(node, "`in` takes a path and a list of values, or a value and a path")

    def _call(self, node: ast.Call) -> Sql:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in _FUNCTIONS or node.keywords or len(node.args) != 2:
            raise self.refuse(node, "the only functions are contains(path, text) and startswith(path, text)")
        path, wanted = (self.operand(argument) for argument in node.args)
        if not isinstance(path, _Path) or not isinstance(wanted, _Constant) or wanted.value is None:
            raise self.refuse(node, f"{name} takes a path and a value")
        if name == "contains":
            return self._contains(node, path, wanted.value)
        if not isinstance(wanted.value, str):
            raise self.refuse(node, "startswith takes a path and a text")
        prefix = wanted.value
        return self._each(node, path, "substr({value}, 1, ?) = ? AND typeof({value}) = 'text'", (len(prefix), prefix))

    # -- what a path holds --------------------------------------------------------------------------------------

    def _holds(self, node: ast.AST, path: _Path, sign: str, value: Value) -> Sql:
        if path.column == "created":
            value = self._time(node, value)
        kind = "=" if isinstance(value, str) else "<>"
        return self._each(node, path, f"{{value}} {sign} ? AND typeof({{value}}) {kind} 'text'", (value,))

    def _contains(self, node: ast.AST, path: _Path, value: Value) -> Sql:
        """An element of a list, or a part of a text."""
        if isinstance(value, str) and not path.is_state:
            return self._each(
                node, path, "typeof({value}) = 'text' AND ({value} = ? OR ({at} = 0 AND instr({value}, ?) > 0))",
                (value, value),
            )  # fmt: skip
        return self._holds(node, path, "=", value)

    def _each(self, node: ast.AST, path: _Path, condition: str, arguments: tuple[Any, ...]) -> Sql:
        """Whether one of the values of a path meets a condition on `{value}`, and `{at}`, its place in a list."""
        if path.is_state:
            named = condition.format(value="states.name", at="0")
            return Sql(
                "EXISTS (SELECT 1 FROM holds JOIN states ON states.number = holds.state AND states.deleted = 0"
                f" WHERE holds.domain = m.domain AND holds.model = m.number AND holds.until IS NULL AND {named})",
                arguments,
            )
        if path.column is not None:
            return Sql(f"IFNULL({condition.format(value=f'm.{path.column}', at='0')}, 0)", arguments)
        number = self._number(path)
        inner = condition.format(value="value", at="at")
        if self._few:
            # The plus keeps the planner from going through all models that have the path, for each model anew.
            return Sql(
                f"EXISTS (SELECT 1 FROM facts WHERE model = m.id AND +path = ? AND {inner})", (number, *arguments)
            )
        return Sql(f"m.id IN (SELECT model FROM facts WHERE path = ? AND {inner})", (number, *arguments))

    def _paths(self, node: ast.AST, left: _Path, sign: str, right: _Path) -> Sql:
        if left.is_state or right.is_state:
            raise self.refuse(node, "a state is compared with a name")
        if sign == "<>":
            return ~self._paths(node, left, "=", right)
        one, first = self._scalar(left)
        two, second = self._scalar(right)
        alike = f"(typeof({one}) = 'text') = (typeof({two}) = 'text')"
        return Sql(f"IFNULL({one} {sign} {two} AND {alike}, 0)", (*first, *second, *first, *second))

    def _scalar(self, path: _Path) -> tuple[str, tuple[Any, ...]]:
        if path.column is not None:
            return f"m.{path.column}", ()
        return "(SELECT value FROM facts WHERE model = m.id AND path = ? AND at = 0)", (self._number(path),)

    def _missing(self, path: _Path) -> Sql:
        return ~self._each(ast.Constant(None), path, "{value} IS NOT NULL", ())

    def _truth(self, path: _Path) -> Sql:
        return self._each(ast.Constant(None), path, "{value} NOT IN (0, '')", ())

    def _number(self, path: _Path) -> int:
        assert self._db is not None
        return facts.known_number(self._db, path.parts)

    def _time(self, node: ast.AST, value: Value) -> str:
        try:
            return format_time(parse_time(str(value)))
        except ValueError as error:
            raise self.refuse(node, "created is compared with a time such as '2026-03-01'") from error

    # -- operands -----------------------------------------------------------------------------------------------

    def operand(self, node: ast.expr) -> _Operand:
        if isinstance(node, (ast.List, ast.Tuple)):
            return _List(tuple(self._value(element) for element in node.elts))
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            return _Path(self._path(node))
        return _Constant(self._value(node))

    def _value(self, node: ast.expr) -> Value | None:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self._value(node.operand)
            if isinstance(number, (int, float)):
                return -number
        elif isinstance(node, ast.Constant):
            value = node.value
            if value is None or isinstance(value, (str, float)):
                return self._text_value(node, value) if isinstance(value, str) else value
            if isinstance(value, int):
                return int(value) if abs(value) < 1 << 63 else float(value) if abs(value) < 1 << 1000 else 0.0
        raise self.refuse(node, "a value is a number, a text, True, False or None")

    def _text_value(self, node: ast.AST, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.refuse(node, "a text has half a character") from None
        return value

    def _path(self, node: ast.expr) -> tuple[str, ...]:
        parts: list[str] = []
        while not isinstance(node, ast.Name):
            if isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                parts.append(str(node.slice.value))
                node = node.value
            else:
                raise self.refuse(node, "a path is names joined by dots, such as metrics.auc or tags['my team']")
        root = ALIASES.get(node.id, node.id)
        if any(part.startswith("__") for part in (root, *parts)):
            raise self.refuse(node, "no name of a record begins with two underscores")
        if root in facts.SECTIONS and (parts or root == "note"):
            return (root, *reversed(parts))
        if (root in COLUMNS or root == STATE) and not parts:
            return (root,)
        raise self.refuse(node, self._unknown(root, bool(parts)))

    def _unknown(self, root: str, deeper: bool) -> str:
        if root in facts.SECTIONS:
            return f"{root} is a section: say which of its names, such as {root}.name"
        if self._db is not None and not deeper:
            likely = [".".join(path) for path in facts.known_paths(self._db) if path[-1] == root]
            if likely:
                return f"did you mean {likely[0]}?"
        known = [*COLUMNS, STATE, *facts.SECTIONS]
        close = difflib.get_close_matches(root, known, n=1)
        return f"did you mean {close[0]!r}?" if close else f"{root!r} is none of {', '.join(known)}"
