"""A batch: the requests that run together, why it left when it did, and how answers find their owners."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
import numpy as np

from forwardpass.errors import BackendFailed, ForwardpassError
from forwardpass.scheduler.request import Request
from forwardpass.types import Columns, Outcome, StageTimes

log = logging.getLogger(__name__)
_OK = Outcome.OK  # looking a member up in its enum costs more than all else done with it per request


class Reason(StrEnum):
    """Why a batch left the queue."""

    IDLE = "idle"  # a replica was idle, and this is all that waited
    FULL = "full"  # as many rows as a batch may hold
    TIME = "time"  # as many rows as may be predicted to run in max_batch_time
    COST = "cost"  # another request would cost about as much in this batch as by itself
    DELAY = "delay"  # max_delay was over
    SHAPE = "shape"  # what else waited has another shape
    ALONE = "alone"  # the model is not batched: one request is the batch
    SLACK = "slack"  # nothing else waited: requests of the background
    RETRY = "retry"  # run once more, because the worker that ran it died


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What came back for a batch: outputs of the requests that succeeded, stacked in order.

    ``failures`` maps the index of a request within the batch to why it failed.
    """

    outputs: Columns
    failures: Mapping[int, ForwardpassError]
    times: StageTimes


class Batch:
    """Requests whose rows run together on one replica."""

    __slots__ = ("finished", "length", "reason", "requests", "rows", "server_timing", "started", "times")

    def __init__(self, requests: list[Request], rows: int, reason: Reason, started: float, length: int = 0) -> None:
        self.requests = requests
        self.rows = rows
        self.length = length  # of the longest row
        self.reason = reason
        self.started = started
        self.finished = started
        self.times: StageTimes | None = None
        self.server_timing: bytes | None = None  # the part of that header that all its answers share

    def stack(self) -> Columns:
        """All rows as one batch of columns."""
        return stack(self.requests)

    def answer(self, reply: Reply) -> list[Request]:
        """Give every request that still waits its own rows, or its own error; returns those it ended."""
        self.times = reply.times
        if reply.failures or (len(self.requests) == 1 and not self.requests[0].done):
            return self._answer_each(reply)
        ended: list[Request] = []
        outputs = list(reply.outputs.items())
        start = 0
        for request in self.requests:
            stop = start + request.rows
            if not request.done:
                own: Columns = {}
                for name, array in outputs:
                    own[name] = array[start:stop]
                succeed(request, own)
                ended.append(request)
            start = stop
        return ended

    def _answer_each(self, reply: Reply) -> list[Request]:
        """The same where some requests failed, or where one request takes the outputs as they are."""
        ended: list[Request] = []
        whole = len(self.requests) == 1
        start = 0
        for index, request in enumerate(self.requests):
            error = reply.failures.get(index)
            stop = start if error else start + request.rows
            if not request.done:
                ended.append(request)
                if error is not None:
                    fail(request, error)
                else:
                    outputs = reply.outputs
                    succeed(request, outputs if whole else {name: a[start:stop] for name, a in outputs.items()})
            start = stop
        return ended


def stack(requests: Sequence[Request]) -> Columns:
    """The rows of requests, one after the other."""
    if len(requests) == 1:
        return requests[0].columns
    parts = [request.columns for request in requests]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def succeed(request: Request, outputs: Columns) -> None:
    """End a request with its answer. A request that cannot take it harms no other."""
    request.done = True
    request.outcome = _OK
    try:
        request.succeed(outputs)
    except Exception:  # the batch loop: the others in the batch must get their answers
        log.exception("an answer could not be written")
        fail(request, BackendFailed("the answer could not be encoded; the server's log says why"))


def fail(request: Request, error: ForwardpassError) -> None:
    """End a request with an error. A request that cannot take it harms no other."""
    request.done = True
    request.outcome = error.outcome
    try:
        request.fail(error)
    except Exception:  # the batch loop, as above
        log.exception("an error could not be written")
