"""What all fronts together may hold: rows that wait, and connections."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests import artifacts
from tests.server.fronts.family import Client, clients, needs_proc, sleeper, statistics, until
from tests.server.process import Server, running

from forwardpass.server.fronts.limits import SLOTS, SharedLimits

MOST = 4  # rows that may wait
HOLD = 0.7  # seconds


def test_what_waits_in_one_front_is_seen_by_the_others() -> None:
    limits = SharedLimits.create(3)
    slot = limits.take()
    first, second, third = (limits.share(slot, front) for front in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    other = limits.share(limits.take(), 1)
    assert other is not None
    second.tell(3, 300)
    third.tell(4, 2**40)
    other.tell(99, 99)
    assert first.elsewhere() == (7, 300 + 2**40)
    assert third.elsewhere() == (3, 300)
    limits.forget(1)
    assert first.elsewhere() == (4, 2**40)
    assert other.elsewhere() == (0, 0)


def test_places_are_used_again_and_beyond_them_each_front_has_its_own_limit() -> None:
    limits = SharedLimits.create(2)
    taken = [limits.take() for _ in range(SLOTS)]
    assert sorted(filter(None, taken)) == list(range(1, SLOTS))
    assert limits.take() is None
    assert limits.share(None, 0) is None
    limits.give_back(None)
    limits.give_back(17)
    assert limits.take() == 17


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("repository")
    sleeper(folder / "sleeper", f"{{max_batch_size: 1, max_queue_size: {MOST}}}")
    artifacts.identity(folder / "twin" / "model.onnx")
    settings = folder.with_suffix(".yaml")
    settings.write_text("max_connections: 16\n")
    with running([folder], "--fronts", "2", "--config", str(settings)) as made:
        yield made


def is_waiting(client: Client, rows: int) -> bool:
    return bool(statistics(client, "sleeper")["queue"]["rows"] == rows)


@needs_proc
@pytest.mark.parametrize("turned", [False, True], ids=["first", "other"])
def test_a_queue_holds_its_limit_over_fronts_and_either_may_have_all_of_it(server: Server, turned: bool) -> None:
    with clients(server, each=7) as both:
        (asking, *first), (_, *second) = both
        one, other = (second, first) if turned else (first, second)
        before = sum(statistics(asking, "sleeper")["batch_reasons"].values())
        one[0].begin("sleeper", HOLD)  # runs
        other[0].begin("sleeper", 0.01)  # is sent to the worker behind it
        until(lambda: sum(statistics(asking, "sleeper")["batch_reasons"].values()) == before + 2)
        for number, client in enumerate(one[1 : MOST + 1]):
            client.begin("sleeper", 0.0)
            until(partial(is_waiting, asking, number + 1))
        for client in (one[5], other[5]):
            refused = client.predict("sleeper")
            assert refused.status == 503, refused.body
            assert f"{MOST} rows wait, at most {MOST} may" in refused.json["error"]
            assert int(refused.headers["retry-after"]) >= 1
        assert [client.receive().status for client in (*one[: MOST + 1], other[0])] == [200] * (MOST + 2)
        assert is_waiting(asking, 0)


@needs_proc
def test_requests_from_all_sides_never_hold_more_than_the_limit(server: Server) -> None:
    with clients(server, each=7) as both:
        pairs = list(zip(*both, strict=True))
        pairs[0][0].begin("sleeper", HOLD)
        pairs[0][1].begin("sleeper", 0.01)
        for pair in pairs[1:]:
            for client in pair:
                client.begin("sleeper", 0.0)
        answers = [client.receive().status for pair in pairs for client in pair]
        assert set(answers) == {200, 503}
        running_at_most, at_the_same_instant = 2, 1
        assert MOST <= answers.count(200) <= MOST + running_at_most + at_the_same_instant


@needs_proc
def test_connections_are_limited_over_fronts(server: Server, tmp_path: Path) -> None:
    with clients(server, each=8) as both:
        more = Client(server)
        refused = more.predict("twin")
        more.connection.close()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        everyone = [client for some in both for client in some]
        assert [client.predict("twin").status for client in everyone] == [200] * 16
