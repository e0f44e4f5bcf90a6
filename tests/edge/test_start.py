"""What an agent listens on, and what keeps it from starting."""

from __future__ import annotations

import asyncio
import logging
import shlex
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.edge.bundles import FILES, Workshop
from tests.edge.devices import Factory, agent, command
from tests.engine.workers import fateful_model

from forwardpass.edge import signing
from forwardpass.edge.home import Home
from forwardpass.edge.main import create_parser, main
from forwardpass.edge.slots import Slots
from forwardpass.edge.start import Order, listen, run_agent
from forwardpass.edge.targets import TARGETS, fits_here
from forwardpass.errors import InvalidModel, InvalidSettings


def test_answers_leave_at_once() -> None:
    """Not some 40 ms later, when the client acknowledges what went before."""

    async def main() -> bool:
        accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        sock = listen(0)
        async with await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=sock):
            _, client = await asyncio.open_connection(*sock.getsockname())
            writer = await accepted
            at_once = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for end in (client, writer):
                end.close()
                await end.wait_closed()
        return bool(at_once)

    assert asyncio.run(main())


def test_a_port_that_is_taken_is_named() -> None:
    with listen(0) as sock:
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(InvalidSettings, match=f"port {port}: Address already in use; choose another --port"):
            listen(port)


def test_only_this_machine_is_listened_to() -> None:
    with listen(0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_a_home_that_the_system_refuses_is_told(tmp_path: Path) -> None:
    """As it does where it is read-only."""
    (tmp_path / "agent.lock").mkdir()
    with pytest.raises(InvalidSettings, match=rf"the home {tmp_path} cannot be used: .* \({tmp_path}/agent.lock\)$"):
        run_agent(Order(tmp_path, None, (), {}), None, None)


def test_where_nothing_is_installed_the_next_words_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=rf"agent --home {tmp_path} --bundle FILE --trust KEY\.pub$"):
        run_agent(Order(tmp_path, None, (), {}), None, None)


def test_the_library_of_updates_does_not_chat(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    library = logging.getLogger("tuf")
    library.setLevel(logging.NOTSET)
    with pytest.raises(InvalidSettings, match="nothing is installed"):
        run_agent(Order(tmp_path, None, (), {}), None, None)
    assert not library.getChild("api").isEnabledFor(logging.INFO)


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ({"no_such_module": "1.2"}, "no_such_module 1.2 or later is not installed"),
        ({"numpy": "99.1"}, r"numpy is [\d.]+, and must be 99\.1 or later"),
    ],
)
def test_a_bundle_that_needs_more_than_is_here_is_refused_before_it_is_unpacked(
    tmp_path: Path, runtime: dict[str, str], said: str
) -> None:
    workshop, home = Workshop(tmp_path), Home(tmp_path / "home")
    bundle = workshop.write(replace(workshop.manifest(), runtime=runtime), sorted(FILES.items()))
    with pytest.raises(InvalidModel, match=f"^{bundle} cannot run here: {said}"):
        run_agent(Order(home.folder, bundle, (signing.public_file(workshop.key_file),), {}), None, None)
    assert not list(home.slots.iterdir())


def test_a_bundle_for_another_machine_is_tried_and_said(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    other = next(name for name in TARGETS if not fits_here(name))
    bundle = workshop.write(replace(workshop.manifest(), target=other), sorted(FILES.items()))
    words = ("--bundle", str(bundle), "--trust", str(signing.public_file(workshop.key_file)), "--port", "0")
    done = subprocess.run(
        command(Home(tmp_path / "home"), *words), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, "what is in it is no model"
    assert f"WARNING {bundle} was made for {other}, which this machine is not" in done.stderr


@pytest.mark.slow
def test_what_is_active_runs_where_the_units_bundle_is_gone(tmp_path: Path) -> None:
    home, factory = Home(tmp_path / "home"), Factory(tmp_path)
    Slots(home).activate(factory.install(home, fateful_model(tmp_path / "fateful")))
    with agent(home, "--bundle", str(tmp_path / "gone.bundle"), "--trust", str(tmp_path / "gone.pub")) as device:
        updates = device.status["services"][0]
        assert (updates["name"], updates["error"]) == ("updates", "")
        assert f"{tmp_path}/gone.pub: the key cannot be read" in updates["bundle_error"]


def test_a_unit_has_every_flag_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tuf", reason="updates need tuf (the extra `updates`)")
    monkeypatch.chdir(tmp_path)
    workshop = Workshop(tmp_path)
    workshop.bundle().rename("m.bundle")
    for name in ("a.pub", "b.pub"):
        Path(name).write_bytes(signing.public_file(workshop.key_file).read_bytes())
    Path("updates").mkdir()
    Path("updates/root.json").touch()
    flags = (
        "--bundle m.bundle --trust a.pub --trust b.pub --updates http://u --cloud http://c --port 1 --log-level debug"
    )
    words = ["--home", str(tmp_path), *flags.split()]
    assert main(["agent", "--systemd", *words]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("ExecStart="))
    parser = create_parser()
    written = parser.parse_args(shlex.split(line)[4:])
    wanted = parser.parse_args(words)
    wanted.bundle, wanted.trust = tmp_path / "m.bundle", [tmp_path / "a.pub", tmp_path / "b.pub"]
    assert written == wanted
    default = parser.parse_args([])
    same = {name for name in vars(default) if getattr(default, name) == getattr(wanted, name)}
    assert same == {"action", "systemd", "json"}, "all that says how the agent runs was given"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--bundle none.bundle --trust own.pub", "none.bundle: the bundle cannot be read"),
        ("--bundle m-1.bundle", "no key is trusted in"),
        ("--bundle m-1.bundle --trust none.pub", "none.pub: the key cannot be read"),
        ("", "nothing is installed in"),
        ("--port 77777", "port must be from 0 to 65535, got 77777"),
        ("--updates foo", "updates: 'foo' is no URL"),
        ("--cloud foo", "cloud: 'foo' is no URL"),
        (
            "--bundle m-1.bundle --trust own.pub --updates http://u",
            "root.json: No such file or directory; copy it there",
        ),
    ],
)
def test_no_unit_is_printed_for_a_start_that_would_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: str, said: str
) -> None:
    pytest.importorskip("tuf", reason="updates need tuf (the extra `updates`)")
    monkeypatch.chdir(tmp_path)
    Workshop(tmp_path).bundle()
    home = tmp_path / "home"
    words = ["--systemd", "--home", str(home)]
    assert main([*words, "--bundle", "m-1.bundle", "--trust", "own.pub"]) == 0
    capsys.readouterr()
    assert main([*words, *flags.split()]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert not home.exists()


@pytest.mark.slow
def test_a_first_bundle_that_the_disk_does_not_take_as_active_is_told(tmp_path: Path) -> None:
    home, factory = Home(tmp_path / "home"), Factory(tmp_path)
    home.create()
    refused = home.folder / "state.json.tmp"
    refused.mkdir()
    bundle = factory.bundle(fateful_model(tmp_path / "fateful"))
    words = command(home, "--bundle", str(bundle), "--trust", str(factory.trust), "--port", "0")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"the home {home.folder} cannot be used: Is a directory ({refused})" in done.stderr
    assert "Traceback" not in done.stderr
