"""The MQTT input with a real broker: away and back, sessions, what does not fit, what is refused."""

from __future__ import annotations

import asyncio
import datetime
import gc
import ipaddress
import itertools
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from aiomqtt.exceptions import MqttConnectError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from tests.edge.inputs.echo import Echo
from tests.edge.mosquitto import LIMIT, Mosquitto, mosquitto, needs_mosquitto, until

from forwardpass.edge.inputs import Input, create_input, mqtt
from forwardpass.edge.mqtt import reason
from forwardpass.errors import InvalidSettings

pytestmark = [needs_mosquitto]


def motors(broker: Mosquitto, **more: Any) -> Input:
    return create_input({"type": "mqtt", "url": broker.url, "topics": ["motors/#"], **more}, "device-1")


async def publish(broker: Mosquitto, *items: tuple[str, bytes]) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for topic, payload in items:
            await client.publish(topic, payload, qos=1)


async def started(source: Input, broker: Mosquitto, predict: Echo) -> asyncio.Task[None]:
    """Running and subscribed: a first message has been answered, and nothing is under way."""
    task = asyncio.create_task(source.run(predict))
    await until(lambda: source.problem == "")
    await publish(broker, ("motors/0", b"0"))
    await until(lambda: source.counts["answered"] == 1)
    return task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=LIMIT)
    assert task.cancelled()


def run(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * LIMIT))


async def packet(reader: asyncio.StreamReader) -> bytes:
    """The inside of the next one, which is a short one."""
    _, length = await reader.readexactly(2)
    return await reader.readexactly(length)


def test_what_is_published_while_the_agent_is_away_is_predicted_when_it_is_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            await stop(await started(motors(broker), broker, Echo()))
            await publish(broker, *((f"motors/{number}", b"%d" % number) for number in range(1, 6)))
            predict, again = Echo(), motors(broker)
            task = asyncio.create_task(again.run(predict))
            await until(lambda: again.counts["answered"] >= 5)
            await stop(task)
            assert sorted(predict.rows)[-5:] == [1, 2, 3, 4, 5]

    run(test())


def test_it_connects_again_to_a_broker_that_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            predict, source = Echo(), motors(broker)
            task = await started(source, broker, predict)
            broker.stop()
            await until(lambda: broker.url in source.problem)
            await broker.start()
            await publish(broker, ("motors/7", b'"back"'))
            await until(lambda: "back" in predict.rows)
            assert source.problem == ""
            await stop(task)

    with caplog.at_level("INFO", "forwardpass.edge"):
        run(test())
    assert [record.levelname for record in caplog.records][-1:] == ["INFO"]
    assert caplog.messages[-1] == "mqtt:motors/#: connected again"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (aiomqtt.MqttCodeError(4), "the connection broke"),
        (aiomqtt.MqttCodeError(ReasonCode(PacketTypes.CONNACK, "Not authorized")), "Not authorized"),
        (aiomqtt.MqttCodeError(10), "This feature is not supported"),
        (MqttConnectError(4), "Connection refused: Bad username or password"),
        (aiomqtt.MqttError("Operation timed out"), "Operation timed out"),
    ],
)
def test_what_went_wrong_is_said_in_words(error: Exception, said: str) -> None:
    assert reason(error) == said


def test_it_starts_without_a_broker_and_waits_for_one(tmp_path: Path) -> None:
    async def test() -> None:
        broker = Mosquitto(tmp_path)
        source = motors(broker)
        task = asyncio.create_task(source.run(Echo()))
        await until(lambda: broker.url in source.problem)
        source.stop()
        await task

    run(test())


async def pending(broker: Mosquitto) -> set[Any]:
    """What the broker would send again to the input of ``motors``: it is asked in its name, and not answered."""
    client = aiomqtt.Client("127.0.0.1", broker.port, identifier="forwardpass-device-1-in", clean_session=False)
    client._client.manual_ack_set(True)
    found: set[Any] = set()
    async with client:
        await client.publish("motors/end", b"end", qos=1)
        async for message in client.messages:
            found.add(bytes(message.payload))
            if bytes(message.payload) == b"end":
                return found - {b"end"}
    raise AssertionError


