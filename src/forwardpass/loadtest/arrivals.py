"""When the requests of an open loop are due: planned before the first is sent.

Pure functions of a rate, a time and a seed. Arrivals do not wait for answers, as those of many
independent callers do not; that is what makes the loop open.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from forwardpass.errors import InvalidInput

Offsets = NDArray[np.float64]


class Arrivals(StrEnum):
    """How arrivals are spread."""

    POISSON = "poisson"  # independent callers: gaps are exponential
    EVEN = "even"  # a metronome: all gaps are equal


def plan(rate: float, seconds: float, arrivals: Arrivals = Arrivals.POISSON, seed: int = 0) -> Offsets:
    """Seconds after the start at which each request is due, in order, all below ``seconds``.

    ``rate`` is requests per second. Raises ``InvalidInput`` unless both numbers are above 0.
    """
    if not (rate > 0 and seconds > 0):
        raise InvalidInput(f"an open loop needs a rate and a time above 0, got {rate} requests/s for {seconds} s")
    if arrivals is Arrivals.EVEN:
        return np.arange(np.ceil(rate * seconds)) / rate
    generator = np.random.default_rng(seed)
    expected = rate * seconds
    gaps = generator.exponential(1 / rate, int(expected + 6 * np.sqrt(expected) + 20))
    times: Offsets = np.cumsum(gaps)
    while times[-1] < seconds:  # one plan in a thousand million
        times = np.concatenate([times, times[-1] + np.cumsum(generator.exponential(1 / rate, len(times)))])
    return times[times < seconds]
