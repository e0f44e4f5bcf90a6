"""Several recipes after each other, each on what the one before it made. Knows no measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from forwardpass.errors import InvalidModel
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes.stage import StagedRecipe
from forwardpass.registry import ModelLocation, read_model


class Combination(StagedRecipe):
    """``recipes`` in the order in which they run, no two of one stage."""

    def __init__(self, recipes: tuple[StagedRecipe, ...]) -> None:
        self.recipes = recipes
        self.stages = tuple(stage for recipe in recipes for stage in recipe.stages)
        self.name = "_".join(recipe.name for recipe in recipes)
        self.title = ", then ".join(recipe.title for recipe in recipes)

    def unsuitable(self, parent: Parent) -> str:
        """What the first needs is known; a later one is asked again once its model is there."""
        return next((reason for recipe in self.recipes if (reason := recipe.unsuitable(parent))), "")

    def make(self, parent: Parent, folder: Path) -> None:
        """Raises ``InvalidModel`` where a later recipe does not suit what an earlier one made."""
        with TemporaryDirectory(prefix="forwardpass-") as work:
            for place, recipe in enumerate(self.recipes):
                if reason := recipe.unsuitable(parent):
                    raise InvalidModel(f"{recipe.name}: {reason}")
                last = place == len(self.recipes) - 1
                target = folder if last else Path(work) / str(place)
                target.mkdir(exist_ok=True)
                recipe.make(parent, target)
                if not last:
                    files = read_model(ModelLocation(parent.files.name, parent.files.version, target))
                    parent = replace(parent, files=files)
