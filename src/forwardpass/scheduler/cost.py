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
        """Most rows, up to ``most`` and at least 1, that are predicted to run within ``seconds``."""
        if self.batches < CONFIDENT or self.seconds(most) <= seconds:
            return most
        return max(1, int((seconds - self.start) / self.per_row)) if self.per_row > 0 else most

    def _fit(self) -> None:
        mean_rows = self._rows / self._weight
        mean_seconds = self._seconds / self._weight
        spread = self._rows_rows / self._weight - mean_rows * mean_rows
        if spread < 0.01 * mean_rows:  # batches of one size tell nothing of the slope
            self.per_row, self.start = mean_seconds / mean_rows, 0.0
            return
        slope = (self._rows_seconds / self._weight - mean_rows * mean_seconds) / spread
        self.per_row = min(max(slope, 0.0), mean_seconds / mean_rows)
        self.start = max(0.0, mean_seconds - self.per_row * mean_rows)
