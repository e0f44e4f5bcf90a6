"""``publish``: what a person is told, and what a program is."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.edge.bundles import make_key, pack
from typer.testing import CliRunner

from forwardpass.cli.main import app
from forwardpass.cli.publish import parse_time
from forwardpass.edge.main import HOME
from forwardpass.errors import ForwardpassError, InvalidInput, InvalidSettings

pytest.importorskip("tuf", reason="updates need tuf (the extra `updates`)")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    """Versions 1 and 2."""
    key = make_key(tmp_path)
    return [pack(tmp_path / f"motor-{version}.bundle", key, version, {"model.onnx": b"x"}) for version in "12"]


def publish(*words: object) -> str:
    result = CliRunner().invoke(app, ["publish", *map(str, words)])
    if isinstance(result.exception, ForwardpassError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_first_time_it_says_what_is_to_be_done(bundles: list[Path], config: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    told = publish(bundles[0], "--to", served)
    for text in (
        "published motor 1 for linux-x86_64 on stable",
        f"forwardpass publish --refresh --to {served}",
        f"made in {config / 'forwardpass/publish'}",
        f"{served / 'metadata/1.root.json'}, a first bundle such as {bundles[0]}, and\n",
        f"of your own: {config / 'forwardpass/bundle.pub'}",
    ):
        assert text in told
    again = publish(bundles[1], "--to", served)
    assert "published motor 2" in again
    assert "keys" not in again


def test_what_it_says_of_new_devices_works_there_as_it_stands(bundles: list[Path], tmp_path: Path) -> None:
    served, device = tmp_path / "served", tmp_path / "device"
    told = publish(bundles[0], "--to", served).replace(str(HOME), str(device))
    shell, agent = (line.strip() for line in told.splitlines()[-2:])
    brought = tmp_path / "brought"
    brought.mkdir()
    for file, name in (
        (served / "metadata/1.root.json", "1.root.json"),
        (bundles[0], bundles[0].name),
        (tmp_path / "own.pub", "bundle.pub"),
    ):
        (brought / name).write_bytes(file.read_bytes())
    subprocess.run(shell, shell=True, check=True, cwd=brought)
    words = shlex.split(agent)
    assert words[:2] == ["forwardpass", "agent"]
    systemd = [sys.executable, "-m", "forwardpass", "agent", "--systemd", *words[2:]]
    done = subprocess.run(systemd, cwd=brought, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_for_programs(bundles: list[Path], tmp_path: Path) -> None:
    served = tmp_path / "served"
    facts = json.loads(publish(bundles[0], "--to", served, "--channel", "beta", "--json"))
    assert (facts["version"], facts["path"], facts["older"]) == ("1", "beta/linux-x86_64/motor.json", False)
    assert facts["size"] == bundles[0].stat().st_size
    before = facts["expires"]
    assert json.loads(publish("--refresh", "--expires", "9w", "--to", served, "--json"))["expires"] > before


def test_an_older_version_wants_force(bundles: list[Path], tmp_path: Path) -> None:
    served = tmp_path / "served"
    publish(bundles[1], "--to", served)
    with pytest.raises(InvalidInput, match="--force"):
        publish(bundles[0], "--to", served)
    assert "devices that run that refuse this one" in publish(bundles[0], "--to", served, "--force")


@pytest.mark.parametrize("words", [[], ["--refresh", "--prune"], ["a.bundle", "--new-keys", "all"]])
def test_one_thing_at_a_time(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(InvalidInput, match="give a bundle, or one of --refresh"):
        publish(*words, "--to", tmp_path / "served")


@pytest.mark.parametrize("words", [["--refresh"], ["--prune"], ["--new-keys", "all"]])
def test_nothing_published(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(InvalidSettings, match="nothing is published"):
        publish(*words, "--to", tmp_path / "served")


def test_new_keys(bundles: list[Path], config: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    publish(bundles[0], "--to", served)
    told = publish("--new-keys", "online", "--to", served)
    assert "keys     of targets, snapshot, timestamp replaced" in told
    facts = json.loads(publish("--new-keys", "root", "--to", served, "--json"))
    assert facts["new_keys"] == ["root"]
    names = {path.name for path in (config / "forwardpass/publish").glob("*-2.key")}
    assert names == {"targets-2.key", "snapshot-2.key", "timestamp-2.key", "root-2.key"}
    publish("--new-keys", "all", "--to", served)
    assert (config / "forwardpass/publish/root-3.key").exists()
    publish(bundles[1], "--to", served)


def test_prune(bundles: list[Path], tmp_path: Path) -> None:
    served = tmp_path / "served"
    for bundle in bundles:
        publish(bundle, "--to", served)
    assert "removed  0 files" in publish("--prune", "--to", served)
    assert json.loads(publish("--prune", "--keep", 1, "--to", served, "--json"))["files"] > 0


def test_times() -> None:
    assert [parse_time(text).total_seconds() / 3600 for text in ("12h", "30d", "2w")] == [12, 720, 336]
    for text in ("", "30", "d", "-1d", "0d", "1.5d", "9" * 9 + "w", "٣d"):
        with pytest.raises(InvalidInput, match="--expires"):
            parse_time(text)
