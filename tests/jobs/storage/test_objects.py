"""What is peculiar to object stores: what is fetched, and what their failures look like to a user."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.conftest import S3
from tests.jobs.storage.proxy import BREAK, LOSE, Proxy, running

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.jobs.storage import objects
from forwardpass.jobs.storage.objects import ObjectStorage

SECONDS = 15.0  # within which a failure must be told


@pytest.fixture
def proxy(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with running(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def storage(s3: S3) -> ObjectStorage:
    return ObjectStorage(s3.url)


def put(storage: ObjectStorage, name: str, content: bytes) -> str:
    local = storage.temporary(name)
    local.write_bytes(content)
    storage.publish(local, name)
    return name


def replace(storage: ObjectStorage, name: str, content: bytes) -> None:
    storage.delete(name)
    put(storage, name, content)


class TestFetched:
    def test_a_range_costs_its_bytes_and_one_request(self, s3: S3, proxy: Proxy, storage: ObjectStorage) -> None:
        content = bytes(range(250)) * 40_000  # 10 MB
        name = put(storage, f"{s3.url}/x", content)
        with storage.open(name) as file:
            proxy.exchanges.clear()
            file.seek(5_000_000)
            assert file.read(300_000) == content[5_000_000:5_300_000]
            assert [exchange.method for exchange in proxy.exchanges] == ["GET"]
            assert proxy.received <= 300_000 + 2 * 65_536

    def test_reading_on_takes_few_requests(self, s3: S3, proxy: Proxy, storage: ObjectStorage) -> None:
        content = b"a line of text\n" * 700_000  # 10.5 MB
        name = put(storage, f"{s3.url}/x", content)
        proxy.exchanges.clear()
        with storage.open(name) as file:
            assert sum(len(line) for line in file) == len(content)
        assert len(proxy.exchanges) <= 12
        assert proxy.received == len(content)

    def test_a_column_of_parquet_costs_its_bytes(self, s3: S3, proxy: Proxy, storage: ObjectStorage) -> None:
        name = f"{s3.url}/x.parquet"
        local = storage.temporary(name)
        ids = pa.array(range(100_000))
        texts = pa.array([f"{at * 7919:060d}" for at in range(100_000)])
        pq.write_table(pa.table({"id": ids, "text": texts}), local, compression="none", use_dictionary=False)
        size = local.stat().st_size
        storage.publish(local, name)
        proxy.exchanges.clear()
        with storage.open(name) as file:
            assert (
                pq.read_table(file, columns=["id"], use_threads=False, pre_buffer=False)["id"].combine_chunks() == ids
            )
        assert size > 7_000_000
        assert proxy.received < 800_000 + 6 * 65_536

    def test_a_small_file_is_one_request(self, s3: S3, proxy: Proxy, storage: ObjectStorage) -> None:
        name = put(storage, f"{s3.url}/x", b"text")
        proxy.exchanges.clear()
        assert storage.read(name) == b"text"
        assert len(proxy.exchanges) == 1


@pytest.mark.parametrize("most", [10, 64 << 20])  # sent in parts, and by one request
class TestTaken:
    @pytest.fixture(autouse=True)
    def limit(self, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(objects, "_WHOLE", most)

    def test_the_same_content_is_as_good(self, s3: S3, storage: ObjectStorage) -> None:
        name = put(storage, f"{s3.url}/x", b"text of a part")
        before = storage.find(name)
        put(storage, name, b"text of a part")
        assert storage.find(name) == before

    @pytest.mark.parametrize("other", [b"TEXT of a part", b"text of a part and more", b""])
    def test_other_content_is_refused_and_nothing_lost(self, s3: S3, storage: ObjectStorage, other: bytes) -> None:
        name = put(storage, f"{s3.url}/x", b"text of a part")
        local = storage.temporary(name)
        local.write_bytes(other)
        with pytest.raises(InvalidInput, match=f"{name}: is there already, with other content"):
            storage.publish(local, name)
        assert storage.read(name) == b"text of a part"
        assert local.read_bytes() == other
        storage.delete(name)
        storage.publish(local, name)
        assert storage.read(name) == other


class TestTrouble:
    def test_an_answer_that_was_lost_is_no_other_runs_part(self, s3: S3, proxy: Proxy, storage: ObjectStorage) -> None:
        """The object is written, the answer is not heard, and it is sent again."""
        lost = iter([LOSE])
        proxy.fail = lambda method, path: next(lost, None)
        name = put(storage, f"{s3.url}/x", b"text")
        assert [exchange.method for exchange in proxy.exchanges[:2]] == ["PUT", "PUT"]
        assert storage.read(name) == b"text"

    def test_an_upload_that_breaks_leaves_nothing(
        self, s3: S3, proxy: Proxy, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second part never arrives."""
        monkeypatch.setattr(objects, "_WHOLE", 10_000_000)
        local = storage.temporary(f"{s3.url}/x")
        local.write_bytes(b"x" * 20_000_000)
        proxy.fail = lambda method, path: BREAK if "partNumber=2" in path else None
        with pytest.raises(OSError, match=f"cannot write {s3.url}/x"):
            storage.publish(local, f"{s3.url}/x")
        proxy.fail = lambda method, path: None
        assert any(exchange.method == "DELETE" and "uploadId" in exchange.path for exchange in proxy.exchanges)
        assert local.exists()
        assert storage.find(f"{s3.url}/x") is None
        local.unlink()

    def test_what_passes_is_tried_again(self, s3: S3, proxy: Proxy, storage: ObjectStorage) -> None:
        failures = iter([BREAK, 503, 500])
        proxy.fail = lambda method, path: next(failures, None)
        name = put(storage, f"{s3.url}/x", b"text")
        failures = iter([503, BREAK])
        assert storage.read(name) == b"text"
        assert len(proxy.exchanges) == 7

    def test_what_does_not_pass_ends(self, s3: S3, proxy: Proxy, storage: ObjectStorage) -> None:
        proxy.fail = lambda method, path: 503
        start = time.monotonic()
        with pytest.raises(OSError, match=f"cannot read {s3.url}/x: .*503"):
            storage.read(f"{s3.url}/x")
        assert time.monotonic() - start < SECONDS

    @pytest.mark.parametrize("status", [401, 403])
    def test_refused(self, s3: S3, proxy: Proxy, storage: ObjectStorage, tmp_path: Path, status: int) -> None:
        """Nothing is taken for an absent file, and no local file is lost."""
        (tmp_path / "x").write_bytes(b"text")
        proxy.fail = lambda method, path: status
        for act in (
            lambda: storage.find(f"{s3.url}/x"),
            lambda: storage.list(f"{s3.url}/x"),
            lambda: storage.list(f"{s3.url}/x/*"),
            lambda: storage.create(f"{s3.url}/x", b""),
            lambda: storage.delete(f"{s3.url}/x"),
            lambda: storage.publish(tmp_path / "x", f"{s3.url}/x"),
        ):
            with pytest.raises(InvalidInput, match=r"refused. Check the credentials"):
                act()
        assert (tmp_path / "x").exists()

    def test_an_object_replaced_while_it_is_read(self, s3: S3, storage: ObjectStorage) -> None:
        name = put(storage, f"{s3.url}/x", b"1" * 1_000_000)
        with storage.open(name) as file:
            assert file.read(10) == b"1" * 10
            replace(storage, name, b"2" * 1_000_000)
            file.seek(900_000)
            with pytest.raises(InvalidInput, match=f"{name}: it was replaced while it was read"):
                file.read(10)

    def test_pyarrow_passes_our_errors_on(self, s3: S3, storage: ObjectStorage) -> None:
        name = f"{s3.url}/x.parquet"
        local = storage.temporary(name)
        pq.write_table(pa.table({"a": range(200_000)}), local)
        content = local.read_bytes()
        storage.publish(local, name)
        with storage.open(name) as file:
            reader = pq.ParquetFile(file)
            replace(storage, name, content + b" ")
            with pytest.raises(InvalidInput, match="replaced"):
                reader.read()

    def test_no_such_bucket(self, s3: S3, tmp_path: Path) -> None:
        storage = ObjectStorage("s3://no-such-bucket")
        (tmp_path / "x").write_bytes(b"")
        for act in (
            lambda: storage.list("s3://no-such-bucket/data"),
            lambda: storage.publish(tmp_path / "x", "s3://no-such-bucket/x"),
            lambda: storage.create("s3://no-such-bucket/x", b""),
            lambda: storage.read("s3://no-such-bucket/x"),
        ):
            with pytest.raises(InvalidInput, match=r"s3://no-such-bucket/.*: no such bucket"):
                act()

    def test_a_dead_endpoint(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as taken:  # bound, but nobody listens
            taken.bind(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
            storage = ObjectStorage("s3://dead")
            start = time.monotonic()
            with pytest.raises(OSError, match=r"cannot list s3://dead/: .*AWS_ENDPOINT_URL"):
                storage.list("s3://dead/")
            assert time.monotonic() - start < SECONDS

    def test_no_credentials(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        start = time.monotonic()
        with pytest.raises(InvalidInput, match=r"cannot read s3://secret/x: no credentials.*AWS_ACCESS_KEY_ID"):
            ObjectStorage("s3://secret").open("s3://secret/x")
        assert time.monotonic() - start < SECONDS


def test_markers_of_folders_are_no_files(s3: S3, storage: ObjectStorage) -> None:
    """Consoles make an empty object ``folder/``; an empty file is a file."""
    for key in ("data/", "data/sub/"):
        request = urllib.request.Request(f"{s3.endpoint}/{s3.bucket}/{key}", method="PUT", data=b"")
        urllib.request.urlopen(request, timeout=10).close()
    put(storage, f"{s3.url}/data/empty", b"")
    assert [entry.name for entry in storage.list(f"{s3.url}/data/")] == [f"{s3.url}/data/empty"]


def test_many_objects(s3: S3, proxy: Proxy, storage: ObjectStorage) -> None:
    """More than two pages of a listing, which has 50 names here."""
    names = [f"{s3.url}/data/{at:03d}" for at in range(110)]
    assert all(storage.create(name, b"x") for name in names)
    proxy.exchanges.clear()
    assert [entry.name for entry in storage.list(f"{s3.url}/data")] == names
    assert len(proxy.exchanges) == 4  # the name itself, and three pages


def test_a_process_that_is_spawned_may_use_it_too(s3: S3, storage: ObjectStorage) -> None:
    name = put(storage, f"{s3.url}/x", b"text")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(storage.read, (name,)) == b"text"


def test_a_process_forked_from_a_user_is_told(s3: S3, storage: ObjectStorage) -> None:
    """The library's threads are not there in it: it would wait for ever."""
    name = put(storage, f"{s3.url}/x", b"text")
    code = (
        "import os, sys; from forwardpass.jobs.storage import create_storage as at\n"
        "if sys.argv[2] == 'parent': at(sys.argv[1]).read(sys.argv[1])\n"
        "if os.fork(): sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "print(at(sys.argv[1]).read(sys.argv[1]))\n"
    )
    after, before = (
        subprocess.run([sys.executable, "-c", code, name, first], capture_output=True, text=True, timeout=20)
        for first in ("parent", "child")
    )
    assert after.returncode == 1
    assert "RuntimeError: object stores were used before this process was forked" in after.stderr
    assert (before.returncode, before.stdout) == (0, "b'text'\n")


def test_what_is_not_there(s3: S3, storage: ObjectStorage) -> None:
    with pytest.raises(NotFound, match=f"no file at {s3.url}"):
        storage.list(s3.url)
