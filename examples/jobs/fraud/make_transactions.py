"""Writes card payments as Parquet, a folder for each day: `python examples/jobs/fraud/make_transactions.py payments/`.

They are drawn by the generator that made the `fraud` model's data, with another seed, so that none
of them was trained on. Beside the model's inputs stand `id` and `fraud`: whether it is one.
The same number of rows and days gives the same payments.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # run as a file, only this folder is there
from examples.training.fraud import generate

SEED = 4
FIRST_DAY = datetime.date(2026, 10, 1)
ROW_GROUP = 65_536


def transactions(rows: int) -> pa.Table:
    """The payments; a distance that is not known is null."""
    columns, fraud = generate(rows, SEED)
    named = {name: pa.array(column, from_pandas=True) for name, column in columns.items()}
    return pa.table({"id": np.arange(rows), **named, "fraud": fraud})


def write_days(table: pa.Table, days: int, folder: Path) -> None:
    """About even days, one file each."""
    bounds = np.linspace(0, len(table), days + 1).astype(int)
    for day in range(days):
        file = folder / f"day={FIRST_DAY + datetime.timedelta(days=day)}" / "payments.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table[bounds[day] : bounds[day + 1]], file, row_group_size=ROW_GROUP)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write card payments as Parquet, a folder for each day.")
    parser.add_argument("folder", type=Path, help="where to write day=2026-10-01/ and so on")
    parser.add_argument("--rows", type=int, default=1_000_000, help="payments in all (default: a million)")
    parser.add_argument("--days", type=int, default=10, help="days that they are spread over (default: 10)")
    arguments = parser.parse_args()
    if arguments.rows < arguments.days or arguments.days < 1:
        parser.error(f"--rows {arguments.rows} over --days {arguments.days}: give a payment at least to each day")
    write_days(transactions(arguments.rows), arguments.days, arguments.folder)
    print(f"{arguments.rows} payments in {arguments.days} days in {arguments.folder}")


if __name__ == "__main__":
    main()
