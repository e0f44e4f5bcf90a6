"""Tokens: where they come from, what is none, and that none is told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from forwardpass.credentials import Token
from forwardpass.errors import InvalidSettings

VARIABLE = "SOME_TOKEN"


def test_from_a_variable_or_a_file_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, " ab.c-1_2== ")
    file = tmp_path / "token"
    file.write_text("def\n")
    assert Token(VARIABLE).renew() == {"authorization": "Bearer ab.c-1_2=="}
    assert Token(file=file).renew() == {"authorization": "Bearer def"}
    assert Token().renew() == {}
    assert [token.missing for token in (Token(VARIABLE), Token(file=file), Token())] == [True, True, False]


def test_a_file_is_read_again_and_the_last_token_stays_where_it_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    token = Token(file=file)
    token.renew()
    file.write_text("two")
    assert token.headers == {"authorization": "Bearer one"}
    assert token.renew() == token.headers == {"authorization": "Bearer two"}
    with caplog.at_level(logging.WARNING):
        file.write_text("")
        assert token.renew() == token.renew() == {"authorization": "Bearer two"}
        file.unlink()
        assert token.renew() == {"authorization": "Bearer two"}
    assert [str(file) in record.getMessage() for record in caplog.records] == [True, True]
    assert "two" not in caplog.text


@pytest.mark.parametrize("text", ["", " \n", "Bearer abc", "abc\r\nx-admin: yes", "abc\x00", "tökën", "a" * 20_000])
def test_what_is_no_token_is_refused_and_not_shown(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_bytes(text.encode())
    with pytest.raises(InvalidSettings, match=str(file)) as by_file:
        Token(file=file).renew()
    monkeypatch.setenv(VARIABLE, text.replace("\x00", "\x01"))
    with pytest.raises(InvalidSettings, match=VARIABLE) as by_variable:
        Token(VARIABLE).renew()
    for raised in (by_file, by_variable):
        assert not text.strip() or text.strip() not in raised.value.message
        assert raised.value.__cause__ is None


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InvalidSettings, match=f"variable '{VARIABLE}', .* is empty or not there"):
        Token(VARIABLE).renew()
    with pytest.raises(InvalidSettings, match=r"nothing, .* cannot be read: No such file"):
        Token(file=tmp_path / "nothing").renew()


def test_it_does_not_show_in_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "secret")
    token = Token(VARIABLE)
    token.renew()
    assert "secret" not in repr(token)
