"""Which models lie under a path, what they are called, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwardpass.errors import InvalidModel, NotFound
from forwardpass.registry import ModelLocation, find_model, locate_models, read_model


def write(root: Path, *names: str) -> Path:
    """Empty files: nothing here opens an artifact."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def located(path: Path) -> list[tuple[str, str, str]]:
    return [(item.name, item.version, item.path.relative_to(path).as_posix()) for item in locate_models(path)]


@pytest.mark.parametrize(
    ("file", "name", "version"),
    [
        ("iris.onnx", "iris", "1"),
        ("iris.xgboost.json", "iris", "1"),
        ("iris/model.lightgbm.txt", "iris", "1"),
        ("iris/model.onnx", "iris", "1"),
        ("iris/net.onnx", "net", "1"),
        ("iris/3/model.onnx", "iris", "3"),
        ("iris.v2.onnx", "iris.v2", "1"),
    ],
)
def test_an_artifact_is_named_by_its_stem_or_its_folder(tmp_path: Path, file: str, name: str, version: str) -> None:
    path = write(tmp_path, file) / file
    assert locate_models(path) == [ModelLocation(name, version, path)]
    assert find_model(path).artifact == path


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["model.onnx"], [("iris", "1", ".")]),
        (["net.onnx"], [("iris", "1", ".")]),
        (["model.yaml"], [("iris", "1", ".")]),
        (["model.yaml", "a.onnx", "b.onnx"], [("iris", "1", ".")]),
        (
            ["1/model.onnx", "10/model.onnx", "9/model.onnx"],
            [("iris", "1", "1"), ("iris", "9", "9"), ("iris", "10", "10")],
        ),
        (["model.yaml", "2/model.onnx", "labels/x.txt"], [("iris", "2", "2")]),
        (["model.yaml", "a.onnx", "2/picture.png"], [("iris", "1", ".")]),
        (["model.onnx", "007/x.txt"], [("iris", "1", ".")]),
    ],
)
def test_a_model_folder(tmp_path: Path, files: list[str], found: list[tuple[str, str, str]]) -> None:
    assert located(write(tmp_path / "iris", *files)) == found


def test_a_repository(tmp_path: Path) -> None:
    write(
        tmp_path, "b/model.onnx", "a/2/model.onnx", "a/1/model.onnx", "c.onnx", "d/model.yaml", "e/x.onnx", "e/y.onnx"
    )
    write(tmp_path, ".hidden/model.onnx", ".hidden.onnx", "data/rows.csv", "README.md", "__pycache__/x.pyc")
    assert located(tmp_path) == [
        ("a", "1", "a/1"),
        ("a", "2", "a/2"),
        ("b", "1", "b"),
        ("c", "1", "c.onnx"),
        ("d", "1", "d"),
        ("e", "1", "e"),
    ]


def test_a_folder_of_artifacts_is_a_repository_of_bare_models(tmp_path: Path) -> None:
    write(tmp_path / "two", "a.onnx", "b.onnx")
    assert located(tmp_path / "two") == [("a", "1", "a.onnx"), ("b", "1", "b.onnx")]
    write(tmp_path / "mixed", "a.onnx", "b/model.onnx")
    assert located(tmp_path / "mixed") == [("a", "1", "a.onnx"), ("b", "1", "b")]


def test_a_version_folder_by_itself(tmp_path: Path) -> None:
    path = write(tmp_path, "iris/3/model.onnx") / "iris" / "3"
    assert locate_models(path) == [ModelLocation("iris", "3", path)]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "iris/model.onnx", "iris/sub/x.txt")
    monkeypatch.chdir(tmp_path / "iris")
    for path in (".", "../iris", "model.onnx"):
        assert [item.name for item in locate_models(Path(path))] == ["iris"]
    monkeypatch.chdir(tmp_path / "iris" / "sub")
    assert [item.name for item in locate_models(Path(".."))] == ["iris"]


def test_a_linked_folder_is_named_by_the_link(tmp_path: Path) -> None:
    write(tmp_path, "store/8f3a/model.onnx")
    (tmp_path / "iris").symlink_to(tmp_path / "store" / "8f3a")
    assert [item.name for item in locate_models(tmp_path / "iris")] == ["iris"]


@pytest.mark.parametrize(
    ("files", "path", "says"),
    [
        ([], "none", "there is no such file or folder"),
        (["a/rows.csv"], "a", "there is no model in this folder"),
        (["a.odt"], "a.odt", r"is not an artifact \(\.onnx, "),
    ],
)
def test_where_there_is_no_model(tmp_path: Path, files: list[str], path: str, says: str) -> None:
    write(tmp_path, *files)
    with pytest.raises(NotFound, match=says):
        locate_models(tmp_path / path)


def test_reading_a_model(tmp_path: Path) -> None:
    folder = write(tmp_path / "iris", "net.onnx")
    (folder / "model.yaml").write_text("description: Irises\nlimits: {max_batch_size: 4}\n")
    files = find_model(folder)
    assert (files.name, files.version, files.folder, files.artifact) == ("iris", "1", folder, folder / "net.onnx")
    assert files.config.description == "Irises"
    assert files.config.limits.max_batch_size == 4


