"""What people write down: ``model.yaml`` beside an artifact, and the settings of the program.

Both are trees of frozen dataclasses, decoded strictly: an unknown key or a wrong type is an error
that names the key, the value and the nearest known key. Knows no steps and no backends; a step's
parameters stay a mapping here and are decoded by the pipeline with the same ``decode``.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
import yaml

from forwardpass.errors import ForwardpassError, InvalidModel, InvalidSettings, nearest
from forwardpass.types import DType, InputType

T = TypeVar("T")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # a container's share of the cores
MODEL_FILE = "model.yaml"
MIB = 1024 * 1024


def doc(text: str) -> dict[str, str]:
    """Metadata of a field: its line in the generated reference (``docs/model-yaml.md``)."""
    return {"doc": text}


@dataclass(frozen=True)
class InputConfig:
    """One input as callers send it."""

    type: InputType = field(
        default=InputType.TENSOR,
        metadata=doc("what a caller sends: `text`, `image`, `number`, `category` or `tensor`"),
    )
    description: str = field(default="", metadata=doc("one line for people"))
    dtype: DType | None = field(
        default=None,
        metadata=doc("element type; from the artifact for a `tensor` of its name, else `FP32` for numbers"),
    )
    shape: tuple[int | None, ...] | None = field(
        default=None,
        metadata=doc("shape of one row, `null` for a free axis; from the artifact for a `tensor` of its name"),
    )
    required: bool = field(default=True, metadata=doc("`false`: the value may be left out (`null`)"))
    minimum: float | None = field(default=None, metadata=doc("smallest value allowed"))
    maximum: float | None = field(default=None, metadata=doc("largest value allowed"))
    allow_nan: bool | None = field(
        default=None,
        metadata=doc("whether NaN is allowed; default: only for a `tensor`, and for a number that is not required"),
    )
    categories: tuple[str, ...] = field(default=(), metadata=doc("the only values allowed"))
    max_length: int | None = field(default=None, metadata=doc("most characters of a text"))
    max_pixels: int = field(default=50_000_000, metadata=doc("most pixels of an image (width times height)"))


@dataclass(frozen=True)
class BackendConfig:
    """Which library runs the artifact, on what, and how exactly."""

    name: str | None = field(
        default=None,
        metadata=doc(
            "`onnxruntime`, `onnxruntime-openvino`, `onnxruntime-cuda`, `onnxruntime-tensorrt`, `openvino`, `torch`, "
            "`sklearn`, `xgboost`, `lightgbm` or `litert`; default: by how the artifact's name ends"
        ),
    )
    precision: Literal["fp32", "bf16", "fp16"] = field(
        default="fp32", metadata=doc("in what the backend computes where the artifact says FP32")
    )
    device: Literal["cpu", "cuda"] = field(default="cpu", metadata=doc("`cpu` or `cuda`"))


@dataclass(frozen=True)
class Limits:
    """What the scheduler allows."""

    max_batch_size: int = field(default=32, metadata=doc("most rows that run together"))
    max_batch_time: float = field(
        default=0.05, metadata=doc("seconds that a batch may be predicted to run; caps its rows below `max_batch_size`")
    )
    max_delay: float = field(
        default=0.0, metadata=doc("seconds to wait for more rows while a replica is idle; 0: leave at once")
    )
    max_queue_size: int = field(default=2048, metadata=doc("most rows that may wait; more are refused (503)"))
    max_queue_bytes: int = field(default=256 * MIB, metadata=doc("most bytes that may wait"))
    timeout: float = field(
        default=30.0, metadata=doc("seconds in which a request must be answered, unless it asks for less")
    )


@dataclass(frozen=True)
class RemoteConfig:
    """Where a model lies that is not here: servers of the Open Inference Protocol."""

    urls: tuple[str, ...] = field(
        metadata=doc("base URLs of the servers that have it, such as `https://cloud.example:8000`")
    )
    model: str | None = field(default=None, metadata=doc("its name there; default: its name here"))
    version: str | None = field(default=None, metadata=doc("its version there; default: the one the server chooses"))
    concurrency: int = field(default=8, metadata=doc("most batches under way at one server"))
    timeout: float = field(default=10.0, metadata=doc("seconds in which a server must answer"))
    retries: int = field(default=1, metadata=doc("times a batch is tried again, at another server where there is one"))
    retry_share: float = field(default=0.1, metadata=doc("most of all batches of late that may be such tries"))
    check_every: float = field(default=5.0, metadata=doc("seconds between looks at a server's readiness"))
    token_env: str | None = field(
        default=None, metadata=doc("environment variable with the bearer token that the servers ask for")
    )
    token_file: str | None = field(
        default=None, metadata=doc("file with that token instead, as an absolute path; read again at every look")
    )


@dataclass(frozen=True)
class EscalationConfig:
    """When a cascade asks its next model; `forwardpass calibrate` writes this."""

    confidence: str = field(
        metadata=doc("output of the first model with the probability of each class or, of two classes, of one of them")
    )
    threshold: float = field(metadata=doc("confidence from which an answer is sure, after `temperature`"))
    temperature: float = field(
        default=1.0, metadata=doc("what the logarithms of the probabilities are divided by first")
    )
    timeout: float = field(
        default=1.0, metadata=doc("seconds to wait for the next model; then the first one's answer goes out")
    )
    max_share: float = field(default=1.0, metadata=doc("most of the rows of late that may be escalated"))
    price: float = field(default=0.0, metadata=doc("what one escalated row costs, in your money"))
    max_cost_per_day: float | None = field(default=None, metadata=doc("most that escalated rows may cost in a day"))
    audit: float = field(
        default=0.0,
        metadata=doc("share of the sure rows, drawn at random, that are asked about too, to estimate errors"),
    )
    deferred: bool = field(
        default=False, metadata=doc("on a device: ask later about rows that could not be asked about at once")
    )


@dataclass(frozen=True)
class ActionConfig:
    """What a device does when the answers say so. Exactly one of `publish`, `webhook`, `file` and `command`."""

    output: str = field(metadata=doc("the output that is looked at"))
    equals: str | float | bool | None = field(default=None, metadata=doc("act where the output is this"))
    above: float | None = field(default=None, metadata=doc("act where `of` is above this"))
    of: str | None = field(default=None, metadata=doc("the output that `above` is about; default: `output`"))
    times: int = field(default=1, metadata=doc("only when it holds for so many rows of one source in a row"))
    every: float = field(default=0.0, metadata=doc("at most once in so many seconds, for each source"))
    publish: str | None = field(default=None, metadata=doc("MQTT topic to publish the answer to"))
    webhook: str | None = field(default=None, metadata=doc("URL to post the answer to"))
    file: str | None = field(default=None, metadata=doc("file to append the answer to, a line of JSON"))
    command: tuple[str, ...] = field(default=(), metadata=doc("program and arguments; it reads the answer as JSON"))


@dataclass(frozen=True)
class ModelConfig:
    """All of ``model.yaml``."""

    description: str = field(default="", metadata=doc("one line for people"))
    artifact: str | None = field(default=None, metadata=doc("file name; needed only where the folder holds several"))
    backend: BackendConfig = field(default_factory=BackendConfig, metadata=doc("the library that runs the artifact"))
    inputs: dict[str, InputConfig] = field(
        default_factory=dict, metadata=doc("inputs as callers send them; default: the artifact's own")
    )
    preprocess: tuple[dict[str, Any], ...] = field(
        default=(), metadata=doc("steps from inputs to what the artifact takes")
    )
    postprocess: tuple[dict[str, Any], ...] = field(
        default=(), metadata=doc("steps from what the artifact gives to outputs")
    )
    outputs: tuple[str, ...] = field(
        default=(), metadata=doc("columns to answer with; default: the artifact's outputs and what postprocess adds")
    )
    batching: bool | None = field(
        default=None,
        metadata=doc("`false`: run every request by itself; `true`: the first axis is rows; default: by the artifact"),
    )
    warm_up: bool = field(
        default=True,
        metadata=doc("while idle after loading, run the sample for tenths of a second, to learn what batches cost"),
    )
    limits: Limits = field(default_factory=Limits, metadata=doc("what the scheduler allows"))
    replicas: int | None = field(default=None, metadata=doc("worker processes; default: `--replicas`, else planned"))
    threads: int | None = field(
        default=None, metadata=doc("threads of each worker; default: planned, one for a small artifact")
    )
    cascade: tuple[str, ...] = field(
        default=(), metadata=doc("names of the models it is made of instead of an artifact, the cheapest first")
    )
    escalation: EscalationConfig | None = field(default=None, metadata=doc("when a cascade asks its next model"))
    remote: RemoteConfig | None = field(default=None, metadata=doc("where the model lies, instead of an artifact"))
    actions: tuple[ActionConfig, ...] = field(default=(), metadata=doc("what a device does when the answers say so"))
    tags: dict[str, str] = field(default_factory=dict, metadata=doc("free texts of your own"))

    @property
    def composed(self) -> bool:
        """Whether it has no artifact of its own: a cascade, or a model that lies elsewhere."""
        return bool(self.cascade) or self.remote is not None


@dataclass(frozen=True)
class Settings:
    """Settings of ``forwardpass serve``: defaults < file < environment (``FORWARDPASS_…``) < flags."""

    host: str = field(default="127.0.0.1", metadata=doc("address to listen on"))
    port: int = field(default=8000, metadata=doc("HTTP port; 0 takes a free one"))
    grpc: bool = field(default=True, metadata=doc("whether to serve gRPC as well"))
    grpc_port: int = field(default=8001, metadata=doc("gRPC port; 0 takes a free one"))
    fronts: int | None = field(default=None, metadata=doc("processes that serve HTTP, on one port; default: planned"))
    reuse_port: bool = field(
        default=False, metadata=doc("listen beside another server on the same port, to take over from it")
    )
    replicas: int | None = field(default=None, metadata=doc("worker processes per model; default: planned for each"))
    cores: int | None = field(default=None, metadata=doc("cores to plan for; default: all this process may use"))
    max_body_bytes: int = field(default=64 * MIB, metadata=doc("largest request body"))
    max_header_bytes: int = field(default=32 * 1024, metadata=doc("largest request line and headers together"))
    receive_timeout: float = field(default=30.0, metadata=doc("seconds in which a request must have arrived"))
    send_timeout: float = field(default=60.0, metadata=doc("seconds a client may leave an answer unread"))
    keep_alive: float = field(default=75.0, metadata=doc("seconds an idle connection is kept"))
    max_connections: int = field(default=10_000, metadata=doc("most open connections; more are refused (503)"))
    drain_timeout: float = field(default=30.0, metadata=doc("seconds that answers in flight may take after SIGTERM"))
    model_control: bool | None = field(
        default=None,
        metadata=doc("whether the API may load and unload models; default: only when listening on loopback"),
    )
    jobs: str | tuple[str, ...] = field(
        default=(),
        metadata=doc(
            "folder that jobs over the API may read and write, and prefixes such as `s3://bucket/some`; default: none"
        ),
    )
    intake: str | None = field(
        default=None,
        metadata=doc("folder that keeps what devices send from their outboxes; default: nothing is taken in"),
    )
    tune_after: float = field(
        default=60.0,
        metadata=doc("seconds without requests until models that were never tuned on this machine are; 0: never"),
    )
    log_level: Literal["debug", "info", "warning", "error"] = field(default="info", metadata=doc("how much is logged"))


def read_model_config(folder: Path) -> ModelConfig:
    """``model.yaml`` of a model's folder; all defaults where there is none."""
    file = folder / MODEL_FILE
    if not file.is_file():
        return ModelConfig()
    return decode(ModelConfig, read_yaml(file), str(file), InvalidModel)


