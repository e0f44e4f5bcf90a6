"""Trains `fraud`: a card payment -> the probability that it is fraud.

Data: made by `generate`, the same 40,000 rows every time; no real payment is in it. Frauds follow
three habits (testing stolen numbers, spending abroad at night, emptying a new account), a fifth of
them looks like any other payment, and some honest customers travel or shop a lot.
The features are made by the model's own model.yaml, so that training and serving cannot differ.
Run `python examples/training/fraud.py`; it rewrites the artifact and the card's figures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

import forwardpass
from forwardpass.config import ModelConfig, read_model_config
from forwardpass.pipeline import create_pipeline
from forwardpass.types import Columns, DType, InputType, TensorSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.training.model_card import write_card

FOLDER = Path(__file__).resolve().parents[1] / "models" / "fraud"
ROWS, TRAINING_ROWS = 40_000, 30_000
FRAUD_RATE = 0.015
MERCHANTS = ("groceries", "restaurant", "fuel", "clothing", "electronics", "travel", "digital_goods", "gift_cards",
             "gambling", "utilities")  # fmt: skip
CHANNELS = ("chip", "contactless", "online", "atm")
REGIONS = ("home", "neighbour", "overseas")
Labels = NDArray[np.bool_]


def generate(rows: int = ROWS, seed: int = 2026) -> tuple[Columns, Labels]:
    """Transactions as columns, and which are fraud; by default all, of which the last 10,000 rows are held out."""
    random = np.random.default_rng(seed)
    fraud = random.random(rows) < FRAUD_RATE
    columns = _ordinary(random, rows)
    traveller = ~fraud & (random.random(rows) < 0.03)
    spender = ~fraud & (random.random(rows) < 0.02)
    habit = random.choice(4, rows, p=[0.3, 0.3, 0.2, 0.2])  # the last one hides: nothing is changed
    _put(columns, traveller, _abroad(random, rows))
    _put(columns, spender, {**_testing(random, rows), "account_age": columns["account_age"]})
    for number, make in enumerate((_testing, _abroad_at_night, _new_account)):
        _put(columns, fraud & (habit == number), make(random, rows))
    unknown = random.random(rows) < np.where(columns["channel"] == "online", 0.3, 0.02)
    columns["distance_from_home"] = np.where(unknown, np.nan, columns["distance_from_home"])
    numbers = {name: column.astype(np.float32) for name, column in columns.items() if column.dtype != object}
    return {**columns, **numbers}, fraud


def split() -> tuple[Columns, Labels, Columns, Labels]:
    """Training columns and labels, then held-out columns and labels."""
    columns, fraud = generate()
    train = {name: column[:TRAINING_ROWS] for name, column in columns.items()}
    held_out = {name: column[TRAINING_ROWS:] for name, column in columns.items()}
    return train, fraud[:TRAINING_ROWS], held_out, fraud[TRAINING_ROWS:]


def evaluate(model: forwardpass.Engine) -> dict[str, float]:
    """Figures on the held-out rows, at the thresholds that stand in model.yaml."""
    _, _, columns, fraud = split()
    answer = model.predict(columns)
    probability = answer["fraud_probability"].astype(np.float64)
    blocked = answer["decision"] == "block"
    stopped = answer["decision"] != "approve"
    metrics = {
        "precision_block": fraud[blocked].mean(),
        "recall_block": blocked[fraud].mean(),
        "precision_review_or_block": fraud[stopped].mean(),
        "recall_review_or_block": stopped[fraud].mean(),
        "share_review_or_block": stopped.mean(),
        "average_precision": average_precision_score(fraud, probability),
        "roc_auc": roc_auc_score(fraud, probability),
        "brier": brier_score_loss(fraud, probability),
        "brier_of_the_base_rate": fraud.mean() * (1 - fraud.mean()),
    }
    counts = {"held_out_rows": len(fraud), "held_out_frauds": int(fraud.sum())}
    return {**counts, **{name: round(float(value), 4) for name, value in metrics.items()}}


def features(config: ModelConfig, columns: Columns) -> NDArray[np.float32]:
    """What the artifact takes, made by the preprocess steps of model.yaml."""
    given = [
        TensorSpec(name, DType.BYTES if item.type is InputType.CATEGORY else DType.FP32, (None,))
        for name, item in config.inputs.items()
    ]
    return create_pipeline(config.preprocess, given, FOLDER, "preprocess").run(columns)["features"]


def train() -> tuple[Any, int]:
    """The fitted classifier, and how many features it takes."""
    from sklearn.ensemble import GradientBoostingClassifier

    columns, fraud, _, _ = split()
    table = features(read_model_config(FOLDER), columns)
    classifier = GradientBoostingClassifier(
        n_estimators=120, learning_rate=0.06, max_depth=4, min_samples_leaf=25, subsample=0.7, random_state=0
    )
    return classifier.fit(table, fraud), table.shape[1]


def export(classifier: Any, width: int) -> bytes:
    """The classifier as ONNX: features [batch, width] -> label, class_probabilities [batch, 2]."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    model = convert_sklearn(
        classifier,
        name="fraud",
        initial_types=[("features", FloatTensorType([None, width]))],
        final_types=[("label", Int64TensorType([None])), ("class_probabilities", FloatTensorType([None, 2]))],
        options={id(classifier): {"zipmap": False}},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    model.opset_import.sort(key=lambda opset: opset.domain)  # their order is not the same in every process
    for tensor in [*model.graph.input, *model.graph.output]:
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    return bytes(model.SerializeToString())


