"""A cascade of members whose answers the test decides: which rows go on, what comes back, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.gateway.house import (
    OUTPUTS,
    House,
    Local,
    after,
    answers,
    closing,
    clouds,
    house,
    remote_yaml,
    rows,
    run,
    saying,
    until,
    well,
)

from forwardpass.errors import (
    BackendFailed,
    Cancelled,
    ForwardpassError,
    InvalidInput,
    InvalidModel,
    NotFound,
    NotReady,
    Overloaded,
    TimedOut,
)
from forwardpass.gateway import breaker
from forwardpass.gateway.breaker import IN_A_ROW
from forwardpass.gateway.budget import DAY
from forwardpass.server.composed import PutOff
from forwardpass.server.served import State
from forwardpass.types import Columns, DType, TensorSpec

SURE, UNSURE = 0.9, 0.6
MIXED = (SURE, UNSURE, 0.1, 0.3, UNSURE)  # the third is sure of the other class


def members(made: House) -> tuple[Local, Local]:
    return Local(made, "small", answers(1)), Local(made, "large", answers(2))


def told(got: Columns) -> tuple[list[int], list[str], list[bool]]:
    """Whose answers they are by what they hold, by what is said, and which are provisional."""
    return [int(who) % 10 for who in got["who"]], list(got["member"]), got["provisional"].tolist()


def test_rows_that_are_sure_stay_and_the_others_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            cascade = await made.pair()
            got = await made.answer("pair", rows(*MIXED))
            assert list(got) == ["p", "who", "member", "confidence", "provisional"]
            assert told(got)[0] == [1, 2, 1, 2, 2]
            assert told(got)[1] == ["small", "large", "small", "large", "large"]
            assert not got["provisional"].any()
            assert got["who"].tolist() == [1, 12, 21, 32, 42]
            assert got["confidence"].tolist() == pytest.approx([0.9, 0.6, 0.9, 0.7, 0.6])
            assert got["confidence"].dtype == np.float32
            assert [seen["id"].tolist() for seen in large.seen] == [[1, 3, 4]]
            facts = cascade.statistics()
            assert (facts["rows"], facts["escalated"]) == (5, 3)
            assert facts["answered"] == {"small": 2, "large": 3}

    run(main)


def test_where_all_are_sure_nobody_else_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            await made.pair()
            got = await made.answer("pair", rows(SURE, SURE))
            assert told(got) == ([1, 1], ["small", "small"], [False, False])
            assert large.seen == []

    run(main)


def test_the_temperature_changes_who_is_sure(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            members(made)
            await made.pair("temperature: 3.0")
            got = await made.answer("pair", rows(SURE, 0.99))
            assert told(got)[1] == ["large", "small"]
            assert got["confidence"][1] == pytest.approx(1 / (1 + (1 / 99) ** (1 / 3)), rel=1e-5)

    run(main)


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (BackendFailed("broken"), "failed"),
        (Overloaded("full"), "overloaded"),
        (NotReady("away"), "not_ready"),
        (InvalidInput("not for me"), "refused"),
        (None, "timed_out"),
    ],
)
def test_what_goes_wrong_further_on_leaves_the_first_answer_marked(
    tmp_path: Path, happens: ForwardpassError | None, reason: str
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            cascade = await made.pair(f"timeout: {0.05 if happens is None else 15}")
            large.happens = lambda columns: happens
            got = await made.answer("pair", rows(*MIXED))
            assert told(got) == ([1] * 5, ["small"] * 5, [False, True, False, True, True])
            assert cascade.statistics()["provisional"] == {reason: 3}

    run(main)


def test_the_first_member_failing_fails_the_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            small, _ = members(made)
            await made.pair()
            small.happens = lambda columns: InvalidInput("row 0: no")
            with pytest.raises(InvalidInput, match="row 0: no"):
                await made.answer("pair", rows(SURE))

    run(main)


def test_the_answer_goes_out_before_the_deadline_of_the_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            cascade = await made.pair("timeout: 15")
            large.happens = lambda columns: None
            for _ in range(10):
                with contextlib.suppress(TimedOut):  # where this process did not run in its last moments
                    got = await made.answer("pair", rows(UNSURE), timeout=0.3)
                    break
            assert told(got) == ([1], ["small"], [True])
            assert cascade.statistics()["breakers"]["large"] == "closed"  # it had no fair chance

    run(main)


def test_a_request_whose_own_time_is_too_short_is_answered_without_asking_further(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            small, large = members(made)
            cascade = await made.pair()
            small.happens = lambda columns: None
            with pytest.raises(TimedOut):
                await made.answer("pair", rows(UNSURE), timeout=0.05)
            assert (large.seen, cascade.statistics()["escalated"]) == ([], 0)

    run(main)


def test_what_fails_again_and_again_is_not_asked_for_a_while(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            cascade = await made.pair()
            large.happens = lambda columns: BackendFailed("broken")
            for _ in range(IN_A_ROW + 4):
                await made.answer("pair", rows(UNSURE))
            assert len(large.seen) == IN_A_ROW
            assert cascade.statistics()["provisional"] == {"failed": IN_A_ROW, "breaker": 4}
            assert cascade.statistics()["breakers"] == {"large": "open"}

    run(main)


def test_the_least_sure_rows_go_where_not_all_may(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            members(made)
            cascade = await made.pair("max_share: 0.002")
            got = await made.answer("pair", rows(0.7, 0.55, SURE, 0.65, 0.5))
            assert told(got)[1] == ["small", "large", "small", "small", "large"]
            assert got["provisional"].tolist() == [True, False, False, True, False]
            assert cascade.statistics()["provisional"] == {"share": 2}
            for _ in range(3):
                assert (await made.answer("pair", rows(UNSURE)))["provisional"].tolist() == [True]

    run(main)


def test_the_money_of_a_day_is_not_exceeded(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            cascade = await made.pair("price: 0.5, max_cost_per_day: 1.5")
            got = await made.answer("pair", rows(*[UNSURE] * 5))
            assert got["provisional"].sum() == 2
            assert cascade.statistics()["spent_today"] == 1.5
            made.today += DAY
            large.happens = lambda columns: Overloaded("full")  # nothing was done, so nothing is paid
            await made.answer("pair", rows(UNSURE))
            assert cascade.statistics()["spent_today"] == 0.0
            assert cascade.statistics()["provisional"] == {"money": 2, "overloaded": 1}

    run(main)


def test_three_members_each_pass_on_what_they_are_not_sure_of(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            Local(made, "small", answers(1))
            middle = Local(made, "middle", lambda columns: answers(2)({**columns, "x": columns["x"] + 0.25}))
            large = Local(made, "large", answers(3))
            text = "cascade: [small, middle, large]\nescalation: {confidence: p, threshold: 0.8, max_share: 0.003}\n"
            await made.load("three", text)
            got = await made.answer("three", rows(SURE, 0.6, 0.5, 0.7))
            assert told(got) == ([1, 2, 3, 2], ["small", "middle", "large", "middle"], [False] * 4)
            assert [seen["id"].tolist() for seen in middle.seen] == [[1, 2, 3]]
            assert [seen["id"].tolist() for seen in large.seen] == [[2]]
            assert (await made.answer("three", rows(0.6)))["provisional"].tolist() == [True]  # the share is used up

    run(main)


def test_the_last_but_one_keeps_its_answer_where_the_last_fails(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            for number, name in enumerate(("small", "middle"), 1):
                Local(made, name, answers(number))
            Local(made, "large", lambda columns: BackendFailed("broken"))
            await made.load("three", "cascade: [small, middle, large]\nescalation: {confidence: p, threshold: 0.8}\n")
            got = await made.answer("three", rows(SURE, UNSURE))
            assert told(got) == ([1, 2], ["small", "middle"], [False, True])

    run(main)


def test_every_row_comes_back_to_its_owner_whatever_happens_on_the_way(tmp_path: Path) -> None:
    """Requests of any number of rows, sure or not, while members fail, are late or too late, or refuse."""
    chance = random.Random(11)
    fates: list[Callable[[], Any]] = [
        lambda: BackendFailed("broken"), lambda: Overloaded("full"), lambda: InvalidInput("no"), lambda: 0.2,
        lambda: chance.random() * 0.02,
    ]  # fmt: skip

    def sometimes(number: int, share: float, some: list[Callable[[], Any]]) -> Callable[[Columns], Any]:
        def happens(columns: Columns) -> Any:
            return chance.choice(some)() if chance.random() < share else answers(number)(columns)

        return happens

    def check(columns: Columns, values: list[float], got: Columns) -> tuple[int, int]:
        """How many rows are provisional, and how many went on."""
        who, says, provisional = told(got)
        assert (got["who"] // 10).tolist() == columns["id"].tolist()
        for value, by, name, mark in zip(values, who, says, provisional, strict=True):
            assert name == {1: "small", 2: "large"}[by]
            assert (by == 2 or mark) is (value in (UNSURE, 0.45))
            assert not (by == 2 and mark)
        return sum(provisional), who.count(2)

    async def main() -> None:
        async with house(tmp_path) as made:
            small, large = members(made)
            await made.pair("timeout: 0.05, audit: 0.1")
            small.happens = sometimes(1, 0.05, fates[:1])
            large.happens = sometimes(2, 0.3, fates)
            number = failed = marked = escalated = 0
            end = asyncio.get_running_loop().time() + 30
            while min(failed, marked / 10, escalated / 10) < 2 and asyncio.get_running_loop().time() < end:
                asked = []
                for _ in range(25):
                    values = [chance.choice([SURE, UNSURE, 0.1, 0.45]) for _ in range(chance.randint(1, 6))]
                    asked.append((rows(*values, first=number), values))
                    number += len(values)
                requests = [made.ask("pair", columns).future for columns, _ in asked]
                got = await asyncio.gather(*requests, return_exceptions=True)
                for (columns, values), answer in zip(asked, got, strict=True):
                    if isinstance(answer, BaseException):
                        assert isinstance(answer, BackendFailed)
                        failed += 1
                        continue
                    counts = check(columns, values, answer)
                    marked, escalated = marked + counts[0], escalated + counts[1]
            assert min(failed, marked / 10, escalated / 10) >= 2

    run(main)


def test_a_client_that_leaves_takes_what_was_asked_for_it_along(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            await made.pair("timeout: 90")
            large.happens = lambda columns: None
            requests = [made.ask("pair", rows(UNSURE), timeout=90.0) for _ in range(3)]
            await until(lambda: bool(large.seen))
            scheduler = made.dataplane.model("pair").scheduler
            assert scheduler is not None
            for request in requests:
                scheduler.cancel(request)
                with pytest.raises(Cancelled):
                    await request.future
            inner = large.served.scheduler
            assert inner is not None
            running = [one for _, batch in inner._running.values() for one in batch.requests]
            await until(lambda: all(one.done for one in running))
            await until(lambda: not scheduler.busy)

    run(main)


def test_background_requests_ask_in_the_background(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            small, large = members(made)
            await made.pair()
            await made.ask("pair", rows(UNSURE), background=True).future
            assert small.background == large.background == [True]

    run(main)


# Audit and deferral


def test_sure_rows_are_asked_about_after_their_answer_to_estimate_errors(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            cascade = await made.pair("audit: 1.0, max_share: 0")
            large.happens = lambda columns: {**answers(2)(columns), "who": columns["id"] * 10 + (columns["id"] < 5) + 1}
            for start in range(0, 20, 4):
                got = await made.answer("pair", rows(SURE, UNSURE, SURE, SURE, first=start))
                assert told(got)[1] == ["small"] * 4
            await until(lambda: cascade.statistics()["audit"]["asked"] == 15)
            audit = cascade.statistics()["audit"]
            assert audit["differed"] == 4  # 0, 2, 3 and 4 of those below 5, of which 1 was not sure
            assert audit["interval"][0] < 4 / 15 < audit["interval"][1]
            assert all(large.background)
            gauges = {gauge.name: gauge.value for gauge in cascade.gauges({}) if gauge.labels.get("bound") != "low"}
            assert gauges["cascade_audited_rows"] == 15

    run(main)


def test_an_audit_that_fails_is_counted_and_paid_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, large = members(made)
            cascade = await made.pair("audit: 1.0, price: 1, max_cost_per_day: 3")
            large.happens = lambda columns: Overloaded("full")
            await made.answer("pair", rows(SURE, SURE))
            await until(lambda: cascade.statistics()["audit"]["skipped"] == 2)
            assert cascade.statistics()["spent_today"] == 0
            large.happens = answers(2)
            await made.answer("pair", rows(*[SURE] * 5))
            await until(lambda: cascade.statistics()["audit"]["asked"] == 3)
            assert cascade.statistics()["audit"]["skipped"] == 4

    run(main)


def test_answers_that_cannot_be_compared_cannot_be_audited(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            size = TensorSpec("size", DType.FP32, (None,))
            Local(made, "small", answers(1), (OUTPUTS[0], size))
            Local(made, "large", answers(2), (size,))
            with pytest.raises(InvalidModel, match="audit: the members share no output"):
                await made.pair("audit: 0.5")

    run(main)


def test_provisional_rows_are_handed_on_to_be_asked_about_later(tmp_path: Path) -> None:
    found: list[PutOff] = []

    async def main() -> None:
        async with house(tmp_path, found.append) as made:
            _, large = members(made)
            await made.pair("deferred: true, timeout: 0.05")
            large.happens = lambda columns: BackendFailed("broken")
            request = made.ask("pair", rows(*MIXED))
            request.id = "its-id"
            await request.future
            await made.pair("timeout: 0.05")
            await made.answer("pair", rows(UNSURE))  # not with this setting

    run(main)
    (put_off,) = found
    assert (put_off.request.id, put_off.served.name) == ("its-id", "pair")
    assert put_off.rows.tolist() == put_off.columns["id"].tolist() == [1, 3, 4]
    assert put_off.answers["who"].tolist() == [11, 31, 41]
    assert put_off.answers["provisional"].tolist() == [True] * 3


def test_rows_that_the_budget_keeps_here_are_not_handed_on(tmp_path: Path) -> None:
    """It would be spent all the same."""
    found: list[PutOff] = []

    async def main() -> None:
        async with house(tmp_path, found.append) as made:
            _, large = members(made)
            large.happens = lambda columns: BackendFailed("broken")
            cascade = await made.pair("deferred: true, max_share: 0")
            await made.answer("pair", rows(UNSURE, UNSURE))
            assert cascade.statistics()["provisional"] == {"share": 2}
            cascade = await made.pair("deferred: true, price: 1, max_cost_per_day: 1")
            await made.answer("pair", rows(UNSURE, UNSURE - 0.01))
            assert cascade.statistics()["provisional"] == {"money": 1, "failed": 1}

    run(main)
    assert [put_off.rows.tolist() for put_off in found] == [[1]]  # the least sure, which was asked about


def test_rows_that_are_refused_are_not_handed_on(tmp_path: Path) -> None:
    found: list[PutOff] = []

    async def main() -> None:
        async with house(tmp_path, found.append) as made:
            _, large = members(made)
            await made.pair("deferred: true")
            large.happens = lambda columns: InvalidInput("no such row")
            assert (await made.answer("pair", rows(UNSURE)))["provisional"].tolist() == [True]

    run(main)
    assert found == []


# Members that come, go and change


def test_without_its_first_member_it_is_not_ready(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            with pytest.raises(InvalidModel, match="its first model cannot answer: there is no model 'small'"):
                await made.pair()
            members(made)
            pair = made.dataplane.model("pair")
            await until(lambda: pair.ready)
            await made.answer("pair", rows(UNSURE))
            await made.control.unload("small")
            with pytest.raises((NotFound, NotReady), match="there is no model 'small'"):
                await made.answer("pair", rows(SURE))
            await until(lambda: not pair.ready)
            Local(made, "small", answers(3))
            await until(lambda: pair.ready)
            assert told(await made.answer("pair", rows(SURE)))[0] == [3]

    run(main)


def test_a_member_loaded_again_is_the_member_from_then_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            small, _ = members(made)
            await made.pair()
            await made.answer("pair", rows(SURE))
            Local(made, "small", answers(3))  # in place of the other, which ends
            await small.served.finish(1.0)
            assert told(await made.answer("pair", rows(SURE)))[0] == [3]

    run(main)


def test_a_newer_version_of_a_member_answers_for_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            members(made)
            await made.pair()
            await made.answer("pair", rows(SURE))
            Local(made, "small", answers(3), version="2")
            assert told(await made.answer("pair", rows(SURE)))[0] == [3]

    run(main)


def test_a_cascade_kept_while_another_is_tried_keeps_its_members_and_can_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            small, _ = members(made)
            await made.pair()
            old = made.dataplane.model("pair")
            await made.answer("pair", rows(SURE))
            made.dataplane.withdraw(small.served)
            newer = Local(made, "small", answers(7), (*OUTPUTS[:1], TensorSpec("who", DType.INT64, (None, None))))
            await asyncio.sleep(0.12)  # it has looked at its members meanwhile
            assert old.ready
            assert told(await made.answer("pair", rows(SURE)))[0] == [1]
            made.dataplane.withdraw(newer.served)
            made.dataplane.publish(small.served)
            assert told(await made.answer("pair", rows(SURE)))[0] == [1]

    run(main)


def test_without_its_last_member_it_answers_provisionally(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            Local(made, "small", answers(1))
            cascade = await made.pair()
            got = await made.answer("pair", rows(SURE, UNSURE))
            assert told(got) == ([1, 1], ["small", "small"], [False, True])
            assert cascade.statistics()["provisional"] == {"not_ready": 1}
            Local(made, "large", answers(2))
            assert told(await made.answer("pair", rows(UNSURE)))[0] == [2]

    run(main)


def test_a_member_that_came_later_and_does_not_fit_is_not_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            Local(made, "small", answers(1))
            cascade = await made.pair()
            large = Local(made, "large", answers(2), OUTPUTS[:1])
            for _ in range(3):
                assert (await made.answer("pair", rows(UNSURE)))["provisional"].all()
            assert not large.seen
            assert cascade.statistics()["provisional"] == {"differs": 3}

    run(main)
    assert caplog.text.count("'large' has no output 'who'; name those to answer with in `outputs`") == 1


def test_members_that_do_not_fit_from_the_start_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            Local(made, "small", answers(1))
            Local(made, "large", answers(2), (TensorSpec("who", DType.INT32, (None,)), OUTPUTS[0]))
            with pytest.raises(InvalidModel, match=r"output 'who' is INT64\[\?\] .* and INT32\[\?\] of 'large'"):
                await made.pair()

    run(main)


def test_logits_in_place_of_probabilities_are_never_sure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            small, _ = members(made)
            await made.pair()
            small.happens = lambda columns: {**answers(1)(columns), "p": np.array([[3.0, -2.0]], np.float32)}
            got = await made.answer("pair", rows(SURE))
            assert told(got)[0] == [2]
            await made.answer("pair", rows(SURE))

    run(main)
    assert caplog.text.count("does not say how sure it is: it holds -2 to 3") == 1


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("cascade: [small]\nescalation: {confidence: p, threshold: 0.8}", "names 1 model"),
        ("cascade: [small, large]", "`escalation` is missing; `forwardpass calibrate`"),
        ("cascade: [small, pair]\nescalation: {confidence: p, threshold: 0.8}", "is the cascade itself"),
        ("cascade: [small, small]\nescalation: {confidence: p, threshold: 0.8}", "named twice"),
        ("cascade: [small, large]\nescalation: {confidence: p, threshold: 1.8}", "`threshold` must be between 0 and 1"),
        ("cascade: [small, large]\nescalation: {confidence: p, threshold: 1, temperature: 0}", "`temperature` must be"),
        ("cascade: [small, large]\nescalation: {confidence: q, threshold: 1}", "'small' has no output 'q'"),
        ("cascade: [small, large]\nescalation: {confidence: who, threshold: 1}", "output 'who' of 'small' is INT64"),
        ("cascade: [small, large]\nescalation: {confidence: p, threshold: 1}\ninputs: {x: {}}", "`inputs` means noth"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, match: str) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            members(made)
            with pytest.raises(InvalidModel, match=match):
                await made.load("pair", text)

    run(main)


def test_two_cascades_of_each_other_are_refused_and_wait_for_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            members(made)
            for name, other in (("one", "two"), ("two", "one")):
                made.write(name, f"cascade: [{other}, large]\nescalation: {{confidence: p, threshold: 0.8}}\n")
            await made.control.start()
            both = [made.dataplane.model(name) for name in ("one", "two")]
            await until(lambda: all(served.state is State.UNAVAILABLE for served in both))
            assert all("a member of itself" in served.reason for served in both)

    run(main)


def test_a_cascade_may_be_a_member_of_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            members(made)
            Local(made, "largest", answers(3))
            await made.pair("max_share: 0.002")
            await made.load("outer", "cascade: [pair, largest]\nescalation: {confidence: p, threshold: 0.8}\n")
            got = await made.answer("outer", rows(SURE, UNSURE, SURE))
            assert told(got)[0] == [1, 3, 1]

    run(main)


def test_a_cascade_can_be_tried_with_its_members_before_any_of_them_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            members(made)
            await made.pair()
            other = Local(made, "small", answers(7))
            made.dataplane.publish(Local(made, "small", answers(1)).served)
            (location,) = made.control.locations()
            tried = await made.control.try_out(location, {"small": other.served})
            request = made.ask("pair", rows(SURE))
            assert told(await request.future)[0] == [1]
            again = type(request)(rows(SURE), 20.0)
            made.dataplane.infer(tried, again)
            assert int((await again.future)["who"][0]) % 10 == 7
            await made.control.discard(tried)

    run(main)


# With a member that lies elsewhere


def test_a_remote_member_is_asked_and_its_end_only_marks_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            Local(made, "small", answers(1))
            await made.load("large", remote_yaml([cloud]))
            await made.pair("timeout: 8")
            assert told(await made.answer("pair", rows(*MIXED)))[0] == [1, 2, 1, 2, 2]
            assert [seen["id"].tolist() for seen in cloud.seen] == [[1, 3, 4]]
            assert 4e6 < cloud.heads[0]["parameters"]["timeout"] <= 8e6
            await made.pair("timeout: 0.2")
            for doing in (after(30.0), closing, saying(400), saying(200, b"rubbish")):
                cloud.doing = doing
                assert (await made.answer("pair", rows(UNSURE)))["provisional"].all()
            await cloud.die()
            assert (await made.answer("pair", rows(UNSURE)))["provisional"].all()
            cloud.doing = well
            await cloud.start()
            remote = made.remote("large")
            await until(lambda: remote.servers[0].healthy)
            async with asyncio.timeout(20):
                while (await made.answer("pair", rows(UNSURE)))["provisional"].all():  # until the breaker closes
                    await asyncio.sleep(0.02)

    run(main)


def test_a_cascade_starts_though_the_cloud_was_never_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            await cloud.die()
            made.write("large", remote_yaml([cloud]))
            made.write("pair", "cascade: [small, large]\nescalation: {confidence: p, threshold: 0.8}\n")
            Local(made, "small", answers(1))
            await made.control.start()
            pair = made.dataplane.model("pair")
            await until(lambda: pair.ready)
            assert told(await made.answer("pair", rows(SURE, UNSURE)))[2] == [False, True]
            await cloud.start()
            await until(lambda: made.dataplane.model("large").ready)
            assert told(await made.answer("pair", rows(UNSURE)))[0] == [2]

    run(main)


def test_where_no_row_may_leave_that_is_why_and_nobody_was_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_off: list[PutOff] = []

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path, put_off.append, "no row may leave") as made:
            Local(made, "small", answers(1))
            await made.load("large", remote_yaml([cloud]))
            cascade = await made.pair("deferred: true, price: 1, max_cost_per_day: 9, audit: 1")
            for _ in range(2):
                assert told(await made.answer("pair", rows(SURE, UNSURE)))[2] == [False, True]
                await cloud.die()  # which changes nothing
            said = cascade.statistics()
            assert (said["provisional"], said["escalated"], said["spent_today"]) == ({"privacy": 2}, 0, 0)
            assert said["out_of_reach"] == {}
            assert cloud.seen == []

    with caplog.at_level("INFO"):
        run(main)
    assert put_off == []
    assert "is ready" in caplog.text
    assert "asked" not in caplog.text.partition("is ready")[0]


def test_a_member_that_is_well_again_is_not_left_alone_any_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_REST", 1000.0)

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            Local(made, "small", answers(1))
            await made.load("large", remote_yaml([cloud]))
            cascade = await made.pair("timeout: 0.03")
            cloud.doing = after(30.0)
            for _ in range(IN_A_ROW):
                await made.answer("pair", rows(UNSURE))
            assert cascade.statistics()["breakers"] == {"large": "open"}
            server = made.remote("large").statistics()["servers"][0]
            assert (server["sent"], server["failed"]) == (IN_A_ROW, IN_A_ROW)
            await cloud.die()
            await until(lambda: not made.dataplane.model("large").ready)
            await cloud.start()
            await until(lambda: cascade.statistics()["breakers"] == {"large": "half_open"})

    run(main)
