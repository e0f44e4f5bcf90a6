"""The outbox of a device: what it has to tell the cloud waits here, through any loss of network or power.

In flow predictions, of which only goes in what may leave the device; out flow entries, in order, to a server's
intake (``upload``) or, for rows that a better model is to be asked about, to whoever asks (``deferred``).
"""

from forwardpass.edge.outbox.correction import Escalation
from forwardpass.edge.outbox.deferred import Deferred
from forwardpass.edge.outbox.entry import DeviceClock, Entry, Kind, Needs
from forwardpass.edge.outbox.outbox import Outbox
from forwardpass.edge.outbox.privacy import Level, Privacy
from forwardpass.edge.outbox.upload import Uploader, read_device_id

__all__ = [
    "Deferred", "DeviceClock", "Entry", "Escalation", "Kind", "Level", "Needs", "Outbox", "Privacy", "Uploader",
    "read_device_id",
]  # fmt: skip
