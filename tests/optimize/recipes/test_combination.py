from __future__ import annotations

from pathlib import Path

import pytest
from tests.optimize.recipes import parents

from forwardpass.config import BackendConfig
from forwardpass.errors import InvalidModel
from forwardpass.optimize.recipe import Parent, Recipe
from forwardpass.optimize.recipes import combine, create_recipes
from forwardpass.optimize.recipes.engines import EngineRecipe
from forwardpass.optimize.recipes.nncf import FullInt8
from forwardpass.optimize.recipes.prune import Prune
from forwardpass.optimize.recipes.quantize import DynamicInt8, StaticInt8
from forwardpass.registry import find_model

BF16 = EngineRecipe(BackendConfig("openvino", "bf16"))
FP32 = EngineRecipe(BackendConfig("openvino"))
ONE_THREAD = EngineRecipe(BackendConfig("onnxruntime"), 1)


def combined(*recipes: Recipe) -> Recipe:
    first, *others = recipes
    for recipe in others:
        both = combine(first, recipe)
        assert both is not None
        first = both
    return first


def test_quantised_then_on_another_engine(folder: Path) -> None:
    parent, rows = parents.digits()
    recipe = combined(ONE_THREAD, StaticInt8())
    assert recipe.name == "int8-static-minmax_onnxruntime-fp32-1-threads"
    assert recipe.unsuitable(parent) == ""
    recipe.make(parent, folder)
    parents.assert_whole(folder, parent)
    assert parents.agreement(folder, parent.files.folder, rows) >= 0.97
    assert find_model(folder).config.threads == 1
    assert (folder / "model.onnx").stat().st_size < 0.4 * parent.files.artifact.stat().st_size


def test_the_order_is_not_the_callers() -> None:
    assert combined(FP32, Prune(0.5)).name == combined(Prune(0.5), FP32).name == "prune-50_openvino-fp32"


def test_three_in_a_row() -> None:
    assert combined(BF16, StaticInt8(), Prune(0.5)).name == "prune-50_int8-static-minmax_openvino-bf16"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (BF16, FP32),
        (DynamicInt8(), StaticInt8()),
        (Prune(0.3), Prune(0.5)),
        (FullInt8(), ONE_THREAD),
        (FullInt8(), FP32),
        (DynamicInt8(), BF16),
    ],
    ids=["engines", "quantised twice", "pruned twice", "OpenVINO's file elsewhere", "OpenVINO already", "slow there"],
)
def test_what_does_not_go_together(first: Recipe, second: Recipe) -> None:
    assert combine(first, second) is None
    assert combine(second, first) is None


def test_nothing_follows_three_stages() -> None:
    assert combine(combined(Prune(0.3), StaticInt8(), BF16), FP32) is None


def test_recipes_of_others_are_not_combined() -> None:
    class Copy(Recipe):
        name = title = "copy"

        def unsuitable(self, parent: Parent) -> str:
            return ""

        def make(self, parent: Parent, folder: Path) -> None: ...

    assert combine(Copy(), BF16) is None


def test_the_reason_is_that_of_the_part() -> None:
    parent, _ = parents.digits()
    assert combined(Prune(0.5), ONE_THREAD).unsuitable(parent).startswith("training needs the PyTorch model")


def test_a_part_that_no_longer_suits_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, _ = parents.digits()
    recipe = combined(DynamicInt8(), ONE_THREAD)
    monkeypatch.setattr(EngineRecipe, "unsuitable", lambda self, parent: "no more")
    with pytest.raises(InvalidModel, match="onnxruntime-fp32-1-threads: no more"):
        recipe.make(parent, folder)


def test_all_names_are_names_of_models() -> None:
    parent, _ = parents.digits(Path("source.py"))
    recipes = create_recipes(parent)
    names = [recipe.name for recipe in recipes]
    both = [pair.name for one in recipes for two in recipes if (pair := combine(one, two)) is not None]
    assert len(set(names)) == len(names)
    assert len(set(both)) == len(both) / 2, "each pair in either order, and no two pairs alike"
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for name in [*names, *both])


def test_training_is_offered_with_a_source_alone() -> None:
    parent, _ = parents.digits()
    assert not [recipe for recipe in create_recipes(parent) if recipe.name.startswith(("prune", "distill"))]
