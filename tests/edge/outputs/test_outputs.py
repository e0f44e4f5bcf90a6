"""Outputs that deliver: a broker, a URL, a file, a program; each taken, refused, or down and back."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from tests.edge.mosquitto import LIMIT, free_port, mosquitto, needs_mosquitto, until
from tests.edge.outputs.hook import hook

from forwardpass.edge.outputs import Output, create_output
from forwardpass.edge.outputs import file as file_module
from forwardpass.edge.outputs.base import Undelivered
from forwardpass.edge.outputs.webhook import TRIES, WebhookConfig, WebhookSender
from forwardpass.errors import InvalidSettings

MESSAGE = {"id": "id-1", "source": "mqtt:motors/7", "model": "m", "predictions": [1]}


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * LIMIT))


async def sent(output: Output, *messages: dict[str, Any]) -> dict[str, int]:
    for message in messages:
        await output.send(message)
    await until(lambda: output.waiting == 0)
    await output.close()
    return output.counts


# MQTT


@needs_mosquitto
def test_messages_are_published_to_the_topic_of_their_source(tmp_path: Path) -> None:
    import aiomqtt

    async def test() -> None:
        async with mosquitto(tmp_path) as broker, aiomqtt.Client("127.0.0.1", broker.port) as other:
            await other.subscribe("#", qos=1)
            output = create_output({"type": "mqtt", "url": broker.url, "topic": "health/{source}/{model}"})
            counts = await sent(output, MESSAGE, {**MESSAGE, "source": "folder:in#a.png"})
            messages = other.messages
            found = [await anext(messages), await anext(messages)]
            assert [str(message.topic) for message in found] == ["health/motors/7/m", "health/in/m"]
            assert json.loads(bytes(found[0].payload)) == MESSAGE
            assert counts == {"sent": 2, "failed": 0, "dropped": 0}

    run(test())


@needs_mosquitto
def test_what_is_sent_while_the_broker_is_away_arrives_in_order_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import aiomqtt

    caplog.set_level("INFO", "forwardpass.edge")

    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            output = create_output({"type": "mqtt", "url": broker.url, "topic": "a", "max_waiting": 3})
            await output.send({"n": 0})
            await until(lambda: output.counts["sent"] == 1)
            broker.stop()
            for number in range(1, 7):
                await output.send({"n": number})
                await asyncio.sleep(0)
            await until(lambda: bool(output.problem))
            assert broker.url in output.problem
            assert "code:" not in output.problem
            await broker.start()
            async with aiomqtt.Client("127.0.0.1", broker.port) as other:
                await other.subscribe("a", qos=1)
                await until(lambda: output.waiting == 0)
                found = []
                while 6 not in found:
                    found.append(json.loads(bytes((await anext(other.messages)).payload))["n"])
            assert found in ([4, 5, 6], [1, 4, 5, 6])  # the first may have been under way already
            assert output.problem == ""
            assert caplog.messages[-1] == "output mqtt:a: goes on"
            assert output.counts["sent"] + output.counts["dropped"] == 7
            await output.close()

    run(test())


# Webhooks


def test_a_webhook_gets_the_message_with_its_id() -> None:
    async def test() -> None:
        taken: list[bytes] = []
        async with await hook([204], taken) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/alarm"
            counts = await sent(create_output({"type": "webhook", "url": url, "headers": {"X-Key": "k"}}), MESSAGE)
        assert counts == {"sent": 1, "failed": 0, "dropped": 0}
        assert json.loads(taken[0].partition(b"\r\n\r\n")[2]) == MESSAGE
        assert b"idempotency-key: id-1\r\n" in taken[0]
        assert b"x-key: k\r\n" in taken[0]

    run(test())


def test_a_webhook_can_tell_what_is_sent_twice_from_what_else_is_said_of_a_prediction() -> None:
    """Its id may be any text, a header may not."""
    plain: dict[str, Any] = {"id": "grün\r\nx: y", "predictions": [1]}
    alarms = [{"id": plain["id"], "row": row, "prediction": 1, "rule": {"output": "y"}} for row in (0, 1)]
    corrected = {**plain, "predictions": [2], "corrected": True}

    async def test() -> None:
        taken: list[bytes] = []
        async with await hook([204], taken) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/alarm"
            for message in (plain, *alarms, corrected, corrected):
                assert (await sent(create_output({"type": "webhook", "url": url}), message))["sent"] == 1
        keys = [head.partition(b"idempotency-key: ")[2].partition(b"\r\n")[0] for head in taken]
        assert keys[0] == b"gr%c3%bcn%0d%0ax:%20y"
        assert len(set(keys)) == 4
        assert keys[3] == keys[4]

    run(test())


def test_a_webhook_that_refuses_is_not_asked_again_and_the_next_message_goes() -> None:
    async def test() -> None:
        taken: list[bytes] = []
        async with await hook([404, 200], taken) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            counts = await sent(create_output({"type": "webhook", "url": url}), MESSAGE, MESSAGE)
        assert (counts, len(taken)) == ({"sent": 1, "failed": 1, "dropped": 0}, 2)

    run(test())


def test_a_webhook_that_is_down_gets_the_message_when_it_is_back() -> None:
    async def test() -> None:
        port, taken = free_port(), list[bytes]()
        output = create_output({"type": "webhook", "url": f"http://127.0.0.1:{port}/"})
        await output.send(MESSAGE)
        await until(lambda: bool(output.problem))
        async with await hook([200], taken, port):
            await until(lambda: output.counts["sent"] == 1)
        await output.close()
        assert output.problem == ""

    run(test())


def test_a_webhook_that_only_fails_is_given_up_after_some_tries() -> None:
    async def test() -> None:
        async with await hook([503], []) as server:
            sender = WebhookSender(WebhookConfig(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), Path())
            again = []
            for _ in range(TRIES + 1):
                with pytest.raises(Undelivered) as caught:
                    await sender.deliver(MESSAGE)
                again.append(caught.value.again)
        assert again == [True] * (TRIES - 1) + [False, True]

    run(test())


def test_what_a_webhook_is_called_and_has_to_tell_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        place = f"127.0.0.1:{free_port()}"
        url = f"http://{place}/services/SECRET?token=SECRET"
        for headers in ({}, {"Authorization": "Bearer SECRET\n"}):
            output = create_output({"type": "webhook", "url": url, "headers": headers})
            await output.send(MESSAGE)
            await until(lambda output=output: bool(output.problem))  # type: ignore[misc]
            await output.close(0.0)
            assert output.name == f"webhook:{place}"
            assert "SECRET" not in output.problem + caplog.text

    run(test())


# Files


def lines(path: Path) -> list[int]:
    return [json.loads(line)["n"] for line in path.read_text().splitlines()]


def test_a_file_gets_a_line_for_each_message_and_is_rotated(tmp_path: Path) -> None:
    async def test() -> None:
        output = create_output({"type": "file", "path": "out/a.jsonl", "max_bytes": 20, "keep": 2}, tmp_path)
        await sent(output, *({"n": number} for number in range(9)))

    run(test())
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    assert [lines(folder / name) for name in ("a.jsonl.2", "a.jsonl.1", "a.jsonl")] == [[4, 5], [6, 7], [8]]


def test_without_older_files_only_the_newest_is_kept(tmp_path: Path) -> None:
    async def test() -> None:
        output = create_output({"type": "file", "path": "a.jsonl", "max_bytes": 1, "keep": 0}, tmp_path)
        await sent(output, {"n": 0}, {"n": 1})

    run(test())
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert lines(tmp_path / "a.jsonl") == [1]


def test_a_line_that_a_full_disk_cuts_off_is_taken_back_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full once: after three bytes of the second line."""
    real, calls = file_module._write, []

    def full(descriptor: int, line: bytes) -> None:
        calls.append(line)
        if len(calls) == 2:
            os.write(descriptor, line[:3])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, line)

    async def test() -> None:
        output = create_output({"type": "file", "path": "a.jsonl"}, tmp_path)
        assert (await sent(output, {"n": 0}, {"n": 1}))["sent"] == 2

    monkeypatch.setattr(file_module, "_write", full)
    run(test())
    assert lines(tmp_path / "a.jsonl") == [0, 1]


