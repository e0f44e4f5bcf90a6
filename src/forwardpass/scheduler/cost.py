"""How long a batch of so many rows takes, learnt from the batches that ran.

A straight line, seconds = start + per_row x rows, fitted by least squares over the last batches
with weights that decay exponentially. Knows only rows and seconds.
"""

from __future__ import annotations

DECAY = 0.98  # weight of the batch before, so that about the last 50 batches count
CONFIDENT = 3  # batches before predictions are made


class CostModel:
    """Predicts the seconds of a batch from its rows."""

    def __init__(self) -> None:
        self.batches = 0
        self.per_row = 0.0
        self.start = 0.0
        self._one_size = True
        self._weight = self._rows = self._seconds = self._rows_rows = self._rows_seconds = 0.0

    def learn(self, rows: int, seconds: float) -> None:
        self.batches += 1
        self._weight = self._weight * DECAY + 1.0
        self._rows = self._rows * DECAY + rows
        self._seconds = self._seconds * DECAY + seconds
        self._rows_rows = self._rows_rows * DECAY + rows * rows
        self._rows_seconds = self._rows_seconds * DECAY + rows * seconds
        self._fit()

    def seconds(self, rows: int) -> float:
        """Predicted seconds for one batch; 0.0 while nothing is known."""
        if self.batches < CONFIDENT:
            return 0.0
        return self.start + self.per_row * rows

    def rows_within(self, seconds: float, most: int) -> int:
        """Most rows, up to ``most`` and at least 1, that are predicted to run within ``seconds``.

        Where the start alone takes longer, as many rows as take no longer than the start: fewer would
        save little. While all batches are of one size, one row more than that, to learn the slope.
        """
        seconds = max(seconds, 2.0 * self.start)
        if self.batches < CONFIDENT or self.seconds(most) <= seconds:
            return most
        least = round(self._rows / self._weight) + 1 if self._one_size else 1
        return min(most, max(least, int((seconds - self.start) / self.per_row)))

    def _fit(self) -> None:
        mean_rows = self._rows / self._weight
        mean_seconds = self._seconds / self._weight
        spread = self._rows_rows / self._weight - mean_rows * mean_rows
        self._one_size = spread <= 0.01 * mean_rows
        if self._one_size:  # that tells nothing of the slope; all of no rows: all of it is the start
            self.per_row, self.start = (mean_seconds / mean_rows, 0.0) if mean_rows else (0.0, mean_seconds)
            return
        slope = (self._rows_seconds / self._weight - mean_rows * mean_seconds) / spread
        self.per_row = min(max(slope, 0.0), mean_seconds / mean_rows)
        self.start = max(0.0, mean_seconds - self.per_row * mean_rows)
