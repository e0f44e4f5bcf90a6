"""Which rows of a data set are wanted: a condition as text, to an Arrow expression.

    amount > 100 and region in ("home", "overseas") and not (note is None)

The text is Python's own grammar for conditions, of which only names of columns, values, comparisons,
``in``, ``is None``, ``and``, ``or``, ``not``, ``+ - * /`` and brackets are taken; nothing is ever run as code.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from forwardpass.errors import InvalidInput, nearest

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Where:
    """A condition on rows. ``columns`` are those it looks at."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        """Raises ``InvalidInput`` where the text is no condition on these columns."""
        self.columns: list[str] = []
        self._text = text
        self._schema = schema
        self.expression = self._parse(text)
        try:
            empty = pa.table({name: pa.array([], schema.field(name).type) for name in self.columns})
            if self.columns:
                empty.filter(self.expression)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise InvalidInput(f"--where {text!r}: {_first_line(error)}") from None
        if not self.columns:
            raise InvalidInput(f"--where {text!r}: names no column, so it is the same for all rows")

    def matches(self, columns: dict[str, pa.Array], rows: int) -> list[bool]:
        """For each row whether it is wanted; where a value that counts is missing, it is not."""
        table = pa.table({**{name: columns[name] for name in self.columns}, "": pa.array(range(rows))})
        wanted = [False] * rows
        for row in table.filter(self.expression).column("").to_pylist():
            wanted[row] = True
        return wanted

    def _parse(self, text: str) -> pc.Expression:
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            hint = " (a comparison is written `==`)" if "=" in text.replace("==", "") else ""
            example = "amount > 100 and kind == 'a'"
            raise InvalidInput(f"--where {text!r} is not a condition such as `{example}`{hint}") from None
        return self._convert(tree)

    def _convert(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self._condition(value) for value in values]
                result = parts[0]
                for part in parts[1:]:
                    result = (result & part) if isinstance(op, ast.And) else (result | part)
                return result
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self._condition(operand)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return pc.scalar(-value)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self._convert(left), self._convert(right))
            case ast.Compare():
                return self._compare(node)
            case ast.Name(id=name):
                return self._column(name)
            case ast.Constant(value=str() | int() | float() | bool() as value):
                return pc.scalar(value)
        raise self._not_taken(node)

    def _condition(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            raise self._not_taken(node)
        return self._convert(node)

    def _compare(self, node: ast.Compare) -> Any:
        result: Any = None
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            part = self._pair(left, op, right)
            result = part if result is None else result & part
            left = right
        return result

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set):
                raise self._not_taken(right)
            within = self._convert(left).isin([self._value(item) for item in right.elts])
            return within if isinstance(op, ast.In) else ~within
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._not_taken(right)
            missing = self._convert(left).is_null()
            return missing if isinstance(op, ast.Is) else ~missing
        return _COMPARISONS[type(op)](self._convert(left), self._convert(right))

    def _column(self, name: str) -> pc.Expression:
        if name not in self._schema.names:
            hint = nearest(name, self._schema.names)
            raise InvalidInput(f"--where {self._text!r}: there is no column {name!r}.{hint}")
        if name not in self.columns:
            self.columns.append(name)
        return pc.field(name)

    def _value(self, node: ast.expr) -> Any:
        try:
            value = ast.literal_eval(node)
        except ValueError:
            raise self._not_taken(node) from None
        if not isinstance(value, str | int | float | bool):
            raise self._not_taken(node)
        return value

    def _not_taken(self, node: ast.AST) -> InvalidInput:
        return InvalidInput(
            f"--where {self._text!r}: {ast.unparse(node)!r} cannot stand there; take names of columns, values, "
            "comparisons, `in`, `is None`, `and`, `or`, `not`, and + - * /"
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
