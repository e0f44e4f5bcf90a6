"""The scheduler: requests in, batches out to whichever replica is idle, answers back to their owners.

Knows nothing of models, processes or protocols: it is given replicas that run a batch, requests
that know how to answer themselves, a clock and timers.
"""

from forwardpass.scheduler.batch import Batch, Reason, Reply
from forwardpass.scheduler.request import Request
from forwardpass.scheduler.scheduler import Replica, Scheduler, Timers

__all__ = ["Batch", "Reason", "Replica", "Reply", "Request", "Scheduler", "Timers"]
