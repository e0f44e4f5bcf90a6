"""Statuses of agents as ``/status`` tells them: of one that is well, and what one has that is not."""

from __future__ import annotations

from typing import Any

NOW = 1000.0  # the seconds since the epoch at which they were asked
OUTBOX: dict[str, Any] = {
    "name": "outbox",
    "waiting": {"usage": 2, "record": 0},
    "bytes": 3833,
    "most_bytes": 64 << 20,
    "over": False,
    "set_aside": 0,
    "counts": {"sent_usage": 9},
    "privacy": "outputs",
    "lost": {},
    "error": "",
    "upload_error": "",
    "last_contact": 940.0,
    "deferred_error": "",
}
UPDATES: dict[str, Any] = {
    "name": "updates",
    "error": "",
    "bundle_error": "",
    "url": "https://there",
    "channel": "stable",
    "state": "waiting",
    "last_check": 990.0,
    "last_contact": 990.0,
    "last_error": None,
    "release": None,
    "received_bytes": 0,
    "total_bytes": 0,
    "failed": None,
}
CASCADE: dict[str, Any] = {
    "model": "both",
    "version": "1",
    "kind": "cascade",
    "rows": 30,
    "escalated": 4,
    "answered": {"small": 27, "large": 3},
    "provisional": {"share": 0, "not_ready": 2},
    "breakers": {"large": "closed"},
    "out_of_reach": {},
    "spent_today": 0.0,
    "audit": {"asked": 0, "differed": 0, "skipped": 0, "disagreement": None, "interval": [0.0, 1.0]},
}
SERVER: dict[str, Any] = {
    "url": "http://cloud",
    "healthy": True,
    "reason": "",
    "breaker": "closed",
    "outstanding_batches": 0,
    "outstanding_rows": 0,
    "sent": 4,
    "failed": 1,
}
REMOTE: dict[str, Any] = {"model": "large", "version": "1", "kind": "remote", "retries": 0, "servers": [SERVER]}
STATUS: dict[str, Any] = {
    "ready": True,
    "reason": "",
    "model": "digits",
    "version": "3",
    "target": "linux-x86_64",
    "slot": "b",
    "restarts": 0,
    "composed": [],
    "watching": None,
    "agent": "0.1.0",
    "pid": 17,
    "uptime": 3 * 86400.0 + 4 * 3600.0,
    "address": "http://127.0.0.1:8100",
    "last_minute": {"predictions": 12.34, "rows": 20.0, "errors": 0.5, "p50": 0.0012, "p99": None},
    "total": {"predictions": 7, "rows": 8, "errors": 1},
    "follow_up": {"waiting": 0, "dropped": 0, "failed": 0},
    "inputs": [{"name": "mqtt:a", "problem": "", "counts": {"read": 5, "failed": 1}, "last_failure": ""}],
    "outputs": [{"name": "file:x", "problem": "", "counts": {"sent": 4}, "waiting": 3}],
    "services": [OUTBOX, UPDATES],
    "last_contact": 940.0,
}
LOADING = STATUS | {"ready": False, "reason": "loading", **dict.fromkeys(("model", "version", "target", "slot"), "")}
