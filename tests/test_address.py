"""Addresses on the web: what each part is, and that what cannot be sent is refused, without its secrets."""

from __future__ import annotations

import h11
import pytest

from forwardpass.address import Address
from forwardpass.errors import InvalidInput


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://host", "http://host", "/"),
        ("HTTPS://Host:443/", "https://host", "/"),
        ("http://my_host.:8000/a/b%20c?d=e/f?#g", "http://my_host.:8000", "/a/b%20c?d=e/f?"),
        ("http://127.0.0.1:80/100%", "http://127.0.0.1", "/100%"),
        ("https://[::1]:9/x:y@z", "https://[::1]:9", "/x:y@z"),
        ("http://bücher.example/ä b?c=ö", "http://xn--bcher-kva.example", "/%C3%A4%20b?c=%C3%B6"),
        ('http://host/a"<>\\^`{|}\x7f', "http://host", "/a%22%3C%3E%5C%5E%60%7B%7C%7D%7F"),
        ("http://host/a\r\nx-b: c", "http://host", "/ax-b:%20c"),
    ],
)
def test_the_parts_of_an_address_can_be_sent(url: str, origin: str, target: str) -> None:
    address = Address.of(url)
    assert (address.origin, address.target) == (origin, target)
    h11.Request(method="GET", target=target, headers=[("host", address.authority)])


@pytest.mark.parametrize(
    "url",
    [
        *("", "nonsense", "cloud.example", "cloud.example:8000", "ftp://host/x", "file:///etc/passwd", "http:host"),
        *("http://", "http://:80", "http://host:0", "http://host:99999", "http://host:x", "http://[::1"),
        *("http://a..b/", f"http://{'a' * 64}/", "http://a b/", "http://a\x00b/", "http://\ud800/", "http://a/\ud800"),
        *("http://me:secret@host:99999/", "htps://host/secret", "https://host:8o/secret", "https://me:secret"),
    ],
)
def test_what_no_request_can_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no URL that can be asked") as raised:
        Address.of(url)
    assert "secret" not in raised.value.message


@pytest.mark.parametrize("url", ["http://me:secret@host/", "https://secret@host"])
def test_a_password_has_no_place_in_it(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^the URL of host holds a name or password") as raised:
        Address.of(url)
    assert "secret" not in raised.value.message


def test_paths_are_added_to_that_of_a_base() -> None:
    assert [Address.base(f"http://host{end}").path for end in ("", "/", "/a//", "/ä/")] == ["", "", "/a", "/%C3%A4"]
    assert Address.base("http://host") == Address.base("http://HOST:80/")
    for end in ("?", "/?a=b", "#", "/a#b"):
        with pytest.raises(InvalidInput, match=r"^the URL of host goes on after its path"):
            Address.base(f"http://host{end}")
