from __future__ import annotations

import gzip
import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.server.process import Server, running
from tests.server.repository import tiny_models

from forwardpass.errors import InvalidInput, InvalidSettings, Overloaded, TooLarge
from forwardpass.server import intake as module
from forwardpass.server.http import openapi
from forwardpass.server.intake import Intake

NOW = 1_800_000_000.0


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    found = Intake(tmp_path, lambda: NOW)
    yield found
    found.close()


def entry(number: int, **others: Any) -> dict[str, Any]:
    return {"id": f"entry-{number}", "kind": "record", "at": 5.0, "body": {"n": number}, **others}


def upload(*entries: Any, device: str = "pump-7", **others: Any) -> bytes:
    return json.dumps({"device": device, "entries": list(entries), **others}).encode()


def test_entries_are_kept_once_and_named(intake: Intake) -> None:
    assert intake.take(upload(entry(1), entry(2))) == {
        "accepted": ["entry-1", "entry-2"], "duplicates": 0, "refused": []
    }  # fmt: skip
    changed = entry(2, body={"n": "another"})
    assert intake.take(upload(changed, entry(3))) == {
        "accepted": ["entry-2", "entry-3"], "duplicates": 1, "refused": []
    }  # fmt: skip
    assert [json.loads(found["body"]) for found in intake.entries()] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_the_same_id_of_another_device_is_another_entry(intake: Intake) -> None:
    intake.take(upload(entry(1)))
    assert intake.take(upload(entry(1), device="pump-8"))["duplicates"] == 0
    assert len(intake.entries()) == 2


def test_an_id_twice_in_one_upload_counts_once(intake: Intake) -> None:
    assert intake.take(upload(entry(1), entry(1)))["duplicates"] == 1
    assert len(intake.entries()) == 1


def test_an_empty_upload_is_a_contact(intake: Intake) -> None:
    assert intake.take(upload()) == {"accepted": [], "duplicates": 0, "refused": []}
    assert intake.counts() == [{"device": "pump-7", "first_contact": NOW, "last_contact": NOW, "entries": {}}]


def test_what_there_is_of_each_device(tmp_path: Path) -> None:
    now = [NOW]
    intake = Intake(tmp_path, lambda: now[0])
    intake.take(upload(entry(1), entry(2, kind="usage")))
    now[0] += 60.0
    intake.take(upload(entry(2, kind="usage"), entry(3)))
    intake.take(upload(entry(1), device="pump-8"))
    expected = [
        {"device": "pump-7", "first_contact": NOW, "last_contact": NOW + 60, "entries": {"record": 2, "usage": 1}},
        {"device": "pump-8", "first_contact": NOW + 60, "last_contact": NOW + 60, "entries": {"record": 1}},
    ]
    assert intake.counts() == expected
    intake.close()
    again = Intake(tmp_path)
    assert again.counts() == expected
    again.close()


