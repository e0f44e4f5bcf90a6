"""PyTorch networks: exported with a free batch axis, answered by the torch backend, and their ONNX by torch.onnx.

Takes an ``nn.Module`` with sample inputs, or an exported program. What is compared is the exported program; that
export keeps what the module computes is torch's own promise.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.optimize.convert.base import Trained
from forwardpass.optimize.convert.rows import SEED
from forwardpass.types import Array, Columns

Sample = Mapping[str, Any] | tuple[Any, ...] | list[Any]


class TorchModel(Trained):
    """An exported program; ``sample`` are rows like those that it will get, by input name."""

    native = ".pt2"
    drawn = "drawn like the sample: its mean and spread, its range of whole numbers"

    def __init__(self, program: Any, title: str, sample: Columns | None = None) -> None:
        torch = import_module("torch")
        from forwardpass.backends.torch import TorchBackend

        self.title = title
        self.versions = {"torch": str(torch.__version__)}
        self._program = program
        with tempfile.TemporaryDirectory() as folder:
            self.write_native(Path(folder) / "model.pt2")
            self._backend = TorchBackend(Path(folder) / "model.pt2", threads=1)
        self._sample = sample or self._example()
        if not self._backend.batched:
            self.drawn = "the sample itself, since rows are not batched"

    def predict(self, columns: Columns) -> Columns:
        return self._backend.run(columns)

    def draw(self, rows: int) -> Columns:
        if not self._backend.batched:
            return self._sample
        random = np.random.default_rng(SEED)
        return {name: _like(array, rows, random) for name, array in self._sample.items()}

    def columns(self, table: Columns) -> Columns:
        names = [spec.name for spec in self._backend.inputs]
        if len(names) == 1 and len(table) == 1:
            table = {names[0]: next(iter(table.values()))}
        if missing := [name for name in names if name not in table]:
            raise InvalidInput(f"the data has no array {missing[0]!r}; it has {sorted(table)}")
        return {spec.name: np.asarray(table[spec.name], spec.dtype.numpy) for spec in self._backend.inputs}

    def write_onnx(self, path: Path) -> None:
        torch = import_module("torch")
        inputs = [spec.name for spec in self._backend.inputs]
        outputs = [spec.name for spec in self._backend.outputs]
        try:
            with _quiet():
                model = torch.onnx.export(
                    self._program, input_names=inputs, output_names=outputs, dynamo=True, verbose=False
                )
                model.save(str(path), external_data=False)
        # Export fails in many ways, each with its own error.
        except Exception as reason:  # noqa: BLE001
            raise InvalidModel(
                f"{self.title} cannot be converted to ONNX: torch.onnx: {_line(str(reason))}; "
                "keep it as it is with --native"
            ) from None

    def write_native(self, path: Path) -> None:
        torch = import_module("torch")
        with _quiet():
            torch.export.save(self._program, path)

    def _example(self) -> Columns:
        """The example inputs that the program was exported with."""
        pytree = import_module("torch.utils._pytree")
        tensors = [item for item in pytree.tree_leaves(self._program.example_inputs) if hasattr(item, "numpy")]
        if len(tensors) != len(self._backend.inputs):
            raise InvalidModel(f"{self.title} keeps no example inputs; give some with --sample")
        return {spec.name: tensor.numpy() for spec, tensor in zip(self._backend.inputs, tensors, strict=True)}


def export_module(module: Any, sample: Sample | None) -> TorchModel:
    """Export a network as it computes in evaluation, with the first axis of every input free.

    ``sample`` are arrays or tensors, by position or by the names of ``forward``'s parameters. Raises
    ``InvalidModel`` where it cannot be exported.
    """
    title = type(module).__name__
    if not sample:
        raise InvalidModel(f"{title}: a PyTorch network is exported with sample inputs; give them with --sample")
    by_name = isinstance(sample, Mapping)
    items = dict(sample) if isinstance(sample, Mapping) else {str(n): item for n, item in enumerate(sample)}
    tensors = {name: _two_rows(title, name, item) for name, item in items.items()}
    torch = import_module("torch")
    rows = torch.export.Dim("batch")
    axes = {name: {0: rows} for name in tensors}
    args = () if by_name else tuple(tensors.values())
    kwargs = tensors if by_name else None
    was_training = module.training
    try:
        with _quiet():
            program = torch.export.export(
                module.eval(), args, kwargs, dynamic_shapes=axes if by_name else tuple(axes.values())
            )
    # Export fails in many ways, each with its own error.
    except Exception as reason:  # noqa: BLE001
        raise InvalidModel(
            f"{title} cannot be exported with a free batch axis: torch.export: {_line(str(reason))}"
        ) from None
    finally:
        module.train(was_training)
    return TorchModel(program, title)


def _two_rows(title: str, name: str, item: Any) -> Any:
    """A sample as a tensor with at least two rows, since export takes an axis of one for a fixed one."""
    torch = import_module("torch")
    tensor = item.detach() if hasattr(item, "detach") else torch.from_numpy(np.array(item))
    if tensor.ndim == 0 or len(tensor) == 0:
        raise InvalidModel(f"{title}: the sample {name!r} has no rows; its first axis must be rows")
    return tensor if len(tensor) > 1 else torch.cat([tensor, tensor])


def _like(array: Array, rows: int, random: np.random.Generator) -> Array:
    shape = (rows, *array.shape[1:])
    if array.dtype.kind == "b":
        return random.random(shape) < 0.5
    if array.dtype.kind in "iu":
        return random.integers(array.min(), array.max(), shape, dtype=array.dtype, endpoint=True)
    wide = array.astype(np.float64)
    return random.normal(wide.mean(), wide.std() or 1.0, shape).astype(array.dtype)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and log lines of exporting, which are about torch's own parts."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _line(text: str) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("\x1b")]
    line = next(iter(lines), "no reason given")
    return line if len(line) <= 200 else line[:199] + "…"
