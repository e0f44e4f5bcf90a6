"""Whole calibrations of two tiny models: what is chosen, that judging rows have no say in it, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import artifacts
from tests.optimize.cascade import pairs

import forwardpass
from forwardpass.config import EscalationConfig, read_model_config
from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.optimize.bootstrap import Interval
from forwardpass.optimize.cascade.calibrate import Request, calibrate
from forwardpass.optimize.cascade.folder import write_cascade
from forwardpass.optimize.cascade.halves import halves
from forwardpass.optimize.cascade.results import Aim
from forwardpass.pipeline.confidence import confidence


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    data = pairs.held_out(tmp_path / "rows.parquet")
    small, large = pairs.small(tmp_path / "small"), pairs.large(tmp_path / "large")
    return Request(small, large, (str(data),), Aim(escalated=0.3), threads=1, seconds=0.02, resamples=200)


def inside(interval: Interval) -> bool:
    assert interval.value is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= interval.value <= interval.high


def test_the_figures_are_those_of_the_rows_that_did_not_choose(request_: Request) -> None:
    """Everything again by hand, from the models' own answers."""
    told: list[str] = []
    found = calibrate(request_, told.append)
    table = pq.read_table(request_.data[0])
    x, labels = np.array(table["x"].to_pylist(), np.float32), np.array(table["label"].to_pylist())
    _, judging = halves(labels)
    small, large = (forwardpass.load(path, threads=1).predict({"x": x[judging]})
                    for path in (request_.small, request_.large))  # fmt: skip
    sure = confidence(small["probabilities"], found.temperature)
    escalated = sure < found.threshold
    answers = np.where(escalated, large["label"], small["label"])
    assert told == ["The answer is output 'label'; the confidence is output 'probabilities'."]
    assert found.measured.rows == len(judging) == 600
    assert found.chosen.rows == 600
    assert found.measured.share.value == pytest.approx(escalated.mean())
    assert found.measured.accuracy.value == pytest.approx((answers == labels[judging]).mean())
    assert found.measured.small_accuracy.value == pytest.approx((small["label"] == labels[judging]).mean())
    assert found.measured.disagreement.value == pytest.approx((small["label"] != large["label"]).mean())
    right = small["label"] == labels[judging]
    assert found.measured.gain.value == pytest.approx((answers == labels[judging]).mean() - right.mean())


def test_asking_when_unsure_is_worth_it(request_: Request) -> None:
    found = calibrate(replace(request_, price=0.002))
    one = found.measured
    assert found.temperature > 1.5, "the small model is made too sure"
    assert one.error_after.high is not None
    assert one.error_before.low is not None
    assert one.error_after.high < one.error_before.low
    assert 0.25 < found.chosen.share <= 0.3
    assert one.gain.low is not None
    assert one.gain.low > 0.05, "most of the rows that are wrong"
    for interval in (one.accuracy, one.small_accuracy, one.large_accuracy, one.drop, one.gain, one.share,
                     one.latency.p50, one.latency.p99, one.latency.mean, found.cost):  # fmt: skip
        assert inside(interval)
    assert one.share.value is not None
    assert found.cost.value == pytest.approx(2 * one.share.value)
    shares = [point.share for point in one.curve]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert one.curve[0].accuracy.value == one.small_accuracy.value
    assert one.curve[-1].accuracy.value == one.large_accuracy.value


def test_rows_that_judge_have_no_say_in_what_is_chosen(request_: Request, tmp_path: Path) -> None:
    """Their inputs are spoiled; temperature and threshold stay to the last bit, and the figures do not."""
    before = calibrate(request_)
    table = pq.read_table(request_.data[0])
    x = np.array(table["x"].to_pylist(), np.float32)
    _, judging = halves(np.array(table["label"].to_pylist()))
    x[judging] = x[judging][::-1]
    pq.write_table(pa.table({"x": x.tolist(), "label": table["label"]}), tmp_path / "spoiled.parquet")
    after = calibrate(replace(request_, data=(str(tmp_path / "spoiled.parquet"),)))
    assert (after.temperature, after.threshold, after.chosen) == (before.temperature, before.threshold, before.chosen)
    assert after.measured.accuracy.value != before.measured.accuracy.value


def test_an_accuracy_is_reached_with_as_few_rows_as_can_be(request_: Request) -> None:
    absolute = calibrate(replace(request_, aim=Aim(accuracy=0.9)))
    assert 0.9 <= absolute.chosen.accuracy < 0.91
    relative = calibrate(replace(request_, aim=Aim(below=0.0)))
    assert relative.chosen.accuracy > absolute.chosen.accuracy
    assert relative.chosen.share > absolute.chosen.share


