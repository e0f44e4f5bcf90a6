"""One queue limit over several fronts: how much waits in each, in memory that all of them map.

Each front writes its own two cells and reads everybody's, so nothing needs a lock; two fronts that
admit at the same instant may together pass the limit by what they admitted just then. Knows no
requests.
"""

from __future__ import annotations

CELLS = 2  # of each front: rows, bytes
CELL_BYTES = 8


class QueueShare:
    """The cells of one model. ``cells`` is a view of 64-bit integers, ``CELLS`` for each front."""

    def __init__(self, cells: memoryview, own: int) -> None:
        self._cells = cells
        self._rows = CELLS * own
        self._bytes = self._rows + 1
        self._others = [(place, place + 1) for place in range(0, len(cells), CELLS) if place != self._rows]
        self.tell(0, 0)

    def tell(self, rows: int, nbytes: int) -> None:
        """So much waits here."""
        self._cells[self._rows] = rows
        self._cells[self._bytes] = nbytes

    def elsewhere(self) -> tuple[int, int]:
        """Rows and bytes that wait in the other fronts."""
        cells = self._cells
        rows = nbytes = 0
        for place, after in self._others:  # every request asks: quicker than slices as long as fronts are few
            rows += cells[place]
            nbytes += cells[after]
        return rows, nbytes
