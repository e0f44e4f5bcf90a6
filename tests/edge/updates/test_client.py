"""What a device believes of a repository, and what it refuses."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.edge.updates.conftest import DAY, Publisher, trust_root
from tests.edge.updates.serving import Link
from tuf.api.exceptions import DownloadError

from forwardpass.edge.home import Home
from forwardpass.edge.updates.client import Client
from forwardpass.edge.updates.fetch import Fetcher
from forwardpass.edge.updates.release import Release
from forwardpass.edge.updates.signers import Signers
from forwardpass.errors import InvalidModel, InvalidSettings, NotReady

PATH = "stable/linux-x86_64/motor.json"
YEAR = 365 * DAY.total_seconds()
DATE = r"the device's clock says \d{4}-\d\d-\d\d \d\d:\d\d UTC"


def latest(link: Link, home: Home) -> Release | None:
    return Client(link.url, home.updates).latest(PATH)


@pytest.fixture
def published(publisher: Publisher, home: Home) -> Release:
    release = publisher.publish("1").release
    trust_root(home, publisher)
    return release


def change(content: bytes) -> bytes:
    """One byte of the middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def forge(content: bytes) -> bytes:
    """What is well formed, but was not signed."""
    return content.replace(b'"spec_version":"1.0.31"', b'"spec_version":"1.0.30"')


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json", "motor.json"])
def test_what_was_tampered_with_is_refused(published: Release, link: Link, home: Home, name: str) -> None:
    for tamper in (change, forge) if name != "motor.json" else (change,):
        link.changes[name] = tamper
        with pytest.raises(InvalidModel, match="update refused"):
            latest(link, home)
    link.changes.clear()
    assert latest(link, home) == published


def test_a_chunk_that_was_tampered_with_is_refused(published: Release, link: Link, home: Home) -> None:
    chunk = next(chunk for chunk in published.chunks if chunk.inline is None)
    link.changes[chunk.sha256] = change
    client = Client(link.url, home.updates)
    with pytest.raises(InvalidModel, match="is not what the release says"):
        client.chunk(chunk)
    link.changes[chunk.sha256] = lambda content: content * 1000
    with pytest.raises(NotReady, match="exceeding the maximum"):
        client.chunk(chunk)


def test_another_publisher_is_refused(published: Release, publisher: Publisher, link: Link, home: Home) -> None:
    for item in publisher.folder.iterdir():
        shutil.rmtree(item)
    publisher.signers = Signers(publisher.root / "others")
    publisher.publish("2")
    with pytest.raises(InvalidModel, match="not signed by the publisher"):
        latest(link, home)


def test_older_metadata_is_refused(published: Release, publisher: Publisher, link: Link, home: Home) -> None:
    shutil.copytree(publisher.folder, publisher.root / "kept")
    publisher.publish("2")
    assert latest(link, home) != published
    shutil.rmtree(publisher.folder / "metadata")
    shutil.copytree(publisher.root / "kept/metadata", publisher.folder / "metadata")
    with pytest.raises(InvalidModel, match="older than what was seen before"):
        latest(link, home)


def test_expired_metadata_is_refused_by_date(publisher: Publisher, link: Link, home: Home) -> None:
    publisher.clock = lambda: time.time() - 2 * DAY.total_seconds()
    publisher.publish("1", lasting=DAY)
    trust_root(home, publisher)
    with pytest.raises(InvalidModel, match=f"expired.*; {DATE}"):
        latest(link, home)


def test_a_clock_that_is_years_ahead(published: Release, publisher: Publisher, link: Link, home: Home) -> None:
    """The library has no clock to hand in: the publisher's is years behind instead."""
    publisher.clock = lambda: time.time() - 20 * YEAR
    shutil.rmtree(publisher.folder / "metadata")
    publisher.publish("2", force=True)
    trust_root(home, publisher)
    with pytest.raises(InvalidModel, match=f"root.json is expired.*; {DATE}"):
        latest(link, home)


def test_a_clock_that_is_years_behind(published: Release, link: Link, home: Home) -> None:
    client = Client(link.url, home.updates, clock=lambda: 0.0)
    with pytest.raises(InvalidModel, match="in the future; the device's clock says 1970-01-01 00:00 UTC"):
        client.latest(PATH)


def test_nothing_published_for_this_device(published: Release, link: Link, home: Home) -> None:
    assert Client(link.url, home.updates).latest("stable/jetson/motor.json") is None


def test_a_server_that_is_not_there(published: Release, home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = Client(f"http://127.0.0.1:{taken.getsockname()[1]}", home.updates)
        with pytest.raises(NotReady, match=r"cannot be read: .*refused[^;]*$"):
            client.latest(PATH)


def test_the_clock_is_named_where_a_certificate_is_out_of_date(published: Release, home: Home) -> None:
    class Refused(Fetcher):
        def _fetch(self, url: str) -> Iterator[bytes]:
            raise DownloadError(f"{url}: certificate verify failed: certificate is not yet valid")

    client = Client("https://127.0.0.1", home.updates, Refused("https://127.0.0.1"))
    with pytest.raises(NotReady, match=f"not yet valid; {DATE}"):
        client.latest(PATH)


def test_a_server_with_nothing(published: Release, publisher: Publisher, link: Link, home: Home) -> None:
    shutil.rmtree(publisher.folder / "metadata")
    with pytest.raises(NotReady, match="status 404"):
        latest(link, home)


def test_a_server_that_says_nothing(published: Release, home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        client = Client(url, home.updates, Fetcher(url, silence=0.05))
        with pytest.raises(NotReady, match="nothing came for too long"):
            client.latest(PATH)


def test_a_server_that_is_too_slow(published: Release, link: Link, home: Home) -> None:
    client = Client(link.url, home.updates, Fetcher(link.url, grace=-1e9))
    with pytest.raises(NotReady, match="too slow"):
        client.latest(PATH)


def test_a_stop_ends_what_is_under_way(published: Release, link: Link, home: Home) -> None:
    client = Client(link.url, home.updates)

    def stop(content: bytes) -> bytes:
        client.stop()
        return content

    link.changes["targets.json"] = stop
    with pytest.raises(NotReady, match="stopped"):
        client.latest(PATH)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"signed": {}, "signatures": []}'])
def test_a_root_that_is_damaged_is_named(published: Release, link: Link, home: Home, damage: bytes) -> None:
    root = home.updates / "root.json"
    root.write_bytes(damage)
    with pytest.raises(InvalidSettings, match=rf"^{root} is no root metadata: .*; copy it there from where") as error:
        latest(link, home)
    assert "clock" not in error.value.message


def test_what_is_missing_is_told_at_the_start(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettings, match=r"root\.json: No such file.*copy it there"):
        Client("http://127.0.0.1", home.updates)
    monkeypatch.setitem(sys.modules, "tuf", None)
    with pytest.raises(InvalidSettings, match=r"the library tuf, which is not installed: pip install tuf urllib3$"):
        Client("http://127.0.0.1", home.updates)


def test_metadata_on_the_device_that_was_cut_short_is_fetched_again(published: Release, link: Link, home: Home) -> None:
    latest(link, home)
    kept = [path for path in Path(home.updates).rglob("*.json") if path.name != "root.json" and path.is_file()]
    assert len(kept) > 3
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert latest(link, home) == published


def test_the_library_is_loaded_by_the_first_look_only() -> None:
    """A device that only waits for updates has the memory for itself."""
    program = "import sys, forwardpass.edge.updates.updater as u; u.require_library(); print('tuf' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
