"""What every storage must do: one suite, on the file system and on an S3 API."""

from __future__ import annotations

import hashlib
import pickle
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.jobs.conftest import S3

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.jobs.storage import Storage, create_storage, is_remote

CONTENT = random.Random(4).randbytes(300_000)


@dataclass(frozen=True)
class Place:
    """A storage, and a folder in it that is empty."""

    storage: Storage
    root: str

    def name(self, rest: str) -> str:
        return f"{self.root}/{rest}"

    def put(self, rest: str, content: bytes = b"x") -> str:
        """Publish; gives the full name."""
        local = self.storage.temporary(self.name(rest))
        local.write_bytes(content)
        self.storage.publish(local, self.name(rest))
        return self.name(rest)

    def listed(self, rest: str) -> list[str]:
        return [entry.name.removeprefix(f"{self.root}/") for entry in self.storage.list(self.name(rest))]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place(create_storage(str(tmp_path)), str(tmp_path / "data"))
    s3: S3 = request.getfixturevalue("s3")
    return Place(create_storage(s3.url), f"{s3.url}/data")


class TestPublish:
    def test_what_is_published_is_there_and_the_local_file_is_gone(self, place: Place) -> None:
        local = place.storage.temporary(place.name("deep/in/x.bin"))
        local.write_bytes(CONTENT)
        place.storage.publish(local, place.name("deep/in/x.bin"))
        assert not local.exists()
        assert place.storage.read(place.name("deep/in/x.bin")) == CONTENT
        assert place.listed("deep") == ["deep/in/x.bin"]

    def test_what_was_there_is_replaced_once_deleted_and_the_version_changes(self, place: Place) -> None:
        name = place.put("x", b"one")
        before = place.storage.find(name)
        place.storage.delete(name)
        place.put("x", b"two")
        after = place.storage.find(name)
        assert place.storage.read(name) == b"two"
        assert before is not None
        assert after is not None
        assert before.size == after.size
        assert before.version != after.version

    def test_an_empty_file_is_a_file(self, place: Place) -> None:
        name = place.put("empty", b"")
        assert place.storage.read(name) == b""
        assert place.listed("") == ["empty"]
        assert place.storage.find(name) == place.storage.list(name)[0]

    def test_a_large_file_arrives_whole(self, place: Place) -> None:
        content = CONTENT * 70  # 21 MB: several parts of an upload
        name = place.put("large", content)
        with place.storage.open(name) as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        assert digest.digest() == hashlib.sha256(content).digest()

    def test_a_local_file_may_lie_anywhere(self, place: Place, tmp_path: Path) -> None:
        local = tmp_path / "elsewhere"
        local.write_bytes(b"text")
        place.storage.publish(local, place.name("x"))
        assert place.storage.read(place.name("x")) == b"text"
        assert not local.exists()


class TestCreate:
    def test_the_first_wins(self, place: Place) -> None:
        assert place.storage.create(place.name("sub/lock"), b"first")
        assert not place.storage.create(place.name("sub/lock"), b"second")
        assert place.storage.read(place.name("sub/lock")) == b"first"
        assert place.listed("") == ["sub/lock"]

    def test_of_processes_at_once_one_wins(self, place: Place) -> None:
        code = (
            "import sys; from forwardpass.jobs.storage import create_storage as at; sys.stdin.read();"
            "print(at(sys.argv[1]).create(sys.argv[1], sys.argv[2].encode() * 1000))"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, place.name("lock"), str(at)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for at in range(4)
        ]
        for process in processes:  # all started: now
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        won = [process.communicate(timeout=30)[0].strip() for process in processes]
        assert sorted(won) == ["False", "False", "False", "True"]
        assert place.storage.read(place.name("lock")) == str(won.index("True")).encode() * 1000

    def test_after_delete_it_can_be_created_again(self, place: Place) -> None:
        assert place.storage.create(place.name("lock"), b"first")
        place.storage.delete(place.name("lock"))
        assert place.storage.find(place.name("lock")) is None
        assert place.storage.create(place.name("lock"), b"second")