def main() -> None:
    (FOLDER / "model.onnx").write_bytes(export(*train()))
    metrics = evaluate(forwardpass.load(FOLDER))
    write_card(FOLDER, metrics)
    print(metrics)


def _ordinary(random: np.random.Generator, rows: int) -> Columns:
    """Payments of everyday life."""
    region = _choose(random, REGIONS, rows, (0.93, 0.05, 0.02))
    far = np.select([region == "home", region == "neighbour"], [6.0, 300.0], 5000.0)
    return {
        "amount": _cents(random.lognormal(3.3, 1.0, rows)),
        "merchant_category": _choose(
            random, MERCHANTS, rows, (0.30, 0.18, 0.10, 0.10, 0.06, 0.05, 0.09, 0.02, 0.02, 0.08)
        ),
        "channel": _choose(random, CHANNELS, rows, (0.27, 0.38, 0.28, 0.07)),
        "region": region,
        "hour": np.clip(np.round(random.normal(14, 4.2, rows)), 0, 23),
        "account_age": np.round(random.gamma(2.0, 900.0, rows)),
        "transactions_last_day": random.poisson(1.6, rows),
        "distance_from_home": np.minimum(np.round(far * random.lognormal(0, 0.9, rows), 1), 20_000),
    }


def _testing(random: np.random.Generator, rows: int) -> Columns:
    """Many small payments online: a stolen number is tried out, or somebody likes games."""
    return {
        "amount": _cents(random.lognormal(1.6, 0.9, rows)),
        "merchant_category": _choose(random, ("digital_goods", "gift_cards", "gambling"), rows, (0.6, 0.25, 0.15)),
        "channel": _choose(random, ("online",), rows, (1.0,)),
        "transactions_last_day": random.poisson(7.0, rows),
        "account_age": np.round(random.gamma(2.0, 700.0, rows)),
    }


def _abroad(random: np.random.Generator, rows: int) -> Columns:
    """Payments of a journey."""
    return {
        "amount": _cents(random.lognormal(4.2, 0.9, rows)),
        "merchant_category": _choose(
            random, ("travel", "restaurant", "clothing", "electronics"), rows, (0.4, 0.3, 0.2, 0.1)
        ),
        "region": _choose(random, REGIONS[1:], rows, (0.5, 0.5)),
        "distance_from_home": np.round(random.uniform(200, 9000, rows), 1),
        "transactions_last_day": random.poisson(3.0, rows),
    }


def _abroad_at_night(random: np.random.Generator, rows: int) -> Columns:
    """A copied card, far away, while its owner sleeps."""
    return {
        "amount": _cents(random.lognormal(5.6, 0.8, rows)),
        "merchant_category": _choose(
            random, ("electronics", "clothing", "gift_cards", "travel"), rows, (0.4, 0.2, 0.2, 0.2)
        ),
        "channel": _choose(random, ("online", "chip", "atm"), rows, (0.4, 0.2, 0.4)),
        "region": _choose(random, REGIONS[1:], rows, (0.3, 0.7)),
        "hour": np.round(random.normal(2.5, 2.5, rows)) % 24,
        "distance_from_home": np.round(random.uniform(500, 12_000, rows), 1),
    }


def _new_account(random: np.random.Generator, rows: int) -> Columns:
    """An account opened in a false name is spent at once."""
    return {
        "amount": _cents(random.lognormal(5.8, 0.7, rows)),
        "merchant_category": _choose(random, ("electronics", "gift_cards", "gambling"), rows, (0.5, 0.35, 0.15)),
        "account_age": np.round(random.exponential(25, rows)),
        "transactions_last_day": random.poisson(4.0, rows),
    }


def _put(columns: Columns, where: Labels, values: Columns) -> None:
    for name, value in values.items():
        columns[name] = np.where(where, value, columns[name])


def _choose(random: np.random.Generator, names: tuple[str, ...], rows: int, shares: tuple[float, ...]) -> NDArray[Any]:
    return np.array(names, dtype=object)[random.choice(len(names), rows, p=shares)]


def _cents(amounts: NDArray[np.float64]) -> NDArray[Any]:
    return np.round(np.clip(amounts, 0.5, 20_000), 2)


if __name__ == "__main__":
    main()
