"""Trained models from files and Python references, and the data to compare on.

    model.skops, .joblib, .pkl, .xgboost.json, .ubj, .lightgbm.txt, .txt, .pt2, package.module:object

Pickles and references run code: they are loaded only where the caller says so. Knows no conversion.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from typing import Any

import numpy as np

from forwardpass.backends.safety import SKOPS_TYPES
from forwardpass.errors import InvalidInput, InvalidModel, NotFound
from forwardpass.optimize.convert.base import Trained
from forwardpass.optimize.convert.importing import trained_model
from forwardpass.types import Array, Columns

_CODE = "runs code when it is loaded; if you trust it, say so with --allow-code"


def load_trained(source: str, allow_code: bool = False, sample: Columns | None = None) -> Trained:
    """The trained model that a path or ``module:object`` names.

    Raises ``NotFound`` where it is not there, ``InvalidModel`` where it cannot be loaded or may not be.
    """
    path = Path(source)
    loader = next((load for suffix, load in _LOADERS.items() if path.name.endswith(suffix)), None)
    if loader is None and ":" in source and not path.exists():
        if not allow_code:
            raise InvalidModel(f"{source}: {_CODE}")
        return trained_model(_referenced(source), sample)
    if not path.is_file():
        raise NotFound(f"{source}: there is no such file")
    if loader is None:
        known = ", ".join(_LOADERS)
        raise InvalidModel(f"{source}: is no trained model that can be imported; known are {known} and module:object")
    try:
        model = loader(path, allow_code)
    except InvalidModel:
        raise
    # Each library has its own errors; an unpickled class raises what it likes.
    except Exception as reason:  # noqa: BLE001
        raise InvalidModel(f"{source}: cannot be loaded: {_line(reason)}") from None
    return trained_model(model, sample)


def read_table(path: Path) -> Columns:
    """Arrays by name from ``.npz``, one matrix named ``table`` from ``.npy``, columns of numbers from ``.csv``.

    A CSV file has a header; columns that hold other things than numbers are kept as texts.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        if path.suffix == ".npy":
            return {"table": np.load(path, allow_pickle=False)}
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                header, *rows = (line for line in csv.reader(file, strict=True) if line)
            return {name: _numbers(values) for name, values in zip(header, zip(*rows, strict=True), strict=True)}
    except OSError as reason:
        raise NotFound(f"{path}: cannot be read: {reason.strerror or reason}") from None
    except (ValueError, csv.Error, EOFError) as reason:
        raise InvalidInput(f"{path}: cannot be read as {path.suffix}: {_line(reason)}") from None
    raise InvalidInput(f"{path}: give data as .csv with a header, .npz or .npy")


def _numbers(values: tuple[str, ...]) -> Array:
    try:
        return np.array([float(value) if value.strip() else np.nan for value in values])
    except ValueError:
        return np.array(values, object)


def _skops(path: Path, allow_code: bool) -> Any:
    """By the rules of the backend that would serve it: the same types are trusted, trees are looked at."""
    from skops.io import get_untrusted_types, load

    from forwardpass.backends.trees import check_trees

    types = get_untrusted_types(file=path)
    refused = sorted(set(types) - SKOPS_TYPES)
    if refused and not allow_code:
        raise InvalidModel(
            f"{path.name}: holds types that are not trusted ({', '.join(refused[:3])}); "
            "if you trust it, say so with --allow-code"
        )
    model = load(path, trusted=types)
    if not allow_code:
        check_trees(model)
    return model


def _pickle(path: Path, allow_code: bool) -> Any:
    if not allow_code:
        raise InvalidModel(f"{path.name}: is a pickle, which {_CODE}, or save it as .skops")
    import joblib

    return joblib.load(path)


def _xgboost(path: Path, _allow_code: bool) -> Any:
    import xgboost

    return xgboost.Booster(model_file=bytearray(path.read_bytes()))


def _lightgbm(path: Path, _allow_code: bool) -> Any:
    import lightgbm

    return lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))


def _torch(path: Path, allow_code: bool) -> Any:
    from forwardpass.backends.torch_program import load_program

    return load_program(path, allow_code)


_LOADERS: dict[str, Callable[[Path, bool], Any]] = {
    ".skops": _skops,
    ".joblib": _pickle,
    ".pkl": _pickle,
    ".xgboost.json": _xgboost,
    ".ubj": _xgboost,
    ".lightgbm.txt": _lightgbm,
    ".txt": _lightgbm,
    ".pt2": _torch,
}


def _referenced(source: str) -> Any:
    """The object of ``module:object``, with modules of the working folder in reach; a function gives the model."""
    module, _, name = source.partition(":")
    try:
        with _working_folder_first():
            found: Any = import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            return found() if isfunction(found) else found
    # It is the user's own code that runs here.
    except Exception as reason:  # noqa: BLE001
        raise InvalidModel(f"{source}: cannot be imported: {_line(reason)}") from None


@contextmanager
def _working_folder_first() -> Iterator[None]:
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def _line(reason: BaseException) -> str:
    line = " ".join(str(reason).split()) or type(reason).__name__
    return line if len(line) <= 200 else line[:199] + "…"
