"""What is peculiar to the file system."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwardpass.errors import InvalidInput, NotFound
from forwardpass.jobs.storage.local import LocalStorage, local_path

STORAGE = LocalStorage()


def names(folder: Path) -> list[str]:
    return [str(Path(entry.name).relative_to(folder)) for entry in STORAGE.list(str(folder))]


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def stranger() -> Iterator[Path]:
    """A folder, and no more rights than its owner has, even where the tests run as root."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.geteuid()
        if before == 0:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        yield Path(folder)
        os.seteuid(before)


class TestNeverHalf:
    @pytest.mark.parametrize("across", [False, True])
    def test_a_reader_sees_the_old_or_the_new(
        self, tmp_path: Path, across: bool, request: pytest.FixtureRequest
    ) -> None:
        source: Path = request.getfixturevalue("other_disk") / "x" if across else tmp_path / "y"
        target = tmp_path / "x"
        self.publish(tmp_path / "first", target, b"\0")
        code = (
            "import sys\nprint('up', flush=True)\nseen = set()\n"
            "while 49 not in seen:\n"
            "  content = open(sys.argv[1], 'rb').read()\n"
            "  assert len(content) == 500_000 and len(set(content)) == 1, len(content)\n"
            "  seen.add(content[0])\n"
            "print(len(seen))"
        )
        reader = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True)
        assert reader.stdout is not None
        assert reader.stdout.readline() == "up\n"
        for at in range(1, 50):
            self.publish(source, target, bytes([at]))
            time.sleep(0.002)  # else the reader sees the last one only
        assert int(reader.communicate(timeout=20)[0]) > 1
        assert reader.returncode == 0

    def publish(self, local: Path, target: Path, byte: bytes) -> None:
        local.write_bytes(byte * 500_000)
        STORAGE.publish(local, str(target))

    def test_from_another_file_system(self, tmp_path: Path, other_disk: Path) -> None:
        local = other_disk / "x"
        local.write_bytes(b"text")
        STORAGE.publish(local, str(tmp_path / "new" / "x"))
        assert (tmp_path / "new" / "x").read_bytes() == b"text"
        assert not local.exists()
        assert os.listdir(tmp_path / "new") == ["x"]

    def test_a_copy_that_fails_leaves_the_old_content_and_nothing_else(self, tmp_path: Path, other_disk: Path) -> None:
        """A limit on the size of files stands for the full disk."""
        (tmp_path / "x").write_bytes(b"old")
        local = other_disk / "x"
        local.write_bytes(b"x" * 200_000)
        code = (
            "import resource, signal, sys; from pathlib import Path\n"
            "from forwardpass.jobs.storage.local import LocalStorage\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "try: LocalStorage().publish(Path(sys.argv[1]), sys.argv[2])\n"
            "except OSError as error: print(error.errno, error)\n"
        )
        command = [sys.executable, "-c", code, str(local), str(tmp_path / "x")]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert printed.startswith(f"{errno.EFBIG} ")
        assert str(tmp_path / "x") in printed
        assert (tmp_path / "x").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["x"]
        assert local.exists()

    def test_create_leaves_nothing_but_the_file(self, tmp_path: Path) -> None:
        assert STORAGE.create(str(tmp_path / "lock"), b"1")
        assert not STORAGE.create(str(tmp_path / "lock"), b"2")
        assert os.listdir(tmp_path) == ["lock"]

    def test_others_may_read_what_is_published(self, tmp_path: Path) -> None:
        """The mode is the one that an ordinary new file has."""
        (tmp_path / "plain").write_bytes(b"")
        assert STORAGE.create(str(tmp_path / "created"), b"1")
        self.publish(STORAGE.temporary(str(tmp_path / "x")), tmp_path / "x", b"x")
        modes = {(tmp_path / name).stat().st_mode for name in ("plain", "created", "x")}
        assert len(modes) == 1


class TestList:
    def test_links_are_followed_but_not_in_circles(self, tmp_path: Path) -> None:
        data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
        for folder in (data / "sub", elsewhere):
            folder.mkdir(parents=True)
            (folder / "x").write_bytes(b"123")
        (data / "link").symlink_to(elsewhere / "x")
        (data / "folder").symlink_to(elsewhere)
        (data / "sub" / "circle").symlink_to(data)
        (elsewhere / "self").symlink_to(elsewhere)
        assert names(data) == ["folder/x", "link", "sub/x"]
        assert STORAGE.list(str(data))[1].size == 3

    def test_a_link_to_nothing_is_not_left_out_in_silence(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"")
        (tmp_path / "link").symlink_to("gone")
        with pytest.raises(NotFound, match="link to gone"):
            STORAGE.list(str(tmp_path))
        assert len(STORAGE.list(str(tmp_path / "[x]"))) == 1

    def test_pipes_are_no_files(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert STORAGE.find(str(tmp_path / "pipe")) is None
        with pytest.raises(NotFound, match="neither a file nor a folder"):
            STORAGE.list(str(tmp_path / "pipe"))
        with pytest.raises(NotFound, match="the folder holds none"):
            STORAGE.list(str(tmp_path))

    def test_relative_names_stay_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "x.csv").write_bytes(b"")
        assert [entry.name for entry in STORAGE.list("*.csv")] == ["x.csv"]
        assert [entry.name for entry in STORAGE.list(".")] == ["x.csv"]
        STORAGE.publish(Path("x.csv"), "y.csv")
        assert [entry.name for entry in STORAGE.list("**")] == ["y.csv"]

    def test_file_urls(self, tmp_path: Path) -> None:
        (tmp_path / "a b?#.csv").write_bytes(b"text")
        assert STORAGE.read(f"file://{tmp_path}/a%20b?#.csv") == b"text"
        assert STORAGE.list(f"file://{tmp_path}")[0].name == str(tmp_path / "a b?#.csv")
        assert local_path("file://localhost/x") == Path("/x")
        with pytest.raises(InvalidInput, match="the machine 'data'"):
            STORAGE.list("file://data/x.csv")


class TestErrors:
    def test_a_folder_where_a_file_is_wanted(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "x").write_bytes(b"")
        for act in (
            lambda: STORAGE.open(str(tmp_path / "sub")),
            lambda: STORAGE.publish(tmp_path / "x", str(tmp_path / "sub")),
            lambda: STORAGE.delete(str(tmp_path / "sub")),
        ):
            with pytest.raises(InvalidInput, match=r"cannot (read|write|delete) .*/sub: Is a directory"):
                act()

    def test_a_file_where_a_folder_is_wanted(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"")
        with pytest.raises(InvalidInput, match=r"cannot write .*/x/y/z"):
            STORAGE.create(str(tmp_path / "x" / "y" / "z"), b"")

    def test_a_name_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="too long"):
            STORAGE.create(str(tmp_path / ("x" * 300)), b"")

    def test_no_permission(self, stranger: Path) -> None:
        (stranger / "closed").mkdir(mode=0)
        for act in (
            lambda: STORAGE.list(str(stranger)),
            lambda: STORAGE.find(str(stranger / "closed" / "x")),
            lambda: STORAGE.create(str(stranger / "closed" / "x"), b""),
        ):
            with pytest.raises(InvalidInput, match="Permission denied"):
                act()

    def test_leaves_no_descriptors_open(self, tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for at in range(20):
            assert STORAGE.create(str(tmp_path / str(at)), b"1")
            assert STORAGE.read(str(tmp_path / str(at))) == b"1"
        assert len(os.listdir("/proc/self/fd")) == before