def test_the_folder_says_what_was_chosen(request_: Request, tmp_path: Path) -> None:
    found = calibrate(replace(request_, price=0.01))
    write_cascade(found, tmp_path / "both")
    config = read_model_config(tmp_path / "both")
    assert config.cascade == ("small", "large")
    assert config.escalation == EscalationConfig(
        "probabilities", found.threshold, found.temperature, max_share=0.3, price=0.01
    )
    free = replace(found, aim=Aim(accuracy=0.9), price=0.0)
    write_cascade(free, tmp_path / "free")
    assert read_model_config(tmp_path / "free").escalation == EscalationConfig(
        "probabilities", found.threshold, found.temperature
    )


def test_one_probability_is_a_confidence_of_two_classes(request_: Request, tmp_path: Path) -> None:
    data = _two_classes(tmp_path)
    small, large = _logistic(tmp_path / "weak", 0), _logistic(tmp_path / "strong", 1)
    found = calibrate(replace(request_, small=small, large=large, data=(str(data),)))
    assert (found.output, found.confidence) == ("p", "p")
    assert found.measured.gain.low is not None
    assert found.measured.gain.low > 0


def test_rows_that_one_model_refuses_are_left_out_and_told(request_: Request) -> None:
    with (request_.large / "model.yaml").open("a") as file:
        file.write("inputs: {x: {type: tensor, dtype: FP32, shape: [6], maximum: 2.8}}\n")
    told: list[str] = []
    found = calibrate(request_, told.append)
    assert found.unusable > 10
    assert found.measured.rows + found.chosen.rows + found.unusable == 1200
    assert f"{found.unusable} rows are left out, which not both models answer; row " in told[0]


def test_outputs_of_one_name_and_two_shapes_are_left_out(request_: Request, tmp_path: Path) -> None:
    text = (request_.large / "model.yaml").read_text()
    text = text.replace("postprocess:\n", "postprocess:\n  - {step: top_k, input: probabilities, k: 2, values: top}\n")
    (request_.large / "model.yaml").write_text(text.replace("output: label}", "output: label, largest: p}", 1)
                                               .replace("[label, probabilities]", "[label, p, top]"))  # fmt: skip
    text = (request_.small / "model.yaml").read_text()
    text = text.replace("postprocess:\n", "postprocess:\n  - {step: top_k, input: probabilities, k: 3, values: top}\n")
    (request_.small / "model.yaml").write_text(text.replace("[label, probabilities]", "[label, probabilities, top]"))
    found = calibrate(replace(request_, confidence="probabilities"))
    assert found.outputs == ("label",)
    write_cascade(found, tmp_path / "both")
    assert read_model_config(tmp_path / "both").outputs == ("label",)


def test_no_output_in_common(request_: Request, tmp_path: Path) -> None:
    text = (request_.large / "model.yaml").read_text().replace("output: label}", "output: tree}", 1)
    text = text.replace("input: label,", "input: tree,").replace("[label, probabilities]", "[tree]")
    (request_.large / "model.yaml").write_text(text)
    assert refused(request_) == (
        "the models have no output in common: MODEL gives label, probabilities [3], --against tree; name and shape one "
        "alike"
    )


# What is refused


def refused(request: Request) -> str:
    with pytest.raises((InvalidInput, InvalidModel)) as error:
        calibrate(request)
    return error.value.message


def test_too_few_rows_and_how_many_are_needed(request_: Request, tmp_path: Path) -> None:
    few = pairs.held_out(tmp_path / "few.parquet", 150)
    message = refused(replace(request_, data=(str(few),)))
    assert message.startswith("150 labelled rows are too few to choose with and to judge: at least 200 are needed")


def test_too_few_wrong_answers_to_tell_by(request_: Request, tmp_path: Path) -> None:
    good, data = pairs.model(tmp_path / "good", (0, 1), 3.0), pairs.held_out(tmp_path / "few.parquet", 300)
    message = refused(replace(request_, small=good, data=(str(data),)))
    assert "too few to tell a threshold by: " in message
    assert "labelled rows are needed for 10 of them" in message


def test_an_accuracy_out_of_reach_says_what_can_be_had(request_: Request) -> None:
    message = refused(replace(request_, aim=Aim(accuracy=0.99999)))
    assert message.startswith("--target-accuracy 100 % cannot be reached: the most on the rows that choose is 9")


@pytest.mark.parametrize(
    ("aim", "price", "start"),
    [
        (Aim(escalated=1.5), 0.0, "--max-escalation 150 %"),
        (Aim(accuracy=-0.1), 0.0, "--target-accuracy -10 %"),
        (Aim(below=math.nan), 0.0, "--target-accuracy nan %"),
        (Aim(escalated=0.2), -1.0, "--price -1"),
        (Aim(escalated=0.2), math.inf, "--price inf"),
    ],
)
def test_figures_that_make_no_sense(request_: Request, aim: Aim, price: float, start: str) -> None:
    assert refused(replace(request_, aim=aim, price=price)).startswith(start)


