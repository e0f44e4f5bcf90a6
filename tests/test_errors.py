"""The tree of errors: each kind names its outcome, each message stands by itself."""

from __future__ import annotations

import errno
import ssl

import pytest

from forwardpass import errors
from forwardpass.errors import (
    ForwardpassError,
    InvalidInput,
    InvalidRows,
    Overloaded,
    QuotaExceeded,
    TooLarge,
    nearest,
    words,
)
from forwardpass.types import Outcome

OUTCOMES = {
    "ForwardpassError": Outcome.INTERNAL,
    "InvalidInput": Outcome.INVALID_INPUT,
    "InvalidRows": Outcome.INVALID_INPUT,
    "TooLarge": Outcome.TOO_LARGE,
    "InvalidModel": Outcome.BACKEND_FAILED,
    "InvalidSettings": Outcome.INTERNAL,
    "NotFound": Outcome.NOT_FOUND,
    "NotReady": Outcome.NOT_READY,
    "Overloaded": Outcome.OVERLOADED,
    "QuotaExceeded": Outcome.QUOTA_EXCEEDED,
    "TimedOut": Outcome.TIMED_OUT,
    "Cancelled": Outcome.CANCELLED,
    "BackendFailed": Outcome.BACKEND_FAILED,
}


def kinds() -> dict[str, type[ForwardpassError]]:
    return {
        name: item
        for name, item in vars(errors).items()
        if isinstance(item, type) and issubclass(item, ForwardpassError)
    }


def test_every_kind_has_its_outcome() -> None:
    assert {name: kind.outcome for name, kind in kinds().items()} == OUTCOMES


def test_every_outcome_but_ok_is_some_kinds() -> None:
    assert {kind.outcome for kind in kinds().values()} == set(Outcome) - {Outcome.OK}


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_drawing_of_the_tree_shows_every_kind(name: str) -> None:
    assert name in (errors.__doc__ or "")


def test_kinds_that_are_also_another() -> None:
    assert issubclass(InvalidRows, InvalidInput)
    assert issubclass(TooLarge, InvalidInput)
    assert issubclass(QuotaExceeded, Overloaded)


def test_messages() -> None:
    assert InvalidInput("x is wrong").message == "x is wrong"
    assert InvalidInput().message == "InvalidInput"


def test_wrong_rows_name_the_first_and_count_the_others() -> None:
    assert InvalidRows({3: "is blank"}).message == "row 3: is blank"
    error = InvalidRows({7: "late", 3: "is blank", 5: "x"})
    assert error.message == "row 3: is blank (and 2 more rows)"
    assert error.rows == {7: "late", 3: "is blank", 5: "x"}


def test_when_to_try_again() -> None:
    assert Overloaded("full").retry_after == 1.0
    assert QuotaExceeded("used up", retry_after=60).retry_after == 60


@pytest.mark.parametrize(
    ("name", "known", "says"),
    [
        ("thread", ["threads", "replicas"], " Did you mean 'threads'?"),
        ("q", ["b", "a"], " Known: a, b."),
        ("q", [], ""),
    ],
)
def test_the_nearest_name(name: str, known: list[str], says: str) -> None:
    assert nearest(name, known) == says


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 9)"), "Connection refused"),
        (OSError("no errno"), "no errno"),
        (ssl.SSLError(1, "wrong version number"), "wrong version number"),
        (OSError(), "OSError"),
    ],
)
def test_what_the_system_refused_has_the_same_words_everywhere(error: OSError, said: str) -> None:
    assert words(error) == said
