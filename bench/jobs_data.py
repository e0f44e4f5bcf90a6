"""The data sets of the jobs' measurements: payments for `fraud`, texts and photographs for the benchmark's networks.

All are the same on every machine. Run as ``python -m bench.jobs_data KIND FILE ROWS``: the process that
measures must not hold the libraries. Knows no job and no model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.texts import mixed_texts

MERCHANTS = ("groceries", "restaurant", "fuel", "clothing", "electronics", "travel", "digital_goods", "gift_cards",
             "gambling", "utilities")  # fmt: skip
CHANNELS = ("chip", "contactless", "online", "atm")
REGIONS = ("home", "neighbour", "overseas")
GROUP_ROWS = 65_536  # of a Parquet file's row groups
UNKNOWN = 0.1  # share of the payments whose distance is missing


def payments(rows: int, seed: int = 4) -> pa.Table:
    """Payments as `fraud` takes them, every input drawn by itself, and an ``id`` that it does not take.

    How fast a payment is scored depends on its columns and on how its values spread over the trees, not on
    whether it looks like a real one.
    """
    random = np.random.default_rng(seed)

    def one_of(names: tuple[str, ...]) -> pa.Array:
        codes = pa.array(random.integers(0, len(names), rows, dtype=np.int32))
        return pa.DictionaryArray.from_arrays(codes, list(names)).dictionary_decode()

    distance = np.round(np.minimum(random.lognormal(2.5, 2.0, rows), 20_000), 1)
    return pa.table(
        {
            "id": np.arange(rows),
            "amount": np.round(np.clip(random.lognormal(3.5, 1.2, rows), 0.5, 20_000), 2),
            "merchant_category": one_of(MERCHANTS),
            "channel": one_of(CHANNELS),
            "region": one_of(REGIONS),
            "hour": random.integers(0, 24, rows),
            "account_age": np.minimum(np.round(random.gamma(2.0, 900.0, rows)).astype(np.int64), 40_000),
            "transactions_last_day": random.poisson(2.0, rows),
            "distance_from_home": pa.array(distance, mask=random.random(rows) < UNKNOWN),
        }
    )


def texts(rows: int, seed: int = 5) -> pa.Table:
    """Texts of 4 to 128 tokens: those of the ragged measurement over and over, each time in another order."""
    chance, every = Random(seed), mixed_texts()
    lines: list[str] = []
    while len(lines) < rows:
        lines += chance.sample(every, len(every))
    return pa.table({"text": lines[:rows]})


def images(rows: int, photograph: bytes) -> pa.Table:
    """One photograph, over and over."""
    return pa.table({"image": pa.array([photograph] * rows, pa.binary())})


def write(kind: str, file: Path, rows: int) -> None:
    """A Parquet file of ``fraud``, ``text`` or ``image``; it is there only when it is whole."""
    if kind == "fraud":
        table = payments(rows)
    elif kind == "text":
        table = texts(rows)
    else:
        table = images(rows, (file.parents[1] / "requests" / "image.jpg").read_bytes())
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    pq.write_table(table, unfinished, row_group_size=GROUP_ROWS)
    unfinished.replace(file)


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
