"""PyTorch: runs ``.pt2`` artifacts (``torch.export.save``) on the CPU or on a CUDA device.

Takes tensors and gives tensors; a program that changes its own buffers is refused, since a backend keeps no state.
How a program is loaded and what it declares is in ``torch_program``. Knows no ``model.yaml`` and no requests. The
CUDA parts follow PyTorch's documentation and are untested: no machine with a GPU was at hand.
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.backends.base import Backend
from forwardpass.backends.checks import check_columns
from forwardpass.backends.torch_program import TORCH_TYPES, load_program, read_spec, short_reason
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidInput, InvalidModel
from forwardpass.types import Array, Columns, DType, TensorSpec

torch: Any = import_module("torch")  # typed Any: it may be missing where types are checked
_pytree: Any = import_module("torch.utils._pytree")
_passes: Any = import_module("torch.export.passes")

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_GRAPHS = 16  # shapes for which a CUDA graph is kept; each keeps its own tensors on the device


class TorchBackend(Backend):
    """One exported program.

    Inputs have the program's own names. A program that returns one tensor calls it ``output``, one that returns a
    dictionary names its outputs by the keys; any other structure gives ``output_0``, ``output_1`` … in flat order.
    Free axes are those that were dynamic at export. ``precision`` bf16 and fp16 compute under autocast; outputs
    keep their declared types.
    """

    name = "torch"

    def __init__(self, artifact: Path, threads: int, config: BackendConfig | None = None) -> None:
        """Load an artifact to compute with ``threads`` threads; ``InvalidModel`` if it cannot be used."""
        config = config or BackendConfig()
        if config.device == "cuda" and not torch.cuda.is_available():
            raise InvalidModel(f"{artifact.name}: PyTorch finds no CUDA device here; set `device: cpu` in model.yaml")
        torch.set_num_threads(threads)
        program = load_program(artifact)
        spec = read_spec(artifact, program)
        self.inputs, self.outputs, self.batched = spec.inputs, spec.outputs, spec.batched
        self._arguments, self._in_spec = spec.arguments, program.call_spec.in_spec
        self._threads = threads
        self._copies_inputs = spec.changes_inputs and config.device == "cpu"
        self._autocast: Any = nullcontext
        if precision := _PRECISIONS.get(config.precision):
            # Weights are cast anew in each run: a cache would not outlive it, and may not be recorded in a graph.
            self._autocast = lambda: torch.autocast(config.device, dtype=precision, cache_enabled=False)
        try:
            program = _passes.move_to_device_pass(program, config.device)
        except RuntimeError as reason:
            raise InvalidModel(f"{artifact.name}: cannot be moved to {config.device}: {short_reason(reason)}") from None
        self._own_memory = {_memory(tensor) for tensor in (*program.state_dict.values(), *_constants(program))}
        # Guards are Python source inside the archive, and the hook that checks shapes costs more than a small program
        # computes (half of 350 µs); `run` checks shapes itself.
        self._module: Any = program.module(check_guards=False)
        self._module._forward_pre_hooks.clear()
        self._shared, self._longest = spec.shared, spec.longest
        self._cuda = _Cuda(self._forward, graphs=not spec.changes_inputs) if config.device == "cuda" else None

    def run(self, columns: Columns) -> Columns:
        check_columns(columns, self.inputs)
        if self._shared:
            self._check_lengths(columns)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                given = [self._tensor(columns[spec.name]) for spec in self.inputs]
                answers = self._cuda.run(given) if self._cuda else self._owned(given, self._forward(given))
            return {spec.name: _to_numpy(tensor, spec) for spec, tensor in zip(self.outputs, answers, strict=True)}
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError) as reason:
            raise _run_error(reason) from None

    def close(self) -> None:
        del self._module  # memory is freed with the last reference
        if self._cuda:
            self._cuda.close()
        self._cuda = None

    def _forward(self, tensors: list[Any]) -> list[Any]:
        """The program on tensors in the order of ``inputs``, wherever they lie."""
        rest = iter(tensors)
        flat = [next(rest) if item.is_tensor else item.value for item in self._arguments]
        args, kwargs = _pytree.tree_unflatten(flat, self._in_spec)
        with self._autocast():
            answers: list[Any] = _pytree.tree_leaves(self._module(*args, **kwargs))
        return answers

    def _check_lengths(self, columns: Columns) -> None:
        lengths: dict[str, tuple[int, str]] = {}
        for name, axis, symbol in self._shared:
            size = columns[name].shape[axis]
            first, of = lengths.setdefault(symbol, (size, name))
            if size != first:
                raise InvalidInput(f"axis {axis} of input {name!r} is {size} long; that of {of!r} is {first}")
            if size > self._longest.get(symbol, size):
                raise InvalidInput(
                    f"axis {axis} of input {name!r} is {size} long; the artifact takes at most {self._longest[symbol]}"
                )

    def _tensor(self, array: Array) -> Any:
        """The column as a tensor, sharing its memory where the library can and the program leaves it alone."""
        array = np.ascontiguousarray(array)
        if self._copies_inputs or not array.flags.writeable:
            array = array.copy()
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def _owned(self, given: list[Any], answers: list[Any]) -> list[Any]:
        """The answers as the caller's own: what shares memory with inputs or weights is copied."""
        taken = self._own_memory | {_memory(tensor) for tensor in given}
        return [tensor.clone() if _memory(tensor) in taken else tensor for tensor in answers]


