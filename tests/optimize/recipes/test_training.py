"""Recipes that train, on a small convolutional network and real handwritten digits (8 by 8 pixels)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.optimize.recipes import parents

from forwardpass.errors import InvalidModel
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes import combine
from forwardpass.optimize.recipes.distill import Distill, soft_loss
from forwardpass.optimize.recipes.export import export
from forwardpass.optimize.recipes.graph import Graph, read_graph
from forwardpass.optimize.recipes.prune import Prune, prune_channels
from forwardpass.optimize.recipes.quantize import StaticInt8
from forwardpass.optimize.recipes.source import load_source
from forwardpass.optimize.recipes.training import Schedule, seeded, train
from forwardpass.types import Array, Columns

torch: Any = pytest.importorskip("torch", reason="these recipes train PyTorch models")

TAUGHT = Schedule(epochs=8, seconds=240.0, rate=1e-2)
SHORT = Schedule(epochs=3, seconds=120.0, rate=3e-3)
RECIPES = (Prune(0.5, SHORT), Distill(TAUGHT))
SOURCE = """
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

def create_model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10))
    if WEIGHTS.is_file():
        model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model

def training_data():
    digits = load_digits()
    return {"image": digits.images[:1200, None].astype(np.float32) / 16}, digits.target[:1200]
"""
GRAPH = Graph(inputs={"image": ("rows", 1, 8, 8)}, outputs={"scores": ("rows", 10)})


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Parent, Columns, Array]:
    """A network trained here, as a parent with its source; held-out images and their labels."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("source")
    file = folder / "source.py"
    file.write_text(f"from pathlib import Path\nWEIGHTS = Path({str(folder / 'weights.pt')!r})\n{SOURCE}")
    source = load_source(file, GRAPH.inputs)
    inputs = list(source.inputs.values())
    with seeded():
        train(source.model, inputs, [source.labels], source.loss, SHORT)
    torch.save(source.model.state_dict(), folder / "weights.pt")
    (folder / "digits").mkdir()
    example = dict(zip(source.inputs, source.example, strict=True))
    export(source.model, example, GRAPH, folder / "digits" / "model.onnx")
    table = load_digits()
    images = table.images[:, None].astype(np.float32) / 16
    parent = parents.parent(folder / "digits", {"image": images[:128]}, file)
    return parent, {"image": images[1200:]}, table.target[1200:]


def accuracy(folder: Path, rows: Columns, labels: Array) -> float:
    return float((parents.answer(folder, rows)["scores"].argmax(1) == labels).mean())


def weights(folder: Path) -> int:
    return (folder / "model.onnx").stat().st_size


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_parent_is_exported_with_its_axes(digits: tuple[Parent, Columns, Array]) -> None:
    parent, rows, labels = digits
    graph = read_graph(parent.files.artifact)
    assert (graph.inputs, graph.outputs) == (GRAPH.inputs, GRAPH.outputs)
    assert accuracy(parent.files.folder, rows, labels) > 0.9


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_smaller_network_is_nearly_as_good(
    recipe: Prune | Distill, digits: tuple[Parent, Columns, Array], folder: Path
) -> None:
    parent, rows, labels = digits
    assert recipe.unsuitable(parent) == ""
    recipe.make(parent, folder)
    parents.assert_whole(folder, parent)
    assert weights(folder) < 0.6 * weights(parent.files.folder)
    assert accuracy(folder, rows, labels) > accuracy(parent.files.folder, rows, labels) - 0.08
    assert read_graph(folder / "model.onnx").inputs == GRAPH.inputs


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pruned_then_quantised(digits: tuple[Parent, Columns, Array], folder: Path) -> None:
    parent, rows, labels = digits
    recipe = combine(StaticInt8(), Prune(0.3, SHORT))
    assert recipe is not None
    recipe.make(parent, folder)
    parents.assert_whole(folder, parent)
    assert read_graph(folder / "model.onnx").quantised
    assert accuracy(folder, rows, labels) > accuracy(parent.files.folder, rows, labels) - 0.05


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3)).eval()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights() -> None:
    inputs, labels = torch.randn(100, 8), torch.arange(100) % 3
    before = torch.random.get_rng_state()
    models = []
    for _ in range(2):
        with seeded():
            model = network()
            steps = train(model, [inputs], [labels], torch.nn.functional.cross_entropy, Schedule(2, 10.0))
        models.append(model)
    assert steps == 4
    assert torch.equal(models[0][0].weight, models[1][0].weight)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
def test_training_ends_when_the_time_is_up() -> None:
    seconds = iter(range(100))
    model = network()
    inputs, labels = torch.randn(64, 8), torch.arange(64) % 3
    schedule = Schedule(epochs=50, seconds=5.0)
    clock = lambda: float(next(seconds))  # noqa: E731
    assert train(model, [inputs], [labels], torch.nn.functional.cross_entropy, schedule, clock) == 5
    assert not model.training


def test_the_answering_layer_stays_whole() -> None:
    pytest.importorskip("torch_pruning", reason="pruning is done by it")
    model = network()
    pruned = prune_channels(model, (torch.randn(3, 8),), 0.5)
    assert pruned[0].weight.shape == (16, 8)
    assert pruned[2].weight.shape == (3, 16)
    assert model[0].weight.shape == (32, 8), "the model given is not touched"


def test_a_model_without_hidden_layers_is_not_pruned() -> None:
    pytest.importorskip("torch_pruning", reason="pruning is done by it")
    with pytest.raises(InvalidModel, match="no channel can be pruned"):
        prune_channels(torch.nn.Linear(8, 3), (torch.randn(3, 8),), 0.5)


def test_channels_of_least_norm_leave() -> None:
    pytest.importorskip("torch_pruning", reason="pruning is done by it")
    model = network()
    with torch.no_grad():
        model[0].weight[::2] *= 1e-3
        model[2].weight[:, ::2] *= 1e-3
    kept = prune_channels(model, (torch.randn(3, 8),), 0.5)[0].weight
    assert torch.equal(kept, model[0].weight[1::2])


def test_the_soft_loss_is_hintons() -> None:
    scores, taught = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[3.0, 0.0, -1.0]])
    student, teacher = (torch.softmax(values / 4.0, 1) for values in (scores, taught))
    expected = 16.0 * (teacher * (teacher.log() - student.log())).sum()
    assert soft_loss(scores, taught, 4.0).item() == pytest.approx(expected.item(), rel=1e-5)
    assert soft_loss(taught, taught, 4.0).item() == pytest.approx(0.0, abs=1e-6)
