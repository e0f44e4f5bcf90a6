"""Trains `breast-cancer`: thirty measurements of cell nuclei -> malignant or benign.

Data: scikit-learn's bundled Wisconsin diagnostic table, 569 real rows. The artifact is a bare ONNX
file with the scaler inside the graph and no model.yaml: it is served from its own metadata.
Run `python examples/training/breast_cancer.py`; it rewrites the artifact and the card's figures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split

import forwardpass

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.training.model_card import write_card

FOLDER = Path(__file__).resolve().parents[1] / "models" / "breast-cancer"
ARTIFACT = FOLDER / "model.onnx"
MALIGNANT = 0  # the table's own coding; 1 is benign


def split() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Training and held-out features [n, 30], then their labels [n]; a quarter is held out."""
    table = load_breast_cancer()
    features = table.data.astype(np.float32)
    train, held_out, labels, held_out_labels = train_test_split(
        features, table.target.astype(np.int64), test_size=0.25, stratify=table.target, random_state=0
    )
    return train, held_out, labels, held_out_labels


def evaluate(model: forwardpass.Engine) -> dict[str, float]:
    """Figures on the held-out rows; malignant is the class to find."""
    _, features, _, labels = split()
    answer = model.predict({"features": features})
    found, truth = answer["label"] == MALIGNANT, labels == MALIGNANT
    return {
        "held_out_rows": len(labels),
        "accuracy": round(float(accuracy_score(truth, found)), 4),
        "precision_malignant": round(float(precision_score(truth, found)), 4),
        "recall_malignant": round(float(recall_score(truth, found)), 4),
        "roc_auc": round(float(roc_auc_score(truth, answer["probabilities"][:, MALIGNANT])), 4),
    }


def train() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, _, labels, _ = split()
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000)).fit(features, labels)


def export(classifier: Any) -> bytes:
    """The classifier as ONNX, its tensors and their axes named for people."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    table = load_breast_cancer()
    model = convert_sklearn(
        classifier,
        name="breast-cancer",
        initial_types=[("features", FloatTensorType([None, 30]))],
        final_types=[("label", Int64TensorType([None])), ("probabilities", FloatTensorType([None, 2]))],
        options={id(classifier): {"zipmap": False}},
        target_opset=18,
    )
    model.opset_import.sort(key=lambda opset: opset.domain)  # their order is not the same in every process
    for tensor in [*model.graph.input, *model.graph.output]:
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.doc_string = "label and probabilities: 0 malignant, 1 benign"
    for key, names in (("features", table.feature_names), ("labels", table.target_names)):
        model.metadata_props.add(key=key, value=",".join(names))
    return bytes(model.SerializeToString())


def main() -> None:
    ARTIFACT.write_bytes(export(train()))
    metrics = evaluate(forwardpass.load(FOLDER))
    write_card(FOLDER, metrics)
    print(metrics)


if __name__ == "__main__":
    main()
