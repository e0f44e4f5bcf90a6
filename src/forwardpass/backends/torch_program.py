"""An exported program of PyTorch: loading it safely, and what it takes and gives.

In flow a ``.pt2`` file, out flows the program and a ``ProgramSpec``: names, types and shapes of its tensors, and what
it writes to. What would run code of the archive's own is refused before it is loaded (``torch_archive``). Runs
nothing; a part of the torch backend.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from forwardpass.backends.checks import one_line
from forwardpass.backends.safety import require_code_allowed
from forwardpass.backends.torch_archive import COMPILED, code_in_archive
from forwardpass.errors import InvalidModel
from forwardpass.types import DType, TensorSpec

torch: Any = import_module("torch")  # typed Any: it may be missing where types are checked
_archive: Any = import_module("torch.export.pt2_archive._package")

_DTYPES = {
    torch.bool: DType.BOOL,
    torch.uint8: DType.UINT8,
    torch.uint16: DType.UINT16,
    torch.uint32: DType.UINT32,
    torch.uint64: DType.UINT64,
    torch.int8: DType.INT8,
    torch.int16: DType.INT16,
    torch.int32: DType.INT32,
    torch.int64: DType.INT64,
    torch.float16: DType.FP16,
    torch.bfloat16: DType.BF16,
    torch.float32: DType.FP32,
    torch.float64: DType.FP64,
}
TORCH_TYPES = {dtype: own for own, dtype in _DTYPES.items()}
_LOADING = threading.Lock()  # the environment, which loading sets for a moment, is the whole process's


@dataclass(frozen=True)
class Argument:
    """One flat argument of a program: a tensor by name, or a plain value that was fixed at export."""

    name: str
    value: Any = None
    is_tensor: bool = True


@dataclass(frozen=True)
class ProgramSpec:
    """What a program takes and gives; ``arguments`` are all it takes, flat, with the plain values among them.

    ``shared`` are the axes that must be of one length, each as input, number of the axis and the name they share;
    ``longest`` the greatest length that such a name, or a lone axis, may have.
    """

    arguments: tuple[Argument, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    changes_inputs: bool
    shared: tuple[tuple[str, int, str], ...]
    longest: dict[str, int]


def load_program(artifact: Path, allow_code: bool = False) -> Any:
    """The exported program in a ``.pt2``, without running any code of the archive's own unless that is allowed.

    The operator allows it by the model's name, a caller with ``allow_code``. Raises ``InvalidModel``.
    """
    if not artifact.is_file():
        raise InvalidModel(f"{artifact.name}: there is no such file in {artifact.parent}")
    try:
        with _archive.PT2ArchiveReader(str(artifact)) as reader:
            names = reader.get_file_names()
            why = code_in_archive(names, reader.read_bytes)
    except (RuntimeError, AssertionError, ValueError, KeyError, AttributeError, TypeError):
        raise InvalidModel(
            f"{artifact.name}: is not a .pt2 archive of torch.export.save, is cut short, or was written by PyTorch 2.7 "
            "or older; export the model again"
        ) from None
    if not any(name.startswith("models/") for name in names):
        compiled = "only compiled code" if any(name.startswith(COMPILED) for name in names) else "no program"
        raise InvalidModel(f"{artifact.name}: holds {compiled}; write the exported program with torch.export.save")
    if why and not allow_code:
        require_code_allowed(artifact, why)
    try:
        with warnings.catch_warnings(), nullcontext() if why else _weights_only():
            warnings.simplefilter("ignore")
            programs = _archive.load_pt2(str(artifact)).exported_programs
    # Many kinds, of many libraries within; whatever goes wrong, the artifact cannot be used.
    except Exception as reason:  # noqa: BLE001
        raise InvalidModel(f"{artifact.name}: PyTorch cannot load it: {short_reason(reason)}") from None
    return programs.get("model") or next(iter(programs.values()))


def read_spec(artifact: Path, program: Any) -> ProgramSpec:
    """Raises ``InvalidModel`` where the program keeps state, or takes or gives what cannot be served."""
    changes = _changes(program)
    if changed := sorted({*changes.buffers_to_mutate.values(), *changes.parameters_to_mutate.values()}):
        raise InvalidModel(
            f"{artifact.name}: the program changes its own buffers when it runs ({', '.join(changed[:3])}); "
            "call model.eval() before exporting it"
        )
    values = _tensor_values(program)
    arguments = _arguments(program)
    taken = [item.name for item in arguments if item.is_tensor]
    given = [item.arg.name for item in program.graph_signature.output_specs if item.kind.name == "USER_OUTPUT"]
    names = _output_names(program.call_spec.out_spec, len(given))
    inputs = [_spec(artifact, "input", name, values.get(name)) for name in taken]
    outputs = [_spec(artifact, "output", name, values.get(own)) for name, own in zip(names, given, strict=True)]
    batched = _is_batched([values[name].shape[:1] for name in (*taken, *given)])
    shared, longest = _bounded_axes(program, {name: values[name].shape for name in taken})
    changes_inputs = bool(changes.user_inputs_to_mutate)
    return ProgramSpec(tuple(arguments), tuple(inputs), tuple(outputs), batched, changes_inputs, shared, longest)


def _bounded_axes(program: Any, shapes: dict[str, Any]) -> tuple[tuple[tuple[str, int, str], ...], dict[str, int]]:
    """The dynamic axes that are bound to another one or to a greatest length, and those lengths by symbol."""
    axes = [
        (name, number, str(axis))
        for name, shape in shapes.items()
        for number, axis in enumerate(shape)
        if not isinstance(axis, int)
    ]
    longest: dict[str, int] = {}
    for symbol, bounds in program.range_constraints.items():
        with suppress(TypeError, ValueError, OverflowError, AttributeError):  # no number: there is no bound
            longest[str(symbol)] = int(bounds.upper)
    counts = Counter(symbol for _, _, symbol in axes)
    bound = tuple(item for item in axes if counts[item[2]] > 1 or item[2] in longest)
    return bound, longest


@contextmanager
def _weights_only() -> Iterator[None]:
    """No pickle runs code: the library would try again without its safe reader where that one fails."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    with _LOADING:
        before = os.environ.get(key)
        os.environ[key] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[key]
            else:
                os.environ[key] = before


