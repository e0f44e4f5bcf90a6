"""One figure of a fault: what was measured, against the bound that it was promised to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """``value`` is None where it could not be measured; ``note`` says why, or what stands behind it.

    ``timing``: it depends on the machine being otherwise idle; the others hold on any machine.
    """

    what: str
    value: float | None
    unit: str
    bound: float
    at_least: bool = False
    timing: bool = False
    note: str = ""

    @property
    def passed(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "pass" if self.passed else "missed"

    @property
    def shown(self) -> str:
        return "" if self.value is None else f"{number(self.value)} {self.unit}".strip()

    @property
    def target(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {number(self.bound)} {self.unit}".strip()


def number(value: float) -> str:
    """Whole counts as they are, else three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value % 1 == 0 else f"{value:.3g}"
