"""``model.yaml`` and the settings: read strictly, with messages that name the place."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from forwardpass import config
from forwardpass.config import (
    InputConfig,
    Limits,
    ModelConfig,
    Settings,
    available_cores,
    decode,
    read_model_config,
    read_settings,
)
from forwardpass.errors import InvalidModel, InvalidSettings
from forwardpass.types import DType, InputType


def read(folder: Path, text: str) -> ModelConfig:
    (folder / "model.yaml").write_text(text)
    return read_model_config(folder)


@pytest.mark.parametrize("text", [None, "", "# only a comment\n", "{}"])
def test_without_a_model_yaml_all_is_default(folder: Path, text: str | None) -> None:
    config = read_model_config(folder) if text is None else read(folder, text)
    assert config == ModelConfig()


def test_everything_that_a_model_yaml_can_say(folder: Path) -> None:
    config = read(
        folder,
        """
        description: Irises
        artifact: net.onnx
        inputs:
          x: {type: tensor, dtype: INT64, shape: [3, null], description: codes}
          age: {type: number, required: false, minimum: 0, maximum: 120.5, allow_nan: true}
          kind: {type: category, categories: [a, b], max_length: 10}
        preprocess: [{step: scale, mean: 1}]
        postprocess: [{step: softmax}]
        outputs: [label]
        batching: false
        limits: {max_batch_size: 4, timeout: 5}
        replicas: 2
        threads: 1
        tags: {team: flowers}
        """,
    )
    assert config.inputs["x"] == InputConfig(dtype=DType.INT64, shape=(3, None), description="codes")
    assert config.inputs["age"] == InputConfig(
        type=InputType.NUMBER, required=False, minimum=0, maximum=120.5, allow_nan=True
    )
    assert config.inputs["kind"].categories == ("a", "b")
    assert config.preprocess == ({"step": "scale", "mean": 1},)
    assert (config.outputs, config.batching, config.limits) == (("label",), False, Limits(max_batch_size=4, timeout=5))
    assert (config.replicas, config.threads, config.tags) == (2, 1, {"team": "flowers"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("descripton: x", r"model\.yaml: unknown key 'descripton'\. Did you mean 'description'\?"),
        ("limits: {max_batch: 4}", r"model\.yaml: limits: unknown key 'max_batch'\. Did you mean 'max_batch_"),
        ("inputs: {age: {minimun: 4}}", r"model\.yaml: inputs: age: unknown key 'minimun'\. Did you mean 'minimum'"),
        ("zzzz: 1", r"unknown key 'zzzz'\. Known: actions, artifact, backend"),
        ("replicas: two", r"Expected `int \| null`, got `str` - at `\$\.replicas`"),
        ("limits: {timeout: [1]}", r"at `\$\.limits\.timeout`"),
        ("inputs: {age: {type: numbr}}", r"inputs: age: type: unknown value 'numbr'\. Did you mean 'number'"),
        ("inputs: {age: {dtype: float}}", r"inputs: age: dtype: unknown value 'float'\. Known: BF16, "),
        ("backend: {device: gpu}", r"backend: device: unknown value 'gpu'\. Did you mean 'cpu'"),
        ("escalation: {threshold: 1}", r"model\.yaml: escalation: `confidence` is missing"),
        ("inputs: [age]", r"inputs: expected `key: value` lines, got \['age'\]"),
        ("limits: 3", r"limits: expected `key: value` lines, got 3"),
        ("preprocess: softmax", r"at `\$\.preprocess`"),
        ("- a\n- b", r"model\.yaml: expected `key: value` lines"),
        ("1: a", r"model\.yaml: expected `key: value` lines"),
        ("a: [", r"model\.yaml: cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(folder: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        read(folder, text)


def test_a_file_that_is_no_text(folder: Path) -> None:
    (folder / "model.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidModel, match=r"model\.yaml: cannot be read as YAML"):
        read_model_config(folder)


def test_a_missing_key_is_named() -> None:
    @dataclasses.dataclass(frozen=True)
    class Shelf:
        height: int

    with pytest.raises(InvalidModel, match=r"shelf: .*height"):
        decode(Shelf, {}, "shelf")


@pytest.mark.parametrize(
    ("file", "environ", "flags", "port"),
    [
        (None, {}, {}, 8000),
        ("port: 1", {}, {}, 1),
        ("port: 1", {"FORWARDPASS_PORT": "2"}, {}, 2),
        ("port: 1", {"FORWARDPASS_PORT": "2"}, {"port": 3}, 3),
        ("port: 1", {"FORWARDPASS_PORT": "2"}, {"port": None}, 2),
        ("port: 1", {"PORT": "2", "FORWARDPASS_PORTS": "4"}, {}, 1),
        (None, {"FORWARDPASS_PORT": "0"}, {}, 0),
        ("", {}, {"port": 0}, 0),
    ],
)
def test_the_later_setting_wins(
    tmp_path: Path, file: str | None, environ: dict[str, str], flags: dict[str, Any], port: int
) -> None:
    path = None
    if file is not None:
        path = tmp_path / "settings.yaml"
        path.write_text(file)
    assert read_settings(path, environ, flags) == dataclasses.replace(Settings(), port=port)


def test_settings_of_every_type_from_the_environment() -> None:
    environ = {"FORWARDPASS_HOST": "::1", "FORWARDPASS_MODEL_CONTROL": "false", "FORWARDPASS_KEEP_ALIVE": "5"}
    settings = read_settings(None, environ, {})
    assert (settings.host, settings.model_control, settings.keep_alive) == ("::1", False, 5.0)


@pytest.mark.parametrize(
    ("file", "environ", "flags", "says"),
    [
        ("prot: 1", {}, {}, r"settings: unknown key 'prot'\. Did you mean 'port'\?"),
        (None, {"FORWARDPASS_PORT": "http"}, {}, r"settings: Expected `int`, got `str` - at `\$\.port`"),
        (None, {}, {"replicas": 1.5}, r"at `\$\.replicas`"),
        ("- port", {}, {}, r"s\.yaml: expected `key: value` lines"),
        ("port: [", {}, {}, r"s\.yaml: cannot be read as YAML"),
    ],
)
def test_a_setting_that_cannot_be_used(
    tmp_path: Path, file: str | None, environ: dict[str, str], flags: dict[str, Any], says: str
) -> None:
    path = tmp_path / "s.yaml" if file is not None else None
    if path is not None:
        path.write_text(file or "")
    with pytest.raises(InvalidSettings, match=says):
        read_settings(path, environ, flags)


def test_a_settings_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"none\.yaml: cannot be read"):
        read_settings(tmp_path / "none.yaml", {}, {})


@pytest.mark.parametrize("cls", [InputConfig, Limits, ModelConfig, Settings])
def test_every_key_has_a_line_for_the_reference(cls: type[Any]) -> None:
    for item in dataclasses.fields(cls):
        assert item.metadata.get("doc"), item.name


def test_there_is_a_core() -> None:
    assert available_cores() >= 1


@pytest.mark.parametrize(
    ("content", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None), ("nonsense", None)]
)
def test_a_containers_share_of_the_cores_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, cores: int | None
) -> None:
    monkeypatch.setattr(config, "CPU_MAX", tmp_path / "none")
    usable = available_cores()
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(config, "CPU_MAX", tmp_path / "cpu.max")
    assert available_cores() == min(usable, cores or usable)
