"""From a trained model to a model folder: convert, compare row by row, write.

    model ─► Trained ─► artifact ─► Comparison ─► model.yaml, sample.json ─► the folder, whole

Knows no file formats of sources (``sources``) and no library: each ``Trained`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forwardpass.backends import create_backend
from forwardpass.errors import InvalidInput, InvalidModel
from forwardpass.optimize.convert.base import Trained
from forwardpass.optimize.convert.check import Comparison, compare
from forwardpass.optimize.convert.folder import new_folder, require_free, write_texts
from forwardpass.types import Columns

ROWS = 2000  # drawn where no data is given
_DATA = "the data given"


@dataclass(frozen=True)
class ImportReport:
    """What was written where, and how the converted model compares with the original."""

    folder: str
    artifact: str
    title: str
    versions: dict[str, str]
    comparison: Comparison


def import_model(
    model: Any,
    folder: str | Path,
    sample: Any = None,
    data: Columns | None = None,
    native: bool = False,
    tolerance: int = 0,
) -> ImportReport:
    """Write a model folder from a trained model: a scikit-learn, XGBoost, LightGBM or PyTorch object.

    ``sample`` are inputs for a PyTorch module: a tuple, or a dictionary by parameter name, of arrays or tensors
    whose first axis is rows. ``data`` are rows to compare on, ``features`` ``[rows, n]`` or columns by name; without
    it rows are drawn from what the model has learnt. ``native`` keeps the library's own format instead of ONNX.
    ``tolerance`` rows may answer differently. Raises ``InvalidModel`` where it cannot be converted or answers
    differently; the folder is then not written.
    """
    return import_trained(trained_model(model, sample), Path(folder), data, native, tolerance)


def import_trained(
    trained: Trained, folder: Path, data: Columns | None = None, native: bool = False, tolerance: int = 0
) -> ImportReport:
    """As ``import_model``, for what ``trained_model`` or ``load_trained`` gave."""
    require_free(folder)
    columns = trained.columns(data) if data is not None else trained.draw(ROWS)
    if not next(iter(columns.values())).size:
        raise InvalidInput("the data has no rows to compare on")
    with new_folder(folder) as partial:
        artifact = partial / f"model{trained.native if native else '.onnx'}"
        _write_artifact(trained, artifact, native)
        comparison = compare(trained, artifact, columns, _DATA if data is not None else trained.drawn)
        comparison.require(tolerance)
        _write_texts(trained, partial, artifact, columns)
    return ImportReport(str(folder), artifact.name, trained.title, dict(trained.versions), comparison)


def trained_model(model: Any, sample: Any = None) -> Trained:
    """The model behind the one interface, by the library of its class. ``InvalidModel`` names one that is unknown."""
    libraries = {base.__module__.split(".")[0] for base in type(model).__mro__}
    if libraries & {"xgboost"}:
        from forwardpass.optimize.convert.xgboost import XGBoostModel

        return XGBoostModel(model)
    if libraries & {"lightgbm"}:
        from forwardpass.optimize.convert.lightgbm import LightGBMModel

        return LightGBMModel(model)
    if type(model).__name__ == "ExportedProgram":
        from forwardpass.optimize.convert.torch import TorchModel

        return TorchModel(model, "exported program", sample)
    if libraries & {"torch"}:
        from forwardpass.optimize.convert.torch import export_module

        return export_module(model, sample)
    if libraries & {"sklearn"}:
        from forwardpass.optimize.convert.sklearn import SklearnModel

        return SklearnModel(model)
    raise InvalidModel(
        f"{type(model).__module__}.{type(model).__qualname__} is no model that can be imported; "
        "known are those of scikit-learn, XGBoost, LightGBM and PyTorch"
    )


def _write_artifact(trained: Trained, artifact: Path, native: bool) -> None:
    try:
        if native:
            trained.write_native(artifact)
        else:
            trained.write_onnx(artifact)
    except ModuleNotFoundError as missing:
        raise InvalidModel(
            f"{trained.title} cannot be written as {artifact.suffix}: {missing.name} is not installed: "
            "pip install 'forwardpass[optimize]'"
        ) from None


def _write_texts(trained: Trained, folder: Path, artifact: Path, columns: Columns) -> None:
    backend = create_backend(artifact, threads=1)
    try:
        batched = backend.batched
        sample = {spec.name: columns[spec.name].astype(spec.dtype.numpy) for spec in backend.inputs}
    finally:
        backend.close()
    write_texts(folder, f"{trained.title}, imported", trained.versions, sample, batched)
