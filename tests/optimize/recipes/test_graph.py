from __future__ import annotations

from pathlib import Path

from onnx import helper
from tests import artifacts
from tests.optimize.recipes import parents

from forwardpass.optimize.recipes.graph import read_graph


def test_operators_and_axes(folder: Path) -> None:
    graph = read_graph(parents.attention(folder / "m.onnx"))
    assert graph.count("MatMul") == 5
    assert graph.count("MatMul", "Gemm") == 6
    assert graph.inputs == {"ids": ("N", "L"), "mask": ("N", "L")}
    assert graph.outputs == {"logits": ("N", 4)}
    assert graph.free_rows
    assert not graph.quantised
    assert graph.classic == ""


def test_fixed_rows_are_not_free(folder: Path) -> None:
    assert not read_graph(artifacts.no_batch_axis(folder / "m.onnx")).free_rows


def test_operators_of_other_domains(folder: Path) -> None:
    assert read_graph(parents.trees(folder / "m.onnx")).classic == "Scaler"


def test_operators_inside_a_branch_are_seen(folder: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"])], "inner", [], [artifacts.tensor("z", None)]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    inputs = [artifacts.tensor("c", [], "BOOL"), artifacts.tensor("x", ["N", 2]), artifacts.tensor("w", [2, 2])]
    path = artifacts.save(folder / "m.onnx", [node], inputs, [artifacts.tensor("y", ["N", 2])])
    assert read_graph(path).count("MatMul") == 2


def test_a_file_that_changed_is_read_again(folder: Path) -> None:
    path = artifacts.identity(folder / "m.onnx")
    assert read_graph(path).count("Identity") == 1
    assert read_graph(parents.trees(path)).count("Identity") == 0


def test_other_files_have_no_graph(folder: Path) -> None:
    (folder / "m.xml").write_text("<net/>")
    assert not read_graph(folder / "m.xml").operators
