from __future__ import annotations

from pathlib import Path

import pytest
from tests import artifacts
from tests.optimize.recipes import parents

from forwardpass.config import BackendConfig
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes.graph import read_graph
from forwardpass.optimize.recipes.quantize import DynamicInt8, StaticInt8, calibration_rows, create_quantisers
from forwardpass.optimize.recipes.stage import StagedRecipe
from forwardpass.registry import find_model

STATIC = [recipe for recipe in create_quantisers() if isinstance(recipe, StaticInt8)]


def name_of(recipe: StagedRecipe) -> str:
    return recipe.name


def make(recipe: StagedRecipe, parent: Parent, folder: Path) -> Path:
    assert recipe.unsuitable(parent) == ""
    target = folder / "candidate"
    target.mkdir()
    recipe.make(parent, target)
    return target


@pytest.mark.parametrize("recipe", create_quantisers(), ids=name_of)
def test_the_digits_example(recipe: StagedRecipe, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    parent, rows = parents.digits()
    candidate = make(recipe, parent, folder)
    assert capfd.readouterr().out == ""
    parents.assert_whole(candidate, parent)
    assert parents.agreement(candidate, parent.files.folder, rows) >= 0.97
    assert (candidate / "model.onnx").stat().st_size < 0.4 * parent.files.artifact.stat().st_size
    assert {file.name for file in candidate.iterdir()} == {file.name for file in parent.files.folder.iterdir()}
    assert find_model(candidate).config.backend == BackendConfig("onnxruntime")


@pytest.mark.parametrize("recipe", create_quantisers(), ids=name_of)
def test_attention_with_an_infinite_mask(recipe: StagedRecipe, folder: Path) -> None:
    parent = parents.parent(parents.attention(folder / "encoder.onnx"), parents.texts(64))
    candidate = make(recipe, parent, folder)
    parents.assert_whole(candidate, parent)
    assert read_graph(candidate / "model.onnx").inputs == {"ids": ("N", "L"), "mask": ("N", "L")}
    assert parents.agreement(candidate, parent.files.artifact, parents.texts(100, seed=1)) >= 0.95


@pytest.mark.parametrize("recipe", STATIC, ids=name_of)
def test_convolutions(recipe: StagedRecipe, folder: Path) -> None:
    images = parents.pictures(160)
    parent = parents.parent(parents.convolutions(folder / "pictures.onnx"), {"image": images[:64]})
    candidate = make(recipe, parent, folder)
    parents.assert_whole(candidate, parent)
    graph = read_graph(candidate / "model.onnx")
    assert graph.quantised
    assert graph.outputs == {"scores": ("N", 10)}
    assert parents.agreement(candidate, parent.files.artifact, {"image": images[64:]}) >= 0.95


def test_convolutions_are_not_quantised_as_they_come(folder: Path) -> None:
    parent = parents.parent(parents.convolutions(folder / "pictures.onnx"), {"image": parents.pictures(1)})
    assert "makes slower" in DynamicInt8().unsuitable(parent)


def test_weights_are_per_channel(folder: Path) -> None:
    import onnx

    parent, _ = parents.digits()
    model = onnx.load(make(DynamicInt8(), parent, folder) / "model.onnx")
    scales = [item for item in model.graph.initializer if item.name.endswith("_scale")]
    assert len(scales) == 3
    assert all(item.dims and item.dims[0] > 1 for item in scales)


@pytest.mark.parametrize("recipe", STATIC, ids=name_of)
def test_static_needs_rows(recipe: StagedRecipe) -> None:
    parent, _ = parents.digits()
    assert recipe.unsuitable(Parent(parent.files)) == "no rows to calibrate with"
    empty = {"ink": next(iter(parent.calibration))["ink"][:0]}
    assert recipe.unsuitable(Parent(parent.files, [empty])) == "no rows to calibrate with"


def test_what_cannot_be_quantised(folder: Path) -> None:
    plain = Parent(find_model(artifacts.identity(folder / "identity.onnx")))
    assert DynamicInt8().unsuitable(plain) == "it has no matrix products or convolutions with weights"
    (folder / "forest.xgboost.json").write_text("{}")
    forest = Parent(find_model(folder / "forest.xgboost.json"))
    assert DynamicInt8().unsuitable(forest) == "only .onnx files are quantised, not .json"


def test_nothing_is_quantised_twice(folder: Path) -> None:
    parent, _ = parents.digits()
    candidate = Parent(find_model(make(DynamicInt8(), parent, folder)), parent.calibration)
    for recipe in create_quantisers():
        assert recipe.unsuitable(candidate) == "it is quantised already"


def test_calibration_is_row_by_row_and_not_endless() -> None:
    parent, _ = parents.digits()
    rows = list(calibration_rows(parent, most=40))
    assert [row["ink"].shape for row in rows] == [(1, 16, 16)] * 40
    second = list(parent.calibration)[1]["ink"]
    assert (rows[33]["ink"][0] == second[1]).all()


def test_batches_stay_whole_where_rows_are_fixed(folder: Path) -> None:
    import numpy as np

    files = find_model(artifacts.no_batch_axis(folder / "m.onnx"))
    batch = {"x": np.ones(4, np.float32)}
    assert list(calibration_rows(Parent(files, [batch, batch]))) == [batch, batch]


def test_a_broken_candidate_is_told_apart(folder: Path) -> None:
    """The measure of these tests itself: another model's answers do not agree."""
    one = parents.convolutions(folder / "one.onnx")
    other = parents.convolutions(folder / "other.onnx", seed=1)
    assert parents.agreement(one, other, {"image": parents.pictures(100)}) < 0.6
