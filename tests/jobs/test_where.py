"""Conditions on rows: what they choose, and what is refused before anything is read."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from forwardpass.errors import InvalidInput
from forwardpass.jobs.where import Where

ROWS: dict[str, list[Any]] = {
    "amount": [1.0, 20.0, None, 300.0],
    "kind": ["a", "b", "a", None],
    "count": [1, 2, 3, 4],
    "good": [True, False, True, False],
}
TABLE = pa.table(ROWS)


def chosen(text: str) -> list[int]:
    where = Where(text, TABLE.schema)
    columns = {name: TABLE.column(name).combine_chunks() for name in where.columns}
    return [row for row, yes in enumerate(where.matches(columns, TABLE.num_rows)) if yes]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("amount > 10", [1, 3]),
        ("10 < amount <= 20", [1]),
        ("kind == 'a'", [0, 2]),
        ("kind != 'a'", [1]),
        ("kind in ('a', 'c')", [0, 2]),
        ("kind not in ['a']", [1, 3]),
        ("kind is None", [3]),
        ("amount is not None and count >= 2", [1, 3]),
        ("not good", [1, 3]),
        ("good or count == 4", [0, 2, 3]),
        ("amount + count * 2 > 300", [3]),
        ("count == -1 or count / 2 >= 2", [3]),
        ("(kind == 'a' or kind == 'b') and good", [0, 2]),
    ],
)
def test_chooses(text: str, rows: list[int]) -> None:
    assert chosen(text) == rows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("amuont > 1", "Did you mean 'amount'"),
        ("amount = 1", "written `==`"),
        ("amount >", "is not a condition"),
        ("kind > 1", "--where"),
        ("1 == 1", "names no column"),
        ("True", "names no column"),
        ("amount and True", "cannot stand there"),
        ("__import__('os').system('true')", "cannot stand there"),
        ("kind.upper() == 'A'", "cannot stand there"),
        ("kind == f'{amount}'", "cannot stand there"),
        ("kind in amount", "cannot stand there"),
        ("kind is 'a'", "cannot stand there"),
        ("(lambda: 1)()", "cannot stand there"),
        ("count", "--where"),
    ],
)
def test_refuses(text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        chosen(text)
    assert says in refused.value.message
    assert "\n" not in refused.value.message
