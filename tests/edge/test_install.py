"""What a device installs: it runs a bundle, and has none of what serves many, runs jobs or talks to a terminal."""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.edge.bundles import Workshop

from forwardpass.edge import signing
from forwardpass.edge.build import build

ROOT = Path(__file__).parents[2]
FORBIDDEN = (
    "click",
    "fastapi",
    "grpc",
    "httptools",
    "obstore",
    "prometheus_client",
    "pyarrow",
    "rich",
    "starlette",
    "typer",
    "uvicorn",
    "uvloop",
)
EXTRAS = ("PIL", "tokenizers", "aiomqtt", "tuf", "av")  # only once something uses them

IMPORT_ALL = """
import importlib, json, pkgutil, sys
import forwardpass.edge
names = [item.name for item in pkgutil.walk_packages(forwardpass.edge.__path__, "forwardpass.edge.")]
server = ("control", "dataplane", "served", "records", "inputs", "tensors", "plan")
http = ("v1", "v2", "exchange", "tensors", "status")
names += [f"forwardpass.server.{name}" for name in server] + [f"forwardpass.server.http.{name}" for name in http]
names += ["forwardpass.engine.engine", "forwardpass.engine.worker", "forwardpass.backends.onnx"]
for name in names:
    if name.endswith("__main__"):
        continue
    if name.startswith(("forwardpass.edge.updates", "forwardpass.edge.mqtt")) or name.endswith((".mqtt", ".video")):
        continue  # may import the library of their extra
    importlib.import_module(name)
from forwardpass.pipeline import step_classes
step_classes()
print(json.dumps(sorted({name.partition(".")[0] for name, module in sys.modules.items() if module is not None})))
"""

# In the bare environment: unpack, open, predict, and all golden rows.
RUN = """
import json, sys, time
from importlib.util import find_spec
from pathlib import Path
from forwardpass.edge.bundle import open_bundle, read_goldens, read_manifest_file, unpack
slot = Path(sys.argv[2])
if not slot.exists():
    from forwardpass.edge.signing import read_public_keys
    unpack(Path(sys.argv[1]), slot, read_public_keys(Path(sys.argv[3])))
engine = open_bundle(slot, 1)
golden = read_goldens(slot, read_manifest_file(slot / "manifest.json"))[0]
engine.predict(golden.instances[:1])
first = time.time()
from forwardpass.edge.golden import check
from forwardpass.edge.targets import missing_runtime
there = [name for name in sys.argv[4:] if find_spec(name) is not None]
runtime = read_manifest_file(slot / "manifest.json").runtime
print(json.dumps({"first": first, "different": check(golden, engine.predict), "there": there,
                  "missing": missing_runtime(runtime)}))
"""


def test_nothing_on_a_device_imports_what_serves_many() -> None:
    ran = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    imported = set(json.loads(ran.stdout))
    assert {"forwardpass", "numpy", "onnxruntime"} <= imported
    assert imported & {*FORBIDDEN, *EXTRAS} == set()


def test_the_extras_that_are_checked_for_are_here() -> None:
    """Or the test above could not fail."""
    assert [name for name in (*FORBIDDEN, *EXTRAS) if importlib.util.find_spec(name) is None] == []


def _installer() -> Any:
    spec = importlib.util.spec_from_file_location("edge_install", ROOT / "packaging" / "edge" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an edge install with images, a bundle of digits and the key that is trusted."""
    folder = tmp_path_factory.mktemp("device")
    look = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "h11"]
    if subprocess.run(look, capture_output=True, check=False).returncode:
        pytest.skip("pip reaches no package registry from here")
    _installer().install(folder / "env", ["images"])
    workshop = Workshop(folder)
    build(ROOT / "examples" / "models" / "digits", workshop.key, folder / "digits.bundle")
    return folder


def run(device: Path) -> dict[str, Any]:
    python = device / "env" / "bin" / "python"
    asked = [device / "digits.bundle", device / "slot", signing.public_file(Workshop(device).key_file), *FORBIDDEN]
    started = time.time()
    ran = subprocess.run(
        [python, "-I", "-c", RUN, *map(str, asked)], capture_output=True, text=True, check=False, cwd=device
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return {**told, "seconds": told["first"] - started}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bare_environment_runs_a_bundle(device: Path, record_property: Any) -> None:
    first = run(device)
    assert (first["different"], first["there"], first["missing"]) == ([], [], [])
    seconds = min(run(device)["seconds"] for _ in range(3))
    record_property("seconds to the first prediction", seconds)
    print(f"first prediction {seconds:.2f} s after the start of the process")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_smaller_than_150_megabytes(device: Path, record_property: Any) -> None:
    run(device)
    size = _installer().size_of(device / "env")
    record_property("bytes on disk", size)
    print(f"{size / 1e6:.0f} MB on disk")
    assert 20_000_000 < size < 150_000_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_bundle_needs_and_is_not_there_is_named_and_what_is_said_brings_it(device: Path) -> None:
    python = device / "env" / "bin" / "python"
    wanted = "{'tokenizers': '0.23', 'PIL': '13'}"
    program = f"from forwardpass.edge.targets import missing_runtime; print(*missing_runtime({wanted}))"

    def missing() -> str:
        return subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True).stdout.strip()

    what, _, how = missing().partition(": ")
    assert what == "tokenizers 0.23 or later is not installed"
    command = shlex.split(how.removesuffix(", in the sources of Forwardpass"))
    assert command[0] == "python3"
    subprocess.run([sys.executable, *command[1:]], cwd=ROOT, check=True)
    assert missing() == ""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_called_as_it_is_installed(device: Path) -> None:
    ran = subprocess.run([device / "env/bin/forwardpass-agent", "--help"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("usage: forwardpass-agent ")
    assert "forwardpass agent" not in ran.stdout
