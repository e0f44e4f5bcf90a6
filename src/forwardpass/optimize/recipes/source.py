"""The user's Python file for recipes that train: the PyTorch model, its training data, perhaps a student.

    create_model() -> torch.nn.Module                     the trained model
    training_data() -> (inputs by name, labels)           arrays; inputs in the order of forward's arguments
    create_student() -> torch.nn.Module                   optional: a smaller network, not trained
    loss(outputs, labels) -> tensor                       optional; else cross-entropy or squared error

Running it is running the user's code, so it is run only where they name it. Knows no recipe.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from forwardpass.errors import InvalidModel, nearest
from forwardpass.types import Array

_MODULE = "forwardpass_source"


@dataclass(frozen=True)
class Source:
    """What the file gives.

    ``model`` is a ``torch.nn.Module`` in evaluation mode; ``inputs`` are tensors [rows, …] in the order of
    forward's arguments; ``labels`` is a tensor [rows, …], integers for classes. ``loss`` takes what the model
    gives and labels, and gives a scalar tensor. ``create_student`` is None where the file has none.
    """

    model: Any
    inputs: dict[str, Any]
    labels: Any
    loss: Callable[[Any, Any], Any]
    create_student: Callable[[], Any] | None

    @property
    def example(self) -> tuple[Any, ...]:
        """Three rows: a size that is no other axis's by chance, as two or one may be."""
        return tuple(tensor[:3] for tensor in self.inputs.values())


def load_source(file: Path, names: Mapping[str, Any]) -> Source:
    """Run the file. ``names`` are the parent's inputs, which the training data must have.

    Raises ``InvalidModel`` where the file lacks something or its data do not fit; what its own code raises
    comes through.
    """
    torch: Any = import_module("torch")
    module = _run(file)
    model = _call(module, file, "create_model")
    if not isinstance(model, torch.nn.Module):
        raise InvalidModel(f"{file.name}: create_model() gives {type(model).__name__}; it must give a torch.nn.Module")
    inputs, labels = _data(_call(module, file, "training_data"), file, names)
    return Source(
        model.eval(),
        {name: torch.from_numpy(array) for name, array in inputs.items()},
        torch.from_numpy(labels),
        getattr(module, "loss", default_loss),
        getattr(module, "create_student", None),
    )


def first(outputs: Any) -> Any:
    """A model's first output, which is the one that is trained."""
    if isinstance(outputs, Mapping):
        return next(iter(outputs.values()))
    return outputs[0] if isinstance(outputs, tuple | list) else outputs


def default_loss(outputs: Any, labels: Any) -> Any:
    """Cross-entropy of logits for labels that are classes, mean squared error for numbers."""
    functional: Any = import_module("torch.nn.functional")
    scores = first(outputs)
    if labels.is_floating_point():
        return functional.mse_loss(scores.reshape(labels.shape), labels.to(scores.dtype))
    return functional.cross_entropy(scores, labels.long())


def _run(file: Path) -> ModuleType:
    """The file as a module; modules beside it can be imported, as if it were run by itself."""
    spec = spec_from_file_location(_MODULE, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise InvalidModel(f"{file}: there is no such Python file")
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    module = module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses and pickles look their module up
    spec.loader.exec_module(module)
    return module


def _call(module: ModuleType, file: Path, name: str) -> Any:
    if not hasattr(module, name):
        raise InvalidModel(f"{file.name}: defines no {name}(); see docs/recipes.md for what it must define")
    return getattr(module, name)()


def _data(given: Any, file: Path, names: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Mapping)):
        raise InvalidModel(f"{file.name}: training_data() must give a tuple: inputs by name, and labels")
    inputs = {name: np.ascontiguousarray(array) for name, array in given[0].items()}
    labels = np.ascontiguousarray(given[1])
    for name in inputs:
        if name not in names:
            raise InvalidModel(f"{file.name}: the model has no input {name!r}.{nearest(name, names)}")
    for name in names:
        if name not in inputs:
            raise InvalidModel(f"{file.name}: training_data() gives no input {name!r}")
    rows = {name: len(array) for name, array in inputs.items()} | {"labels": len(labels)}
    if len(set(rows.values())) != 1 or len(labels) < 3:
        raise InvalidModel(f"{file.name}: training_data() must give as many labels as rows, three or more; got {rows}")
    return inputs, labels