# Programs


def command(code: str, **more: Any) -> Output:
    return create_output({"type": "command", "command": [sys.executable, "-S", "-c", code], **more})


def test_a_program_reads_the_message_and_its_status_says_whether_it_took_it(tmp_path: Path) -> None:
    code = f"import sys; d = sys.stdin.read(); open({str(tmp_path / 'got')!r}, 'a').write(d); sys.exit('fail' in d)"

    async def test() -> None:
        output = command(code)
        assert await sent(output, MESSAGE, {"fail": 1}) == {"sent": 1, "failed": 1, "dropped": 0}
        assert "ended with status 1" in output.problem

    run(test())
    assert [json.loads(line) for line in (tmp_path / "got").read_text().splitlines()] == [MESSAGE, {"fail": 1}]


def test_a_program_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path) -> None:
    file = tmp_path / "child"
    words = ["sh", "-c", f"sleep 1000 & echo $!. > {file}; wait"]

    async def test(timeout: float) -> None:
        output = create_output({"type": "command", "command": words, "timeout": timeout})
        assert await sent(output, MESSAGE) == {"sent": 0, "failed": 1, "dropped": 0}
        assert f"longer than {timeout:g} s" in output.problem

    for timeout in (0.2, 2.0, 20.0):  # until it had the time to start another
        run(test(timeout))
        if file.exists() and "." in file.read_text():
            break
    child = int(file.read_text().split(".")[0])
    run(until(lambda: not runs(child)))


