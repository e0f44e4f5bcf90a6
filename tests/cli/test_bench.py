"""``bench`` for real: on a folder, on a running server, through every door."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests import artifacts
from tests.server.process import Server, running
from typer.testing import CliRunner, Result

from forwardpass.cli.bench_report import Measured, milliseconds, report
from forwardpass.cli.bench_server import Batches
from forwardpass.cli.main import app
from forwardpass.errors import BackendFailed, ForwardpassError, InvalidModel, NotFound, NotReady
from forwardpass.loadtest import Histogram
from forwardpass.loadtest import Result as Load

QUICK = ("--duration", "0.1", "--warmup", "0.02")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments, *QUICK])


def facts(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    said: dict[str, Any] = json.loads(line)
    return said


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    artifacts.affine(folder / "affine" / "model.onnx", inputs=3, outputs=2)
    artifacts.identity(folder / "texts" / "1" / "model.onnx", "BYTES", ["N"])
    (folder / "texts" / "model.yaml").write_text("inputs: {x: {type: text}}\n")
    (folder / "texts" / "sample.txt").write_text("some text")
    artifacts.no_batch_axis(folder / "whole" / "model.onnx")
    artifacts.lookup(folder / "lookup" / "model.onnx", size=4)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with running([repository], grpc=True) as server:
        yield server


def test_a_folder_is_served_meanwhile(repository: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    said = facts(
        run(str(repository / "affine"), "--json", "--plot", str(plot), "--connections", "1,4", "--load", "0.5")
    )
    one, four, open_ = said["measurements"]
    assert said["about"] == "affine, version 1: 1 row in each request"
    assert [item["load"] for item in (one, four)] == ["1 connection", "4 connections"]
    assert open_["planned_rate"] == pytest.approx(0.5 * max(one["rate"], four["rate"]))
    for item in said["measurements"]:
        assert item["ok"] == item["sent"] == sum(item["batches"]["sizes"][size] * int(size) for size in _sizes(item))
        assert item["failed"] == 0
        assert 0 < item["latency"]["p50"] <= item["latency"]["p99"] <= item["latency"]["max"]
    names = {item.text for item in ElementTree.parse(plot).iter("{http://www.w3.org/2000/svg}text")}
    assert {"v2-json, 1 connection", "v2-json, 4 connections"} <= names


def _sizes(item: dict[str, Any]) -> list[str]:
    return list(item["batches"]["sizes"])


@pytest.mark.parametrize("model", ["affine", "texts/1", "whole"])
def test_every_door_of_a_running_server(server: Server, model: str) -> None:
    doors = ["v2-json", "v2-binary", "v1", "grpc"]
    grpc = f"127.0.0.1:{server.grpc_port}"
    given = ("--door", "v2-json,v2-binary", "--door", "v1,grpc")
    said = facts(run(model, "--url", server.url, "--grpc", grpc, "--json", "--connections", "2", *given))
    assert [item["door"] for item in said["measurements"]] == doors
    assert all(item["ok"] == item["sent"] > 0 for item in said["measurements"])


def test_the_table_for_people(server: Server) -> None:
    result = run("affine", "--url", server.url, "--connections", "1,2", "--rate", "50", "--arrivals", "even")
    assert result.exit_code == 0, result.output
    first, blank, header, *rows = result.stdout.splitlines()
    assert first == f"affine, version 1 at {server.url}: 1 row in each request"
    assert blank == ""
    assert header.split() == [
        "door",
        "load",
        "requests/s",
        "p50",
        "p90",
        "p99",
        "max",
        "refused",
        "errors",
        "rows/batch",
    ]
    assert [row.split()[0:2] for row in rows[:3]] == [["v2-json", "1"], ["v2-json", "2"], ["v2-json", "50.0/s"]]
    assert rows[2].split()[2] == "50.0"
    assert "batch rows" in result.stdout
    assert "idle" in result.stdout


def test_rows_of_a_file_in_requests_of_some(server: Server, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("[1, 2, 3]\n\n[4, 5, 6]\n[7, 8, 9]\n")
    given = ("--data", str(tmp_path / "rows.jsonl"), "--rows", "2", "--connections", "1")
    said = facts(run("affine", "--url", server.url, "--json", *given))
    assert set(said["measurements"][0]["batches"]["sizes"]) == {"2"}
    assert said["about"].endswith("2 rows in each request")


def test_without_a_server(repository: Path) -> None:
    said = facts(run(str(repository / "affine"), "--door", "local", "--json", "--connections", "2"))
    (item,) = said["measurements"]
    assert item["ok"] == item["sent"] > 0
    assert said["about"] == f"{repository / 'affine'}: 1 row in each request"


def test_answers_that_fail_are_the_exit_code(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text("[1, 99]")
    given = ("--url", server.url, "--data", str(tmp_path / "ids.json"), "--connections", "1")
    result = run("lookup", *given)
    assert result.exit_code == 1
    assert "failed (status " in result.stdout
    (tmp_path / "ids.json").write_text("[99]")
    result = run("lookup", *given)
    assert isinstance(result.exception, BackendFailed)
    assert "no request was answered" in result.exception.message


def test_models_that_cannot_be_measured(server: Server, repository: Path, tmp_path: Path) -> None:
    cases: list[tuple[type[ForwardpassError], str, tuple[str, ...]]] = [
        (NotFound, "Did you mean 'affine'", ("affin", "--url", server.url)),
        (NotFound, "has no model 'texts/7'", ("texts/7", "--url", server.url)),
        (NotReady, "cannot reach", ("affine", "--url", "http://127.0.0.1:1")),
        (InvalidModel, "name the folder of one of them", (str(repository),)),
        (InvalidModel, "nowhere", (str(tmp_path / "nowhere"),)),
    ]
    for kind, words, arguments in cases:
        result = run(*arguments)
        assert isinstance(result.exception, kind), result.output
        assert words in result.exception.message


def test_no_grpc_door(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwardpass.loadtest.grpc.CONNECT_TIMEOUT", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("affine", "--url", server.url, "--grpc", address, "--door", "grpc")
    assert isinstance(result.exception, NotReady)
    assert address in result.exception.message


@pytest.mark.parametrize(
    "flags",
    [
        ("--door", "soap"),
        ("--connections", "1,x"),
        ("--connections", "1.5"),
        ("--rate", "-3"),
        ("--arrivals", "odd"),
        ("--plot", "a.png"),
        ("--url", "http://127.0.0.1:1", "--door", "local"),
    ],
)
def test_wrong_flags(flags: tuple[str, ...]) -> None:
    result = run("model", *flags)
    assert result.exit_code == 2
    assert flags[-2] in result.stderr or "--door" in result.stderr


# What it says


def measured(connections: int, rate: float) -> Measured:
    load = Load("v1", 1.0, connections, ok_in_time=round(rate), latency=Histogram([0.01] * 10))
    return Measured(load, Batches(Counter({1: 3, 9: 1}), Counter({"idle": 3, "full": 1})))


def cost(start: float, per_row: float, best: int) -> dict[str, Any]:
    curve = [{"rows": 1, "length": None, "seconds": start + per_row, "batches": 5}]
    return {"start": start, "per_row": per_row, "per_padded": 0.0, "curve": curve, "best_rows": best}


def test_what_batching_does() -> None:
    pair = [measured(1, 100), measured(64, 250)]
    assert "64 connections get 2.5 times the requests per second of 1 connection" in report(pair, None)
    said = report(pair, cost(0.009, 0.001, 9))
    assert "batches of 9 rows run 5.0 times as many rows per second as single ones" in said
    assert "9.00 ms + 1.00 ms per row" in said
    assert "batching gains nothing" in report(pair, cost(0.0, 0.001, 8))
    assert "1 75 %, 8-15 25 %" in report(pair[:1], None)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0001234, "0.123 ms"), (0.00123, "1.23 ms"), (0.0123, "12.3 ms"), (1.234, "1,234 ms")]
)
def test_times(seconds: float, shown: str) -> None:
    assert milliseconds(seconds) == shown
