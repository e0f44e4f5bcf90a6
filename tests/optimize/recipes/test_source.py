from __future__ import annotations

from pathlib import Path

import pytest
from tests.optimize.recipes import parents

from forwardpass.errors import InvalidModel
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes.distill import Distill
from forwardpass.optimize.recipes.prune import Prune

MODEL = "import torch\ndef create_model(): return torch.nn.Linear(4, 3)\n"
DATA = "import numpy as np\ndef training_data(): return {'x': np.ones((5, 4), np.float32)}, np.arange(5) % 3\n"


@pytest.mark.parametrize("recipe", [Prune(0.5), Distill()], ids=lambda recipe: recipe.name)
def test_without_a_source_nothing_is_trained(recipe: Prune | Distill) -> None:
    parent, _ = parents.digits()
    assert "no source file is given" in recipe.unsuitable(Parent(parent.files))


def test_without_torch_nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    from forwardpass.optimize.recipes import stage

    parent, _ = parents.digits(Path("source.py"))
    monkeypatch.setattr(stage, "find_spec", lambda name: None)
    assert Prune(0.5).unsuitable(parent) == "torch is not installed"


def load(folder: Path, text: str, names: tuple[str, ...] = ("x",)) -> object:
    pytest.importorskip("torch", reason="the source file is PyTorch")
    from forwardpass.optimize.recipes.source import load_source

    file = folder / "source.py"
    file.write_text(text)
    return load_source(file, dict.fromkeys(names))


def test_a_source_that_is_right(folder: Path) -> None:
    pytest.importorskip("torch", reason="the source file is PyTorch")
    from forwardpass.optimize.recipes.source import load_source

    file = folder / "source.py"
    file.write_text("from beside import SIZE\n" + MODEL + DATA)
    (folder / "beside.py").write_text("SIZE = 3\n")
    source = load_source(file, {"x": None})
    assert not source.model.training
    assert source.inputs["x"].shape == (5, 4)
    assert source.labels.tolist() == [0, 1, 2, 0, 1]
    assert source.example[0].shape == (3, 4)
    assert source.create_student is None
    assert source.loss(source.model(source.inputs["x"]), source.labels).item() > 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"source\.py: defines no create_model\(\)"),
        (MODEL, r"source\.py: defines no training_data\(\)"),
        ("def create_model(): return 3\n" + DATA, r"create_model\(\) gives int"),
        (MODEL + "def training_data(): return 3\n", "must give a tuple"),
        (MODEL + DATA.replace("'x'", "'y'"), r"the model has no input 'y'\. Did you mean|the model has no input 'y'"),
        (MODEL + DATA.replace("arange(5)", "arange(4)"), r"as many labels as rows.*'x': 5, 'labels': 4"),
        (MODEL + DATA.replace("(5, 4)", "(2, 4)").replace("arange(5)", "arange(2)"), "three or more"),
    ],
)
def test_a_source_that_is_wrong(text: str, says: str, folder: Path) -> None:
    with pytest.raises(InvalidModel, match=says):
        load(folder, text)


def test_an_input_without_data_is_named(folder: Path) -> None:
    with pytest.raises(InvalidModel, match="gives no input 'mask'"):
        load(folder, MODEL + DATA, ("x", "mask"))


def test_a_file_that_is_not_there(folder: Path) -> None:
    pytest.importorskip("torch", reason="the source file is PyTorch")
    from forwardpass.optimize.recipes.source import load_source

    with pytest.raises(InvalidModel, match="there is no such Python file"):
        load_source(folder / "source.py", {})


def test_what_the_users_code_raises_comes_through(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        load(folder, "1 / 0")
