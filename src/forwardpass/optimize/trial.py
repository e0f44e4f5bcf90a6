"""One candidate from its recipe to its verdict.

    recipe ─► folder ─► predictions ─► drop ─► timed in turn with the parent ─► gains ─► Entry

Whatever goes wrong on the way is the candidate's entry. One whose drop is too large is timed only once, for the
report. Knows no other candidate.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from forwardpass.errors import ForwardpassError, InvalidInput
from forwardpass.optimize.gate import Gate, times
from forwardpass.optimize.making import make
from forwardpass.optimize.measure import Probes, artifact_size
from forwardpass.optimize.quality import Judge
from forwardpass.optimize.recipe import Parent, Recipe
from forwardpass.optimize.results import WORDS, Entry, Figures, Gain, Quality, gains, middle
from forwardpass.registry import find_model


@dataclass
class Trials:
    """Tries candidates of one parent. ``parent_figures`` grows by one with every round."""

    parent: Parent
    path: Path
    probes: Probes
    judge: Judge
    gate: Gate
    rounds: int
    parent_figures: list[Figures] = field(default_factory=list)

    def run(self, recipe: Recipe, folder: Path, timeout: float) -> Entry:
        """Make and measure one. Its folder is left only where it passed. Raises ``OSError`` where the disk is full."""
        started = monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            make(recipe, self.parent, folder, timeout)
            entry = self._measured(recipe, folder, started)
        except ForwardpassError as error:
            reason = f"failed: {error.message}"
            entry = Entry(
                recipe.name, recipe.title, False, reason, failure=error.message, seconds=monotonic() - started
            )
        if not entry.passed:
            shutil.rmtree(folder, ignore_errors=True)
        return entry

    def time_parent(self) -> Figures:
        """One round of the parent."""
        self.parent_figures.append(self.probes.time(self.path, artifact_size(self.parent.files)))
        return self.parent_figures[-1]

    def _measured(self, recipe: Recipe, folder: Path, started: float) -> Entry:
        quality = self._quality(folder)
        lost = self.gate.quality(quality.drop)
        size = artifact_size(find_model(folder))
        rounds = [(self.time_parent(), self.probes.time(folder, size)) for _ in range(1 if lost else self.rounds)]
        found = gains(rounds)
        slow = self.gate.speed(found[self.gate.objective])
        return Entry(
            name=recipe.name,
            title=recipe.title,
            passed=not (lost or slow),
            reason="; ".join(reason for reason in (lost, slow) if reason) or self._praise(quality, found),
            quality=quality,
            figures=middle([candidate for _, candidate in rounds]),
            gains=found,
            rounds=len(rounds),
            seconds=monotonic() - started,
        )

    def _quality(self, folder: Path) -> Quality:
        answers = self.probes.predict(folder)
        if answers.refused:
            row, reason = next(iter(answers.refused.items()))
            raise InvalidInput(
                f"it does not answer {len(answers.refused)} of {len(self.judge.rows)} rows that its parent answers; "
                f"row {self.judge.rows.numbers[row]}: {reason}"
            )
        return self.judge.quality(answers.columns)

    def _praise(self, quality: Quality, found: dict[str, Gain]) -> str:
        gain = times(found[self.gate.objective])
        return f"{gain} better than the parent in {WORDS[self.gate.objective]}; drop {self.gate.words(quality.drop)}"
