"""Both loops against a real little server: what stalls, refuses, fails, closes and never answers."""

from __future__ import annotations

import socket
import time
from collections import Counter
from functools import partial

import pytest
from tests.loadtest.little_server import little, ok

from forwardpass.errors import InvalidInput
from forwardpass.loadtest import Arrivals, HttpTarget, Leave, Result, closed, http_request, opened, run
from forwardpass.loadtest.target import Connection, Listener


def target(url: str, *bodies: bytes, seed: int | None = None) -> HttpTarget:
    return HttpTarget("v1", [http_request(f"{url}/x", body) for body in bodies or (b"body",)], seed, url)


def stalling(at: float, seconds: float) -> partial[bytes]:
    """An answer that, once, ``at`` seconds after the first request, stops the whole server."""
    return partial(_stall, {}, at, seconds)


def _stall(state: dict[str, float], at: float, seconds: float, number: int, body: bytes) -> bytes:
    first = state.setdefault("first", time.monotonic())
    if time.monotonic() - first >= at and "done" not in state:
        state["done"] = 1.0
        time.sleep(seconds)
    return ok()


def test_the_open_loop_shows_a_stall_that_the_closed_one_hides() -> None:
    with little(stalling(0.1, 0.3)) as server:
        polite = run(closed(target(server.url), 1, 0.7))
    with little(stalling(0.1, 0.3)) as server:
        steady = run(opened(target(server.url), 200, 0.7, arrivals=Arrivals.EVEN))
    assert polite.latency.max >= 0.3
    assert polite.latency.percentile(99) < 0.1
    assert polite.failed == steady.failed == 0
    assert steady.ok == steady.sent == 140
    assert steady.latency.percentile(99) > 0.25
    assert steady.latency.percentile(85) > 0.1  # who was due in the middle of it waited for the rest of it
    assert steady.waited > 0
    assert steady.connections > 8


def test_all_is_counted_once() -> None:
    with little(lambda number, body: ok()) as server:
        result = run(closed(target(server.url, b"a", b"b", b"c"), 4, 0.3))
    assert result.ok == result.sent == len(server.bodies) == result.statuses[200] > 30
    assert sum(second.ok for second in result.series) == result.ok
    assert server.connections == 4
    assert result.rate == pytest.approx(result.ok / 0.3, rel=0.2)
    sent = Counter(server.bodies)
    assert max(sent.values()) - min(sent.values()) <= 1


def test_a_seed_draws_the_same_requests() -> None:
    drawn: list[list[bytes]] = []
    seconds = 0.05
    while len(drawn) < 2:
        with little(lambda number, body: ok()) as server:
            run(closed(target(server.url, b"a", b"b", b"c", seed=5), 1, seconds))
        if len(server.bodies) >= 10:
            drawn.append(server.bodies[:10])
        seconds *= 2  # a machine that is busy with something else
    assert drawn[0] == drawn[1] != [b"a", b"b", b"c"] * 3 + [b"a"]


def refusing(number: int, body: bytes) -> bytes:
    replies = [
        ok(),
        ok(b"{}", "Retry-After: 2", status="503 No"),
        ok(b"{}", status="429 No"),
        ok(b"bad", status="500 No"),
    ]
    return replies[number % 4]


def test_refusals_and_errors_stand_apart() -> None:
    with little(refusing) as server:
        result = run(opened(target(server.url), 400, 0.5, arrivals=Arrivals.EVEN, connections=1, most_connections=1))
    assert dict(result.statuses) == {200: 50, 503: 50, 429: 50, 500: 50}
    assert (result.ok, result.refused.count, result.failed) == (50, 100, 50)
    assert (result.retry_after.count, result.retry_after.max) == (50, 2.0)
    assert result.errors == {"status 500": 50}
    assert result.first_error == "status 500: bad"
    assert sum(second.refused for second in result.series) == 100


