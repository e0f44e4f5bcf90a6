"""The night of `recommend`: its README's commands work, and cron, systemd and Kubernetes give the same one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from tests.examples.jobs.readme import EXAMPLES, commands, run

FOLDER = EXAMPLES / "jobs" / "recommend"
MAKE, RUN, SHOW = commands("recommend")
USERS = 300


def test_the_readmes_commands(tmp_path: Path) -> None:
    run(f"{MAKE} --users {USERS}", tmp_path)
    run(RUN, tmp_path)
    table = pq.read_table(tmp_path / "recommendations" / "2026-11-22")
    assert table.schema.names == ["user", "items", "scores"]
    assert table["user"].to_pylist() == list(range(USERS))
    assert {len(items) for items in table["items"].to_pylist()} == {10}
    manifest = json.loads((tmp_path / "recommendations" / "2026-11-22.job" / "manifest.json").read_text())
    assert (manifest["rows_in"], manifest["rows_out"], manifest["rejected"]) == (USERS, USERS, 0)
    assert "'items'" in run(SHOW, tmp_path)
    run(RUN, tmp_path)  # the clock strikes again: nothing is left to do, and that is no error


def cron() -> str:
    [line] = [line for line in (FOLDER / "nightly.cron").read_text().splitlines() if "forwardpass" in line]
    return line.split(maxsplit=5)[5].replace(r"\%", "%").removeprefix("cd /srv/recommend && ")


def systemd() -> str:
    [line] = re.findall("^ExecStart=(.*)$", (FOLDER / "forwardpass-recommend.service").read_text(), re.MULTILINE)
    inside = re.fullmatch("/bin/sh -c '(.*)'", line)
    assert inside
    return inside[1].replace("$$", "$").replace("%%", "%").removeprefix("exec ")


def kubernetes() -> str:
    job = yaml.safe_load((FOLDER / "cronjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    shell, flag, command = container["command"]
    assert (shell, flag) == ("/bin/sh", "-c")
    return str(command).replace("$$(", "$(").replace("s3://shop/", "").removeprefix("exec ")


@pytest.mark.parametrize("scheduled", [cron, systemd, kubernetes])
def test_the_clock_runs_the_readmes_line(scheduled: Callable[[], str]) -> None:
    line = scheduled()
    assert "--resume" in line
    assert line.replace("$(date +%F)", "2026-11-22").replace(" models/", " examples/models/") == RUN


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    units = [tmp_path / name for name in ("forwardpass-recommend.service", "forwardpass-recommend.timer")]
    for unit in units:
        shutil.copy(FOLDER / unit.name, unit)
    said = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=30)
    complaints = [line for line in said.stderr.splitlines() if "forwardpass-recommend" in line]
    assert (said.returncode, complaints) == (0, [])