class _Cuda:
    """Runs a program on a stream of its own: pinned memory, copies that do not wait, graphs for shapes seen before.

    Capture follows PyTorch's recipe for whole-network graphs: warm up on a side stream, record once, then for each
    batch copy into the recorded inputs and replay. A shape is recorded when it comes for the second time.
    """

    def __init__(self, forward: Any, graphs: bool) -> None:
        self._forward = forward
        self._stream = torch.cuda.Stream()
        self._seen: set[Any] = set()
        self._graphs: dict[Any, tuple[Any, list[Any], list[Any]]] = {}
        self._record_graphs = graphs

    def run(self, tensors: list[Any]) -> list[Any]:
        """Answers in pinned memory of the host, complete."""
        with torch.cuda.stream(self._stream):
            pinned = [tensor.pin_memory() for tensor in tensors]
            shapes = tuple(tuple(tensor.shape) for tensor in tensors)
            if shapes in self._seen and shapes not in self._graphs and self._may_record():
                self._record(shapes, pinned)
            if shapes in self._graphs:
                graph, inputs, outputs = self._graphs[shapes]
                for static, tensor in zip(inputs, pinned, strict=True):
                    static.copy_(tensor, non_blocking=True)
                graph.replay()
            else:
                outputs = self._forward([tensor.to("cuda", non_blocking=True) for tensor in pinned])
                if self._may_record():
                    self._seen.add(shapes)
            answers = [_pinned_copy(tensor) for tensor in outputs]
        self._stream.synchronize()
        return answers

    def close(self) -> None:
        self._graphs.clear()
        del self._forward

    def _may_record(self) -> bool:
        return self._record_graphs and len(self._graphs) < _MOST_GRAPHS and len(self._seen) < 64 * _MOST_GRAPHS

    def _record(self, shapes: Any, tensors: list[Any]) -> None:
        inputs = [tensor.to("cuda") for tensor in tensors]
        graph = torch.cuda.CUDAGraph()
        try:
            self._forward(inputs)
            self._stream.synchronize()
            with torch.cuda.graph(graph, stream=self._stream):
                outputs = self._forward(inputs)
        except RuntimeError:  # a program that waits for the device within cannot be recorded
            self._record_graphs = False
            return
        self._graphs[shapes] = (graph, inputs, outputs)


def _constants(program: Any) -> list[Any]:
    return [value for value in program.constants.values() if isinstance(value, torch.Tensor)]


def _memory(tensor: Any) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _pinned_copy(tensor: Any) -> Any:
    target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return target.copy_(tensor, non_blocking=True)


def _to_numpy(tensor: Any, spec: TensorSpec) -> Array:
    tensor = tensor.to(TORCH_TYPES[spec.dtype]).contiguous()
    if spec.dtype is DType.BF16:
        return np.asarray(tensor.view(torch.int16).numpy().view(DType.BF16.numpy))
    return np.asarray(tensor.numpy())


def _run_error(reason: Exception) -> ForwardpassError:
    text = str(reason)
    callers = ("size of tensor", "shape", "dimension", "out of range", "sizes", "index out of", "cannot be multiplied")
    if isinstance(reason, IndexError) or any(word in text for word in callers):
        return InvalidInput(f"the artifact cannot run this input: {short_reason(reason)}")
    return BackendFailed(f"the artifact failed: {short_reason(reason)}")
