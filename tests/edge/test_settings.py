"""What may stand in ``agent.yaml``: what is refused is named with its value and what is allowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.edge.devices import write_settings

from forwardpass.edge.home import Home
from forwardpass.edge.settings import AgentSettings, OutboxSettings, WatchSettings, read_agent_settings
from forwardpass.errors import InvalidSettings

KINDS: dict[str, type[Any]] = {"": AgentSettings, "outbox": OutboxSettings, "watch": WatchSettings}
NUMBERS = [
    (above, item.name, *item.metadata["range"])
    for above, kind in KINDS.items()
    for item in dataclasses.fields(kind)
    if "range" in item.metadata
]


def read(folder: Path, settings: dict[str, Any]) -> AgentSettings:
    write_settings(Home(folder), settings)
    return read_agent_settings(folder, {})


def test_every_number_has_a_range() -> None:
    numbers = [
        item.name for kind in KINDS.values() for item in dataclasses.fields(kind) if str(item.type) in ("int", "float")
    ]
    assert len(numbers) > 10
    assert {*numbers, "p99"} == {name for _, name, *_ in NUMBERS}


@pytest.mark.parametrize(("above", "name", "least", "most"), NUMBERS)
def test_a_number_out_of_its_range_is_refused(tmp_path: Path, above: str, name: str, least: float, most: float) -> None:
    def settings(value: float) -> dict[str, Any]:
        return {above: {name: value}} if above else {name: value}

    for good in (least, most):
        read(tmp_path, settings(good))
    for bad in (least - 1, most + 1):
        with pytest.raises(InvalidSettings, match=f"^{tmp_path}/agent.yaml: {name} must be from .* to .*, got {bad}"):
            read(tmp_path, settings(bad))


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_what_is_no_finite_number_is_in_no_range(tmp_path: Path, value: str) -> None:
    Home(tmp_path).settings.write_text(f"drain_timeout: {value}")
    with pytest.raises(InvalidSettings, match="drain_timeout must be from 0 to 3600, got"):
        read_agent_settings(tmp_path, {})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"check_every": 0}, "check_every must be from 1 to 2592000, got 0"),
        ({"outbox": {"upload_every": 0}}, r"upload_every must be from 0.01 to 86400, got 0.0 - at `\$.outbox`"),
        ({"outbox": {"most_bytes": -5}}, r"most_bytes must be from 65536 to \d+, got -5 - at `\$.outbox`"),
        ({"outbox": {"unsure_below": 9}}, r"unsure_below must be from 0 to 1, got 9.0 - at `\$.outbox`"),
        ({"watch": {"seconds": -1}}, r"seconds must be from 0 to 2592000, got -1.0 - at `\$.watch`"),
        ({"watch": {"more_errors": 7}}, r"more_errors must be from 0 to 1, got 7.0 - at `\$.watch`"),
        ({"max_connections": 0}, "max_connections must be from 1 to 65535, got 0"),
        ({"keep_alive": -1}, "keep_alive must be from 0.1 to 86400, got -1.0"),
        ({"max_body_bytes": 0}, r"max_body_bytes must be from 1 to \d+, got 0"),
        ({"drain_timeout": -1}, "drain_timeout must be from 0 to 3600, got -1.0"),
        ({"updates": "http://a..b"}, r"updates: 'http://a\.\.b' is no URL"),
        ({"cloud": "ada:secret@cloud"}, "cloud: 'cloud' is no URL"),
        (
            {"outbox": {"privacy": "some"}},
            "outbox: privacy: unknown value 'some'. Known: all, nothing, outputs, unsure",
        ),
        ({"channel": "../../x"}, r"channel must be letters, .* got '../../x'"),
        ({"cloud_token_file": "token"}, "cloud_token_file is for the `cloud`"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{tmp_path}/agent.yaml: {said}"):
        read(tmp_path, settings)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"port": 65536}, "port must be from 0 to 65535, got 65536"),
        ({"log_level": "loud"}, "log_level: unknown value 'loud'. Known: debug, error, info, warning."),
    ],
)
def test_flags_that_cannot_be(tmp_path: Path, flags: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^the command line: .*{said}"):
        read_agent_settings(tmp_path, flags)
