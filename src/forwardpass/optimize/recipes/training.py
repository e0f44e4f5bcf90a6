"""Training on the CPU, in short: Adam, batches in a seeded order, a falling rate, an end in time.

The same seed gives the same weights, unless the time is up first. Knows no files and no recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from time import monotonic
from typing import Any

from forwardpass.config import available_cores


@dataclass(frozen=True)
class Schedule:
    """``seconds`` is the most that training may take; ``rate`` the first learning rate, which falls to 0."""

    epochs: int
    seconds: float
    rate: float = 1e-3
    batch: int = 64
    seed: int = 0


def train(
    model: Any,
    inputs: list[Any],
    targets: list[Any],
    loss: Callable[..., Any],
    schedule: Schedule,
    clock: Callable[[], float] = monotonic,
) -> int:
    """Train in place, end in evaluation mode; gives the steps done.

    ``inputs`` are the arguments of forward and ``targets`` what ``loss`` takes after the outputs, all with
    as many rows. Kingma and Ba 2015 (Adam) with Loshchilov and Hutter 2017 (a rate that falls as a cosine).
    """
    torch: Any = import_module("torch")
    rows = len(inputs[0])
    total = schedule.epochs * math.ceil(rows / schedule.batch)
    ends = clock() + schedule.seconds
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    model.train()
    steps = 0
    for picked in _batches(torch, rows, schedule):
        if clock() > ends:
            break
        optimizer.zero_grad()
        outputs = model(*(tensor[picked] for tensor in inputs))
        loss(outputs, *(tensor[picked] for tensor in targets)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        falling.step()
        steps += 1
    model.eval()
    return steps


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random numbers and threads of torch as this block needs them; both as before after it."""
    torch: Any = import_module("torch")
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(available_cores())
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def answers(model: Any, inputs: list[Any], batch: int = 256) -> Any:
    """The first output for all rows, without gradients."""
    from forwardpass.optimize.recipes.source import first

    torch: Any = import_module("torch")
    with torch.no_grad():
        parts = [
            first(model(*(tensor[start : start + batch] for tensor in inputs)))
            for start in range(0, len(inputs[0]), batch)
        ]
    return torch.cat(parts)


def _batches(torch: Any, rows: int, schedule: Schedule) -> Iterator[Any]:
    """Row numbers, every row once an epoch. One row alone cannot be normalised, so none is left so."""
    order = torch.Generator().manual_seed(schedule.seed)
    for _ in range(schedule.epochs):
        for picked in torch.randperm(rows, generator=order).split(schedule.batch):
            if len(picked) > 1:
                yield picked
