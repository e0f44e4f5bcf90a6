"""A virtual environment per peer under ``build/peers``, built once; a changed table builds it anew.

Only pip is needed. A peer that cannot be installed fails by itself, with the end of pip's words.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.peers.peers import RUNTIME, Peer
from bench.processes import StartFailed

PATIENCE = 600  # seconds for one environment


def folder(root: Path, peer: Peer) -> Path:
    return root / peer.name.split()[0].lower()


def programs(root: Path, peer: Peer) -> Path:
    """The ``bin`` of the peer's environment, built where needed; ours is the one that runs this.

    Raises ``StartFailed``.
    """
    if not peer.packages:
        return Path(sys.executable).parent
    where = folder(root, peer).resolve()
    wanted = "\n".join((*peer.packages, *RUNTIME))
    built = where / "built"
    if not (built.is_file() and built.read_text() == wanted):
        _build(where, [*peer.packages, *RUNTIME])
        built.write_text(wanted)
    return where / "bin"


def _build(where: Path, packages: list[str]) -> None:
    shutil.rmtree(where, ignore_errors=True)
    where.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {packages[0]}", file=sys.stderr, flush=True)
    try:
        _run(sys.executable, "-m", "venv", str(where))
        _run(str(where / "bin" / "pip"), "install", "--quiet", *packages)
    except subprocess.TimeoutExpired:
        raise StartFailed(f"not installed after {PATIENCE} s") from None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-200:]]
        raise StartFailed(f"cannot be installed: {errors[-1][:200]}")
