"""What every backend promises (``backends/base.py``), asked of each in the same words."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pytest
from tests.backends.makers import MAKERS, Made

from forwardpass.backends import Backend, create_backend
from forwardpass.backends.base import _BACKENDS
from forwardpass.config import BackendConfig
from forwardpass.errors import BackendFailed, InvalidInput
from forwardpass.types import Array, Columns, DType, TensorSpec

CASES = [*MAKERS, *(name for name in _BACKENDS if name not in MAKERS)]


@dataclass(frozen=True)
class Opened:
    backend: Backend
    artifact: Path
    config: BackendConfig

    @property
    def tolerance(self) -> float:
        return 1e-5 if self.config.precision == "fp32" else 0.1


@pytest.fixture(params=CASES)
def made(request: pytest.FixtureRequest, folder: Path) -> Made:
    if request.param not in MAKERS:
        pytest.skip(f"no maker for {request.param} in tests/backends/makers.py")
    artifact, config = MAKERS[request.param](folder)
    assert config.name == request.param.split()[0]
    return artifact, config


@pytest.fixture
def opened(made: Made) -> Iterator[Opened]:
    backend = create_backend(made[0], 1, made[1])
    yield Opened(backend, *made)
    backend.close()


def column(spec: TensorSpec, rows: int, seed: int = 0) -> Array:
    """Any values of the input's type; free axes get the length 3."""
    shape = (rows, *(3 if axis is None else axis for axis in spec.shape[1:]))
    random = np.random.default_rng(seed)
    if spec.dtype is DType.BYTES:
        return random.choice(np.array(["a", "b"], object), shape)
    if spec.dtype.is_float:
        return random.standard_normal(shape).astype(spec.dtype.numpy)
    return random.integers(0, 2, shape).astype(spec.dtype.numpy)


def columns(backend: Backend, rows: int, seed: int = 0) -> Columns:
    return {spec.name: column(spec, rows, seed) for spec in backend.inputs}


def assert_close(one: Array, other: Array, tolerance: float) -> None:
    if one.dtype.kind == "O":
        assert one.tolist() == other.tolist()
    else:
        np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=tolerance, atol=tolerance)


def test_it_says_what_it_takes_and_gives(opened: Opened) -> None:
    backend = opened.backend
    assert backend.name == opened.config.name
    assert backend.batched, "makers make artifacts whose first axis is rows"
    assert backend.inputs
    assert backend.outputs
    for spec in (*backend.inputs, *backend.outputs):
        assert spec.name
        assert isinstance(spec.dtype, DType)
        assert spec.shape[0] is None


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_every_declared_output_comes_with_its_rows(opened: Opened, rows: int) -> None:
    answer = opened.backend.run(columns(opened.backend, rows))
    assert list(answer) == [spec.name for spec in opened.backend.outputs]
    for spec in opened.backend.outputs:
        array = answer[spec.name]
        assert DType.of(array) is spec.dtype
        assert array.ndim == len(spec.shape)
        assert len(array) == rows
        assert all(axis in (None, size) for axis, size in zip(spec.shape, array.shape, strict=True))


def test_a_row_does_not_depend_on_its_neighbours(opened: Opened) -> None:
    given = columns(opened.backend, 5)
    together = opened.backend.run(given)
    for row in range(5):
        alone = opened.backend.run({name: array[row : row + 1] for name, array in given.items()})
        for name, array in alone.items():
            assert_close(array, together[name][row : row + 1], opened.tolerance)


def test_answers_differ_by_row(opened: Opened) -> None:
    """Else the test above would prove nothing."""
    answer = opened.backend.run(columns(opened.backend, 16))
    assert any(len({str(row) for row in array.tolist()}) > 1 for array in answer.values())


def test_the_next_run_leaves_the_last_answer_alone(opened: Opened) -> None:
    first = opened.backend.run(columns(opened.backend, 4))
    kept = {name: array.copy() for name, array in first.items()}
    other = opened.backend.run(columns(opened.backend, 4, seed=1))
    assert any(other[name].tolist() != array.tolist() for name, array in kept.items())
    for name, array in first.items():
        assert array.tolist() == kept[name].tolist()


def test_the_same_rows_give_the_same_answer(opened: Opened) -> None:
    given = columns(opened.backend, 4)
    first = opened.backend.run(given)
    opened.backend.run(columns(opened.backend, 3, seed=1))
    again = opened.backend.run(given)
    for name, array in first.items():
        assert array.tolist() == again[name].tolist()