def test_a_bare_artifact_has_the_model_yaml_beside_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "iris", "a.onnx", "b.onnx")
    (folder / "model.yaml").write_text("description: Irises\n")
    files = find_model(folder / "b.onnx")
    assert (files.name, files.artifact.name, files.config.description) == ("b", "b.onnx", "Irises")


def test_model_yaml_above_the_versions_speaks_for_those_without_their_own(tmp_path: Path) -> None:
    folder = write(tmp_path / "iris", "1/model.onnx", "2/model.onnx")
    (folder / "model.yaml").write_text("description: shared\n")
    (folder / "2" / "model.yaml").write_text("description: own\n")
    first, second = (read_model(location) for location in locate_models(folder))
    assert (first.config.description, first.folder) == ("shared", folder)
    assert (second.config.description, second.folder) == ("own", folder / "2")
    assert [first.artifact.parent.name, second.artifact.parent.name] == ["1", "2"]


def test_the_newest_version_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "iris", "9/model.onnx", "10/model.onnx")
    assert find_model(folder).version == "10"


def test_several_models_are_named(tmp_path: Path) -> None:
    write(tmp_path, "b/model.onnx", "a/1/model.onnx")
    with pytest.raises(InvalidModel, match=r"holds several models \(a, b\); give the path of one"):
        find_model(tmp_path)


def test_the_artifact_that_model_yaml_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "iris", "a.onnx", "b.onnx", "sub/c.onnx")
    (folder / "model.yaml").write_text("artifact: b.onnx\n")
    assert find_model(folder).artifact == folder / "b.onnx"
    (folder / "model.yaml").write_text("artifact: ./sub/../sub/c.onnx\n")
    assert find_model(folder).artifact == folder / "sub" / "c.onnx"


@pytest.mark.parametrize(
    ("files", "config", "says"),
    [
        (["a.onnx"], "descripton: x", "unknown key 'descripton'. Did you mean 'description'"),
        (["a.onnx"], "inputs: [", "cannot be read as YAML"),
        (["a.onnx"], "limits: {max_batch_size: many}", "max_batch_size"),
        ([], "description: x", "there is no artifact in it"),
        (["a.onnx", "b.onnx"], "description: x", r"several artifacts \(a\.onnx, b\.onnx\); name one in model\.yaml"),
        (["a.onnx"], "artifact: c.onnx", r"'c\.onnx', is not there"),
        (["a.onnx"], "artifact: ../other.onnx", "lies outside this folder"),
        (["a.onnx"], "artifact: sub/../../other.onnx", "lies outside this folder"),
        (["a.onnx"], "artifact: /etc/passwd", "lies outside this folder"),
        (["a.onnx"], "artifact: ''", "is not there"),
    ],
)
def test_a_model_that_cannot_be_used_says_why(tmp_path: Path, files: list[str], config: str, says: str) -> None:
    write(tmp_path, "other.onnx")
    folder = write(tmp_path / "repository" / "iris", "model.yaml", *files)
    (folder / "model.yaml").write_text(config)
    write(tmp_path / "repository", "good/model.onnx")
    broken, good = reversed(locate_models(tmp_path / "repository"))
    with pytest.raises(InvalidModel, match=says):
        read_model(broken)
    assert read_model(good).name == "good"


@pytest.mark.parametrize("name", ["my model", "-x", "_x", "naïve", "a:b"])
def test_names_that_no_url_could_hold_are_refused(tmp_path: Path, name: str) -> None:
    (location,) = locate_models(write(tmp_path / name, "model.onnx"))
    with pytest.raises(InvalidModel, match=r"cannot be a model's name; use letters, digits"):
        read_model(location)


@pytest.mark.parametrize("name", ["a", "7-zip", "A.b_c-1"])
def test_names_that_are_allowed(tmp_path: Path, name: str) -> None:
    assert find_model(write(tmp_path / name, "model.onnx")).name == name


@pytest.mark.parametrize(
    ("file", "content_type"),
    [
        ("sample.json", "application/json"),
        ("sample.png", "image/png"),
        ("sample.jpg", "image/jpeg"),
        ("sample.txt", "text/plain"),
        ("sample.csv", "text/csv"),
    ],
)
@pytest.mark.parametrize("where", ["", "2/"])
def test_a_sample_beside_the_artifact_or_above_the_versions(
    tmp_path: Path, where: str, file: str, content_type: str
) -> None:
    folder = write(tmp_path / "iris", f"{where}model.onnx", file)
    sample = find_model(folder).sample()
    assert sample is not None
    assert (sample.file, sample.content_type) == (str(folder / file), content_type)


def test_the_samples_order_and_absence(tmp_path: Path) -> None:
    folder = write(tmp_path / "iris", "model.onnx", "sample.gif", "3.json")
    assert find_model(folder).sample() is None
    write(folder, "sample.txt", "sample.json")
    sample = find_model(folder).sample()
    assert sample is not None
    assert Path(sample.file).name == "sample.json"


def test_a_sample_above_is_not_anothers(tmp_path: Path) -> None:
    write(tmp_path, "sample.json", "iris/model.onnx")
    assert find_model(tmp_path / "iris").sample() is None
    write(tmp_path, "a.onnx", "b.onnx")
    assert find_model(tmp_path / "a.onnx").sample() is None, "beside several bare models"
