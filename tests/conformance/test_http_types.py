"""Tensor data in JSON: every type, and the shapes that are easily forgotten. Needs the kit's own models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.conformance import rows
from tests.conformance.target import Answer, Target

pytestmark = pytest.mark.usefixtures("own")
EDGES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "FP16": [65504.0, -6.103515625e-05],
    "BF16": [1.5, -3.3895313892515355e38],
    "FP32": [3.4028234663852886e38, -1.401298464324817e-45],
    "FP64": [1.7976931348623157e308, 5e-324],
    "BYTES": ["", 'ä "\n\0\U0001f600'],
    **{
        name: [int(np.iinfo(kind).min), int(np.iinfo(kind).max)]
        for name, kind in rows.TYPES.items()
        if name.startswith(("INT", "UINT"))
    },
}


def ask(target: Target, datatype: str, data: list[Any], count: int = 1) -> Answer:
    """Rows of two, with this data for the input of the type."""
    model = rows.holder(datatype)
    inputs = []
    for spec in target.metadata(model)["inputs"]:
        given = data if spec["datatype"] == datatype else rows.plain(rows.values(spec["datatype"], (count, 2)))
        inputs.append({"name": spec["name"], "shape": [count, 2], "datatype": spec["datatype"], "data": given})
    return target.infer(model, inputs)


def output(answer: Answer, datatype: str) -> dict[str, Any]:
    (found,) = [item for item in answer.good["outputs"] if item["name"] == f"y_{datatype}"]
    return dict(found)


@pytest.mark.parametrize("datatype", rows.TYPES)
def test_the_edges_of_every_type(target: Target, datatype: str) -> None:
    """Tensor Data Types: the smallest and the largest value, exactly."""
    answer = ask(target, datatype, EDGES[datatype])
    found = np.array(output(answer, datatype)["data"], rows.TYPES[datatype])  # any digits that tell it apart
    assert found.tolist() == np.array(EDGES[datatype], rows.TYPES[datatype]).tolist()


@pytest.mark.parametrize("datatype", [name for name in rows.TYPES if name not in ("BYTES", "BOOL", "FP64")])
def test_one_beyond_the_edge(target: Target, datatype: str) -> None:
    """Tensor Data Types: a value that the type cannot hold is refused, not wrapped or rounded away."""
    edge = max(abs(value) for value in EDGES[datatype])
    beyond = [0, edge * 4 if isinstance(edge, float) else edge + 1]
    answer = ask(target, datatype, beyond)
    assert answer.error
    assert answer.status == 400


@pytest.mark.parametrize("datatype", rows.TYPES)
@pytest.mark.parametrize("value", [None, {}, [], "1.5", 1.5, True])
def test_values_of_another_type(target: Target, datatype: str, value: Any) -> None:
    """Tensor Data: an element is held as the value that it is, or refused; nothing is rounded, parsed or made up."""
    fits = {str: datatype == "BYTES", bool: datatype != "BYTES", float: datatype.startswith(("FP", "BF"))}
    answer = ask(target, datatype, [value, value])
    if answer.status == 200:
        assert fits.get(type(value), False)
        assert output(answer, datatype)["data"] == [value, value]  # true may stand for 1
    else:
        assert answer.error
        assert answer.status == 400


@pytest.mark.parametrize("datatype", rows.TYPES)
def test_no_rows(target: Target, datatype: str) -> None:
    """Shape: an axis may be 0; there is no data then."""
    found = output(ask(target, datatype, [], 0), datatype)
    assert (found["shape"], found["data"]) == ([0, 2], [])


def test_no_rows_raw(target: Target) -> None:
    """The same with raw bytes, of which there are none."""
    about = target.metadata("every-type")
    columns = {spec["name"]: rows.values(spec["datatype"], (0, 2)) for spec in about["inputs"]}
    header, tail = rows.as_binary(columns, rows.datatypes(about), parameters={"binary_data_output": True})
    assert tail == b""
    answer = target.ask("POST", "/v2/models/every-type/infer", header, Inference_Header_Content_Length=len(header))
    assert answer.status == 200
    assert len(answer.body) == int(answer.headers["inference-header-content-length"])


def test_a_scalar(target: Target) -> None:
    """Shape: no axes is one element."""
    assert target.metadata("scalar")["outputs"][0]["shape"] == []
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    (found,) = target.infer("scalar", [tensor]).good["outputs"]
    assert (found["shape"], found["data"]) == ([], [10.0])


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 3), (2, 0), (0, 4), (40, 2)])
def test_free_axes(target: Target, shape: tuple[int, int]) -> None:
    """Shape: -1 in the metadata takes any size, another one in each request."""
    x = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    (found,) = target.infer("ragged", rows.as_json({"x": x}, {"x": "FP32"})).good["outputs"]
    assert (found["shape"], found["data"]) == ([shape[0]], x.sum(1).tolist())


def test_a_batch_larger_than_the_server_runs_at_once(target: Target) -> None:
    """Shape and data represent the entire batch, whatever the server makes of it inside."""
    x = np.arange(2000).reshape(1000, 2)
    (found,) = target.infer("versions", rows.as_json({"x": x}, {"x": "INT64"})).good["outputs"]
    assert found["data"] == x.ravel().tolist()


def test_numbers_with_a_fraction_of_zero_are_no_whole_numbers_of_another_value(target: Target) -> None:
    """Tensor Data: 2.0 for a whole number is taken as 2 or refused."""
    answer = ask(target, "INT32", [2.0, 3.0])
    assert answer.status == 400 or output(answer, "INT32")["data"] == [2, 3]
