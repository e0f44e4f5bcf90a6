"""``python -m forwardpass.optimize.targets.far``: the end of a connection that lies on the target.

    Task ─► files, those that are here already not again ─► run folder ─► probe, a process of its own ─► Answer

All that it writes lies in one temporary folder, which is gone when it ends: at the end of its input, and when a signal
ends it. What one that was killed left behind, the next removes. Knows no search and no SSH.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, time

from forwardpass import __version__
from forwardpass.optimize.probe import Spec
from forwardpass.optimize.targets import link
from forwardpass.optimize.targets.base import ProbeFailed
from forwardpass.optimize.targets.link import Answer, File, Hello, Missing, Stream, Task
from forwardpass.optimize.targets.local import Local, run_probe

SILENCE = 2 * 3600.0  # seconds after which the other end counts as gone
KEPT = 3  # tasks whose files are kept: a parent, its last candidate and the next
_PREFIX = "forwardpass-target-"
_OLD = 60.0  # seconds: a folder that is younger may be about to be locked
_GLANCE = 0.1  # seconds between looks at whether a process has ended


class Far:
    """One connection. ``folder`` is its own, ``heard`` and ``said`` are unbuffered."""

    def __init__(self, folder: Path, heard: Stream, said: Stream, caller: int) -> None:
        """``caller`` is readable where the other end is gone while it waits for an answer."""
        self._store, self._run = folder / "store", folder / "run"
        self._folder = folder
        self._heard, self._said, self._caller = heard, said, caller
        self._kept: deque[set[str]] = deque(maxlen=KEPT)

    def serve(self) -> None:
        """Do what is asked for. Raises ``link.Broken`` when the other end is gone."""
        self._store.mkdir()
        link.write(self._said, link.MARK)
        link.say(self._said, Hello(__version__, str(self._folder), Local().host()))
        while select.select([self._caller], [], [], SILENCE)[0]:
            self._do(link.hear(self._heard, Task))

    def _do(self, task: Task) -> None:
        missing = [name for name, file in task.files.items() if not self._stored(file).is_file()]
        once = list({task.files[name].digest: name for name in missing}.values())
        self._forget(task)
        link.say(self._said, Missing(once))
        refused = self._receive([task.files[name] for name in once])
        try:
            answer = Answer(refused=refused) if refused else self._answer(task)
        except OSError as error:
            answer = Answer(refused=_words(error))
        link.say(self._said, answer)
        if answer.predictions:
            link.send_file(self._said, self._run / "predictions.npz")
        shutil.rmtree(self._run, ignore_errors=True)

    def _receive(self, files: Sequence[File]) -> str:
        """Store what follows. Where it cannot be, the rest is read all the same; gives the reason, or ""."""
        refused = ""
        for file in files:
            pieces = link.chunks(self._heard, file.size)
            half = self._store / "half"
            try:
                with half.open("wb") as target:
                    for piece in pieces:
                        target.write(piece)
                half.rename(self._stored(file))
            except OSError as error:
                refused = _words(error)
                half.unlink(missing_ok=True)
                for _ in pieces:
                    pass
        return refused

    def _answer(self, task: Task) -> Answer:
        self._lay_out(task)
        run = self._run
        predictions = run / "predictions.npz"
        spec = Spec(
            str(run / task.model), str(run / task.rows), str(run / "probe.result.json"),
            str(predictions) if task.predict else "", task.threads, task.seconds,
        )  # fmt: skip
        try:
            measured = run_probe(spec, run, task.timeout, self._wait)
        except ProbeFailed as error:
            return Answer(failed=error.message.replace(f"{run}{os.sep}", ""))
        return Answer(measured, predictions=predictions.stat().st_size if task.predict else 0)

    def _lay_out(self, task: Task) -> None:
        """The run folder: every file under its name, without a second copy of its bytes."""
        shutil.rmtree(self._run, ignore_errors=True)
        for name, file in task.files.items():
            path = self._run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._stored(file), path)

    def _forget(self, task: Task) -> None:
        """Remove what the last tasks did not use."""
        self._kept.append({file.digest for file in task.files.values()})
        used = set().union(*self._kept)
        for path in self._store.iterdir():
            if path.name not in used:
                path.unlink()

    def _stored(self, file: File) -> Path:
        return self._store / file.digest

    def _wait(self, process: subprocess.Popen[bytes], timeout: float) -> int:
        """A process's exit status. Raises ``link.Broken`` as soon as nobody waits for it any more."""
        end = monotonic() + timeout
        while process.poll() is None:
            if monotonic() > end:
                raise subprocess.TimeoutExpired(process.args, timeout)
            if select.select([self._caller], [], [], _GLANCE)[0]:
                raise link.Broken("the other end is gone")
        return process.returncode


@contextmanager
def own_folder() -> Iterator[Path]:
    """A temporary folder that is locked while its process lives. Removes what others left that no longer do."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError), _locked(path):
            if time() - path.stat().st_mtime > _OLD:
                shutil.rmtree(path)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises ``BlockingIOError`` where another process holds the lock."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def _leave(*_: object) -> None:
    sys.exit(1)


def main() -> int:
    """Serve standard input and output; what else is printed goes to standard error."""
    for signum in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _leave)
    said = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    heard = os.fdopen(os.dup(0), "rb", buffering=0)
    with suppress(link.Broken), own_folder() as folder:
        Far(folder, heard, said, heard.fileno()).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
