"""Making bundles: what goes in, the same bytes every time, and what is refused before anything is written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests import artifacts
from tests.edge.bundles import Workshop

from forwardpass.edge.build import Built, build
from forwardpass.edge.bundle import open_bundle, read_goldens, unpack
from forwardpass.edge.golden import Golden, check
from forwardpass.errors import InvalidInput, InvalidModel, InvalidSettings, NotFound
from forwardpass.registry import find_model

DIGITS = Path(__file__).parents[2] / "examples" / "models" / "digits"


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "workshop").mkdir()
    return Workshop(tmp_path / "workshop")


def made(workshop: Workshop, model: Path, **asked: Any) -> Built:
    return build(model, workshop.key, workshop.folder, **asked)


def unpacked(workshop: Workshop, built: Built) -> Path:
    unpack(built.path, workshop.folder / "slot", workshop.keys)
    return workshop.folder / "slot"


def golden(folder: Path, built: Built) -> Golden:
    return read_goldens(folder, built.manifest)[0]


def write(folder: Path, text: str = "", version: str = "") -> Path:
    """A model whose answer is its input, two numbers."""
    artifacts.identity(folder / version / "model.onnx")
    (folder / "model.yaml").write_text(text or "description: the same again\n")
    return folder


def test_digits_are_less_than_a_megabyte_and_answer_as_they_did(workshop: Workshop) -> None:
    built = made(workshop, DIGITS)
    assert built.path.name == "digits-1.bundle"
    assert built.path.stat().st_size < 1_000_000
    assert built.manifest.runtime.keys() == {"numpy", "onnxruntime", "PIL"}
    assert {Path(name).name for name in built.manifest.files} == {
        "digits.json",
        "labels.txt",
        "model.onnx",
        "model.yaml",
        "sample.png",
    }
    engine = open_bundle(unpacked(workshop, built))
    rows = golden(workshop.folder / "slot", built)
    assert len(rows.instances) == built.golden == 12
    assert check(rows, engine.predict) == []
    assert check(Golden("digits", rows.instances[:1], [{**rows.answers[0], "label": "9"}]), engine.predict)


def test_the_same_model_gives_the_same_bytes(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(workshop, DIGITS).path.read_bytes()
    copy = workshop.folder / "elsewhere" / "digits"
    shutil.copytree(DIGITS, copy)
    for file in copy.iterdir():
        os.utime(file, (0, 86_400))
        file.chmod(0o600)
    (copy / "notes.txt").write_text("not for devices")
    monkeypatch.chdir(workshop.folder)
    before = os.umask(0o077)
    try:
        second = build(Path("elsewhere/digits"), workshop.key, Path("again.bundle"))
    finally:
        os.umask(before)
    assert second.path.read_bytes() == first


def test_a_version_folder_under_a_shared_model_yaml(workshop: Workshop, tmp_path: Path) -> None:
    steps = (
        "postprocess:\n"
        "  - {step: arg_max, input: y, output: label}\n"
        "  - {step: labels, input: label, file: names/two.txt}\n"
    )
    model = write(tmp_path / "shared", steps, "3")
    write(model, steps, "12")
    (model / "names").mkdir()
    (model / "names" / "two.txt").write_text("left\nright\n")
    (model / "sample.json").write_text('{"instances": [[1, 2]]}')
    built = made(workshop, model, version="3")
    assert (built.manifest.version, built.path.name) == ("3", "shared-3.bundle")
    assert sorted(name for name in built.manifest.files if name.startswith("models/")) == [
        f"models/shared/3/{name}" for name in ("model.onnx", "model.yaml", "names/two.txt", "sample.json")
    ]
    engine = open_bundle(unpacked(workshop, built))
    assert (engine.name, engine.version) == ("shared", "3")
    assert engine.predict([[1.0, 2.0]])[0]["label"] == "right"
    assert golden(workshop.folder / "slot", built).instances[0] == [1, 2]
    assert made(workshop, model).manifest.version == "12"


def test_an_artifact_without_model_yaml_among_others(workshop: Workshop, tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "models" / "left.onnx")
    artifacts.identity(tmp_path / "models" / "right.onnx")
    built = made(workshop, tmp_path / "models" / "right.onnx")
    assert "models/right/1/right.onnx" in built.manifest.files
    folder = unpacked(workshop, built)
    assert open_bundle(folder).predict([[1.0, 2.0]]) == [[1.0, 2.0]]
    assert find_model(folder / "models" / "right").artifact.name == "right.onnx"
    with pytest.raises(InvalidModel, match="holds several models"):
        made(workshop, tmp_path / "models")


def test_own_steps_bring_what_they_name(workshop: Workshop, tmp_path: Path) -> None:
    model = write(tmp_path / "own", "postprocess: [{step: shifted}]\n")
    (model / "steps.py").write_text(
        "from pathlib import Path\nimport json\nimport forwardpass\nimport msgspec.json\n"
        "SHIFT = float((Path(__file__).parent / 'shift.txt').read_text())\n"
        "@forwardpass.step(reads=['y'], writes=['y'])\n"
        "def shifted(columns):\n    return {'y': columns['y'] + SHIFT}\n"
    )
    (model / "shift.txt").write_text("10")
    (model / "training.csv").write_text("secret")
    built = made(workshop, model)
    assert built.manifest.runtime["msgspec"] == ""
    names = {Path(name).name for name in built.manifest.files}
    assert names == {"own.json", "model.onnx", "model.yaml", "steps.py", "shift.txt"}
    assert open_bundle(unpacked(workshop, built)).predict([[1.0, 2.0]]) == [[11.0, 12.0]]


def test_what_steps_read_and_do_not_name_shows_before_anything_is_written(workshop: Workshop, tmp_path: Path) -> None:
    model = write(tmp_path / "hidden")
    (model / "steps.py").write_text("from pathlib import Path\n(Path(__file__).parent / ('a' + '.txt')).read_text()\n")
    (model / "a.txt").write_text("x")
    with pytest.raises(InvalidModel, match=r"steps\.py: cannot be imported: FileNotFoundError"):
        made(workshop, model)
    assert not list(workshop.folder.glob("*bundle*"))


def test_a_cascade_takes_its_members_along(workshop: Workshop, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write(repository / "small")
    for name, text in {
        "large": "remote: {urls: [http://127.0.0.1:1]}\n",
        "pair": "cascade: [small, large]\nescalation: {confidence: y, threshold: 0.5}\n",
    }.items():
        (repository / name).mkdir()
        (repository / name / "model.yaml").write_text(text)
    built = made(workshop, repository / "pair")
    assert set(built.manifest.files) == {
        "golden/small.json",
        "models/large/1/model.yaml",
        "models/pair/1/model.yaml",
        "models/small/1/model.onnx",
        "models/small/1/model.yaml",
    }
    assert (built.manifest.model, built.manifest.golden) == ("pair", "golden/small.json")
    folder = unpacked(workshop, built)
    assert find_model(folder / "models" / "pair").config.cascade == ("small", "large")
    assert golden(folder, built).model == "small"
    with pytest.raises(InvalidModel, match="has no artifact of its own"):
        open_bundle(folder)


def test_a_member_that_is_not_there(workshop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "pair"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text("cascade: [small]\nescalation: {confidence: y, threshold: 0.5}\n")
    with pytest.raises(InvalidModel, match="there is no model 'small' in"):
        made(workshop, folder)


def test_rows_that_were_given(workshop: Workshop, tmp_path: Path) -> None:
    model = write(tmp_path / "m")
    built = made(workshop, model, rows=[[1, 2], [3.5, 4]])
    rows = golden(unpacked(workshop, built), built)
    assert rows.instances[:2] == [[1, 2], [3.5, 4]]
    assert len(rows.instances) == 12 == len({json.dumps(row) for row in rows.instances})
    assert rows.answers[:2] == [[1.0, 2.0], [3.5, 4.0]]
    many = made(workshop, model, rows=[[at, at] for at in range(20)])
    assert many.golden == 12


def test_a_given_row_that_the_model_does_not_take(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"row 1 of the golden rows is not taken: .*the model takes"):
        made(workshop, write(tmp_path / "m"), rows=[[1, 2], [1, 2, 3]])


def test_a_model_that_runs_whole_requests(workshop: Workshop, tmp_path: Path) -> None:
    model = write(tmp_path / "m", "batching: false\n")
    (model / "sample.json").write_text('{"instances": [[[1, 2], [3, 4], [5, 6]]]}')
    built = made(workshop, model)
    folder = unpacked(workshop, built)
    rows = golden(folder, built)
    assert rows.instances[0] == [[1, 2], [3, 4], [5, 6]]
    assert len(rows.instances) == 12
    assert check(rows, open_bundle(folder).predict) == []


def test_rows_that_cannot_be_made_up(workshop: Workshop, tmp_path: Path) -> None:
    artifacts.identity(tmp_path / "m" / "model.onnx", shape=("N", 4000))
    with pytest.raises(InvalidModel, match="no golden rows can be made up for it; give rows that it takes: --rows"):
        made(workshop, tmp_path / "m")
    assert made(workshop, tmp_path / "m", rows=[[0] * 4000]).golden == 12


def test_a_step_that_fails_with_all_that_is_made_up_is_said_once(
    workshop: Workshop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = write(tmp_path / "m", "postprocess: [{step: broken}]\n")
    (model / "steps.py").write_text(
        "import forwardpass\n@forwardpass.step(reads=['y'], writes=['y'])\n"
        "def broken(columns):\n    raise ValueError('no such table')\n"
    )
    with pytest.raises(InvalidInput, match="row 0 of the golden rows is not taken: step 'broken' failed"):
        made(workshop, model, rows=[[1, 2]])
    caplog.clear()
    with pytest.raises(InvalidModel) as error:
        made(workshop, model)
    assert error.value.message == (
        "m: no golden rows can be made up for it (step 'broken' failed: ValueError: no such table); "
        "give rows that it takes: --rows FILE"
    )
    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("backend: {name: openvino}\n", "the target linux-x86_64 has no backend 'openvino'"),
        ("backend: {precision: bf16}\n", "precision: bf16"),
        ("backend: {name: onnxruntime-cuda, device: cuda}\n", "--target jetson"),
    ],
)
def test_what_the_device_cannot_run(text: str, says: str, workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=says):
        made(workshop, write(tmp_path / "m", text))
    assert not list(workshop.folder.glob("*bundle*"))


def test_golden_answers_for_a_gpu_that_is_not_here(workshop: Workshop, tmp_path: Path) -> None:
    model = write(tmp_path / "m", "backend: {name: onnxruntime-tensorrt, device: cuda, precision: fp16}\n")
    built = made(workshop, model, target="jetson")
    assert (built.manifest.target, built.golden) == ("jetson", 12)


def test_models_versions_and_places_that_there_are_not(workshop: Workshop, tmp_path: Path) -> None:
    model = write(tmp_path / "m")
    with pytest.raises(NotFound, match="there is no version '2'; there are 1"):
        made(workshop, model, version="2")
    with pytest.raises(InvalidSettings, match="there is no target 'toaster'"):
        made(workshop, model, target="toaster")
    with pytest.raises(InvalidSettings, match="cannot be written: No such file"):
        build(model, workshop.key, workshop.folder / "missing" / "m.bundle")


def test_a_bundle_that_is_there_is_replaced_whole_or_not_at_all(workshop: Workshop, tmp_path: Path) -> None:
    model = write(tmp_path / "m")
    good = made(workshop, model).path.read_bytes()
    (model / "model.yaml").write_text("inputs: {x: {type: image}}\n")  # loads, but takes no row that can be made up
    with pytest.raises(InvalidModel):
        made(workshop, model)
    assert [(item.name, item.read_bytes() == good) for item in workshop.folder.glob("*bundle*")] == [
        ("m-1.bundle", True)
    ]
