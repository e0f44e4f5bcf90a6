"""A simulated motor: windows of its vibration, from a new bearing to the hour in which it fails.

What an accelerometer on the bearing's housing would give, in g, 1024 samples at 5120 a second:

    x = harmonics of the rotation  +  bearing defect  +  noise
    harmonics   unbalance at the speed f, misalignment at 2 f, looseness at 3 f
    defect      one decaying oscillation of the housing (its resonance) each time a ball meets it,
                outer race: n/2 (1 - d/D) f times a second, inner race: n/2 (1 + d/D) f times, and
                the latter weaker and stronger with the turn, as it passes the loaded side
    growth      a = a_end exp(-remaining / tau): the e-fold time tau differs between motors

n balls of diameter d on a pitch circle D, contact angle 0; balls slip, so intervals vary by 1 %. The
frequencies and the slip are in Randall and Antoni, "Rolling element bearing diagnostics - a
tutorial", Mechanical Systems and Signal Processing 25 (2011) 485-520; the train of oscillations and
its modulation in McFadden and Smith, "Model for the vibration produced by a single point defect in
a rolling element bearing", Journal of Sound and Vibration 96 (1984) 69-82. The exponential growth,
all amplitudes and the spread between motors are assumptions of this example. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE, WINDOW = 5120, 1024  # samples a second, and in a window: 0.2 s
BALLS, BALL, PITCH = 9, 7.94, 39.04  # of a 6205 bearing; diameters in mm
SLIP = 0.01
FAULT_HOURS, WATCH_HOURS = 36.0, 120.0  # less is left: the states by which windows are labelled
STATES = ("healthy", "watch", "fault")
Samples = NDArray[np.float32]
Random = np.random.Generator


@dataclass(frozen=True)
class Motor:
    """One motor with its bearing. Amplitudes in g, frequencies in Hz, times in hours."""

    speed: float  # turns a second, on average
    harmonics: tuple[float, float, float]
    noise: float
    resonance: float
    damping: float
    inner: bool  # where the defect is
    worst: float  # amplitude of the defect in the hour in which the bearing fails
    growth: float  # hours in which the defect grows e-fold

    def window(self, remaining: float, random: Random) -> Samples:
        """One window when so many hours are left; the speed differs by up to 15 %, and drifts within the window."""
        turns = self._turns(random)
        defect = self.worst * np.exp(-remaining / self.growth)
        quiet = random.normal(0.0, self.noise, WINDOW)
        window: Samples = (self._rotation(turns, random) + defect * self._defect(turns, random) + quiet).astype(
            np.float32
        )
        return window

    def _turns(self, random: Random) -> NDArray[np.float64]:
        """How far the shaft has turned at each sample."""
        start = self.speed * random.uniform(0.85, 1.15)
        speed = start * (1 + random.uniform(-0.02, 0.02) * np.arange(WINDOW) / WINDOW)
        return random.uniform(0, 1) + np.cumsum(speed) / RATE

    def _rotation(self, turns: NDArray[np.float64], random: Random) -> NDArray[np.float64]:
        phases = random.uniform(0, 2 * np.pi, 3)
        parts = [
            amplitude * np.sin(2 * np.pi * order * turns + phase)
            for order, amplitude, phase in zip((1, 2, 3), self.harmonics, phases, strict=True)
        ]
        total: NDArray[np.float64] = np.sum(parts, axis=0)
        return total

    def _defect(self, turns: NDArray[np.float64], random: Random) -> NDArray[np.float64]:
        """A decaying oscillation of amplitude 1 at every ball that meets the defect."""
        per_turn = BALLS / 2 * (1 + (BALL / PITCH if self.inner else -BALL / PITCH))
        first = turns[0] - 0.2  # what began before the window still rings
        gaps = random.normal(1.0, SLIP, int(per_turn * (turns[-1] - first)) + 3) / per_turn
        met = first + np.cumsum(gaps)
        load = 0.5 + 0.5 * np.cos(2 * np.pi * met) if self.inner else np.ones_like(met)
        strength = load * random.lognormal(0.0, 0.1, len(met))
        at = np.interp(met, turns, np.arange(WINDOW), left=-1, right=WINDOW)
        hits = np.zeros(WINDOW)
        inside = (met >= turns[0]) & (at < WINDOW - 1)
        np.add.at(hits, at[inside].astype(int), strength[inside])
        rung: NDArray[np.float64] = np.convolve(hits, self._ring())[:WINDOW]
        return rung

    def _ring(self) -> NDArray[np.float64]:
        time = np.arange(128) / RATE
        decay = np.exp(-2 * np.pi * self.damping * self.resonance * time)
        return decay * np.sin(2 * np.pi * self.resonance * time)


def create_motor(random: Random) -> Motor:
    """One of the many motors that there are."""
    return Motor(
        speed=float(random.uniform(20, 30)),
        harmonics=(float(random.uniform(0.1, 0.5)), float(random.uniform(0.02, 0.25)), float(random.uniform(0, 0.12))),
        noise=float(random.uniform(0.10, 0.20)),
        resonance=float(random.uniform(1500, 2100)),
        damping=float(random.uniform(0.04, 0.07)),
        inner=bool(random.random() < 0.5),
        worst=float(4.0 * random.lognormal(0, 0.10)),
        growth=float(50.0 * random.lognormal(0, 0.10)),
    )


def state(remaining: float) -> str:
    """What a motor with so many hours left is."""
    return "fault" if remaining < FAULT_HOURS else "watch" if remaining < WATCH_HOURS else "healthy"