def test_a_program_is_killed_when_the_output_is_closed(tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid()) + '.'); time.sleep(1000)"

    async def test() -> None:
        output = command(code, timeout=100.0)
        await output.send(MESSAGE)
        file = tmp_path / "child"
        await until(lambda: file.exists() and file.read_text().endswith("."))
        await output.close(0.0)
        assert output.counts["dropped"] == 1
        assert not runs(int(file.read_text()[:-1]))

    run(test())


def runs(process: int) -> bool:
    """Whether it is more than an entry that nobody has asked about yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_program_that_is_not_there_fails() -> None:
    async def test() -> None:
        output = create_output({"type": "command", "command": ["/nowhere/program"]})
        assert (await sent(output, MESSAGE))["failed"] == 1
        assert "/nowhere/program cannot be run" in output.problem

    run(test())


# Entries


Refusal = tuple[dict[str, Any], str]
REFUSALS: list[Refusal] = [
    ({"type": "webhok"}, "Did you mean 'webhook'"),
    ({}, "there is no type ''"),
    ({"type": ["file"]}, "there is no type"),
    ({"type": "webhook", "url": "ftp://x/SECRET"}, "url must be like"),
    ({"type": "webhook", "url": "http://u:SECRET@x/y"}, "headers can say those"),
    ({"type": "webhook", "url": "http://x", "timeout": 0}, "timeout"),
    ({"type": "file", "path": "a", "keep": -1}, "keep at least 0"),
    ({"type": "file", "pth": "a"}, "Did you mean 'path'"),
    ({"type": "file", "path": "a", "max_waiting": 0}, "max_waiting must be at least 1"),
    ({"type": "command", "command": []}, "command is empty"),
    ({"type": "mqtt", "topic": "a/#"}, "no topic to publish to"),
    ({"type": "mqtt", "topic": "a/{sorce}"}, "in braces only {source} and {model}"),
]


@pytest.mark.parametrize(("entry", "message"), REFUSALS)
def test_an_entry_that_makes_no_sense_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message) as raised:
        create_output(entry)
    assert "SECRET" not in raised.value.message


@pytest.mark.parametrize(
    ("source", "topic"),
    [
        ("mqtt:motors/7", "health/motors/7"),
        ("folder:in#part-1.png", "health/in"),
        ("http", "health/http"),
        ("stdin", "health/stdin"),
        ("", "health/unknown"),
    ],
)
def test_a_topic_names_the_source(source: str, topic: str) -> None:
    from forwardpass.edge.outputs.mqtt import fill

    assert fill("health/{source}", {"source": source}) == topic
