"""Rows from inputs, answered by real workers; whatever goes wrong is in the prediction."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests import artifacts
from tests.edge.devices import Factory, device, run
from tests.engine.workers import HANGS, KILLER, close, fateful_model, needs_proc, until

from forwardpass.edge.home import Home
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.predictor import answers_of, confidence_of, instances_of, is_provisional
from forwardpass.edge.slots import Slot
from forwardpass.engine.nursery import Nursery
from forwardpass.engine.replicas import Replicas
from forwardpass.registry import ModelLocation
from forwardpass.server.served import ServedModel
from forwardpass.types import DType, InputSpec, InputType, Signature, TensorSpec

pytestmark = needs_proc


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery("critical")
    yield made
    close(made)


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Slot:
    folder = tmp_path_factory.mktemp("device")
    return Factory(folder).install(Home(folder / "home"), fateful_model(folder / "fateful"))


def test_rows_come_back_as_predictions(nursery: Nursery, slot: Slot) -> None:
    async def main() -> None:
        async with device(nursery) as made:
            await made.start(slot)
            noted: list[Prediction] = []
            made.predictor._note = noted.append
            got = await made.predictor.predict([[1.0, 2.0], {"x": [3.0, 4.0]}], "mqtt:motors/7", "an-id")
            assert (got.id, got.source, got.model, got.version) == ("an-id", "mqtt:motors/7", "fateful", "1")
            assert got.answers == [[1.0, 2.0], [3.0, 4.0]]
            assert got.error is None
            assert 0.0 < got.seconds < 60.0
            assert (await made.predictor.predict([[1.0, 2.0]], "stdin")).id not in ("", "an-id")
            assert [item.id for item in noted][:1] == ["an-id"]
            made.dataplane.recorder.flush()
            assert made.rates.rows == 3

    run(nursery, main)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([["a", "b"]], "'x'"),
        ([[1.0]], "'x'"),
        ([{"y": [1.0, 2.0]}], "unknown input 'y'"),
        ([[1e300, 1.0]], "'x'"),
        ([object()], ""),
    ],
)
def test_bad_rows_are_told_and_raise_nothing(nursery: Nursery, slot: Slot, rows: list[Any], reason: str) -> None:
    async def main() -> None:
        async with device(nursery) as made:
            await made.start(slot)
            got = await made.predictor.predict(rows, "stdin")
            assert got.error is not None
            assert reason in got.error
            assert got.answers == []
            assert (await made.predictor.predict([[1.0, 2.0]], "stdin")).error is None

    with np.errstate(over="raise"):
        run(nursery, main)


def test_a_model_that_is_not_there_is_told(nursery: Nursery) -> None:
    async def main() -> None:
        async with device(nursery) as made:
            made.predictor.model = "nothing"
            assert "no model 'nothing'" in str((await made.predictor.predict([1], "stdin")).error)

    run(nursery, main)


def test_what_a_dead_worker_ran_is_answered(nursery: Nursery, slot: Slot) -> None:
    async def main() -> None:
        async with device(nursery) as made:
            await made.start(slot)
            (pid,) = cast(Replicas, made.dataplane.model("fateful").replicas).pids
            os.kill(pid, signal.SIGSTOP)
            asked = asyncio.create_task(made.predictor.predict([[1.0, 2.0]], "stdin"))
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            assert (await asked).answers == [[1.0, 2.0]]

    run(nursery, main)


def test_a_row_that_kills_every_worker_is_told(nursery: Nursery, slot: Slot) -> None:
    async def main() -> None:
        async with device(nursery) as made:
            await made.start(slot)
            got = await made.predictor.predict([[KILLER, 0.0]], "stdin")
            assert got.error is not None
            assert (await made.predictor.predict([[1.0, 2.0]], "stdin")).error is None

    run(nursery, main)


def test_who_stops_waiting_is_not_waited_for(nursery: Nursery, slot: Slot) -> None:
    async def main() -> None:
        async with device(nursery) as made:
            await made.start(slot)
            served = made.dataplane.model("fateful")
            running = asyncio.create_task(made.predictor.predict([[HANGS, 0.0]], "stdin"))
            scheduler = served.require_ready()
            await until(lambda: scheduler.busy and not scheduler.queued_rows)
            waiting = asyncio.create_task(made.predictor.predict([[1.0, 2.0]], "stdin"))
            await until(lambda: scheduler.queued_rows == 1)
            waiting.cancel()
            await asyncio.wait({waiting})
            assert scheduler.queued_rows == 0
            running.cancel()
            await asyncio.wait({running})
            os.kill(cast(Replicas, served.replicas).pids[0], signal.SIGKILL)

    run(nursery, main)


# Columns as what JSON can say


def served(*specs: InputSpec) -> ServedModel:
    made = ServedModel(ModelLocation("m", "1", Path("m")))
    made.signature = Signature(specs, (), True)
    return made


def spec(name: str, kind: InputType, dtype: DType = DType.BYTES) -> InputSpec:
    return InputSpec(TensorSpec(name, dtype, (None,)), kind)


def objects(*values: Any) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_bytes_become_what_v1_writes() -> None:
    assert answers_of({"y": objects(b"\xff")}, True) == [{"b64": "/w=="}]
    one = served(spec("image", InputType.IMAGE))
    assert instances_of({"image": objects(b"abc")}, one) == [{"b64": "YWJj"}]
    two = served(spec("image", InputType.IMAGE), spec("text", InputType.TEXT))
    columns = {"image": objects(b"abc"), "text": objects(b"gr\xc3\xbcn")}
    assert instances_of(columns, two) == [{"image": {"b64": "YWJj"}, "text": "grün"}]
    assert instances_of({"text": objects(b"\xff")}, served(spec("text", InputType.TEXT))) == [{"b64": "/w=="}]


def test_confidence_is_that_of_the_least_sure_row() -> None:
    assert confidence_of({"confidence": np.array([0.9, 0.25], np.float32)}) == 0.25
    assert confidence_of({"confidence": np.array([math.nan], np.float32)}) is None
    assert confidence_of({"confidence": objects("high")}) is None
    assert confidence_of({"y": np.array([1.0])}) is None
    assert is_provisional({"provisional": np.array([False, True])})
    assert not is_provisional({"provisional": np.array([False])})
    assert not is_provisional({})


def test_two_outputs_are_a_mapping_for_each_row() -> None:
    outputs = {"a": np.array([1, 2]), "b": np.array([[0.5], [1.5]])}
    assert answers_of(outputs, True) == [{"a": 1, "b": [0.5]}, {"a": 2, "b": [1.5]}]
    assert answers_of({"y": artifacts.weights(2, 1)}, False) == [artifacts.weights(2, 1).tolist()]
