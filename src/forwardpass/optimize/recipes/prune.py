"""Structured pruning: whole channels leave the network, which then trains again to make up for them.

Channels of least norm over all the layers that a channel runs through go first (Fang et al. 2023,
"DepGraph", by torch-pruning). Single weights are never cut: zeros are multiplied as any number is. Knows no
data format; the parent's axes and names come back in the export.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

from forwardpass.errors import InvalidModel
from forwardpass.optimize.recipe import Parent, write_model
from forwardpass.optimize.recipes.export import export
from forwardpass.optimize.recipes.graph import read_graph
from forwardpass.optimize.recipes.source import Source, first, load_source
from forwardpass.optimize.recipes.stage import Stage, StagedRecipe, missing, quietly
from forwardpass.optimize.recipes.training import Schedule, seeded, train

ARTIFACT = "model.onnx"
RATIOS = (0.3, 0.5, 0.7)
SCHEDULE = Schedule(epochs=10, seconds=90.0)
ROUND_TO = 4  # channels left are a multiple: vector instructions take several at once


class TrainingRecipe(StagedRecipe):
    """A recipe that trains another network by the user's source file, and exports it as the parent's was."""

    stages = (Stage.TRAINING,)

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def unsuitable(self, parent: Parent) -> str:
        return not_trainable(parent, "torch_pruning")

    def make(self, parent: Parent, folder: Path) -> None:
        graph = read_graph(parent.files.artifact)
        assert parent.source is not None
        source = load_source(parent.source, graph.inputs)
        with seeded(self.schedule.seed):
            model = self.trained(source)
            export(model, dict(zip(source.inputs, source.example, strict=True)), graph, folder / ARTIFACT)
        write_model(parent, folder, folder / ARTIFACT)

    @abstractmethod
    def trained(self, source: Source) -> Any:
        """The network, a ``torch.nn.Module`` that takes and gives what the source's model does."""


class Prune(TrainingRecipe):
    """``ratio`` of the channels of every hidden layer leave; then some epochs of training."""

    def __init__(self, ratio: float, schedule: Schedule = SCHEDULE) -> None:
        super().__init__(schedule)
        self.ratio = ratio
        self.name = f"prune-{ratio:.0%}".replace("%", "")
        self.title = f"{ratio:.0%} of the channels pruned, trained again"

    def trained(self, source: Source) -> Any:
        model = prune_channels(source.model, source.example, self.ratio)
        train(model, list(source.inputs.values()), [source.labels], source.loss, self.schedule)
        return model


def not_trainable(parent: Parent, *libraries: str) -> str:
    """Why no recipe can train this model, or ""."""
    if parent.source is None:
        return "training needs the PyTorch model and its data, and no source file is given"
    if lacking := missing("torch", "onnx", "onnxscript", *libraries):
        return lacking
    if parent.files.artifact.suffix != ".onnx":
        return f"trained models are exported as .onnx; the model is {parent.files.artifact.suffix}"
    return ""


def prune_channels(model: Any, example: tuple[Any, ...], ratio: float) -> Any:
    """A copy of a ``torch.nn.Module`` without ``ratio`` of the channels of its hidden layers.

    The layers whose channels are the model's answers stay whole, and so does attention. Raises
    ``InvalidModel`` where nothing can leave, or what is left does not answer in the same shape.
    """
    pruning: Any = import_module("torch_pruning")
    model = deepcopy(model)
    before = sum(weight.numel() for weight in model.parameters())
    shape = first(model(*example)).shape
    with quietly():
        pruner = pruning.pruner.MagnitudePruner(
            model,
            example,
            importance=pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[*_answering(pruning, model, example), *_attention(model)],
            round_to=ROUND_TO,
        )
        pruner.step()
    if sum(weight.numel() for weight in model.parameters()) == before:
        raise InvalidModel("no channel can be pruned: the model has no hidden layers of its own")
    if first(model(*example)).shape != shape:
        raise InvalidModel("pruned, the model would answer in another shape")
    return model


def _attention(model: Any) -> list[Any]:
    """Attention with its projections: its heads share widths that pruning would pull apart."""
    torch: Any = import_module("torch")
    found = [module for module in model.modules() if isinstance(module, torch.nn.MultiheadAttention)]
    return [part for module in found for part in module.modules()]


def _answering(pruning: Any, model: Any, example: tuple[Any, ...]) -> list[Any]:
    """The layers whose channels are outputs: walking back from every end of the graph, the first ones met."""
    with quietly():
        nodes = pruning.DependencyGraph().build_dependency(model, example_inputs=example).module2node.values()
    return list(dict.fromkeys(found for node in nodes if not node.outputs for found in _first_layers(node, set())))


def _first_layers(node: Any, seen: set[int]) -> Iterator[Any]:
    torch: Any = import_module("torch")
    if id(node) in seen:
        return
    seen.add(id(node))
    layers = (torch.nn.Linear, torch.nn.modules.conv._ConvNd, torch.nn.Embedding, torch.nn.RNNBase)
    if isinstance(node.module, layers):
        yield node.module
        return
    for earlier in node.inputs:
        yield from _first_layers(earlier, seen)
