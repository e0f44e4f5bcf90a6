"""The `machine-health` example: its physics, its card, its sample, its alarm rule, and rows among neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from examples.machine_health.motor import BALL, BALLS, PITCH, RATE, WINDOW, create_motor, state
from examples.training.machine_health import FOLDER, TRAINING_MOTORS, evaluate, generate, held_out
from examples.training.model_card import read_card

import forwardpass
from forwardpass.config import read_model_config
from forwardpass.edge.prediction import Prediction
from forwardpass.edge.rules import Rules, check_actions
from forwardpass.errors import InvalidRows


@pytest.fixture(scope="module")
def model() -> Iterator[forwardpass.Engine]:
    engine = forwardpass.load(FOLDER, threads=1)
    yield engine
    engine.close()


def test_the_artifact_is_small() -> None:
    assert (FOLDER / "model.onnx").stat().st_size < 50_000


def test_a_motor_is_the_same_every_time_and_without_the_others() -> None:
    several, alone = generate(1, 4), generate(2, 3)
    np.testing.assert_array_equal(several.window[several.motor == 2], alone.window)
    assert alone.window.shape == (80, WINDOW)


@pytest.mark.parametrize(("inner", "sign"), [(False, -1), (True, 1)])
def test_a_defect_rings_at_the_rate_at_which_balls_meet_it(inner: bool, sign: int) -> None:
    """The envelope's spectrum, over many windows, peaks where the formula says."""
    random = np.random.default_rng(5)
    motor = replace(create_motor(random), speed=25.0, harmonics=(0, 0, 0), noise=0.0, inner=inner)
    spectra = []
    for _ in range(40):
        start = random.bit_generator.state
        speed = 25.0 * random.uniform(0.85, 1.15)  # what the window will draw first
        random.bit_generator.state = start
        envelope = np.abs(motor.window(0.0, random)).reshape(-1, 8).mean(axis=1)
        spectrum = np.abs(np.fft.rfft(envelope - envelope.mean(), 4096))
        at = np.fft.rfftfreq(4096, 8 / RATE) / speed  # in turns of the shaft
        spectra.append(np.interp(np.linspace(2.5, 7, 400), at, spectrum))
    found = np.linspace(2.5, 7, 400)[int(np.argmax(np.mean(spectra, axis=0)))]
    assert found == pytest.approx(BALLS / 2 * (1 + sign * BALL / PITCH), rel=0.04)


def test_the_states_are_told_by_the_hours_left() -> None:
    assert [state(hours) for hours in (0, 35.9, 36, 119.9, 120)] == ["fault", "fault", "watch", "watch", "healthy"]


def test_the_motors_that_judge_are_not_those_that_train() -> None:
    assert held_out().motor.min() == TRAINING_MOTORS
    assert len(np.unique(held_out().motor)) == 40


def test_the_card_says_what_a_fresh_evaluation_gives(model: forwardpass.Engine) -> None:
    card, fresh = read_card(FOLDER)["metrics"], evaluate(model)
    # a window is 0.0003: a few may fall on the other side where another processor rounds near ties
    assert card == pytest.approx(fresh, rel=1e-3, abs=2e-3)
    assert card["hours_error_below_120"] < card["hours_error_of_their_mean"] / 2
    assert card["fault_said_of_healthy"] == 0
    assert card["motors_without_an_alarm"] == 0


def test_a_row_alone_agrees_with_the_row_among_neighbours(model: forwardpass.Engine) -> None:
    windows = held_out().window[:100]
    together = model.predict({"window": windows})["probabilities"]
    alone = np.concatenate([model.predict({"window": window[None]})["probabilities"] for window in windows])
    np.testing.assert_allclose(together, alone, rtol=0, atol=read_card(FOLDER)["tolerance"])


def test_the_sample_has_a_window_of_each_state(model: forwardpass.Engine) -> None:
    answers = model.predict(json.loads((FOLDER / "sample.json").read_text())["instances"])
    assert [answer["state"] for answer in answers] == ["healthy", "watch", "fault"]


def test_the_alarm_is_due_at_the_third_fault_in_a_row_and_then_once_a_minute(model: forwardpass.Engine) -> None:
    actions = read_model_config(FOLDER).actions
    check_actions(actions, model.signature)
    now = [0.0]
    rules = Rules(actions, lambda: now[0])
    healthy, _, fault = model.predict(json.loads((FOLDER / "sample.json").read_text())["instances"])
    acted = []
    for second, answer in enumerate([fault, fault, healthy, *[fault] * 70]):
        now[0] = float(second)
        due = rules.due(Prediction("id", "mqtt:motors/7/vibration", 0.0, "m", "1", [], [answer]))
        acted += [second] * len(due)
    assert acted == [5, 65]


@pytest.mark.parametrize("wrong", [[0.0] * 1023, [float("nan")] * WINDOW, [2000.0] * WINDOW])
def test_what_is_no_window_is_refused(model: forwardpass.Engine, wrong: list[float]) -> None:
    with pytest.raises(InvalidRows, match="window"):
        model.predict([[0.0] * WINDOW, wrong])
