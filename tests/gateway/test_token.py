"""Servers that ask who asks: the token goes with every request, changes with its file, and is told to nobody."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.gateway.house import answers, clouds, house, remote_yaml, rows, run, until

from forwardpass.errors import ForwardpassError, InvalidModel, NotReady
from forwardpass.gateway.compose import create_composer
from forwardpass.server import metadata

VARIABLE = "TOKEN_OF_THE_CLOUD"


def test_it_goes_with_every_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "open-sesame")

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            cloud.token = b"open-sesame"
            await made.load("large", remote_yaml([cloud], f"token_env: {VARIABLE}"))
            got = await made.answer("large", rows(0.5))
            assert got["who"].tolist() == answers(2)(rows(0.5))["who"].tolist()

    run(main)


def test_without_it_the_server_is_not_asked_and_the_reason_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            cloud.token = b"open-sesame"
            with pytest.raises(InvalidModel, match=r"http://127.*: who are you\?"):
                await made.load("large", remote_yaml([cloud]))
            with pytest.raises(NotReady, match="who are you"):
                made.ask("large", rows(0.5))

    run(main)


def test_a_file_that_changes_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            cloud.token = b"first"
            await made.load("large", remote_yaml([cloud], f"token_file: {file}"))
            await made.answer("large", rows(0.5))
            cloud.token = b"second"
            server = made.remote("large").servers[0]
            await until(lambda: not server.healthy)
            file.write_text("second\n")
            await until(lambda: server.healthy)
            await made.answer("large", rows(0.5))

    run(main)


@pytest.mark.parametrize("key", [f"token_env: {VARIABLE}", "token_file: {}/nothing"])
def test_what_is_missing_is_said_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            with pytest.raises(InvalidModel, match=rf"({VARIABLE}|nothing).*, which should hold a token"):
                await made.load("large", remote_yaml([cloud], key.format(tmp_path)))

    run(main)


def test_a_file_that_comes_late_is_found(tmp_path: Path) -> None:
    file = tmp_path / "token"

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            cloud.token = b"late"
            with pytest.raises(InvalidModel, match="cannot be read"):
                await made.load("large", remote_yaml([cloud], f"token_file: {file}"))
            file.write_text("late")
            await until(lambda: made.dataplane.model("large").ready)
            await made.answer("large", rows(0.5))

    run(main)


def test_it_is_told_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, "open-sesame")

    async def main() -> str:
        async with clouds() as (cloud,), house(tmp_path) as made:
            served = await made.load("large", remote_yaml([cloud], f"token_env: {VARIABLE}"))
            pages = [metadata.of_model(served, ["1"]), metadata.of_config(served), metadata.for_people(served)]
            cloud.token = b"another"
            with pytest.raises(ForwardpassError) as raised:
                await made.answer("large", rows(0.5))
            remote = made.remote("large")
            await until(lambda: not remote.servers[0].healthy)
            gauges = list(remote.gauges({}))
            return f"{pages} {raised.value} {raised.value!r} {remote.statistics()} {gauges} {remote.servers}"

    told: list[str] = []

    async def tell() -> None:
        told.append(await main())

    with caplog.at_level(logging.DEBUG):
        run(tell)
    assert "who are you" in told[0]
    assert "sesame" not in told[0] + caplog.text


def test_the_token_of_a_device_stands_in_place_of_the_models_own(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("of-the-device")

    async def main() -> None:
        async with clouds() as (cloud,), house(tmp_path) as made:
            cloud.token = b"of-the-device"
            made.control._composer = create_composer([cloud.url], token_file=file)
            await made.load("large", f"remote: {{urls: ['http://127.0.0.1:9'], token_env: {VARIABLE}}}\n")
            await made.answer("large", rows(0.5))

    run(main)
