"""Monitoring: sinks of records. May drop under load; never holds up an answer."""

from forwardpass.monitoring.metrics import Metrics, ModelStats

__all__ = ["Metrics", "ModelStats"]
