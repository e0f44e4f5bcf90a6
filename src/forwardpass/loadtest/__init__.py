"""Sends load to a server and measures what comes back: closed loop, open loop, any door.

In flows a ``Target`` (where, and the prepared bytes of its requests), out flows a ``Result`` (counts,
latencies, refusals, errors, a series by second). ``run(closed(target, 8, 10.0))`` is a whole
measurement; several may run beside each other with ``asyncio.gather``. Knows no server and no
model: it speaks the protocols from outside and takes requests as bytes.
"""

from forwardpass.loadtest.arrivals import Arrivals
from forwardpass.loadtest.closed import closed
from forwardpass.loadtest.driver import Leave
from forwardpass.loadtest.grpc import GrpcTarget
from forwardpass.loadtest.histogram import Histogram
from forwardpass.loadtest.http import HttpTarget, http_request
from forwardpass.loadtest.local import LocalTarget
from forwardpass.loadtest.opened import opened
from forwardpass.loadtest.result import Result, Second
from forwardpass.loadtest.run import run
from forwardpass.loadtest.target import Target

__all__ = [
    "run", "closed", "opened", "Target", "HttpTarget", "GrpcTarget", "LocalTarget", "http_request",
    "Arrivals", "Leave", "Result", "Second", "Histogram",
]  # fmt: skip
