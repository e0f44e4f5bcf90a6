"""Which files of a model go onto a device, and what must be importable there for them.

Its artifact, ``model.yaml`` (written out, so that the folder stands alone), the files that its steps name, ``steps.py``
and the sample. Not what is for people: READMEs, licences, reports. Runs no model.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from forwardpass.artifacts import artifact_files
from forwardpass.config import MODEL_FILE, read_yaml
from forwardpass.edge.targets import RUNTIME, STEP_RUNTIME
from forwardpass.errors import InvalidModel
from forwardpass.pipeline import Step, create_step
from forwardpass.pipeline.user import STEPS_FILE, load_user_steps
from forwardpass.registry import ModelFiles
from forwardpass.types import InputType

Contents = dict[str, bytes | Path]  # by path within the model's folder


def model_contents(files: ModelFiles) -> Contents:
    """The files of one version. Raises ``InvalidModel`` where ``model.yaml`` cannot be used, or two share a name."""
    found: dict[str, Path] = {}
    for name, path in (*_artifact(files), *_resources(files), *_sample(files)):
        if found.setdefault(name, path) != path:
            raise InvalidModel(f"{files.name}: {found[name]} and {path} would have one name in the bundle: rename one")
    return {**found, MODEL_FILE: _model_file(files)}


def model_runtime(files: ModelFiles) -> dict[str, str]:
    """Modules that must be importable for it, with their least versions ("" for any)."""
    steps = _steps(files)
    modules = {type(step).__module__ for step in steps}
    images = any(item.type is InputType.IMAGE for item in files.config.inputs.values())
    needed = dict(RUNTIME)
    if images or "forwardpass.pipeline.image" in modules:
        needed["PIL"] = STEP_RUNTIME["PIL"]
    if any(hasattr(step, "tokenizer") for step in steps):
        needed["tokenizers"] = STEP_RUNTIME["tokenizers"]
    own = files.folder / STEPS_FILE
    imported = _imports(own.read_text(encoding="utf-8")) if own.is_file() else set()
    return {**{module: STEP_RUNTIME.get(module, "") for module in imported}, **needed}


def _artifact(files: ModelFiles) -> Iterator[tuple[str, Path]]:
    """Directly in the model's folder, whatever folder it lay in: its weights are always beside it."""
    if not files.config.composed:
        yield from ((path.name, path) for path in artifact_files(files.artifact))


def _sample(files: ModelFiles) -> Iterator[tuple[str, Path]]:
    if sample := files.sample():
        yield Path(sample.file).name, Path(sample.file)


def _resources(files: ModelFiles) -> Iterator[tuple[str, Path]]:
    folder = files.folder
    for text in _texts([dataclasses.asdict(step) for step in _steps(files)]):  # type: ignore[call-overload]
        inside = Path(text)
        if text and not inside.is_absolute() and ".." not in inside.parts and _is_file(folder / inside):
            yield inside.as_posix(), folder / inside
    if (folder / STEPS_FILE).is_file():
        yield from _named_in_steps(folder)


def _named_in_steps(folder: Path) -> Iterator[tuple[str, Path]]:
    """``steps.py`` and every file whose name stands in it; what lies in a version's folder is another model's."""
    source = (folder / STEPS_FILE).read_text(encoding="utf-8")
    yield STEPS_FILE, folder / STEPS_FILE
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        taken = inside.parts[0].isdigit() or path.name in (STEPS_FILE, MODEL_FILE)
        hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
        if path.name in source and not taken and not hidden and path.is_file():
            yield inside.as_posix(), path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that is no path at all
        return False


def _steps(files: ModelFiles) -> list[Step]:
    own, config = load_user_steps(files.folder), files.config
    lists = (("preprocess", config.preprocess), ("postprocess", config.postprocess))
    return [create_step(entry, own, f"{where} {at}") for where, items in lists for at, entry in enumerate(items, 1)]


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested parameters."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _model_file(files: ModelFiles) -> bytes:
    """``model.yaml`` as it is written, naming the artifact, which other files in the folder may look like."""
    file = files.folder / MODEL_FILE
    written = dict(read_yaml(file)) if file.is_file() else {}
    if not files.config.composed:
        written["artifact"] = files.artifact.name
    return yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=120).encode()


def _imports(source: str) -> set[str]:
    """The modules that a ``steps.py`` imports, without Python's own and ours."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"forwardpass"}