def test_models_that_name_classes_differently(request_: Request, tmp_path: Path) -> None:
    others = pairs.large(tmp_path / "others", ("Ash", "Beech", "Cedar"))
    message = refused(replace(request_, large=others))
    assert message.startswith("--against, output 'label': labels ('")
    assert message.endswith("have no class in common")


def test_an_answer_that_fits_no_label_is_named_by_an_option_that_there_is(request_: Request) -> None:
    table = pq.read_table(request_.data[0])
    numbers = pa.array(np.arange(len(table)) + 0.5)
    pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", numbers), request_.data[0])
    message = refused(request_)
    assert message.startswith("no metric fits. ")
    assert message.endswith(". Say which with --answer")


def test_rows_that_cannot_be_used_are_counted_and_told(request_: Request) -> None:
    table = pq.read_table(request_.data[0])
    labels = [None if number in {3, 7} else label for number, label in enumerate(table["label"].to_pylist())]
    column = pa.array(labels, table["label"].type)
    pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", column), request_.data[0])
    told: list[str] = []
    assert calibrate(request_, told.append).unusable == 2
    assert told[0].startswith("2 rows cannot be used and are left out; the first is row 3: ")


def test_models_that_number_classes_differently(request_: Request, tmp_path: Path) -> None:
    turned = pairs.large(tmp_path / "turned", ("beech", "cedar", "ash"))
    assert "asking gains nothing. Are they swapped, or do they number" in refused(replace(request_, large=turned))


def test_a_confidence_that_is_none(request_: Request) -> None:
    assert refused(replace(request_, confidence="probabilites")) == (
        "--confidence: the model has no output 'probabilites'. Did you mean 'probabilities'?"
    )
    assert "output" in refused(replace(request_, confidence="label"))
    with (request_.small / "model.yaml").open("a") as file:
        file.write("tags: {}\n")
    text = (request_.small / "model.yaml").read_text()
    (request_.small / "model.yaml").write_text(text.replace("outputs: [label, probabilities]", "outputs: [label]"))
    assert refused(request_).startswith("no output of MODEL is a confidence. 'label': its values are texts, and")


def test_a_single_number_where_there_are_more_classes(request_: Request) -> None:
    text = (request_.small / "model.yaml").read_text()
    text = text.replace("output: label}", "output: label, largest: p}").replace("[label, probabilities]", "[label, p]")
    (request_.small / "model.yaml").write_text(text)
    assert "'p': one number a row does not say enough where there are 3 classes" in refused(request_)


def test_no_labels(request_: Request) -> None:
    assert "has no column 'label' or 'target'" in refused(_renamed(request_))


def test_models_that_take_other_rows(request_: Request, tmp_path: Path) -> None:
    artifacts.two_inputs(tmp_path / "sum" / "model.onnx")
    message = refused(replace(request_, large=tmp_path / "sum"))
    assert message.startswith("only --against has an input 'a'")


def test_models_of_one_name(request_: Request, tmp_path: Path) -> None:
    same = pairs.large(tmp_path / "elsewhere" / "small")
    assert refused(replace(request_, large=same)).startswith("both models are called 'small'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("remote: {urls: ['http://127.0.0.1:9']}", "it lies elsewhere; give the folder of a model with an artifact"),
        ("cascade: [a, b]\nescalation: {confidence: p, threshold: 0.5}", "it is a cascade; give the folder"),
    ],
)
def test_a_small_model_needs_an_artifact_here(request_: Request, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.yaml").write_text(text)
    message = refused(replace(request_, small=tmp_path / "other"))
    assert message.startswith(f"MODEL {tmp_path / 'other'}: {said}")
    message = refused(replace(request_, large=tmp_path / "other"))
    assert message.startswith(f"--against {tmp_path / 'other'}: {said}")


def test_what_is_there_is_not_overwritten(request_: Request) -> None:
    assert "there is something already" in refused(replace(request_, out=request_.small))


def _renamed(request: Request) -> Request:
    path = Path(request.data[0]).with_name("unlabelled.parquet")
    pq.write_table(pq.read_table(request.data[0]).rename_columns(["x", "species"]), path)
    return replace(request, data=(str(path),))


def _logistic(folder: Path, reading: int) -> Path:
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["score"]), helper.make_node("Sigmoid", ["score"], ["p"])]
    weights = np.zeros((2, 1), np.float32)
    weights[reading] = 4
    inputs, outputs = [artifacts.tensor("x", ["N", 2])], [artifacts.tensor("p", ["N", 1])]
    artifacts.save(folder / "model.onnx", nodes, inputs, outputs, [artifacts.constant("w", weights)])
    return folder


def _two_classes(folder: Path) -> Path:
    random = np.random.default_rng(5)
    classes = random.integers(0, 2, 800)
    spread = np.array([1.2, 0.3]) * random.standard_normal((800, 2))
    x = ((2 * classes - 1)[:, None] + spread).astype(np.float32)
    pq.write_table(pa.table({"x": x.tolist(), "label": classes}), folder / "two.parquet")
    return folder / "two.parquet"
