"""Kinds of device: what does not run there is refused with what to do instead."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from forwardpass.config import BackendConfig
from forwardpass.edge import targets
from forwardpass.edge.distribution import Distribution
from forwardpass.edge.targets import TARGETS, find_target, fits_here, missing_runtime, require_runnable
from forwardpass.errors import InvalidModel, InvalidSettings


@pytest.mark.parametrize("target", TARGETS)
def test_onnx_models_run_everywhere(target: str) -> None:
    require_runnable("m", BackendConfig(name="onnxruntime"), find_target(target))


def test_a_gpu_where_there_is_one() -> None:
    for name, precision in (("onnxruntime-cuda", "fp32"), ("onnxruntime-tensorrt", "fp16")):
        require_runnable("m", BackendConfig(name, precision, "cuda"), find_target("jetson"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backend", "target", "says"),
    [
        (
            BackendConfig("sklearn"),
            "linux-x86_64",
            "no backend 'sklearn': convert it to ONNX with `forwardpass import`",
        ),
        (BackendConfig("torch"), "jetson", "forwardpass import"),
        (BackendConfig("openvino"), "linux-aarch64", "forwardpass optimize"),
        (BackendConfig("litert"), "linux-aarch64", "convert it to ONNX"),
        (BackendConfig("onnxruntime-cuda"), "linux-x86_64", "--target jetson"),
        (BackendConfig("onnxruntime", "bf16"), "linux-x86_64", r"precision: bf16.* does not fit .* in fp32"),
        (BackendConfig("onnxruntime", "fp16"), "jetson", "name: onnxruntime-tensorrt"),
        (BackendConfig("onnxruntime", "fp32", "cuda"), "linux-x86_64", "take it out in model.yaml"),
        (BackendConfig("onnxruntime", "fp32", "cuda"), "jetson", "name `onnxruntime-cuda`"),
        (BackendConfig("another"), "jetson", "known there are onnxruntime, onnxruntime-cuda"),
    ],
)
def test_what_does_not_fit(backend: BackendConfig, target: str, says: str) -> None:
    with pytest.raises(InvalidModel, match=f"m: .*{says}"):
        require_runnable("m", backend, find_target(target))


def test_a_target_that_there_is_not() -> None:
    with pytest.raises(InvalidSettings, match="Did you mean 'linux-aarch64'"):
        find_target("linux-arch64")


def test_this_machine_is_of_some_kind() -> None:
    fitting = {name for name, target in TARGETS.items() if target.machine == platform.machine()}
    assert {name for name in (*TARGETS, "toaster") if fits_here(name)} == fitting


def test_what_an_extra_brings_is_said_with_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert missing_runtime({"PIL": "99"})[0].endswith("and must be 99 or later: pip install pillow")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "forwardpass-agent").touch()
    monkeypatch.setattr(targets, "HERE", Distribution(tmp_path))
    monkeypatch.setattr(targets, "find_spec", lambda name: None)
    assert missing_runtime({"tokenizers": "0.23"}) == [
        f"tokenizers 0.23 or later is not installed: python3 packaging/edge/install.py {tmp_path} --extra text, "
        "in the sources of Forwardpass"
    ]


def test_what_is_missing_here_is_said() -> None:
    assert missing_runtime({"numpy": "2.4", "PIL": "13", "msgspec": "", "json": ""}) == []
    assert missing_runtime({"numpy": "99.1"})[0].endswith("and must be 99.1 or later")
    assert missing_runtime({"no_such_module": "", "another_one": "1.2"}) == [
        "another_one 1.2 or later is not installed",
        "no_such_module is not installed",
    ]
