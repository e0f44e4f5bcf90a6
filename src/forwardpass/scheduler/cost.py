"""How long a batch takes, learnt from the batches that ran.

    seconds = start + per_row x rows + per_padded x rows x length

``length`` is that of the longest row, to which a model of ragged inputs pads all rows (0 where rows
have no length). The seconds are those of the worker alone. Knows only rows, lengths and seconds; what is done with a
prediction is not its matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CONFIDENT = 3  # batches before predictions are made
NEWEST = 0.1  # weight of a batch in the mean of its kind
OUTLIER = 4.0  # times that mean; what takes longer counts as this much, for a pause of the machine is not a cost
STALE = 200.0  # batches after which a kind that has not run again counts half
FIT_SOON = 16  # batches that are each followed by a fit
FIT_EVERY = 64  # batches between two fits, later
EXCHANGE = 0.0001  # seconds that a batch costs besides: its message, its reply, and who handles them
GAIN = 0.1  # of the time that rows take by themselves; to run them with others must save as much

Solution = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Cost:
    """What batches of about one size took: ``rows``, ``length`` and ``seconds`` are means."""

    rows: float
    length: float
    seconds: float
    batches: int


class CostModel:
    """Predicts the seconds of a batch from its rows and the length of the longest.

    Batches are put into kinds by the powers of two of their rows and length, so that thousands of
    single rows do not outweigh what was once seen of larger batches.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.start = 0.0
        self.per_row = 0.0
        self.per_padded = 0.0
        self.known = False  # batches of several sizes have run, so that start and rows can be told apart
        self._kinds: dict[tuple[int, int], _Kind] = {}
        self._mean_rows = 0.0

    def learn(self, rows: int, seconds: float, length: int = 0) -> None:
        """A batch ran."""
        self.batches += 1
        key = (rows.bit_length(), length.bit_length())
        kind = self._kinds.get(key)
        first = kind is None
        if kind is None:
            kind = self._kinds[key] = _Kind()
        kind.add(rows, length, seconds, self.batches)
        self._mean_rows += (rows - self._mean_rows) * max(NEWEST, 1.0 / self.batches)
        if first or self.batches <= FIT_SOON or self.batches % FIT_EVERY == 0:
            self._fit()

    def seconds(self, rows: float, length: float = 0) -> float:
        """Predicted seconds for one batch; 0.0 while nothing is known."""
        if self.batches < CONFIDENT:
            return 0.0
        return self.start + rows * (self.per_row + self.per_padded * length)

    def rows_within(self, seconds: float, most: int, length: float = 0) -> int:
        """Most rows, up to ``most`` and at least 1, that are predicted to run within ``seconds``.

        Where the start alone takes longer, as many rows as take no longer than the start: fewer would
        save little. While all batches are of one size that fits, one row more, to learn the slope.
        """
        seconds = max(seconds, 2.0 * self.start)
        if self.batches < CONFIDENT or self.seconds(most, length) <= seconds:
            return most
        fitting = int((seconds - self.start) / (self.per_row + self.per_padded * length))
        usual = round(self._mean_rows)
        if not self.known and (usual <= 1 or fitting >= usual):
            fitting = max(fitting, usual + 1)
        return min(most, max(1, fitting))

    def pays(self, rows: int, longest: int, more: int, length: int) -> bool:
        """Whether ``more`` rows of a length are worth running with ``rows`` rows, rather than after them."""
        if not self.known:
            return True
        padded = (rows + more) * max(longest, length) - rows * longest
        together = self.per_row * more + self.per_padded * padded
        return together <= (1.0 - GAIN) * (self.seconds(more, length) + EXCHANGE)

    def most_worth(self) -> float:
        """Most rows of no length that ``pays`` says yes to; infinity where any number is."""
        if not self.known or self.per_row <= 0.0:
            return float("inf")
        return (1.0 - GAIN) / GAIN * (self.start + EXCHANGE) / self.per_row

    def costs(self) -> list[Cost]:
        """What batches took, by their size."""
        kinds = [self._kinds[key] for key in sorted(self._kinds)]
        return [Cost(kind.rows, kind.length, kind.seconds, kind.batches) for kind in kinds]

    def _fit(self) -> None:
        """Least squares of the relative errors, none of the three below zero."""
        kinds = self._kinds.values()
        points = [(1.0, kind.rows, kind.rows * kind.length) for kind in kinds]
        seconds = [max(kind.seconds, 1e-9) for kind in kinds]
        weights = [1.0 / (1.0 + (self.batches - kind.last) / STALE) for kind in kinds]
        self.known = len({rows for rows, _ in self._kinds}) > 1
        self.start, self.per_row, self.per_padded = _fit(points, seconds, weights, known=self.known)


