"""A model that `forwardpass optimize` must leave as it is: every candidate is rejected, and the program asserts it.

Data: scikit-learn's `make_friedman1` without noise (Friedman 1991), y = 10 sin(pi x0 x1) + 20 (x2 - 0.5)^2 +
10 x3 + 5 x4; 20,000 rows to train on, 4,000 others held out. A network of 4,609 weights follows it to about a
hundredth of its spread, so that fewer bits show, and one row takes it microseconds, so that no engine saves time.
Run `python examples/optimize/rejected.py`: it trains, optimises with the command's defaults and writes
docs/optimize/rejected.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray
from sklearn.datasets import make_friedman1

from forwardpass import import_model

torch: Any = import_module("torch")
REPORT = Path(__file__).resolve().parents[2] / "docs" / "optimize" / "rejected.md"
TRAINING_ROWS, HELD_OUT_ROWS = 20_000, 4_000
INPUTS = 5
STEPS, BATCH, RATE = 3_000, 256, 5e-3
Table = NDArray[np.float32]

INTRODUCTION = """\
<!-- Written by examples/optimize/rejected.py. -->

What a search looks like where nothing may replace the model: a regression network of {weights:,} weights on
Friedman's first function, without noise. Its root mean squared error on {rows:,} held-out rows is {rmse:.4f}, and
the function's standard deviation is {spread:.2f}: an error of {share:.1%}. `--max-drop 0.5%` allows it to grow by
{allowed:.5f}. The objective is the latency of one row. The parent already runs with one thread, the right number for a
network of this size; all other settings are the command's defaults.
"""


def rows(count: int, seed: int) -> tuple[Table, Table]:
    """Features [count, 5] and their values [count]."""
    features, values = make_friedman1(count, n_features=INPUTS, noise=0.0, random_state=seed)
    return features.astype(np.float32), values.astype(np.float32)


def create_network() -> Any:
    nn = torch.nn
    layers = nn.Linear(INPUTS, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
    return nn.Sequential(*layers)


def train(steps: int = STEPS) -> Any:
    """The network, trained with Adam and a rate that falls to nothing."""
    torch.set_num_threads(1)  # layers as small as these gain nothing from more
    torch.manual_seed(0)
    features, values = (torch.from_numpy(array) for array in rows(TRAINING_ROWS, seed=1))
    network = create_network()
    adam = torch.optim.Adam(network.parameters(), lr=RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        batch = torch.randint(0, TRAINING_ROWS, (BATCH,))
        loss = torch.nn.functional.mse_loss(network(features[batch])[:, 0], values[batch])
        adam.zero_grad()
        loss.backward()
        adam.step()
        falling.step()
    return network.eval()


def write_model(network: Any, folder: Path) -> None:
    """A model folder that runs with one thread."""
    features, _ = rows(16, seed=1)
    import_model(network, folder, sample=(torch.from_numpy(features),))
    file = folder / "model.yaml"
    lines = yaml.safe_load(file.read_text(encoding="utf-8"))
    lines["threads"] = 1
    file.write_text(yaml.safe_dump(lines, sort_keys=False), encoding="utf-8")


def write_held_out(file: Path) -> None:
    """Rows that the network was not trained on, with their values in the column `y`."""
    features, values = rows(HELD_OUT_ROWS, seed=2)
    header = ",".join([*(f"x{index}" for index in range(INPUTS)), "y"])
    np.savetxt(file, np.column_stack([features, values]), fmt="%.9g", delimiter=",", header=header, comments="")


def optimize(model: Path, held_out: Path, out: Path, *more: str) -> Path:
    """The folder of the reports of `forwardpass optimize`."""
    columns = ",".join(f"x{index}" for index in range(INPUTS))
    data = ["--data", str(held_out), "--label", "y", "--map", f"input={columns}"]
    gate = ["--metric", "rmse", "--max-drop", "0.5%", "--objective", "latency"]
    command = [sys.executable, "-m", "forwardpass", "optimize", str(model), *data, *gate, "--out", str(out), *more]
    subprocess.run(command, check=True)
    return out.with_name(f"{out.name}.optimize")


def require_all_rejected(search: dict[str, Any]) -> None:
    """Raises `AssertionError` where a candidate passed, or where none was measured."""
    passed = [entry["name"] for entry in search["entries"] if entry["passed"]]
    measured = [entry["name"] for entry in search["entries"] if entry["quality"]]
    assert not search["winner"], f"{search['winner']} won"
    assert not passed, f"these passed: {passed}"
    assert measured, "no candidate was measured"


def introduction(network: Any, search: dict[str, Any]) -> str:
    spread = float(rows(HELD_OUT_ROWS, seed=2)[1].std())
    rmse = search["score"]["value"]
    return INTRODUCTION.format(
        weights=sum(weight.numel() for weight in network.parameters()),
        rows=search["rows"],
        rmse=rmse,
        spread=spread,
        share=rmse / spread,
        allowed=rmse * search["max_drop"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Optimises a model that no candidate may replace.")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report goes")
    report = parser.parse_args().report
    network = train()
    with TemporaryDirectory() as work:
        model, held_out = Path(work) / "friedman", Path(work) / "held-out.csv"
        write_model(network, model)
        write_held_out(held_out)
        found = optimize(model, held_out, Path(work) / "friedman-optimized")
        search = msgspec.json.decode((found / "report.json").read_bytes())
        text = (found / "report.md").read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(f"{title}\n\n{introduction(network, search)}{rest}", encoding="utf-8")
    require_all_rejected(search)
    print(f"all {len(search['entries'])} candidates were rejected: {report}")


if __name__ == "__main__":
    main()
