"""Ways to a faster model, by family; each writes a model folder, none measures one.

    engines      another library, precision or number of threads      needs nothing
    native       trees in their library's own format, as ONNX         the converter
    quantize     int8 by ONNX Runtime, dynamic or static              static: calibration rows
    nncf         int8 by nncf for OpenVINO, or fewer bits of weights  int8: calibration rows
    prune        fewer channels, trained again                        the PyTorch model and its data
    distill      a smaller network taught by the model                the same
    combination  several of these after each other

Libraries that a recipe needs are loaded when it makes something.
"""

from __future__ import annotations

from forwardpass.optimize.recipe import Parent, Recipe
from forwardpass.optimize.recipes.combination import Combination
from forwardpass.optimize.recipes.distill import Distill
from forwardpass.optimize.recipes.engines import EngineRecipe, create_engines
from forwardpass.optimize.recipes.native import ToOnnx
from forwardpass.optimize.recipes.nncf import create_compressors
from forwardpass.optimize.recipes.prune import RATIOS, Prune
from forwardpass.optimize.recipes.quantize import DynamicInt8, create_quantisers
from forwardpass.optimize.recipes.stage import StagedRecipe

__all__ = ["create_recipes", "combine"]


def create_recipes(parent: Parent) -> list[Recipe]:
    """Every recipe there is, quick ones first; ask each ``unsuitable(parent)``, whose reason the report shows.

    Those that train are left out where there is no source file: their absence needs no explanation.
    """
    trained: list[Recipe] = [*(Prune(ratio) for ratio in RATIOS), Distill()] if parent.source is not None else []
    return [*create_engines(parent.cores), ToOnnx(), *create_quantisers(), *create_compressors(), *trained]


def combine(first: Recipe, second: Recipe) -> Recipe | None:
    """Both recipes as one, in the order that makes sense; None where they change the same thing,
    or where the engine cannot run what comes before it, runs it already, or is known to run it slowly.

    What is combined already may be combined again: pruned, quantised, then run in another engine.
    """
    if not (isinstance(first, StagedRecipe) and isinstance(second, StagedRecipe)):
        return None
    if set(first.stages) & set(second.stages):
        return None
    parts = sorted([*_parts(first), *_parts(second)], key=lambda recipe: recipe.stages)
    *_, made, last = parts
    return None if isinstance(last, EngineRecipe) and not _fits(made, last) else Combination(tuple(parts))


def _fits(made: StagedRecipe, engine: EngineRecipe) -> bool:
    """Whether running what was made on this engine is worth a measurement."""
    if isinstance(made, DynamicInt8) and "openvino" in engine.library:
        return False  # ten times slower there: its kernels are ONNX Runtime's
    return engine.runs(made.suffix) and (made.backend != engine.backend or engine.threads is not None)


def _parts(recipe: StagedRecipe) -> tuple[StagedRecipe, ...]:
    return recipe.recipes if isinstance(recipe, Combination) else (recipe,)