def test_pages(intake: Intake) -> None:
    intake.take(upload(*(entry(number, kind="record" if number % 2 else "sample") for number in range(10))))
    intake.take(upload(entry(0), device="pump-8"))
    first = intake.entries("pump-7", "record", limit=3)
    assert [found["id"] for found in first] == ["entry-1", "entry-3", "entry-5"]
    rest = intake.entries("pump-7", "record", first[-1]["number"])
    assert [found["id"] for found in rest] == ["entry-7", "entry-9"]
    assert intake.entries("pump-9") == []


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"up": 100.0, "boot": "b"}, NOW - 60.0),
        ({"up": 100.0, "boot": "another"}, None),  # started again since: who knows how long it was off
        ({"up": 30.0, "boot": "b"}, None),
        ({}, None),
    ],
)
def test_when_it_happened_by_the_servers_clock(intake: Intake, sent: dict[str, Any], expected: float | None) -> None:
    """The device believes it is 1970; it knows how long ago that was."""
    intake.take(upload(entry(1, up=40.0, boot="b"), **sent))
    (found,) = intake.entries()
    assert (found["at"], found["happened"], found["arrived"]) == (5.0, expected, NOW)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (entry(1, kind="gossip"), "kind 'gossip' is none of usage, record, sample, escalation"),
        (entry(1, body=[1]), "its body is no JSON object"),
        (entry(1, more=1), "unknown field"),
        (entry(1, at="noon"), "Expected `float`"),
        ({"id": "entry-1"}, "missing required field"),
        (entry(1, body={"text": "x" * 2000}), "its body is over 1000 bytes"),
    ],
)
def test_an_entry_that_is_wrong_is_refused_alone(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(module, "MOST_BODY", 1000)
    answer = intake.take(upload(entry(0), wrong, entry(2)))
    assert answer["accepted"] == ["entry-0", "entry-2"]
    (refused,) = answer["refused"]
    assert refused["id"] == "entry-1"
    assert reason in refused["reason"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the upload cannot be read"),
        (b"[]", "the upload cannot be read"),
        (b'{"device": "a"}', "missing required field `entries`"),
        (upload(entry(1), more=1), "unknown field `more`"),
        (upload(device="a b"), "1 to 128 letters"),
        (upload(device=""), "1 to 128 letters"),
        (upload("text"), "entry 0 has no id that can be read"),
        (upload(entry(0), entry(1, id="a/b")), "entry 1: id 'a/b' is not 1 to 128 letters"),
        (b"[" * 100_000, "the upload cannot be read"),
        (b'{"device": "a", "entries": [{"id": "b", "body": ' + b"[" * 100_000, "the upload cannot be read"),
        (b'{"device": "\xff", "entries": []}', "the upload cannot be read"),
    ],
)
def test_an_upload_that_is_wrong_leaves_nothing(intake: Intake, raw: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        intake.take(raw)
    assert intake.entries() == []
    assert intake.counts() == []


def test_compressed_uploads(intake: Intake) -> None:
    assert intake.take(gzip.compress(upload(entry(1))), "gzip")["accepted"] == ["entry-1"]


@pytest.mark.parametrize(
    ("raw", "encoding", "message"),
    [
        (upload(entry(1)), "gzip", "not valid gzip"),
        (gzip.compress(upload(entry(1)))[:-5], "gzip", "not one whole gzip stream"),
        (gzip.compress(b"{}") + b"more", "gzip", "not one whole gzip stream"),
        (upload(entry(1)), "br", "content-encoding 'br' is not taken; send gzip"),
    ],
)
def test_what_cannot_be_unpacked(intake: Intake, raw: bytes, encoding: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        intake.take(raw, encoding)


def test_what_is_too_much(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(4 * module.MOST_BYTES), 1)
    with pytest.raises(TooLarge, match="unpacked; send fewer"):
        intake.take(bomb, "gzip")
    monkeypatch.setattr(module, "MOST_ENTRIES", 3)
    with pytest.raises(TooLarge, match="4 entries are over 3"):
        intake.take(upload(*map(entry, range(4))))


def test_a_full_disk_keeps_nothing_and_says_so(intake: Intake) -> None:
    intake.take(upload(entry(1)))
    pages = intake._db.execute("PRAGMA page_count").fetchone()[0]
    intake._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Overloaded, match=r"the intake cannot be used: .*full") as raised:
        intake.take(upload(*(entry(number, body={"text": "x" * 5000}) for number in range(2, 50))))
    assert raised.value.retry_after == 30.0
    assert [found["id"] for found in intake.entries()] == ["entry-1"]
    intake._db.execute("PRAGMA max_page_count=1000000")
    intake.take(upload(entry(2)))
    assert len(intake.entries()) == 2


def test_many_devices_at_once(intake: Intake) -> None:
    def send(number: int) -> None:
        for _ in range(5):
            intake.take(upload(*map(entry, range(20)), device=f"pump-{number % 4}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(8)))
    assert [found["entries"] for found in intake.counts()] == [{"record": 20}] * 4


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"--intake .*nowhere: there is no such folder"):
        Intake(tmp_path / "nowhere")
    (tmp_path / module.FILE).write_bytes(b"not a database, just some text" * 50)
    with pytest.raises(InvalidSettings, match="cannot be used: file is not a database"):
        Intake(tmp_path)


def test_the_document_names_the_intake_where_there_is_one() -> None:
    assert not [path for path in openapi.document([], "", {})["paths"] if "intake" in path]
    paths = openapi.document([], "", {}, openapi.Taken(intake=True))["paths"]
    assert {path for path in paths if "intake" in path} == {"/v1/intake", "/v1/intake/entries"}


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


JSON = {"content_type": "application/json"}


def test_a_server_takes_in_what_devices_send(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with running([tiny_models(tmp_path / "repository")], "--intake", str(kept)) as server:
        url = f"{server.url}/v1/intake"
        packed = gzip.compress(upload(entry(1), entry(2, kind="usage")))
        assert ask(url, packed, content_encoding="gzip", **JSON)[1]["accepted"] == ["entry-1", "entry-2"]
        assert ask(url, upload(entry(1)), **JSON) == (
            200, {"accepted": ["entry-1"], "duplicates": 1, "refused": []}
        )  # fmt: skip
        assert ask(url)[1]["devices"][0]["entries"] == {"record": 1, "usage": 1}
        status, page = ask(f"{url}/entries?device=pump-7&limit=1")
        assert (status, page["entries"][0]["id"], page["next"]) == (200, "entry-1", 1)
        assert ask(f"{url}/entries?after=1&kind=usage")[1]["entries"][0]["id"] == "entry-2"
        odd = {"large": 2**70, "deep": json.loads("[" * 300 + "]" * 300), "text": "\0"}
        assert ask(url, upload(entry(3, body=odd)), **JSON)[1]["accepted"] == ["entry-3"]
        assert ask(f"{url}/entries?after=2")[1]["entries"][0]["body"] == odd
        for wrong in ("limit=0", "limit=1001", "after=-1", "after=x", "after=99999999999999999999"):
            assert ask(f"{url}/entries?{wrong}")[0] == 400
        assert ask(url, b"{}", **JSON)[0] == 400
        assert ask(url, upload(entry(1)), content_type="text/plain")[0] == 400  # as a web page could, unasked
        assert "/v1/intake" in ask(f"{server.url}/openapi.json")[1]["paths"]
    with sqlite3.connect(kept / module.FILE) as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (3,)
    db.close()


@pytest.mark.slow
def test_every_front_takes_in(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with running([tiny_models(tmp_path / "repository")], "--intake", str(kept), "--fronts", "2") as server:
        url = f"{server.url}/v1/intake"
        for number in range(16):  # each on a connection of its own, so that both fronts get some
            packed = gzip.compress(upload(*map(entry, range(50)), device=f"pump-{number}"))
            assert len(ask(url, packed, content_encoding="gzip", **JSON)[1]["accepted"]) == 50
            assert len(ask(url)[1]["devices"]) == number + 1


def test_a_server_without_an_intake_says_how_to_have_one(served: Server) -> None:
    for status, answer in (ask(f"{served.url}/v1/intake", upload(entry(1)), **JSON), ask(f"{served.url}/v1/intake")):
        assert status == 404
        assert "start it with --intake DIR" in answer["error"]
    assert "/v1/intake" not in ask(f"{served.url}/openapi.json")[1]["paths"]
