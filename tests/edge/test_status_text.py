"""The status for people: what they need is there, and what is wrong stands out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.edge.statuses import CASCADE, LOADING, NOW, OUTBOX, REMOTE, SERVER, STATUS, UPDATES

from forwardpass.edge.status_text import duration, show


def test_people_see_what_matters() -> None:
    assert show(STATUS | {"composed": [CASCADE, REMOTE]}, NOW) == (
        "model       digits version 3 (slot b), ready\n"
        "agent       0.1.0, process 17, up 3 d 4 h, http://127.0.0.1:8100\n"
        "last minute 12.3 predictions/s, 20.0 rows/s, 0.50 errors/s; p50 1.2 ms, p99 -\n"
        "total       7 predictions, 8 rows, 1 error\n"
        "cascade     both: 30 rows, answered by 27 small, 3 large; 4 escalated, 2 provisional\n"
        "            provisional, because: 2 not ready\n"
        "remote      large at http://cloud: 4 sent, 1 failed\n"
        "input       mqtt:a: 5 read, 1 failed\n"
        "output      file:x: 4 sent, 3 waiting\n"
        "outbox      waiting: 2 usage; 3.8 kB of 67.1 MB; privacy: outputs\n"
        "            9 sent usage\n"
        "updates     waiting; channel stable of https://there; last looked 10 s ago\n"
        "contact     a server was reached 1 min ago"
    )


AUDITED = {"asked": 40, "differed": 1, "skipped": 0, "disagreement": 0.025, "interval": [0.004, 0.129]}
FAILED = {"version": "4", "why": "it crashed", "at": 940.0}
ILL: list[tuple[dict[str, Any], str]] = [
    (LOADING, "model       NOT READY\n            ! loading\n"),
    ({"watching": 61.0}, "new; kept in 1 min 1 s, if it stays well"),
    ({"restarts": 1}, "! a worker died or hung, and was started again, 1 time"),
    ({"follow_up": {"waiting": 1, "dropped": 2, "failed": 3}}, "follow-up   1 waiting, 2 dropped, 3 failed"),
    ({"last_contact": None}, "contact     no server was reached yet"),
    ({"inputs": [STATUS["inputs"][0] | {"problem": "no broker"}]}, "! no broker"),
    ({"inputs": [STATUS["inputs"][0] | {"last_failure": "a/b: no JSON"}]}, "the last that failed was a/b: no JSON"),
    ({"inputs": [STATUS["inputs"][0] | {"restarts": 2, "ended": "why"}]}, "begun again, 2 times: why"),
    ({"composed": [CASCADE | {"breakers": {"large": "open"}}]}, "! large is left alone for a while"),
    (
        {"composed": [CASCADE | {"breakers": {"large": "half_open"}}]},
        "            large failed again and again; the next",
    ),
    ({"composed": [CASCADE | {"spent_today": 0.25}]}, "0.25 spent today"),
    ({"composed": [CASCADE | {"out_of_reach": {"large": "it is gone"}}]}, "! it is gone"),
    (
        {"composed": [CASCADE | {"audit": AUDITED}]},
        "of 40 sure rows that were asked about too, 2.5 % differ (0.4 to 12.9)",
    ),
    ({"composed": [REMOTE | {"servers": [SERVER | {"healthy": False, "reason": "refused"}]}]}, "! refused"),
    ({"composed": [REMOTE | {"servers": [SERVER | {"breaker": "open"}]}]}, "! it is left alone for a while"),
    (
        {"composed": [REMOTE | {"servers": [SERVER | {"breaker": "half_open"}]}]},
        "            it failed again and again; the",
    ),
    ({"services": [], "last_contact": 880.0}, "contact     a server was reached 2 min ago"),
    ({"services": [OUTBOX | {"upload_error": "no network"}]}, "! upload: no network"),
    ({"services": [OUTBOX | {"error": "disk full"}]}, "! disk full"),
    ({"services": [OUTBOX | {"lost": {"record": 3}}]}, "! lost since the start: 3 record"),
    ({"services": [OUTBOX | {"set_aside": 2}]}, "! 2 entries the server refused; set aside"),
    ({"services": [{"name": "outbox", "privacy": "all", "lost": {}, "error": "unreadable"}]}, "! unreadable"),
    ({"services": [UPDATES | {"last_error": "expired"}]}, "! expired"),
    ({"services": [UPDATES | {"failed": FAILED}]}, "! version 4 was not kept, 1 min ago: it crashed"),
    (
        {"services": [UPDATES | {"state": "downloading", "release": "4", "received_bytes": 5e5, "total_bytes": 2e6}]},
        "version 4, 500.0 kB of 2.0 MB here",
    ),
    ({"services": [{"name": "updates", "bundle_error": "bad rows"}]}, "(no --updates)\n            ! bundle: bad rows"),
]


@pytest.mark.parametrize(("more", "line"), ILL, ids=[line for _, line in ILL])
def test_what_is_not_well_is_said(more: dict[str, Any], line: str) -> None:
    assert line in show(STATUS | more, NOW)
    assert line not in show(STATUS, NOW)


def test_a_refusal_is_said_once() -> None:
    told = UPDATES | {"failed": FAILED, "last_error": "update refused: motor 4 was tried and taken back: it crashed"}
    assert show(STATUS | {"services": [told]}, NOW).count("it crashed") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.6, "1 min"), (3725.0, "1 h 2 min"), (-5.0, "0 s"), (90061.0, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
