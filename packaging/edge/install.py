"""Installs Forwardpass on a device: an environment of its own, without what no device needs.

    python3 packaging/edge/install.py /opt/forwardpass --extra images --extra mqtt

Python's own library is all that this program uses. What pip brings would be 190 MB; without compiled files that
are never loaded, without tests, and without ONNX Runtime's second copy of itself (for programs in C) it is 115.
What is loaded at every start is compiled once, so that starts are quick where the folder may not be written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTRAS = ("images", "text", "mqtt", "updates", "video")

# Below site-packages. Python's part of ONNX Runtime holds the runtime itself and loads no other library.
UNUSED = (
    "numpy/**/tests",
    "numpy/f2py",
    "numpy/distutils",
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
)
WARM = """
import importlib, pkgutil
import forwardpass.backends.onnx, forwardpass.edge, forwardpass.engine.engine
from forwardpass.pipeline import step_classes
step_classes()
for module in pkgutil.walk_packages(forwardpass.edge.__path__, "forwardpass.edge."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError:
            pass  # of an extra that was not asked for
"""


def install(folder: Path, extras: Iterable[str] = (), source: Path = HERE, pip_options: Sequence[str] = ()) -> None:
    """Make the environment. ``source`` is a wheel of ``forwardpass-edge`` or the folder with its ``pyproject.toml``.

    Raises ``CalledProcessError`` where pip fails; what it said stands on stderr.
    """
    venv.create(folder, with_pip=True, symlinks=True)
    python = str(folder / "bin" / "python")
    wanted = f"{source}[{','.join(extras)}]" if list(extras) else str(source)
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", *pip_options, wanted], check=True)
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "setuptools", "pip"], check=True)
    for site in folder.glob("lib/python*/site-packages"):
        remove_unused(site)
    subprocess.run([python, "-I", "-c", WARM], check=True)


def remove_unused(site: Path) -> None:
    """Take out what no bundle can need."""
    for pattern in UNUSED:
        for path in list(site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, without those that it only links to."""
    paths = (Path(above, name) for above, _, names in os.walk(folder) for name in names)
    return sum(path.stat().st_size for path in paths if not path.is_symlink())


def main() -> None:
    """Install as the command line says."""
    parser = argparse.ArgumentParser(description="Install Forwardpass on a device.")
    parser.add_argument("folder", type=Path, help="where to; made, or made again")
    parser.add_argument("--extra", action="append", choices=EXTRAS, default=[], help="what its models and inputs use")
    parser.add_argument("--wheel", type=Path, default=HERE, help="a wheel of forwardpass-edge; default: made from here")
    arguments, pip_options = parser.parse_known_args()
    install(arguments.folder, arguments.extra, arguments.wheel, pip_options)
    size = size_of(arguments.folder) / 1e6
    sys.stdout.write(f"{arguments.folder}: {size:.0f} MB; run {arguments.folder}/bin/forwardpass-agent\n")


if __name__ == "__main__":
    main()
