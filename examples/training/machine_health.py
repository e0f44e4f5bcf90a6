"""Trains `machine-health`: a window of a motor's vibration -> healthy, watch or fault, and the hours left.

Data: made by `examples/machine_health/motor.py`, the same windows every time; motors, not windows, are
held out. The features (spectrum in bands, spectrum of the envelope) are a graph of their own first,
so that training sees what serving will compute, and then the front part of the artifact.
Run `python examples/training/machine_health.py`; it rewrites the artifact, the sample and the card's figures.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import forwardpass

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.machine_health.motor import STATES, WINDOW, Samples, create_motor, state
from examples.training.model_card import write_card

FOLDER = Path(__file__).resolve().parents[1] / "models" / "machine-health"
MOTORS, TRAINING_MOTORS = 160, 120
CHECKPOINTS = 80  # windows of each motor, over its last `HOURS`
HOURS = 300.0
MOST_HOURS = 200.0  # more are not told apart: nothing is to be heard yet
FRAME, BINS = 16, 9  # samples of a short frame, and the bins of its spectrum
FRAMES = WINDOW // FRAME
RINGING = 3  # from which bin on (960 Hz) a bearing is heard, not the rotation
SMALLEST = 1e-9  # so that the logarithm of silence is finite
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """Windows of some motors, each motor's in the order of time: [n, 1024], hours left [n], number of the motor [n]."""

    window: Samples
    remaining: NDArray[np.float64]
    motor: NDArray[np.int64]

    @property
    def state(self) -> NDArray[np.int64]:
        return np.array([STATES.index(state(hours)) for hours in self.remaining])


