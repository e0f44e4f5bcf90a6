"""What is ready while servers elsewhere are out of reach: the model, the cascade over it, and the server as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.gateway.house import House, Local, answers, clouds, house, remote_yaml, rows, run, until

from forwardpass.errors import InvalidModel, NotReady

AWAY = "remote: {urls: ['http://127.0.0.1:9'], check_every: 0.2}\n"
PAIR = "cascade: [small, large]\nescalation: {confidence: p, threshold: 0.8, timeout: 0.2}\n"


async def load_away(made: House, name: str, text: str = AWAY) -> None:
    with pytest.raises(InvalidModel):
        await made.load(name, text)


def test_a_server_that_answers_for_others_stays_ready(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            Local(made, "small", answers(1))
            await load_away(made, "large")
            cascade = await made.pair("timeout: 0.2")
            assert made.dataplane.model("pair").ready
            assert not made.dataplane.model("large").ready
            made.dataplane.require_ready()
            out = cascade.statistics()["out_of_reach"]
            assert list(out) == ["large"]
            assert "http://127.0.0.1:9: no connection" in out["large"]

    run(main)


def test_a_server_that_can_answer_nothing_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            await made.load("small", remote_yaml([cloud], "model: large"))
            await made.load("large", remote_yaml([cloud]))
            await made.load("pair", PAIR)
            made.dataplane.require_ready()
            assert made.dataplane.model("pair").composed is not None
            await cloud.die()
            await until(lambda: not any(served.ready for served in made.dataplane.all()))
            with pytest.raises(NotReady, match=r"large \(http://.*pair \(its first model .*small \(http://"):
                made.dataplane.require_ready()
            other = Local(made, "other", answers(1))
            made.dataplane.require_ready()
            made.dataplane.withdraw(other.served)
            await cloud.start()
            await until(lambda: all(served.ready for served in made.dataplane.all()))
            made.dataplane.require_ready()
            await made.answer("pair", rows(0.5))

    run(main)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (PAIR.replace("large", "nobody").replace("small", "absent"), "its first model cannot answer: there is no"),
        ("remote: {urls: []}\n", "names no server"),
        ("remote: {urls: ['http://127.0.0.1:9'], token_env: NO_SUCH_VARIABLE}\n", "NO_SUCH_VARIABLE"),
    ],
)
def test_what_is_wrong_here_is_missed_whatever_else_answers(tmp_path: Path, text: str, match: str) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            Local(made, "small", answers(1))
            await load_away(made, "large")
            await load_away(made, "wrong", text)
            with pytest.raises(NotReady, match=rf"wrong \(.*{match}"):
                made.dataplane.require_ready()

    run(main)


def test_one_that_has_not_been_asked_yet_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            Local(made, "small", answers(1))
            made.write("large", AWAY)
            made.control.begin(made.control.locations()[0])
            with pytest.raises(NotReady, match=r"large \(loading\)"):
                made.dataplane.require_ready()
            await until(lambda: made.dataplane.model("large").away)
            made.dataplane.require_ready()

    run(main)
