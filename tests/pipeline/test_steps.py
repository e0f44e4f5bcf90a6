"""The contract of every step, found automatically. Examples: ``tests/pipeline/examples.py``."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.examples import EXAMPLES, Example, spec_of, write_tokenizer

from forwardpass.errors import InvalidModel, InvalidRows
from forwardpass.pipeline import Apply, Step, create_step, step_classes
from forwardpass.types import Array, Columns, DType, TensorSpec

CASES = [
    pytest.param(name, example, id=f"{name}-{number}")
    for name, examples in EXAMPLES.items()
    for number, example in enumerate(examples)
]
WRONG = [case for case in CASES if case.values[1].wrong]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    write_tokenizer(path)
    (path / "labels.txt").write_text("zero\none\ntwo\n", encoding="utf-8")
    return path


def made(name: str, example: Example) -> Step:
    return create_step({"step": name, **example.parameters}, {}, "preprocess 1")


def opened(name: str, example: Example, folder: Path) -> Apply:
    return made(name, example).open(folder)


def specs(columns: Columns) -> dict[str, TensorSpec]:
    return {name: spec_of(name, values) for name, values in columns.items()}


def assert_same(one: Array, other: Array) -> None:
    """Equal values; object columns hold texts or arrays."""
    assert len(one) == len(other)
    if one.dtype == object and len(one) and isinstance(one.flat[0], np.ndarray):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)
    else:
        np.testing.assert_array_equal(one, other)


def assert_fits(values: Array, spec: TensorSpec) -> None:
    """The column is what the spec says; unlike rows are told by ``None``."""
    if values.dtype == object and len(values) and isinstance(values.flat[0], np.ndarray):
        for value in values:
            assert_fits(value[None], spec)
        return
    assert DType.of(values) is spec.dtype
    assert len(values.shape) == len(spec.shape)
    for there, said in zip(values.shape, spec.shape, strict=True):
        assert said is None or there == said, (values.shape, spec.shape)
    if spec.dtype is DType.BYTES:
        assert all(isinstance(value, str | bytes) for value in values.flat)


def test_every_step_has_an_example() -> None:
    assert set(step_classes()) == set(EXAMPLES)


@pytest.mark.parametrize(("name", "example"), CASES)
def test_rows_are_kept_and_only_what_is_declared_is_written(name: str, example: Example, folder: Path) -> None:
    rows = len(next(iter(example.columns.values())))
    written = opened(name, example, folder)(example.columns)
    assert {len(values) for values in written.values()} == {rows}
    assert set(written) == {spec.name for spec in made(name, example).writes(specs(example.columns))}


@pytest.mark.parametrize(("name", "example"), CASES)
def test_it_reads_what_it_declares(name: str, example: Example, folder: Path) -> None:
    reads = made(name, example).reads
    assert set(reads) == set(example.columns)
    assert opened(name, example, folder)({column: example.columns[column] for column in reads})


@pytest.mark.parametrize(("name", "example"), CASES)
def test_what_comes_in_is_not_changed(name: str, example: Example, folder: Path) -> None:
    before = copy.deepcopy(example.columns)
    opened(name, example, folder)(example.columns)
    assert set(example.columns) == set(before)
    for column, values in before.items():
        assert_same(example.columns[column], values)


@pytest.mark.parametrize(("name", "example"), CASES)
def test_the_same_batch_gives_the_same_bits(name: str, example: Example, folder: Path) -> None:
    apply = opened(name, example, folder)
    first, second = apply(example.columns), apply(example.columns)
    for column in first:
        assert_same(first[column], second[column])


@pytest.mark.parametrize(("name", "example"), CASES)
def test_a_row_does_not_depend_on_its_neighbours(name: str, example: Example, folder: Path) -> None:
    apply = opened(name, example, folder)
    batch = apply(example.columns)
    for row in range(len(next(iter(example.columns.values())))):
        alone = apply({column: values[row : row + 1] for column, values in example.columns.items()})
        for column, values in alone.items():
            there, here = batch[column][row], values[0]
            if column in example.padded:
                there = there[: len(here)]
            if isinstance(here, str | bytes):
                assert there == here
            elif isinstance(here, np.ndarray) and here.dtype == object:
                assert there.tolist() == here.tolist()
            else:
                np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "example"), CASES)
def test_the_written_columns_are_as_declared(name: str, example: Example, folder: Path) -> None:
    written = opened(name, example, folder)(example.columns)
    for spec in made(name, example).writes(specs(example.columns)):
        assert_fits(written[spec.name], spec)


@pytest.mark.parametrize(("name", "example"), CASES)
def test_zero_rows_are_a_batch_too(name: str, example: Example, folder: Path) -> None:
    written = opened(name, example, folder)({column: values[:0] for column, values in example.columns.items()})
    for spec in made(name, example).writes(specs(example.columns)):
        values = written[spec.name]
        assert len(values) == 0
        # an empty object column does not say what its rows would have been
        if not any(column.dtype == object and column.ndim == 1 for column in example.columns.values()):
            assert_fits(values, spec)


@pytest.mark.parametrize(("name", "example"), WRONG)
def test_all_wrong_rows_are_named(name: str, example: Example, folder: Path) -> None:
    with pytest.raises(InvalidRows) as caught:
        opened(name, example, folder)(example.wrong)
    assert tuple(sorted(caught.value.rows)) == example.wrong_rows
    read = made(name, example).reads
    assert all(any(column in message for column in read) for message in caught.value.rows.values())


@pytest.mark.parametrize("name", sorted(step_classes()))
def test_an_unknown_parameter_is_refused_with_the_nearest(name: str) -> None:
    known = dataclasses.fields(step_classes()[name])[0].name  # type: ignore[arg-type]
    with pytest.raises(InvalidModel, match=rf"preprocess 3 \({name}\): unknown key .*Did you mean"):
        create_step({"step": name, known + "s_": 1}, {}, "preprocess 3")


@pytest.mark.parametrize("name", sorted(step_classes()))
def test_it_is_documented(name: str) -> None:
    cls = step_classes()[name]
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}("), "dataclass wrote the docstring itself"
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        assert item.metadata.get("doc"), f"{name}: {item.name}"
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_looking_steps_up_imports_no_image_or_text_library() -> None:
    source = (
        "import sys; from forwardpass.pipeline import step_classes, inputs; step_classes();"
        "sys.exit(str({'PIL', 'tokenizers', 'onnxruntime'} & set(sys.modules)) if "
        "{'PIL', 'tokenizers', 'onnxruntime'} & set(sys.modules) else 0)"
    )
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_an_unknown_step_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidModel, match=r"postprocess 2: unknown step 'sofmax'. Did you mean 'softmax'\?"):
        create_step({"step": "sofmax"}, {}, "postprocess 2")


def test_an_entry_without_a_step_is_refused() -> None:
    with pytest.raises(InvalidModel, match="no `step:` given"):
        create_step({"input": "x"}, {}, "preprocess 1")


def test_a_parameter_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(InvalidModel, match="width"):
        create_step({"step": "resize_image", "width": "big", "height": 2}, {}, "preprocess 1")