def generate(first: int, behind: int, seed: int = 2026) -> Windows:
    """The last 300 hours of the motors with these numbers; half of the windows are of the last 120."""
    windows, remaining, numbers = [], [], []
    for number in range(first, behind):
        random = np.random.default_rng((seed, number))  # of its own: a motor is the same without the others
        motor = create_motor(random)
        early = random.uniform(120, HOURS, CHECKPOINTS // 2)
        late = random.uniform(0, 120, CHECKPOINTS - CHECKPOINTS // 2)
        for hours in sorted([*early, *late], reverse=True):
            windows.append(motor.window(hours, random))
            remaining.append(hours)
            numbers.append(number)
    return Windows(np.stack(windows), np.array(remaining), np.array(numbers))


def training() -> Windows:
    return generate(0, TRAINING_MOTORS)


@cache
def held_out() -> Windows:
    """Of motors that training never sees."""
    return generate(TRAINING_MOTORS, MOTORS)


def evaluate(model: forwardpass.Engine) -> dict[str, float]:
    """Figures on the held-out motors."""
    windows = held_out()
    answer = model.predict({"window": windows.window})
    found = np.array([STATES.index(name) for name in answer["state"]])
    truth, hours, remaining = windows.state, answer["remaining_hours"], windows.remaining
    near = remaining < 120
    alarms = [_first_alarm(found[windows.motor == number]) for number in np.unique(windows.motor)]
    left = [_hours_at(windows, number, at) for number, at in zip(np.unique(windows.motor), alarms, strict=True)]
    metrics = {
        "accuracy": (found == truth).mean(),
        "recall_fault": (found[truth == 2] == 2).mean(),
        "fault_said_of_healthy": (found[truth == 0] == 2).mean(),
        "healthy_said_of_fault": (found[truth == 2] == 0).mean(),
        "hours_error_below_120": np.abs(hours - remaining)[near].mean(),
        "hours_error_of_their_mean": np.abs(remaining[near] - remaining[near].mean()).mean(),
        "alarm_hours_before_the_end_median": np.median([value for value in left if value is not None]),
    }
    counts = {
        "held_out_motors": len(alarms),
        "held_out_windows": len(truth),
        "motors_without_an_alarm": sum(value is None for value in left),
    }
    return {**counts, **{name: round(float(value), 4) for name, value in metrics.items()}}


def _first_alarm(found: NDArray[np.int64]) -> int | None:
    """When the rule of model.yaml would first act: three faults in a row."""
    three = np.convolve(found == 2, [1, 1, 1], "valid") == 3
    return int(np.argmax(three)) + 2 if three.any() else None


def _hours_at(windows: Windows, motor: int, at: int | None) -> float | None:
    return None if at is None else float(windows.remaining[windows.motor == motor][at])


# The graph


class Graph:
    """Nodes and constants of an ONNX graph, put together one operation after another."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """The operation's output, under a name of its own unless one is given."""
        name = output or f"{operation.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def mean(self, value: str, axis: int) -> str:
        return self.add("ReduceMean", value, axes=[axis], keepdims=1)

    def log(self, value: str) -> str:
        return self.add("Log", self.add("Add", value, self.constant(np.float32(SMALLEST))))

    def power(self, value: str, length: int) -> str:
        """Squared magnitudes of the discrete Fourier transform over the last axis, as two products of matrices."""
        angle = 2 * np.pi * np.outer(np.arange(length), np.arange(length // 2 + 1)) / length
        parts = [self.add("MatMul", value, self.constant(part(angle).astype(np.float32))) for part in (np.cos, np.sin)]
        return self.add("Add", *(self.add("Mul", part, part) for part in parts))

    def dense(self, value: str, matrix: Any, bias: Any, output: str = "") -> str:
        return self.add(
            "Gemm", value, self.constant(np.float32(matrix)), self.constant(np.float32(bias)), output=output
        )

    def model(self, name: str, outputs: dict[str, list[Any]]) -> onnx.ModelProto:
        window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", WINDOW])
        given = [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, name, [window], given, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def add_features(graph: Graph, output: str = "") -> str:
    """From ``window`` to 44 features: level, peaks, energy by frequency, and how the ringing comes and goes."""
    # Not ReduceMean: how ONNX Runtime adds up there depends on where a caller's rows lie in memory, to the last bit.
    mean = graph.add("MatMul", "window", graph.constant(np.full((WINDOW, 1), 1 / WINDOW, np.float32)))
    centred = graph.add("Sub", "window", mean)
    squared = graph.add("Mul", centred, centred)
    power = graph.mean(squared, 1)
    level = graph.log(power)
    kurtosis = graph.add(
        "Sub", graph.log(graph.mean(graph.add("Mul", squared, squared), 1)), graph.add("Add", level, level)
    )
    peak = graph.add("Sub", graph.log(graph.add("ReduceMax", squared, axes=[1], keepdims=1)), level)

    frames = graph.add("Reshape", centred, graph.constant(np.array([-1, FRAMES, FRAME])))
    energy = graph.power(frames, FRAME)  # [batch, frames, bins]
    bands = graph.log(graph.add("ReduceMean", energy, axes=[1], keepdims=0))
    ringing = graph.add("MatMul", energy, graph.constant((np.arange(BINS) >= RINGING).astype(np.float32)[:, None]))
    envelope = graph.add("Sqrt", graph.add("Reshape", ringing, graph.constant(np.array([-1, FRAMES]))))
    usual = graph.mean(envelope, 1)
    swing = graph.add(
        "Div", graph.add("Sub", envelope, usual), graph.add("Add", usual, graph.constant(np.float32(1e-6)))
    )
    comes_and_goes = graph.add(
        "Slice", graph.log(graph.power(swing, FRAMES)), *(graph.constant(np.array([at])) for at in (1, FRAMES, 1))
    )
    return graph.add("Concat", level, kurtosis, peak, bands, comes_and_goes, output=output, axis=1)


def features(window: Samples) -> Floats:
    """What the networks learn from, computed by the library that will serve it."""
    graph = Graph()
    add_features(graph, "features")
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(graph.model("features", {"features": ["batch", None]}), Path(folder) / "model.onnx")
        with closing(forwardpass.load(folder, threads=1)) as engine:
            values: Floats = engine.predict({"window": window})["features"]
    return values


def train() -> tuple[Any, Any, Floats, Floats]:
    """The network for the state and the one for the hours, and by what their features are shifted and scaled."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    windows = training()
    table = features(windows.window)
    shift, scale = table.mean(axis=0), table.std(axis=0) + 1e-6
    scaled = (table - shift) / scale
    shape = {"hidden_layer_sizes": (24,), "alpha": 0.02, "max_iter": 400, "early_stopping": True, "random_state": 0}
    states = MLPClassifier(**shape).fit(scaled, windows.state)
    hours = MLPRegressor(**shape).fit(scaled, np.minimum(windows.remaining, MOST_HOURS) / MOST_HOURS)
    return states, hours, shift, scale


def export(states: Any, hours: Any, shift: Floats, scale: Floats) -> onnx.ModelProto:
    """The artifact: window [batch, 1024] -> scores [batch, 3], remaining_hours [batch]."""
    graph = Graph()
    shifted = graph.add("Sub", add_features(graph), graph.constant(np.float32(shift)))
    scaled = graph.add("Mul", shifted, graph.constant(np.float32(1 / scale)))
    _add_network(graph, scaled, states, "scores")
    share = _add_network(graph, scaled, hours)
    bounded = graph.add("Clip", share, graph.constant(np.float32(0)), graph.constant(np.float32(1)))
    total = graph.add("Mul", bounded, graph.constant(np.float32(MOST_HOURS)))
    graph.add("Reshape", total, graph.constant(np.array([-1])), output="remaining_hours")
    return graph.model("machine-health", {"scores": ["batch", len(STATES)], "remaining_hours": ["batch"]})


def _add_network(graph: Graph, value: str, network: Any, output: str = "") -> str:
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    for matrix, bias in layers[:-1]:
        value = graph.add("Relu", graph.dense(value, matrix, bias))
    return graph.dense(value, *layers[-1], output=output)


def write_sample() -> None:
    """A window of each state, of a motor that is held out."""
    motor = generate(TRAINING_MOTORS, TRAINING_MOTORS + 1)
    rows = [int(np.argmin(np.abs(motor.remaining - hours))) for hours in (250.0, 70.0, 8.0)]
    instances = [[round(float(value), 3) for value in motor.window[row]] for row in rows]
    (FOLDER / "sample.json").write_text(json.dumps({"instances": instances}) + "\n")


def main() -> None:
    onnx.save(export(*train()), FOLDER / "model.onnx")
    write_sample()
    with closing(forwardpass.load(FOLDER, threads=1)) as model:
        metrics = evaluate(model)
    write_card(FOLDER, metrics)
    print(metrics)


if __name__ == "__main__":
    main()