def read_settings(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """The settings tree; flags that are ``None`` count as not given."""
    merged: dict[str, Any] = {}
    if file is not None:
        merged.update(decode_mapping(read_yaml(file, InvalidSettings), str(file), InvalidSettings))
    for setting in dataclasses.fields(Settings):
        text = environ.get(f"FORWARDPASS_{setting.name.upper()}")
        if text is not None:
            merged[setting.name] = yaml.safe_load(text)
    merged.update({name: value for name, value in flags.items() if value is not None})
    return decode(Settings, merged, "settings", InvalidSettings)


def read_yaml(file: Path, error: type[ForwardpassError] = InvalidModel) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as reason:
        raise error(f"{file}: cannot be read as YAML: {reason}") from None


def decode_mapping(data: Any, where: str, error: type[ForwardpassError]) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise error(f"{where}: expected `key: value` lines, got {data!r}")
    return data


def decode(cls: type[T], data: Any, where: str, error: type[ForwardpassError] = InvalidModel) -> T:
    """A frozen dataclass from plain YAML data.

    ``where`` says in messages whose data it is. Raises ``error`` naming an unknown key (and the
    nearest known one), a missing key, or a value of the wrong type or out of range.
    """
    check_keys(cls, data, where, error)
    try:
        decoded: T = msgspec.convert(data, cls)
    except msgspec.ValidationError as reason:
        raise error(f"{where}: {reason}") from None
    return decoded


def check_keys(cls: type[Any], data: Any, where: str, error: type[ForwardpassError]) -> None:
    """Refuse keys that the dataclass (or one nested in it) does not have."""
    mapping = decode_mapping(data, where, error)
    hints = typing.get_type_hints(cls)
    names = [item.name for item in dataclasses.fields(cls) if item.init]
    for key, value in mapping.items():
        if key not in names:
            raise error(f"{where}: unknown key {key!r}.{nearest(key, names)}")
        choices = _choices(hints[key])
        if choices and value is not None and value not in choices:
            raise error(f"{where}: {key}: unknown value {value!r}.{nearest(str(value), choices)}")
        for name, item, item_type in _nested(hints[key], value, f"{where}: {key}", error):
            check_keys(item_type, item, name, error)
    for item in dataclasses.fields(cls):
        if item.init and item.name not in mapping and item.default is item.default_factory is dataclasses.MISSING:
            raise error(f"{where}: `{item.name}` is missing")


def _choices(hint: Any) -> tuple[str, ...]:
    """The texts that a key allows, where it allows nothing else but none at all."""
    union = get_origin(hint) in (typing.Union, types.UnionType)
    options = [option for option in (get_args(hint) if union else (hint,)) if option is not type(None)]
    if len(options) == 1 and get_origin(options[0]) is typing.Literal:
        return get_args(options[0])
    named = len(options) == 1 and isinstance(options[0], type) and issubclass(options[0], enum.StrEnum)
    return tuple(item.value for item in options[0]) if named else ()


def _nested(
    hint: Any, value: Any, where: str, error: type[ForwardpassError]
) -> typing.Iterator[tuple[str, Any, type[Any]]]:
    """The dataclasses that a value must hold by its type: where each stands, its data, its class."""
    options = [hint, *get_args(hint)]
    kind = next((option for option in options if dataclasses.is_dataclass(option)), None)
    if kind is None or value is None:
        return
    if get_origin(hint) is dict:
        for name, item in decode_mapping(value, where, error).items():
            yield f"{where}: {name}", item, typing.cast(type[Any], kind)
    elif get_origin(hint) is tuple:
        for number, item in enumerate(value if isinstance(value, list) else []):
            yield f"{where}[{number}]", item, typing.cast(type[Any], kind)
    else:
        yield where, value, typing.cast(type[Any], kind)


def available_cores() -> int:
    """Cores that this process may use: those it may run on, or fewer where a container's share is smaller."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota(CPU_MAX) or cores)


def _quota(file: Path) -> int | None:
    """Cores that a control group allows, rounded up; None where it sets no limit."""
    try:
        quota, period = file.read_text().split()
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return None