def test_what_was_not_answered_the_broker_has_yet(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            predict, source = Echo(), motors(broker)
            task = await started(source, broker, predict)
            predict.gate.clear()
            await publish(broker, ("motors/7", b"1"), ("motors/7", b"2"), ("motors/8", b"{"))
            await until(lambda: 1 in predict.rows and source.counts["failed"] == 1)
            await stop(task)
            assert await pending(broker) == {b"1", b"2", b"{"}  # the last, because of the order

    run(test())


def test_what_was_answered_the_broker_has_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            source = motors(broker)
            task = await started(source, broker, Echo())
            before = source.counts["read"]
            await publish(broker, ("motors/7", b"1"), ("motors/7", b"{"), ("motors/8", b'{"refuse": true}'))
            await until(lambda: source.counts["read"] == before + 3)
            source.stop()
            await task
            assert await pending(broker) == set()

    run(test())


def test_what_is_under_way_while_the_connection_breaks_is_asked_about_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            predict, source = Echo(), motors(broker)
            task = await started(source, broker, predict)
            before = source.counts["read"]
            predict.gate.clear()
            await publish(broker, *(("motors/7", b"%d" % number) for number in range(1, 6)))
            await until(lambda: source.counts["read"] == before + 5 and 1 in predict.rows)
            broker.stop()
            await until(lambda: bool(source.problem))
            predict.gate.set()  # while nobody can be told
            await until(lambda: source.counts["answered"] == before + 5)
            await broker.start()
            await until(lambda: source.problem == "")
            await publish(broker, ("motors/7", b"6"))
            await until(lambda: 6 in predict.rows)
            source.stop()
            await task
            assert predict.rows[-6:] == [1, 2, 3, 4, 5, 6]
            assert source.counts["read"] == before + 6
            assert await pending(broker) == set()

    run(test())


def test_what_comes_like_a_message_of_a_session_that_the_broker_lost_is_another(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path, "persistence false") as broker:
            predict, source = Echo(), motors(broker)
            task = asyncio.create_task(source.run(predict))
            await until(lambda: source.problem == "")
            predict.gate.clear()
            await publish(broker, ("motors/7", b"1"))
            await until(lambda: predict.rows == [1])
            broker.stop()
            await until(lambda: bool(source.problem))
            predict.gate.set()
            await until(lambda: source.counts["answered"] == 1)
            await broker.start()
            await until(lambda: source.problem == "")
            await publish(broker, ("motors/7", b"1"))  # the same reading, under the number that the first had
            await until(lambda: predict.rows == [1, 1])
            await stop(task)

    run(test())


def test_that_a_session_was_lost_is_known_whatever_becomes_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "waits", lambda: itertools.repeat(0.01))
    new, known, granted, refused = b"\x20\x02\x00\x00", b"\x20\x02\x01\x00", b"\x01", b"\x80"
    connections = iter([(new, granted), (new, refused), (known, granted)])
    message = b"\x32\x0d\x00\x08motors/7\x00\x011"  # QoS 1, number 1
    predict, links = Echo(), list[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        links.append(writer)
        welcome, code = next(connections)
        await packet(reader)
        writer.write(welcome)
        writer.write(b"\x90\x03" + (await packet(reader))[:2] + code + (message if code == granted else b""))
        await reader.read()
        writer.close()

    async def test() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            source = create_input({"type": "mqtt", "url": url, "topics": ["motors/#"]}, "device-1")
            task = asyncio.create_task(source.run(predict))
            predict.gate.clear()
            await until(lambda: predict.rows == [1])
            links[0].close()  # while it is under way
            await until(lambda: source.counts["read"] == 2)
            await stop(task)

    run(test())


def test_what_does_not_fit_drops_the_oldest_and_is_counted(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            predict, source = Echo(), motors(broker, max_waiting=8)
            task = await started(source, broker, predict)
            before = source.counts["read"]
            predict.gate.clear()
            await publish(broker, ("motors/7", b"1"))
            await until(lambda: predict.rows[-1] == 1)
            await publish(broker, *((f"motors/{number}", b"%d" % number) for number in range(2, 20)))
            await until(lambda: source.counts["read"] == before + 19)
            predict.gate.set()
            await until(lambda: source.counts["answered"] + source.counts["dropped"] == source.counts["read"])
            assert 7 <= source.counts["dropped"] <= 10  # of 19: one to four under way, eight wait
            assert sorted(predict.rows)[-8:] == list(range(12, 20))
            await publish(broker, *(("motors/7", b"%d" % number) for number in range(20, 40)))
            await until(lambda: 39 in predict.rows)  # what was dropped is acknowledged: the broker goes on
            await stop(task)

    run(test())


def test_malformed_messages_lie_in_a_folder_with_the_reason(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            source = create_input(
                {"type": "mqtt", "url": broker.url, "topics": ["motors/+"], "failed": "bad"}, "device-1", tmp_path
            )
            task = await started(source, broker, Echo())
            await publish(broker, ("motors/a b", b"{"), ("motors/c", b'{"refuse": true}'))
            await until(lambda: source.counts["failed"] == 2)
            bad = tmp_path / "bad"
            await until(lambda: bad.exists() and sum(file.stat().st_size > 0 for file in bad.iterdir()) == 4)
            await stop(task)
            told = {path.name.partition("-")[2]: path.read_text() for path in bad.iterdir()}
            assert told["motors_a_b"] == "{"
            assert "not valid JSON" in told["motors_a_b.error"]
            assert told["motors_c.error"] == "the model refuses this row\n"

    run(test())


def test_pictures_and_texts_are_taken_as_they_are(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            predict = Echo()
            task = await started(motors(broker, payload="bytes"), broker, predict)
            await publish(broker, ("motors/7", b"\xff\xd8"))
            await until(lambda: {"b64": "/9g="} in predict.rows)
            await stop(task)

    run(test())


def test_a_topic_that_the_broker_refuses_is_said() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A broker in two answers: welcome, and one of the two topics is not for you."""
        for answer in (lambda _: b"\x20\x02\x00\x00", lambda asked: b"\x90\x04" + asked[:2] + b"\x01\x80"):
            writer.write(answer(await packet(reader)))
        await reader.read()
        writer.close()

    async def test() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            source = create_input({"type": "mqtt", "url": f"mqtt://127.0.0.1:{port}", "topics": ["mine", "other/#"]})
            task = asyncio.create_task(source.run(Echo()))
            await until(lambda: "refuses the topic 'other/#'" in source.problem)
            await stop(task)

    run(test())


def test_a_password_is_read_from_its_file(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path) as broker:
            source = motors(broker, username="u", password_file=str(tmp_path / "missing"))
            task = asyncio.create_task(source.run(Echo()))
            await until(lambda: "password_file" in source.problem)
            (tmp_path / "missing").write_text("secret\n")
            await until(lambda: source.problem == "")
            await stop(task)

    run(test())


def certificate(folder: Path) -> str:
    """A certificate for 127.0.0.1 that vouches for itself; the lines of mosquitto.conf that use it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(today - datetime.timedelta(1)).not_valid_after(today + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return f"certfile {folder}/cert.pem\nkeyfile {folder}/key.pem"


def test_over_tls_the_broker_must_show_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    async def test() -> None:
        async with mosquitto(tmp_path, certificate(tmp_path)) as broker:
            url = broker.url.replace("mqtt:", "mqtts:")
            distrustful, trusting = motors(broker, url=url), motors(broker, url=url, ca_file=str(tmp_path / "cert.pem"))
            first, second = (asyncio.create_task(source.run(Echo())) for source in (distrustful, trusting))
            await until(lambda: "certificate" in distrustful.problem.lower())
            await until(lambda: trusting.problem == "")
            await stop(first)
            await stop(second)

    run(test())
    gc.collect()  # a socket that was left open would be found here, and be a warning


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"topics": []}, "topics is empty"),
        ({"topics": ["a/b#"]}, "'a/b#' is no topic"),
        ({"topics": ["#/b"]}, "'#/b' is no topic"),
        ({"topics": ["a"], "url": "mqtt://u:p@host"}, "url must hold no user"),
        ({"topics": ["a"], "url": "mqtt://u:p#w@host"}, "url must hold no user"),
        ({"topics": ["a"], "url": "mqtt://host:port"}, "url must be like"),
        ({"topics": ["a"], "url": "mqtt://[host"}, "url must be like"),
        ({"topics": ["a"], "url": "http://host"}, "url must be like"),
        ({"topics": ["a"], "payload": "jpeg"}, "jpeg"),
        ({"topics": ["a"], "max_waiting": 1}, "max_waiting must be at least 4"),
        ({"topic": "a"}, "unknown key 'topic'. Did you mean 'topics'"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_by_name(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        create_input({"type": "mqtt", **entry})