def _arguments(program: Any) -> list[Argument]:
    found = []
    for spec in program.graph_signature.input_specs:
        if spec.kind.name == "USER_INPUT":
            is_tensor = type(spec.arg).__name__ == "TensorArgument"
            found.append(Argument(spec.arg.name, getattr(spec.arg, "value", None), is_tensor))
    return found


def _changes(program: Any) -> Any:
    """A signature that says what the program writes to; an export keeps operators that write in place as they are."""
    if any(_may_write(node) for node in program.graph.nodes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = program.run_decompositions({})
    return program.graph_signature


def _may_write(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    trains = schema.name in ("aten::batch_norm", "aten::instance_norm") and node.args[5]  # its schema does not tell
    return bool(schema.is_mutable or trains)


def _tensor_values(program: Any) -> dict[str, Any]:
    """Name of each tensor of the graph -> a stand-in with its type and shape."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def _output_names(spec: Any, count: int) -> list[str]:
    if spec.is_leaf():
        return ["output"]
    if spec.type is dict and all(child.is_leaf() for child in spec.children()):
        return [str(key) for key in spec.context]
    return [f"output_{number}" for number in range(count)]


def _spec(artifact: Path, kind: str, name: str, value: Any) -> TensorSpec:
    if value is None:
        raise InvalidModel(f"{artifact.name}: {kind} {name!r} is no tensor; let the model take and return tensors only")
    if value.dtype not in _DTYPES:
        raise InvalidModel(
            f"{artifact.name}: {kind} {name!r} is of type {value.dtype}, which cannot be served; "
            f"export the model with one of {', '.join(sorted(TORCH_TYPES))}"
        )
    return TensorSpec(
        name, _DTYPES[value.dtype], tuple(axis if isinstance(axis, int) else None for axis in value.shape)
    )


def _is_batched(firsts: list[Any]) -> bool:
    """Whether all first axes are one and the same dynamic axis, by its symbol at export."""
    if not firsts or not all(len(axes) and not isinstance(axes[0], int) for axes in firsts):
        return False
    symbols = {axes[0].node.expr for axes in firsts}
    return len(symbols) == 1 and all(symbol.is_Symbol for symbol in symbols)


def short_reason(reason: Exception) -> str:
    """The library's message in one line, without the tracebacks of C++ and Python that it may hold."""
    text = str(reason).split("Exception raised from")[0].split("\nWhile executing")[0]
    if "Original exception" in text:
        text = text.strip().splitlines()[-1]
    return one_line(text)
