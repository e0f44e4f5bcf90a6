"""What was found best for an artifact on this machine: its backend, threads, replicas and cap of a batch.

Kept in the user's cache folder, one small file for each artifact and kind of processor, so that serving,
jobs and ``load`` on one machine run a model the same way. What ``model.yaml`` says stands above it. Measures
nothing itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from forwardpass.config import BackendConfig, Limits, ModelConfig

log = logging.getLogger(__name__)
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Tuned:
    """None stands for what would be chosen without it."""

    backend: BackendConfig = field(default_factory=BackendConfig)
    threads: int | None = None
    replicas: int | None = None
    max_batch_size: int | None = None

    def apply(self, config: ModelConfig) -> ModelConfig:
        """The configuration with these in place of what ``model.yaml`` leaves open."""
        limits = config.limits
        if self.max_batch_size and limits.max_batch_size == Limits().max_batch_size:
            limits = replace(limits, max_batch_size=self.max_batch_size)
        return replace(
            config,
            backend=self.backend if config.backend == BackendConfig() else config.backend,
            threads=config.threads or self.threads,
            replicas=config.replicas or self.replicas,
            limits=limits,
        )


def find_tuned(artifact: Path) -> Tuned | None:
    """What is remembered of an artifact as it lies there now, on this kind of machine."""
    file = tuned_file(artifact)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Tuned)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as reason:
        log.warning("%s: cannot be read, so that %s runs untuned: %s", file, artifact.name, reason)
        return None


def remember(artifact: Path, tuned: Tuned) -> Path:
    """Keep what was found. Raises ``OSError`` where it cannot be written."""
    file = tuned_file(artifact)
    file.parent.mkdir(parents=True, exist_ok=True)
    local = file.with_suffix(f".{os.getpid()}")
    local.write_bytes(msgspec.json.format(msgspec.json.encode(tuned)))
    local.replace(file)
    return file


def forget(artifact: Path) -> bool:
    """Whether there was anything to forget."""
    file = tuned_file(artifact)
    there = file.is_file()
    file.unlink(missing_ok=True)
    return there


def tuned_file(artifact: Path) -> Path:
    """Another artifact in its place, or another machine that shares the folder, has another file."""
    there = artifact.resolve()
    facts = there.stat()
    text = f"{there} {facts.st_size} {facts.st_mtime_ns} {_processor()} {os.cpu_count()}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root) / "forwardpass" / "tuned" / f"{digest}.json"


def _processor() -> str:
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags")))
    return " ".join(sorted(set(named))) or platform.processor()