class _Kind:
    """Means of the batches of one kind."""

    __slots__ = ("batches", "last", "length", "rows", "seconds")

    def __init__(self) -> None:
        self.batches = 0
        self.rows = self.length = self.seconds = 0.0
        self.last = 0

    def add(self, rows: int, length: int, seconds: float, now: int) -> None:
        self.batches += 1
        self.last = now
        share = max(NEWEST, 1.0 / self.batches)
        if self.batches > CONFIDENT:
            seconds = min(seconds, OUTLIER * self.seconds)
        self.rows += (rows - self.rows) * share
        self.length += (length - self.length) * share
        self.seconds += (seconds - self.seconds) * share


# Fitting

# Which of the three are above zero, tried in this order: where two explain the batches equally well, the
# earlier is taken. Batches of one size tell nothing of their start, so there all of it counts by row.
_CHOICES = ((0, 1, 2), (0, 2), (0, 1), (1, 2), (2,), (1,), (0,))
_ONE_SIZE = ((1, 2), (2,), (1,), (0,))


def _fit(points: list[Solution], seconds: list[float], weights: list[float], *, known: bool) -> Solution:
    best, least = (0.0, 0.0, 0.0), float("inf")
    scales = [weight / (second * second) for weight, second in zip(weights, seconds, strict=True)]
    for chosen in _CHOICES if known else _ONE_SIZE:
        solution = _solve(chosen, points, seconds, scales)
        if solution is None or min(solution) < 0.0:
            continue
        error = _error(solution, points, seconds, scales)
        if error < least - 1e-9:
            best, least = solution, error
    return best


def _error(solution: Solution, points: Iterable[Solution], seconds: list[float], scales: list[float]) -> float:
    """The weighted sum of the squares of the relative errors."""
    a, b, c = solution
    return sum(w * (a + b * y + c * z - s) ** 2 for (_, y, z), s, w in zip(points, seconds, scales, strict=True))


def _solve(
    chosen: tuple[int, ...], points: list[Solution], seconds: list[float], scales: list[float]
) -> Solution | None:
    """The normal equations of the chosen columns, by Gauss and Jordan; None where they are singular."""
    rows = [[sum(w * p[i] * p[j] for p, w in zip(points, scales, strict=True)) for j in chosen] for i in chosen]
    for row, i in zip(rows, chosen, strict=True):
        row.append(sum(w * p[i] * s for p, s, w in zip(points, seconds, scales, strict=True)))
    sizes = [row[at] for at, row in enumerate(rows)]
    for at, row in enumerate(rows):
        if row[at] <= 1e-9 * sizes[at] or sizes[at] == 0.0:
            return None
        row[:] = [value / row[at] for value in row]
        for other in rows:
            if other is not row:
                factor = other[at]
                other[:] = [value - factor * own for value, own in zip(other, row, strict=True)]
    solution = [0.0, 0.0, 0.0]
    for row, i in zip(rows, chosen, strict=True):
        solution[i] = row[-1]
    return solution[0], solution[1], solution[2]
