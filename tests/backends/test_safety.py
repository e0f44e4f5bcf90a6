"""What may run code, by whose name, and what is said of formats that nobody loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forwardpass.artifacts import ARTIFACTS, HINTS, hint_for
from forwardpass.backends.safety import ALLOW_CODE, is_code_allowed, model_name, require_code_allowed
from forwardpass.errors import InvalidModel


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("churn.pkl", "churn"),
        ("some/churn.xgboost.json", "churn"),
        ("churn/model.pkl", "churn"),
        ("churn/3/model.joblib", "churn"),
        ("churn/3/other.pkl", "other"),
        ("churn/03/model.pkl", "03"),
        ("churn.v2.pkl", "churn.v2"),
        ("churn/model.lightgbm.txt", "churn"),
        ("churn/model.odd", "churn"),
    ],
)
def test_the_name_by_which_a_model_is_allowed(path: str, name: str) -> None:
    assert model_name(Path("/models") / path) == name


def test_a_name_is_found_from_within_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "7").mkdir()
    monkeypatch.chdir(folder / "7")
    assert model_name(Path("model.pkl")) == folder.name


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(None, False), ("", False), (",", False), ("churn", True), ("a, churn ,b", True), ("churn2", False), ("*", False)],
)
def test_only_the_named_models_are_allowed(monkeypatch: pytest.MonkeyPatch, value: str | None, allowed: bool) -> None:
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    if value is not None:
        monkeypatch.setenv(ALLOW_CODE, value)
    assert is_code_allowed(Path("/models/churn/1/model.pkl")) is allowed


def test_what_is_refused_says_how_to_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    with pytest.raises(InvalidModel, match=r"^churn\.pkl is a pickle\. .*FORWARDPASS_ALLOW_CODE=churn$"):
        require_code_allowed(Path("/models/churn.pkl"), "is a pickle")
    monkeypatch.setenv(ALLOW_CODE, "churn")
    require_code_allowed(Path("/models/churn.pkl"), "is a pickle")


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("m.pt", "torch.export"),
        ("m.PTH", "torch.export"),
        ("m.h5", "tf.lite.TFLiteConverter"),
        ("m.keras", "tf2onnx"),
        ("m.bin", "weights without the network"),
        ("m.safetensors", "weights without the network"),
        ("m.pickle", "skops"),
        ("m.so", "compiled code"),
        ("m.json", r"\.xgboost\.json"),
        ("m.txt", r"\.lightgbm\.txt"),
    ],
)
def test_known_formats_that_are_refused(file: str, says: str) -> None:
    assert re.search(says, hint_for(Path(file)))


@pytest.mark.parametrize("suffix", sorted(ARTIFACTS))
def test_what_a_backend_runs_has_no_hint(suffix: str) -> None:
    assert suffix not in HINTS
    assert hint_for(Path(f"m{suffix}")) == ""


def test_an_unknown_format_has_no_hint() -> None:
    assert hint_for(Path("notes.odt")) == ""