class TestList:
    FILES = (
        "a.csv",
        "b.txt",
        "year=2025/m=1/x.csv",
        "year=2025/y.csv",
        "year=2026/m=1/x.csv",
        "year=2026/m=2/_skipped.csv",
        "_log/1.csv",
        ".hidden/x.csv",
        "_SUCCESS",
    )

    MEANT: ClassVar = {
        "": ["a.csv", "b.txt", "year=2025/m=1/x.csv", "year=2025/y.csv", "year=2026/m=1/x.csv"],
        "a.csv": ["a.csv"],
        "_SUCCESS": ["_SUCCESS"],
        "year=2025": ["year=2025/m=1/x.csv", "year=2025/y.csv"],
        "year=2025/": ["year=2025/m=1/x.csv", "year=2025/y.csv"],
        "_log": ["_log/1.csv"],
        "*.csv": ["a.csv"],
        "?.*": ["a.csv", "b.txt"],
        "[!a].*": ["b.txt"],
        "*/*.csv": ["year=2025/y.csv"],
        "**/*.csv": ["a.csv", "year=2025/m=1/x.csv", "year=2025/y.csv", "year=2026/m=1/x.csv"],
        "year=2026/**": ["year=2026/m=1/x.csv"],
        "year=*/**/x.csv": ["year=2025/m=1/x.csv", "year=2026/m=1/x.csv"],
        "**/m=[12]/*": ["year=2025/m=1/x.csv", "year=2026/m=1/x.csv"],
        "year=2026/*/_*": ["year=2026/m=2/_skipped.csv"],
        "_*": ["_SUCCESS"],
        "_*/*": ["_log/1.csv"],
    }

    def test_names(self, place: Place) -> None:
        for name in self.FILES:
            assert place.storage.create(place.name(name), b"x")
        assert {pattern: place.listed(pattern) for pattern in self.MEANT} == self.MEANT

    @pytest.mark.parametrize("pattern", ["nothing", "n*", "a.cs", "sub*", "sub/a.csv/x", "sub/?"])
    def test_nothing_found_is_an_error(self, place: Place, pattern: str) -> None:
        place.put("sub/a.csv")
        place.put("a.csv")
        with pytest.raises(NotFound, match="no file at"):
            place.storage.list(place.name(pattern))

    def test_a_file_whose_name_looks_like_a_glob(self, place: Place) -> None:
        place.put("part[1].csv")
        place.put("part1.csv")
        assert place.listed("part[1].csv") == ["part[1].csv"]

    @pytest.mark.parametrize("name", ["a b.csv", "ü-日.csv", "100%.csv", "a%20b", "x#y?z=1&w+v", "a=1,b='2'/~x.csv"])
    def test_any_name_works(self, place: Place, name: str) -> None:
        full = place.put(name, b"text")
        assert place.listed("") == [name]
        assert place.storage.read(full) == b"text"
        assert place.storage.find(full) == place.storage.list(place.root)[0]

    def test_a_folder_is_not_what_begins_with_its_name(self, place: Place) -> None:
        place.put("day/x")
        place.put("days/x")
        assert place.listed("day") == ["day/x"]

    def test_by_name(self, place: Place) -> None:
        for name in ("b", "a/b", "a-b", "a.b", "B", "10", "9"):
            place.put(name)
        assert place.listed("") == sorted(["b", "a/b", "a-b", "a.b", "B", "10", "9"])

    def test_an_entry_says_the_same_as_find(self, place: Place) -> None:
        names = [place.put("a", b"12"), place.put("b", b"123")]
        entries = place.storage.list(place.root)
        assert entries == [place.storage.find(name) for name in names]
        assert [entry.size for entry in entries] == [2, 3]
        assert entries == place.storage.list(place.root)