def test_inputs_are_not_written_to_and_may_be_read_only(opened: Opened) -> None:
    given = columns(opened.backend, 3)
    copies = {name: array.copy() for name, array in given.items()}
    for array in given.values():
        array.flags.writeable = False
    opened.backend.run(given)
    for name, array in given.items():
        assert array.tolist() == copies[name].tolist()


def test_columns_need_not_be_contiguous(opened: Opened) -> None:
    given = columns(opened.backend, 3)
    strided = {name: np.repeat(array, 2, axis=-1)[..., ::2] for name, array in given.items()}
    answer, expected = opened.backend.run(strided), opened.backend.run(given)
    for name, array in answer.items():
        assert array.tolist() == expected[name].tolist()


def test_no_rows_give_no_answers(opened: Opened) -> None:
    try:
        answer = opened.backend.run(columns(opened.backend, 0))
    except InvalidInput:
        return
    assert [len(answer[spec.name]) for spec in opened.backend.outputs] == [0] * len(opened.backend.outputs)


def test_a_missing_input_is_the_callers_fault(opened: Opened) -> None:
    for spec in opened.backend.inputs:
        given = columns(opened.backend, 2)
        del given[spec.name]
        with pytest.raises(InvalidInput, match=spec.name):
            opened.backend.run(given)


def test_a_wrong_shape_is_the_callers_fault(opened: Opened) -> None:
    for spec in opened.backend.inputs:
        given = columns(opened.backend, 2)
        more_axes = {**given, spec.name: given[spec.name][..., None]}
        with pytest.raises(InvalidInput):
            opened.backend.run(more_axes)
        if len(spec.shape) > 1 and spec.shape[-1] is not None:
            wider = np.concatenate([given[spec.name], given[spec.name][..., :1]], axis=-1)
            with pytest.raises(InvalidInput):
                opened.backend.run({**given, spec.name: wider})
        opened.backend.run(given)  # and the next request is answered


def test_a_wrong_type_is_the_callers_fault(opened: Opened) -> None:
    for spec in opened.backend.inputs:
        given = columns(opened.backend, 2)
        given[spec.name] = np.zeros(given[spec.name].shape, np.float64 if spec.dtype is not DType.FP64 else np.int8)
        with pytest.raises(InvalidInput):
            opened.backend.run(given)


def test_closed_it_lets_go_of_the_artifact(made: Made) -> None:
    backend = create_backend(made[0], 1, made[1])
    given = columns(backend, 2)
    expected = backend.run(given)
    backend.close()
    gc.collect()
    if Path("/proc/self/maps").exists():
        assert str(made[0].parent) not in Path("/proc/self/maps").read_text()
    with pytest.raises((AttributeError, BackendFailed)):
        backend.run(given)
    again = create_backend(made[0], 1, made[1])
    for name, array in again.run(given).items():
        assert array.tolist() == expected[name].tolist()
    again.close()


def test_it_computes_with_the_threads_it_was_given(opened: Opened) -> None:
    """One thread takes at most as much time of cores as passes; threads that spin take more."""
    given = columns(opened.backend, 1024)
    opened.backend.run(given)
    wall, spent = perf_counter(), process_time()
    while perf_counter() - wall < 0.15:
        opened.backend.run(given)
    assert process_time() - spent < 1.25 * (perf_counter() - wall)


FORKED = """
import os, sys
from importlib import import_module
from pathlib import Path
import numpy as np
from forwardpass.backends import create_backend
from forwardpass.backends.base import _BACKENDS
from forwardpass.config import BackendConfig

artifact, name, precision, folder = sys.argv[1:]
import_module(_BACKENDS[name][0])  # as the template does, which loads nothing
child = os.fork()
if child == 0:
    given = dict(np.load(Path(folder) / "given.npz", allow_pickle=True))
    backend = create_backend(Path(artifact), 1, BackendConfig(name, precision=precision))
    for key, expected in np.load(Path(folder) / "expected.npz", allow_pickle=True).items():
        answer = backend.run(given)[key]
        assert answer.tolist() == expected.tolist(), key
    sys.stdout.flush()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
def test_a_fork_of_a_process_that_imported_it_can_load_and_run(opened: Opened, tmp_path: Path) -> None:
    """Workers are forked from a template that has the imports done."""
    given = columns(opened.backend, 3)
    np.savez(tmp_path / "given.npz", **given)  # type: ignore[arg-type]
    np.savez(tmp_path / "expected.npz", **opened.backend.run(given))  # type: ignore[arg-type]
    name, precision = opened.backend.name, opened.config.precision
    command = [sys.executable, "-c", FORKED, str(opened.artifact), name, precision, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
