"""Writes every user's history as Parquet: `python examples/jobs/recommend/make_histories.py histories/`.

Stands for the query that a shop would run each evening: a row per user with the 30 items taken
last, in a folder for the day. The users are those of the `recommend` model's data, or more of the
same kind; the items they took do not depend on the day that is named.
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
from examples.training.recommend_data import PLACES, USERS, generate, histories

ROW_GROUP = 65_536


def history_table(users: int) -> pa.Table:
    """``user`` and ``history``, a list of ``PLACES`` items, the newest first and -1 behind them."""
    given = pa.array(histories(generate(users)).reshape(-1))
    return pa.table({"user": np.arange(users), "history": pa.FixedSizeListArray.from_arrays(given, PLACES)})


def write_day(table: pa.Table, day: datetime.date, folder: Path) -> Path:
    file = folder / f"day={day}" / "histories.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=ROW_GROUP)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description="Write every user's history as Parquet.")
    parser.add_argument("folder", type=Path, help="where to write day=…/histories.parquet")
    parser.add_argument("--users", type=int, default=USERS, help=f"how many (default: {USERS})")
    today = datetime.date.today()
    parser.add_argument("--day", type=datetime.date.fromisoformat, default=today, help="YYYY-MM-DD (default: today)")
    arguments = parser.parse_args()
    if arguments.users < 1:
        parser.error(f"--users {arguments.users}: give one at least")
    print(
        f"{arguments.users} histories in {write_day(history_table(arguments.users), arguments.day, arguments.folder)}"
    )


if __name__ == "__main__":
    main()
