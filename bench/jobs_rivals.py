"""The other ways to score the payments: a raw loop over features in memory, loops with pandas, Ray Data.

Each is written as its documentation or a careful user would, with the features made at once for many
rows. Run as ``python -m bench.jobs_rivals WAY ARTIFACT FILE OUTPUT``. ``raw`` answers rounds as
``bench.raw`` does; the others print one line of JSON: their rows and the seconds from before the file is
read until the last answer is written, imports, the model and the start of a cluster left out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
from pyarrow.dataset import dataset

from bench.jobs_data import CHANNELS, MERCHANTS, REGIONS
from bench.raw import Array, open_session

CHUNK = 10_000  # rows of the loop over chunks, and of Ray's batches
BY_ROW = 5_000  # rows that are run one by one; a million would take minutes
NUMBERS = ["amount", "hour", "account_age", "transactions_last_day"]
INPUTS = [*NUMBERS, "distance_from_home", "region", "merchant_category", "channel"]
WIDTH = len(NUMBERS) + 2 + len(MERCHANTS) + len(CHANNELS)
WORKERS, BLOCKS = 2, 16  # of Ray: a file that is one block would keep one actor busy only


def features(payments: pd.DataFrame) -> Array:
    """What the artifact takes [rows, 20], as the steps of `fraud` make it."""
    rows = np.arange(len(payments))
    table = np.zeros((len(payments), WIDTH), np.float32)
    table[:, :4] = payments[NUMBERS]
    table[:, 4] = payments["distance_from_home"].fillna(-1)
    table[:, 5] = _codes(payments["region"], REGIONS)
    table[rows, 6 + _codes(payments["merchant_category"], MERCHANTS)] = 1
    table[rows, 6 + len(MERCHANTS) + _codes(payments["channel"], CHANNELS)] = 1
    return table


def score(session: Any, payments: pd.DataFrame) -> pd.DataFrame:
    """Each payment's id, the probability that it is fraud, and what to do."""
    (both,) = session.run(["class_probabilities"], {"features": features(payments)})
    fraud = both[:, 1]
    decision = np.select([fraud >= 0.6, fraud >= 0.1], ["block", "review"], "approve")
    return pd.DataFrame({"id": payments["id"].to_numpy(), "fraud_probability": fraud, "decision": decision})


def pandas_chunks(artifact: Path, file: Path, output: Path) -> dict[str, float]:
    """The file as a frame, and a loop over chunks of it."""
    session = open_session(artifact)
    started = perf_counter()
    payments = pd.read_parquet(file)
    chunks = (payments.iloc[start : start + CHUNK] for start in range(0, len(payments), CHUNK))
    pd.concat([score(session, chunk) for chunk in chunks]).to_parquet(output)
    return {"rows": len(payments), "seconds": perf_counter() - started}


def pandas_rows(artifact: Path, file: Path, output: Path) -> dict[str, float]:
    """The loop over ``iterrows``, for the first rows only; reading the file is not counted."""
    session = open_session(artifact)
    payments = pd.read_parquet(file).head(BY_ROW)
    started = perf_counter()
    scored = []
    for _, row in payments.iterrows():
        (both,) = session.run(["class_probabilities"], {"features": np.array([_vector(row)], np.float32)})
        fraud = float(both[0, 1])
        decision = "block" if fraud >= 0.6 else "review" if fraud >= 0.1 else "approve"
        scored.append({"id": row["id"], "fraud_probability": fraud, "decision": decision})
    pd.DataFrame(scored).to_parquet(output)
    return {"rows": len(payments), "seconds": perf_counter() - started}


class Scorer:
    """What each of Ray's actors holds."""

    def __init__(self, artifact: Path) -> None:
        self._session = open_session(artifact)

    def __call__(self, payments: pd.DataFrame) -> pd.DataFrame:
        return score(self._session, payments)


def ray_data(artifact: Path, file: Path, output: Path) -> dict[str, float]:
    """``map_batches`` with two actors on a cluster of this machine, which is up before the clock starts.

    It has one logical CPU more than it has actors: Ray Data needs one for reading and writing.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # listen on loopback only
    import ray

    ray.init(address="local", num_cpus=WORKERS + 1, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = perf_counter()
    payments = ray.data.read_parquet(str(file.absolute()), override_num_blocks=BLOCKS)
    scored = payments.map_batches(
        Scorer,
        fn_constructor_args=(artifact.absolute(),),
        batch_size=CHUNK,
        batch_format="pandas",
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=WORKERS),
    )
    scored.write_parquet(str(output.absolute()))
    seconds = perf_counter() - started
    ray.shutdown()
    return {"rows": dataset(output, format="parquet").count_rows(), "seconds": seconds}


class RawPayments:
    """Features that are in memory already, in batches; nothing but the forward pass is counted."""

    def __init__(self, artifact: Path, file: Path) -> None:
        self._session = open_session(artifact)
        self._features = features(pd.read_parquet(file))

    def timed(self, batch: int, seconds: float) -> dict[str, float]:
        """Whole batches for at least ``seconds``, the rows over and over."""
        done, started, used = 0, perf_counter(), process_time()
        while perf_counter() - started < seconds:
            first = done % (len(self._features) - batch)
            self._session.run(["class_probabilities"], {"features": self._features[first : first + batch]})
            done += batch
        return {"rows": done, "seconds": perf_counter() - started, "cpu": process_time() - used}


WAYS: dict[str, Callable[[Path, Path, Path], dict[str, float]]] = {
    "pandas-chunks": pandas_chunks,
    "pandas-rows": pandas_rows,
    "ray": ray_data,
}


def main() -> None:
    way, *paths = sys.argv[1:]
    if way != "raw":
        print(json.dumps(WAYS[way](*map(Path, paths))), flush=True)
        return
    work = RawPayments(*map(Path, paths))
    print("ready", flush=True)
    for line in sys.stdin:
        batch, seconds = line.split()
        print(json.dumps(work.timed(int(batch), float(seconds))), flush=True)


def _codes(column: pd.Series[str], names: tuple[str, ...]) -> Array:
    return np.asarray(pd.Categorical(column, categories=list(names)).codes)


def _vector(row: pd.Series[Any]) -> list[float]:
    distance = row["distance_from_home"]
    return [
        *(row[name] for name in NUMBERS),
        -1.0 if pd.isna(distance) else distance,
        REGIONS.index(row["region"]),
        *(row["merchant_category"] == name for name in MERCHANTS),
        *(row["channel"] == name for name in CHANNELS),
    ]


if __name__ == "__main__":
    main()
