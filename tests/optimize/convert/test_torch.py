"""PyTorch networks: exported, converted, compared."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardpass import load
from forwardpass.errors import InvalidModel
from forwardpass.optimize.convert import import_model

pytest.importorskip("torch", reason="torch is not installed: an extra")
torch: Any = import_module("torch")


def two_inputs() -> Any:
    """Logits of ``left`` [rows, 4] and ``right`` [rows, 3]."""

    class Network(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = torch.nn.Linear(4, 8), torch.nn.Linear(3, 8)
            self.last = torch.nn.Linear(8, 2)

        def forward(self, left: Any, right: Any) -> Any:
            return {"logits": self.last(torch.relu(self.left(left) + self.right(right)))}

    return Network()


def convolutions() -> Any:
    layers = torch.nn
    return layers.Sequential(
        *(layers.Conv2d(1, 4, 3), layers.BatchNorm2d(4), layers.ReLU(), layers.AdaptiveAvgPool2d(1)),
        *(layers.Flatten(), layers.Dropout(), layers.Linear(4, 3)),
    )


SAMPLE = {"left": np.ones((1, 4), np.float32), "right": np.zeros((1, 3), np.float32)}


def test_a_network_in_its_own_format(folder: Path) -> None:
    network = convolutions().train()
    report = import_model(network, folder / "imported", sample=(torch.rand(1, 1, 8, 8),), native=True)
    assert report.artifact == "model.pt2"
    assert network.training, "the caller's network is left as it was"
    engine = load(folder / "imported")
    given = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    with torch.inference_mode():
        wanted = network.eval()(torch.from_numpy(given)).numpy()
    assert engine.signature.batched
    answer = engine.run({engine.signature.inputs[0].name: given})[0]["output"]
    assert np.allclose(answer, wanted, atol=1e-6)


@pytest.mark.slow  # the first conversion imports the converter: ten seconds
@pytest.mark.parametrize(
    ("make", "sample"), [(two_inputs, SAMPLE), (convolutions, (np.ones((2, 1, 8, 8), np.float32),))]
)
def test_a_network_as_onnx(make: Any, sample: Any, folder: Path) -> None:
    report = import_model(make(), folder / "imported", sample=sample)
    assert report.artifact == "model.onnx"
    assert report.comparison.beyond == 0
    engine = load(folder / "imported")
    assert engine.signature.batched
    if make is two_inputs:
        assert [spec.name for spec in engine.signature.inputs] == ["left", "right"]
        assert [spec.name for spec in engine.signature.outputs] == ["logits"]


def test_an_exported_program_needs_no_sample(folder: Path) -> None:
    program = torch.export.export(two_inputs(), (), {name: torch.from_numpy(array) for name, array in SAMPLE.items()})
    report = import_model(program, folder / "imported", native=True)
    assert report.comparison.rows == 1, "its axes are fixed: there is the one example"


def test_a_program_without_rows_is_compared_as_a_whole(folder: Path) -> None:
    class Total(torch.nn.Module):  # type: ignore[misc]
        def forward(self, numbers: Any) -> Any:
            return numbers.sum(), numbers * 2

    program = torch.export.export(Total(), (torch.ones(2, 3),))
    report = import_model(program, folder / "imported", native=True)
    assert (report.comparison.rows, report.comparison.largest) == (1, {"output_0": 0.0, "output_1": 0.0})
    (sample,) = json.loads((folder / "imported" / "sample.json").read_text())["instances"]
    assert sample == [[1.0] * 3] * 2


def test_a_network_without_a_sample_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="give them with --sample"):
        import_model(two_inputs(), folder / "imported")
    assert not list(folder.iterdir())


def test_a_network_that_cannot_be_exported_says_why(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"Sequential cannot be exported .*torch\.export: "):
        import_model(convolutions(), folder / "imported", sample=(np.ones((2, 5), np.float32),))
    assert not list(folder.iterdir())
