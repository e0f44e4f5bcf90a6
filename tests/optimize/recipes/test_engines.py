from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests import artifacts
from tests.optimize.recipes import parents

from forwardpass.config import BackendConfig
from forwardpass.optimize import processor
from forwardpass.optimize.processor import cpu_flags
from forwardpass.optimize.recipe import Parent
from forwardpass.optimize.recipes import create_recipes, engines
from forwardpass.optimize.recipes.engines import EngineRecipe, create_engines
from forwardpass.registry import find_model


@pytest.fixture(autouse=True)
def forget_the_cpu() -> Iterator[None]:
    yield
    cpu_flags.cache_clear()


def pretend_cpu(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    cpu_flags.cache_clear()
    (folder / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "CPU_INFO", folder / "cpuinfo")


@pytest.mark.parametrize("recipe", create_engines(2), ids=lambda recipe: recipe.name)
def test_every_engine_that_suits_runs_the_model(recipe: EngineRecipe, folder: Path) -> None:
    parent, rows = parents.digits()
    if reason := recipe.unsuitable(parent):
        pytest.skip(reason)
    recipe.make(parent, folder)
    parents.assert_whole(folder, parent)
    assert parents.agreement(folder, parent.files.folder, rows) >= 0.99
    config = find_model(folder).config
    assert (config.backend, config.threads) == (recipe.backend, recipe.threads)


def test_threads_double_up_to_the_cores() -> None:
    assert [recipe.threads for recipe in create_engines(6) if recipe.threads] == [1, 2, 4, 6]
    assert [recipe.threads for recipe in create_engines(1) if recipe.threads] == [1]


def test_names_are_unlike() -> None:
    names = [recipe.name for recipe in create_engines(8)]
    assert len(set(names)) == len(names)


def test_precisions_are_tried_where_the_cpu_has_them(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    parent, _ = parents.digits()
    bf16, fp16 = (EngineRecipe(BackendConfig("openvino", precision)) for precision in ("bf16", "fp16"))
    pretend_cpu(monkeypatch, folder, "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_bf16 avx512f\n")
    assert bf16.unsuitable(parent) == ""
    assert fp16.unsuitable(parent) == "this CPU does not compute in FP16"
    pretend_cpu(monkeypatch, folder, "Features\t: fp asimd asimdhp\n")
    assert bf16.unsuitable(parent) == "this CPU does not compute in BF16"
    assert fp16.unsuitable(parent) == ""


def test_the_provider_is_for_intels_cpus(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    parent, _ = parents.digits()
    provider = EngineRecipe(BackendConfig("onnxruntime-openvino"))
    pretend_cpu(monkeypatch, folder, "vendor_id\t: AuthenticAMD\nflags\t\t: fpu\n")
    assert "Intel's CPUs alone" in provider.unsuitable(parent)
    pretend_cpu(monkeypatch, folder, "vendor_id\t: GenuineIntel\nflags\t\t: fpu\n")
    assert provider.unsuitable(parent) == ""


def test_a_cpu_that_does_not_say(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    cpu_flags.cache_clear()
    monkeypatch.setattr(processor, "CPU_INFO", folder / "missing")
    assert cpu_flags() == frozenset()


def test_openvino_does_not_get_what_it_lacks(folder: Path) -> None:
    openvino = EngineRecipe(BackendConfig("openvino"))
    trees = Parent(find_model(parents.trees(folder / "trees.onnx")))
    texts = Parent(find_model(artifacts.identity(folder / "texts.onnx", "BYTES")))
    assert openvino.unsuitable(trees) == "OpenVINO lacks the operator Scaler"
    assert openvino.unsuitable(texts) == "OpenVINO takes no text"
    assert EngineRecipe(BackendConfig("onnxruntime"), 1).unsuitable(trees) == ""


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, _ = parents.digits()
    monkeypatch.setitem(engines._LIBRARIES, "openvino", ("no_such_library",))
    assert EngineRecipe(BackendConfig("openvino")).unsuitable(parent) == "no-such-library is not installed"


def test_for_another_machine_its_processor_counts(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Not this one's, and not what is installed here: nothing of it is run to make the candidate."""
    parent = replace(parents.digits()[0], cores=6, flags=frozenset({"asimdhp"}))
    pretend_cpu(monkeypatch, folder, "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_bf16 avx512f\n")
    monkeypatch.setitem(engines._LIBRARIES, "openvino", ("no_such_library",))
    bf16, fp16 = (EngineRecipe(BackendConfig("openvino", precision)) for precision in ("bf16", "fp16"))
    assert bf16.unsuitable(parent) == "its CPU does not compute in BF16"
    assert fp16.unsuitable(parent) == ""
    assert "Intel's CPUs alone" in EngineRecipe(BackendConfig("onnxruntime-openvino")).unsuitable(parent)
    threads = [recipe.threads for recipe in create_recipes(parent) if isinstance(recipe, EngineRecipe)]
    assert [count for count in threads if count] == [1, 2, 4, 6]


def test_what_the_model_is_already(folder: Path) -> None:
    parent, _ = parents.digits()
    recipe = EngineRecipe(BackendConfig("onnxruntime"), 1)
    assert recipe.unsuitable(parent) == ""
    recipe.make(parent, folder)
    assert recipe.unsuitable(Parent(find_model(folder))) == "the model runs so already"
    assert EngineRecipe(BackendConfig("onnxruntime"), 2).unsuitable(Parent(find_model(folder))) == ""


def test_other_files_are_not_for_these_engines(folder: Path) -> None:
    (folder / "model.pt2").write_bytes(b"")
    for recipe in create_engines(1):
        assert "does not run .pt2 files" in recipe.unsuitable(Parent(find_model(folder)))
