"""``forwardpass optimize``: many candidates of one model, each measured, the best that passes kept.

    parent + held-out rows ─► metric ─► recipes, one by one ─► combinations of the best ─► winner ─► reports

All that is wrong with what was asked is said before any candidate is made. Knows no terminal and no recipe.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from time import monotonic
from typing import Any

from forwardpass.artifacts import ARTIFACTS
from forwardpass.errors import BackendFailed, InvalidInput
from forwardpass.optimize import gate, report
from forwardpass.optimize.heldout import HeldOut
from forwardpass.optimize.ledger import Ledger
from forwardpass.optimize.lineage import write_lineage
from forwardpass.optimize.place import Place, find_place
from forwardpass.optimize.prepare import Options, facts_of, prepare, read_parent
from forwardpass.optimize.recipe import Parent, Recipe
from forwardpass.optimize.results import Entry, middle
from forwardpass.optimize.search import Search
from forwardpass.optimize.targets import Host, Target, TargetFailed
from forwardpass.optimize.targets.local import Local
from forwardpass.optimize.trial import Trials
from forwardpass.registry import digest_files

Combine = Callable[[Recipe, Recipe], Recipe | None]
MOST = 4  # combinations that are tried
_KEPT = "; what is done is kept, go on with --resume"


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` candidates so far; ``remaining`` seconds, None where nobody can tell yet.

    ``entry`` is the candidate that was just done with, None where ``title`` is about to be tried.
    """

    done: int
    total: int
    remaining: float | None
    title: str
    entry: Entry | None = None


