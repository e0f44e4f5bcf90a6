"""The near end of a connection: one ``ssh`` process, and what is said through it.

Everything ends by the clock: what takes longer than it may ends the process, and so whatever waits for it. Knows the
command that it starts, not what is in it.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from forwardpass.optimize.targets import link
from forwardpass.optimize.targets.link import Answer, Broken, Hello, Missing, Task

BEGINNING = 120.0  # seconds until the far end must have said hello
LATE = 120.0  # seconds that an answer may take beyond what was asked
SLOWEST = 50_000.0  # bytes per second: a slower connection counts as dead
_SAID = 400  # characters of what the other end printed last


class Connection:
    """One ``ssh`` process. ``hello`` is there after ``begin``, ``status`` after ``close``."""

    hello: Hello

    def __init__(self, command: list[str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as this lives
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us; and there is no terminal to ask for a password at
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.status: int | None = None
        self._said = ""

    def begin(self) -> None:
        """Raises ``Broken``."""
        with self._within(BEGINNING):
            link.skip_noise(self._from)
            self.hello = link.hear(self._from, Hello)

    def ask(self, task: Task, files: dict[str, Path], predictions: Path | None) -> Answer:
        """Raises ``Broken``."""
        with self._within(LATE):
            link.say(self._to, task)
            missing = link.hear(self._from, Missing)
        size = sum(task.files[name].size for name in missing.files)
        with self._within(LATE + size / SLOWEST):
            for name in missing.files:
                link.send_file(self._to, files[name])
        with self._within(LATE + task.timeout):
            answer = link.hear(self._from, Answer)
        if predictions is not None and answer.predictions:
            with self._within(LATE + answer.predictions / SLOWEST), predictions.open("wb") as file:
                for piece in link.chunks(self._from, answer.predictions):
                    file.write(piece)
        return answer

    def said(self) -> str:
        """The end of what ssh and the far end printed, in one line; after ``close``."""
        return self._said

    def close(self) -> None:
        """End it: the far end ends at the end of its input, and cleans up."""
        if self.status is not None:
            return
        for pipe in (self._to, self._from):
            with suppress(OSError):
                pipe.close()
        try:
            self.status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.status = self._process.wait()
        self._errors.seek(max(0, self._errors.seek(0, 2) - 2**16))
        self._said = _last_words(self._errors.read().decode(errors="replace"))
        self._errors.close()

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """End the connection, and so whatever waits for it, where this takes longer. Raises ``Broken``."""
        late = threading.Timer(seconds, self._process.kill)
        late.daemon = True
        late.start()
        try:
            yield
        except Broken as error:
            if not late.is_alive():
                raise Broken(f"no answer within {seconds:.0f} s") from error
            raise
        finally:
            late.cancel()


def _last_words(text: str) -> str:
    """The last lines that say something, without a traceback's or a login banner's many."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Warning: Permanently added", "** "))]
    return " ".join(lines[-1:])[-_SAID:]