class TestOpen:
    def test_reads_like_a_file(self, place: Place, tmp_path: Path) -> None:
        """The same walk of reads and seeks through the file and through a true local one."""
        twin = tmp_path / "twin"
        twin.write_bytes(CONTENT)
        chance = random.Random(1)
        with place.storage.open(place.put("x", CONTENT)) as file, open(twin, "rb") as true:
            for _ in range(60):
                whence = chance.choice([0, 1, 2])
                offset = chance.randrange(len(CONTENT) + 10) if whence == 0 else -chance.randrange(1, 500)
                if whence == 1:
                    offset = chance.choice([0, chance.randrange(1000)])
                assert file.seek(offset, whence) == true.seek(offset, whence)
                size = chance.choice([0, 1, 10, 5_000, 70_000, 200_000, -1])
                assert file.read(size) == true.read(size)
                assert file.tell() == true.tell()

    def test_reads_lines(self, place: Place) -> None:
        content = b"".join(b"%d,%s\n" % (at, b"x" * (at % 50)) for at in range(20_000)) + b"no end"
        with place.storage.open(place.put("x.csv", content)) as file:
            assert list(file) == content.splitlines(keepends=True)

    @pytest.mark.parametrize("threads", [False, True])
    def test_pyarrow_reads_parquet(self, place: Place, threads: bool) -> None:
        table = pa.table({"a": range(50_000), "b": [str(at) for at in range(50_000)]})
        local = place.storage.temporary(place.name("x.parquet"))
        pq.write_table(table, local, row_group_size=10_000)
        place.storage.publish(local, place.name("x.parquet"))
        with place.storage.open(place.name("x.parquet")) as file:
            reader = pq.ParquetFile(file)
            assert reader.read_row_group(3, use_threads=threads) == table.slice(30_000, 10_000)
            assert reader.read(use_threads=threads) == table

    def test_pyarrow_reads_through_its_own_file(self, place: Place) -> None:
        table = pa.table({"a": range(50_000)})
        local = place.storage.temporary(place.name("x.arrow"))
        with pa.ipc.new_file(str(local), table.schema) as writer:
            writer.write_table(table, max_chunksize=5_000)
        place.storage.publish(local, place.name("x.arrow"))
        with place.storage.open(place.name("x.arrow")) as file, pa.PythonFile(file, "r") as source:
            assert pa.ipc.open_file(source).read_all() == table

    def test_what_is_not_there(self, place: Place) -> None:
        place.put("sub/x")
        assert place.storage.find(place.name("sub")) is None
        assert place.storage.find(place.name("sub/x/y")) is None
        for name in ("x", "sub/y"):
            assert place.storage.find(place.name(name)) is None
            with pytest.raises(NotFound, match=name):
                place.storage.open(place.name(name))
            with pytest.raises(NotFound, match=name):
                place.storage.read(place.name(name))


class TestTemporary:
    def test_is_nobodys_and_can_be_written(self, place: Place) -> None:
        names = {place.storage.temporary(place.name("new/folder/x.csv")) for _ in range(100)}
        assert len(names) == 100
        local = names.pop()
        assert not local.exists()
        local.write_bytes(b"half")
        place.put("x")
        assert place.listed("") == ["x"]
        local.unlink()

    def test_deleting_what_is_not_there(self, place: Place) -> None:
        place.storage.delete(place.name("nothing"))
        place.storage.delete(place.name("no/folder"))

    def test_a_storage_can_be_sent_to_another_process(self, place: Place) -> None:
        name = place.put("x", b"text")
        assert pickle.loads(pickle.dumps(place.storage)).read(name) == b"text"


def test_which_storage() -> None:
    assert is_remote("s3://bucket/x")
    assert not is_remote("data/x")
    assert not is_remote("file:///data/x")
    with pytest.raises(InvalidInput, match=r"'gss' is no storage. Did you mean 'gs'"):
        create_storage("gss://bucket/x")
    with pytest.raises(InvalidInput, match="names no bucket"):
        create_storage("s3:///x")


def test_what_killed_processes_left_is_swept(place: Place) -> None:
    left = [place.storage.temporary(place.name("out/part-0.parquet")) for _ in range(2)]
    other = place.storage.temporary(place.name("out/part-00.parquet"))
    for path in (*left, other):
        path.write_bytes(b"half")
    place.storage.sweep(place.name("out/part-0.parquet"))
    assert [path.exists() for path in (*left, other)] == [False, False, True]
    place.storage.sweep(place.name("out/part-00.parquet"))
    assert not other.exists()