class Optimizer:
    """One search. ``recipes`` and ``combine`` default to all that Forwardpass has."""

    def __init__(
        self,
        model: Path,
        options: Options,
        recipes: Sequence[Recipe] | None = None,
        combine: Combine | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_note: Callable[[str], None] = lambda note: None,
        target: Target | None = None,
    ) -> None:
        """``target`` is where candidates are measured: on this machine, unless given.

        Raises ``NotFound``, ``InvalidModel`` or ``InvalidInput`` for the paths and the allowance.
        """
        if not 0 < options.max_drop < 1:
            raise InvalidInput(f"--max-drop {options.max_drop:.2%}: it must be above 0 % and below 100 %")
        if options.source is not None and not options.source.is_file():
            raise InvalidInput(f"--source: there is no file {options.source}")
        self.place: Place = find_place(model, options.out)
        self._options = options
        self._recipes = recipes
        self._combine = combine or _combine
        self._on_progress = on_progress
        self._on_note = on_note
        self._target = target or Local()
        self._ledger = Ledger(self.place.ledger)
        self._started = monotonic()
        self._spent: list[float] = []

    def run(self) -> Search:
        """Search, or do what is left of it.

        Raises ``InvalidInput``, ``InvalidModel`` or ``NotFound`` for what was asked, ``BackendFailed`` where the parent
        cannot be measured, the target not be used or the disk is full; the ledger keeps what is done.
        """
        try:
            return self._run()
        except TargetFailed as error:
            raise BackendFailed(f"{error}{_KEPT if self.place.ledger.is_file() else ''}") from error
        except OSError as error:
            raise BackendFailed(f"{self.place.work}: {error.strerror or error}{_KEPT}") from error
        finally:
            self._target.close()
            shutil.rmtree(self.place.work / "probe", ignore_errors=True)
            with suppress(OSError):
                self.place.work.rmdir()  # where nothing was begun

    def _run(self) -> Search:
        self._require_no_other()
        host = self._target.host()
        parent, held_out = read_parent(self.place, self._options, self._on_note)
        if self._target.name != "local":
            parent = replace(parent, cores=host.machine["cores"], flags=host.flags)
        trials = prepare(self.place, self._options, parent, held_out, self._on_note, self._target)
        self._take_up(trials, held_out)
        trials.time_parent()
        tried = self._try_all(trials, self._singles(parent), host)
        tried += self._try_all(trials, self._combined(tried), host)
        return self._finish(trials, held_out, tried, host)

    # What was asked

    def _require_no_other(self) -> None:
        """A search that has not ended is not begun anew by accident."""
        if self.place.ledger.is_file() and not self._options.resume and not self.place.reports[-1].is_file():
            raise InvalidInput(
                f"{self.place.work}: holds a search that has not ended; go on with it (--resume), or remove it"
            )

    def _take_up(self, trials: Trials, held_out: HeldOut) -> None:
        facts = facts_of(self.place, self._options, trials, held_out, self._target)
        if self._options.resume:
            self._ledger.resume(facts)
            return
        shutil.rmtree(self.place.candidates, ignore_errors=True)
        for file in self.place.reports:
            file.unlink(missing_ok=True)
        self._ledger.begin(facts)

    # Candidates

    def _singles(self, parent: Parent) -> list[Recipe]:
        return list(_recipes(parent) if self._recipes is None else self._recipes)

    def _combined(self, tried: Sequence[tuple[Recipe, Entry]]) -> list[Recipe]:
        """The best that change different things, two at once: the pairs whose ranks are first when added."""
        recipes = {entry.name: recipe for recipe, entry in tried}
        ranked = gate.ranked([entry for _, entry in tried], self._options.objective)
        pairs = sorted(combinations(range(len(ranked)), 2), key=lambda pair: (sum(pair), pair))
        both = (self._combine(recipes[ranked[a].name], recipes[ranked[b].name]) for a, b in pairs)
        found = {recipe.name: recipe for recipe in both if recipe and recipe.name not in recipes}
        return list(found.values())[:MOST]

    def _try_all(self, trials: Trials, recipes: Sequence[Recipe], host: Host) -> list[tuple[Recipe, Entry]]:
        known = {entry.name: entry for entry in self._ledger.entries}
        tried = []
        for number, recipe in enumerate(recipes):
            entry = known.get(recipe.name) if self._is_whole(known.get(recipe.name)) else None
            if entry is None and (reason := self._why_not(trials, recipe, host)):
                entry = Entry(recipe.name, recipe.title, False, f"not tried: {reason}", failure=reason)
            if entry is None:
                self._tell(number, recipes, recipe.title)
                entry = self._try(trials, recipe)
            tried.append((recipe, entry))
            self._tell(number + 1, recipes, recipe.title, entry)
        return tried

    def _is_whole(self, entry: Entry | None) -> bool:
        """Whether what the ledger says is still there: the folder of one that passed."""
        return entry is not None and (not entry.passed or (self.place.candidates / entry.name).is_dir())

    def _why_not(self, trials: Trials, recipe: Recipe, host: Host) -> str:
        if reason := recipe.unsuitable(trials.parent):
            return reason
        if (backend := _backend(recipe)) in host.lacks:
            return f"{self._target.name} has no {backend}"
        spent = monotonic() - self._started > self._options.budget
        return f"the budget of {self._options.budget:.0f} s is spent" if spent else ""

    def _try(self, trials: Trials, recipe: Recipe) -> Entry:
        timeout = max(self._options.budget, self._options.patience)
        entry = trials.run(recipe, self.place.candidates / recipe.name, timeout)
        self._spent.append(entry.seconds)
        self._ledger.add(entry)
        return entry

    def _tell(self, done: int, recipes: Sequence[Recipe], title: str, entry: Entry | None = None) -> None:
        left = max(0.0, self._options.budget - (monotonic() - self._started))
        mean = sum(self._spent) / len(self._spent) if self._spent else None
        remaining = None if mean is None else min(left, mean * (len(recipes) - done))
        self._on_progress(Progress(done, len(recipes), remaining, title, entry))

    # The end

    def _finish(self, trials: Trials, held_out: HeldOut, tried: Sequence[tuple[Recipe, Entry]], host: Host) -> Search:
        entries = tuple(entry for _, entry in tried)
        won = gate.best(entries, self._options.objective)
        search = self._search(trials, held_out, entries, won, host)
        if won is not None:
            self._publish(search, won)
        report.write(search, self.place.reports)
        shutil.rmtree(self.place.candidates, ignore_errors=True)
        return search

    def _search(
        self, trials: Trials, held_out: HeldOut, entries: tuple[Entry, ...], won: Entry | None, host: Host
    ) -> Search:
        options, files = self._options, self.place.files
        return Search(
            model=files.name,
            version=files.version,
            metric=trials.judge.metric.name,
            output=trials.judge.output,
            objective=options.objective,
            max_drop=options.max_drop,
            rows=len(trials.judge.rows),
            calibration=len(held_out.calibration),
            unusable=len(held_out.unusable) + len(held_out.rows) - len(trials.judge.rows),
            fingerprint=held_out.fingerprint,
            score=trials.judge.score(),
            parent=middle(trials.parent_figures),
            entries=entries,
            winner=won.name if won else "",
            out=str(self.place.out) if won else "",
            seconds=monotonic() - self._started,
            target=self._target.name,
            machine=host.machine,
            libraries=host.libraries,
        )

    def _publish(self, search: Search, won: Entry) -> None:
        """The winner's folder, with where it comes from, beside its parent."""
        folder = self.place.candidates / won.name
        parent = {"name": search.model, "version": search.version, "digests": digest_files(self.place.files)}
        shown: dict[str, Any] = {
            name: getattr(search, name)
            for name in ("metric", "output", "objective", "max_drop", "rows", "calibration", "fingerprint")
        }
        measured_on = {name: getattr(search, name) for name in ("target", "machine", "libraries")}
        write_lineage(folder, parent, {**shown, "score": asdict(search.score)}, search.parent, won, measured_on)
        self.place.publish(folder)


def _recipes(parent: Parent) -> list[Recipe]:
    from forwardpass.optimize.recipes import create_recipes  # heavy libraries come with some of them

    return create_recipes(parent)


def _backend(recipe: Recipe) -> str:
    """What runs the model that a recipe makes, as far as it says."""
    from forwardpass.optimize.recipes.stage import StagedRecipe

    if not isinstance(recipe, StagedRecipe):
        return ""
    return (recipe.backend and recipe.backend.name) or ARTIFACTS[recipe.suffix]


def _combine(first: Recipe, second: Recipe) -> Recipe | None:
    from forwardpass.optimize.recipes import combine

    return combine(first, second)