def test_answers_are_checked_with_their_request() -> None:
    def right(index: int, status: int, headers: dict[str, str], body: bytes) -> bool:
        return body == b"ab"[index : index + 1] and headers["x-kind"] == "echo"

    with little(lambda number, body: ok(body if number != 7 else b"?", "X-Kind: echo")) as server:
        result = run(closed(target(server.url, b"a", b"b"), 2, 0.2, check=right))
    assert result.errors == {"wrong answer": 1}
    assert result.ok == result.sent - 1 > 10


def test_a_server_that_closes_is_an_error_and_is_asked_again() -> None:
    with little(lambda number, body: b"" if number == 3 else ok()) as server:
        result = run(closed(target(server.url), 1, 0.2))
    assert result.errors == {"connection closed": 1}
    assert server.connections == 2
    assert result.ok == result.sent - 1 > 10


def test_a_server_that_says_that_it_closes_is_none() -> None:
    with little(lambda number, body: ok(b"x", "Connection: close") if number % 5 == 0 else ok()) as server:
        result = run(closed(target(server.url), 2, 0.2))
    assert result.failed == 0
    assert server.connections > 4


def test_no_answer_in_time() -> None:
    with little(lambda number, body: None if number == 2 else ok()) as server:
        result = run(closed(target(server.url), 1, 0.5, timeout=0.15))
    assert result.errors == {"timeout": 1}
    assert result.ok == result.sent - 1 > 10


def test_requests_that_found_no_connection_in_time() -> None:
    with little(lambda number, body: None) as server:
        sending = opened(target(server.url), 50, 0.2, connections=1, most_connections=1, timeout=0.1)
        result = run(sending)
    assert result.ok == 0
    assert result.errors["timeout"] == result.late.count  # each once, sent or not
    assert result.sent < result.late.count


def test_clients_that_leave() -> None:
    with little(lambda number, body: None if body == b"slow" else ok()) as server:
        sending = opened(target(server.url, b"slow"), 100, 0.5, leave=Leave(1.0, 0.02), timeout=5)
        result = run(sending)
        polite = run(closed(target(server.url), 2, 0.2, leave=Leave(0.5, 5.0)))
    assert result.left == result.sent == result.late.count
    assert result.failed == 0
    assert polite.left == 0  # answered before they would have gone
    assert polite.ok == polite.sent


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="refused"):
            run(closed(target(url), 1, 0.1))
        with pytest.raises(OSError, match="refused"):
            run(opened(target(url), 10, 0.1))


def test_no_requests() -> None:
    with pytest.raises(InvalidInput, match="no request"):
        run(closed(HttpTarget("v1", []), 1, 0.1))


def test_a_late_client_says_so() -> None:
    slow = Slow("v1", [b""])
    result = run(opened(slow, 100, 0.3, arrivals=Arrivals.EVEN))
    assert result.late.max > 0.02
    assert not result.punctual


class Slow(HttpTarget):
    """A client that is busy for too long with every request."""

    async def connect(self, listener: Listener) -> Connection:
        return SlowConnection(listener)


class SlowConnection(Connection):
    def send(self, request: bytes) -> None:
        time.sleep(0.02)
        self.listener.answered(self, 200, b"", b"")

    def close(self) -> None:
        self.left = True


def test_results_of_two_clients_add_up() -> None:
    results: list[Result] = []
    for _ in range(2):
        with little(refusing) as server:
            results.append(run(closed(target(server.url), 2, 0.1)))
    whole, other = results
    counts = [(one.sent, one.ok, one.failed, one.refused.count) for one in results]
    whole.merge(other)
    together = (whole.sent, whole.ok, whole.failed, whole.refused.count)
    assert together == tuple(a + b for a, b in zip(*counts, strict=True))
    assert whole.connections == 4
    assert sum(second.ok for second in whole.series) == whole.ok
    assert whole.summary()["statuses"]["200"] == whole.ok
