"""The same rows in, the same bits out: a bundle, the model's folder and a job over a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.edge.bundles import Workshop

import forwardpass
from forwardpass.edge.build import build
from forwardpass.edge.bundle import open_bundle, read_goldens, unpack
from forwardpass.jobs.job import Job
from forwardpass.jobs.run import Options, Run

MODELS = Path(__file__).parents[2] / "examples" / "models"
IN_FILES = ("breast-cancer", "fraud", "recommend", "task-priority")  # whose rows are plain values


@pytest.fixture(params=sorted(item.name for item in MODELS.iterdir() if item.is_dir()))
def bundled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, list[Any]]:
    """A model's folder, its bundle unpacked, and a dozen rows."""
    model = MODELS / request.param
    workshop = Workshop(tmp_path)
    built = build(model, workshop.key, tmp_path)
    unpack(built.path, tmp_path / "slot", workshop.keys)
    return model, tmp_path / "slot", read_goldens(tmp_path / "slot", built.manifest)[0].instances


def columns(path: Path, rows: list[Any]) -> dict[str, Any]:
    engine = open_bundle(path, 1) if (path / "manifest.json").is_file() else forwardpass.load(path, 1)
    names = [spec.name for spec in engine.signature.inputs]
    named = [row if isinstance(row, dict) and row.keys() <= set(names) else {names[0]: row} for row in rows]
    try:
        return engine.predict({name: [row.get(name) for row in named] for name in names})
    finally:
        engine.close()


def test_as_the_models_own_folder(bundled: tuple[Path, Path, list[Any]]) -> None:
    model, slot, rows = bundled
    loaded, unpacked = columns(model, rows), columns(slot, rows)
    assert loaded.keys() == unpacked.keys()
    for name, values in loaded.items():
        assert values.dtype == unpacked[name].dtype
        assert values.tolist() == unpacked[name].tolist()


@pytest.mark.slow
def test_as_a_job(bundled: tuple[Path, Path, list[Any]], tmp_path: Path) -> None:
    model, slot, rows = bundled
    if model.name not in IN_FILES:
        pytest.skip("its rows are images, which a job reads from files of their own")
    engine = open_bundle(slot, 1)
    first = engine.signature.inputs[0].name
    lines = [row if isinstance(row, dict) else {first: row} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = Job(str(model), (str(tmp_path / "rows.jsonl"),), str(tmp_path / "out.parquet"), keep=(), batch_rows=len(rows))
    Run(job, Options(1), lambda snapshot: None).run()
    table = pq.read_table(tmp_path / "out.parquet")
    for name, values in columns(slot, rows).items():
        there = np.array(table[name].to_pylist(), values.dtype)
        assert there.tolist() == values.tolist(), name
