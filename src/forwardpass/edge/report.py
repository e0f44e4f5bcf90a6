"""How an agent is, as numbers and words: its status and its metrics.

Only looks; whatever it says, the agent has counted. How people are shown it is in ``status_text``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from forwardpass import __version__
from forwardpass.edge.exposition import exposition
from forwardpass.edge.gauges import agent_gauges
from forwardpass.errors import NotReady
from forwardpass.monitoring.metrics import Gauge

if TYPE_CHECKING:
    from forwardpass.edge.agent import Agent
    from forwardpass.edge.inputs.base import Input
    from forwardpass.edge.outputs.base import Output


class Report:
    """Of one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def status(self) -> dict[str, Any]:
        """For people, metrics and tests; times in seconds, those of day since the epoch."""
        agent = self._agent
        agent.dataplane.recorder.flush()
        services = [{**await service.status(), **agent.restarts(service)} for service in agent.services]
        composed = [
            {"model": served.name, "version": served.version, **served.composed.statistics()}
            for served in agent.dataplane.all()
            if served.composed is not None
        ]
        reached = [*services, *(server for item in composed for server in item.get("servers", ()))]
        contacts = [item["last_contact"] for item in reached if item.get("last_contact") is not None]
        rates, watch = agent.rates.last_minute(), agent.deployment.watch
        return {
            **self._running(),
            "composed": composed,
            "watching": None if watch is None else watch.rest,
            "agent": __version__,
            "pid": os.getpid(),
            "uptime": agent.uptime,
            "address": agent.address,
            "last_minute": {
                "predictions": rates.predictions,
                "rows": rates.rows,
                "errors": rates.errors,
                "p50": rates.p50,
                "p99": rates.p99,
            },
            "total": {
                "predictions": agent.rates.predictions,
                "rows": agent.rates.rows,
                "errors": agent.rates.errors,
            },
            "follow_up": {
                "waiting": agent.reactions.waiting,
                "dropped": agent.reactions.dropped,
                "failed": agent.reactions.failed,
            },
            "inputs": [
                {**_counts(item), "last_failure": _last_failure(item), **agent.restarts(item)} for item in agent.inputs
            ],
            "outputs": [{**_counts(item), "waiting": item.waiting} for item in agent.all_outputs],
            "services": services,
            "last_contact": max(contacts, default=None),
        }

    def _running(self) -> dict[str, Any]:
        agent = self._agent
        deployed = agent.deployment.running
        if deployed is None:
            reason = "loading"
            named = dict.fromkeys(("model", "version", "target", "slot"), "")
            return {"ready": False, "reason": reason, **named, "restarts": 0}
        try:
            agent.require_ready()
            reason = ""
        except NotReady as error:
            reason = error.message
        manifest = deployed.slot.manifest
        return {
            "ready": not reason,
            "reason": reason,
            "model": manifest.model,
            "version": manifest.version,
            "target": manifest.target,
            "slot": deployed.slot.name,
            "restarts": deployed.restarts,
        }

    async def metrics(self) -> bytes:
        """The same, and what was counted of requests, in the text format of Prometheus."""
        return exposition(self._agent.metrics, [*self._models(), *agent_gauges(await self.status())])

    def _models(self) -> Iterator[Gauge]:
        """As the server names them."""
        for served in self._agent.dataplane.all():
            labels = {"model": served.name, "version": served.version}
            yield Gauge("model_ready", "1 where the version can answer", labels, float(served.ready))
            if served.scheduler is not None:
                yield Gauge("queue_rows", "Rows that wait", labels, served.scheduler.queued_rows)
                yield Gauge("queue_bytes", "Bytes that wait", labels, served.scheduler.queued_bytes)
            if served.replicas is not None:
                yield Gauge("replicas_ready", "Workers that can take batches", labels, served.replicas.ready)
                yield Gauge("worker_restarts", "Workers started again since load", labels, served.replicas.restarts)
            if served.composed is not None:
                yield from served.composed.gauges(labels)


def _counts(item: Input | Output) -> dict[str, Any]:
    return {"name": item.name, "problem": item.problem, "counts": dict(item.counts)}


def _last_failure(item: Input) -> str:
    """The last item that could not be answered, and why."""
    return f"{item.failures[-1].source}: {item.failures[-1].reason}" if item.failures else ""
