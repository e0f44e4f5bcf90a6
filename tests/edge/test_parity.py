"""The same rows in, the same answers out, to the bit: live, on a device, in bulk; a bundle as its model's folder."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.edge.bundles import Workshop
from tests.edge.devices import AgentProcess, Factory, agent, write_settings
from tests.engine.workers import needs_proc
from tests.server.http.raw import ask, post
from tests.server.process import Server, running

import forwardpass
from forwardpass.edge.build import build
from forwardpass.edge.bundle import open_bundle, read_goldens, unpack
from forwardpass.edge.home import Home

MODELS = Path(__file__).parents[2] / "examples" / "models"
ROWS = 12


@needs_proc
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["digits", "fraud", "machine-health", "task-priority"])
def test_the_same_answers_live_on_a_device_and_in_bulk(name: str, tmp_path: Path) -> None:
    """Images, a table, vibrations, texts; row by row, for what a row shares a batch with may change its last bits."""
    model, factory, home = MODELS / name, Factory(tmp_path), Home(tmp_path / "home")
    slot = factory.install(home, model)
    rows = read_goldens(slot.folder, slot.manifest)[0].instances
    write_settings(home, {"mqtt": {"url": "mqtt://127.0.0.1:9"}})  # machine-health wants a broker, and does without
    words = ("--bundle", str(factory.bundle(model)), "--trust", str(factory.trust))
    with running([model]) as server, agent(home, *words) as device:
        live, on_the_device = ([predict(place, name, row) for row in rows] for place in (server, device))
    assert len(live) == ROWS
    assert on_the_device == live
    assert in_bulk(model, rows, tmp_path) == [json.loads(body)["predictions"][0] for body in live]


def predict(place: Server | AgentProcess, name: str, row: Any) -> bytes:
    """The body of a V1 answer."""
    answer = ask(place.port, post(f"/v1/models/{name}:predict", {"instances": [row]}))
    assert answer.status == 200, answer
    return answer.body


def in_bulk(model: Path, rows: list[Any], folder: Path) -> list[Any]:
    """What a job writes, as V1 predictions; Parquet keeps all bits of a number."""
    out = folder / "out.parquet"
    words = ["run", model, write(model, rows, folder), out, "--keep", "", "--batch-rows", 1]
    command = [sys.executable, "-m", "forwardpass", *map(str, words)]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    predictions: list[Any] = pq.read_table(out).to_pylist()
    return predictions


def write(model: Path, rows: list[Any], folder: Path) -> Path:
    """Rows as a job reads them: images as files, all else as JSON Lines."""
    if isinstance(rows[0], dict) and rows[0].keys() == {"b64"}:
        images = folder / "images"
        images.mkdir()
        for number, row in enumerate(rows):
            (images / f"{number:02}.png").write_bytes(base64.b64decode(row["b64"]))
        return images
    file = folder / "rows.jsonl"
    with closing(forwardpass.load(model, 1)) as engine:
        only = engine.signature.inputs[0].name
    lines = [row if isinstance(row, dict) else {only: row} for row in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.mark.parametrize("name", sorted(item.name for item in MODELS.iterdir() if item.is_dir()))
def test_a_bundle_answers_as_the_models_own_folder(name: str, tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    built = build(MODELS / name, workshop.key, tmp_path)
    unpack(built.path, tmp_path / "slot", workshop.keys)
    rows = read_goldens(tmp_path / "slot", built.manifest)[0].instances
    with closing(forwardpass.load(MODELS / name, 1)) as loaded, closing(open_bundle(tmp_path / "slot", 1)) as unpacked:
        assert unpacked.signature == loaded.signature
        assert unpacked.predict(rows) == loaded.predict(rows)
