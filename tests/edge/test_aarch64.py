"""Bundles on another processor: a small arm64 Debian in a folder, run by QEMU, gives the golden answers.

Nothing is mounted and nothing registered: the packages are unpacked, and Python is started in a chroot by the
emulator itself. There is no sysfs in it, which would tell ONNX Runtime of this machine's processor instead.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.edge.bundles import Workshop

from forwardpass.edge.build import build
from forwardpass.edge.bundle import unpack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
DEBIAN, MIRROR = "bookworm", "http://deb.debian.org/debian"
GLIBC = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
PATIENCE = 300  # seconds that a download may take
MODELS = ("digits", "task-priority", "fraud")

CHECK = """
import json, platform, sys
sys.path.insert(0, "/opt/site")
from pathlib import Path
from forwardpass.edge.bundle import open_bundle, read_goldens, read_manifest_file
from forwardpass.edge.golden import check
from forwardpass.edge.targets import fits_here, missing_runtime
slot = Path(sys.argv[1])
manifest = read_manifest_file(slot / "manifest.json")
(golden,) = read_goldens(slot, manifest)
different = check(golden, open_bundle(slot, 1).predict)
print(json.dumps({"machine": platform.machine(), "fits": fits_here(manifest.target), "rows": len(golden.instances),
                  "missing": missing_runtime(manifest.runtime), "different": different}))
"""


def run(command: Sequence[object], what: str) -> None:
    """Run what needs the network; where it fails, the test cannot be made here."""
    started = subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    with started:
        try:
            said, _ = started.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)  # and what it started
            pytest.skip(f"{what} cannot be had here within {PATIENCE} seconds")
    if started.returncode:
        pytest.skip(f"{what} cannot be had here: {said.strip().splitlines()[-1:]}")


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root folder of an arm64 Debian with Python, its emulator, and the edge install in /opt/site."""
    if platform.machine() != "x86_64" or os.geteuid() != 0:
        pytest.skip("needs root on an x86_64 machine")
    emulator = shutil.which("qemu-aarch64-static")
    missing = [name for name in ("debootstrap", "dpkg-deb", "chroot") if shutil.which(name) is None]
    if emulator is None or missing:
        pytest.skip(
            "needs qemu-aarch64-static, debootstrap, dpkg-deb and chroot (Debian: qemu-user-static, debootstrap)"
        )
    root = tmp_path_factory.mktemp("arm64") / "root"
    _unpack_debian(root)
    _install(root / "opt" / "site", root.parent)
    shutil.copy(emulator, root / "usr" / "bin")
    return root


def _unpack_debian(root: Path) -> None:
    packages = ["--arch=arm64", "--variant=minbase", "--include=python3,libstdc++6", "--download-only"]
    run(["debootstrap", *packages, DEBIAN, root, MIRROR], "an arm64 Debian")
    for name in ("bin", "lib", "sbin"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for package in sorted(root.glob("var/cache/apt/archives/*.deb")):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as files:
            subprocess.run(["tar", "-x", "-C", str(root), "--keep-directory-symlink"], stdin=files.stdout, check=True)
        assert files.returncode == 0, package


def _install(site: Path, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build_wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT / "packaging" / "edge"]
    subprocess.run([*map(str, build_wheel)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    wheels = [part for tag in GLIBC for part in ("--platform", tag)]
    only = ["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11", *wheels]
    run([*pip, "install", "--no-compile", *only, "--target", site, f"{wheel}[images,text]"], "wheels for aarch64")


@pytest.mark.parametrize("model", MODELS)
def test_a_bundle_gives_its_golden_answers(model: str, debian: Path, tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    built = build(ROOT / "examples" / "models" / model, workshop.key, tmp_path, target="linux-aarch64")
    unpack(built.path, debian / "opt" / model, workshop.keys)
    (debian / "opt" / "check.py").write_text(CHECK)
    python = next(debian.glob("usr/bin/python3.*")).name
    command = ["chroot", debian, "/usr/bin/qemu-aarch64-static", f"/usr/bin/{python}", "-I", "/opt/check.py"]
    ran = subprocess.run([*map(str, command), f"/opt/{model}"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told == {"machine": "aarch64", "fits": True, "rows": 12, "missing": [], "different": []}
